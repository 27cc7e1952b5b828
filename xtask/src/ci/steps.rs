//! The steps of CI, as data: a name, what it is for, and the commands.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::{clients, packages};
use crate::context::{Context, Failure, Outcome, SELF, at, find_program, shown};

/// How much of a quiet step's output is shown when it fails, in lines.
const LOG_LINES_SHOWN: usize = 200;

/// Version of cargo-deny that is installed when there is none.
const DENY_VERSION: &str = "0.20.2";

/// Workspaces of their own, which the root's `--workspace` and `--all` do not know.
const APART: [&str; 3] = ["fuzz/Cargo.toml", "benches/policy/Cargo.toml", "benches/proxy/Cargo.toml"];

/// One step.
pub struct Step {
    pub name: &'static str,
    pub what: &'static str,
    /// Tests show their output as it comes; others only when they fail.
    loud: bool,
    commands: fn(&Context) -> Outcome<Vec<Command>>,
}

/// All steps, in order.
pub fn all(_: &Context) -> Vec<Step> {
    let quiet = |name, what, commands| Step { name, what, loud: false, commands };
    let loud = |name, what, commands| Step { name, what, loud: true, commands };
    vec![
        quiet("packages", "system packages that tests need", |_| {
            Ok(packages::install()?.into_iter().collect())
        }),
        quiet("fmt", "formatting", formatting),
        quiet("tidy", "crate edges, file sizes, unsafe, texts", |c| Ok(vec![xtask(c, &["tidy"])])),
        quiet("clippy", "lints of all targets with all features", |c| Ok(vec![clippy(c)])),
        quiet("alone", "each library without its default features", alone),
        quiet("apart", "lints of the workspaces of their own", apart),
        loud("test", "unit, property, integration and doc tests", |c| {
            let arguments = ["test", "--locked", "--workspace", "--exclude", "tests", "--all-features"];
            let mut test = c.cargo(&arguments);
            // The packages step has installed one: here its absence is a failure, not a skip.
            test.env("CREDVAULT_REQUIRE_KEYRING", "1");
            require_kernel_keyring(&mut test);
            Ok(vec![test])
        }),
        quiet("benches", "each bench once, unmeasured and unoptimised", |c| {
            // The features of the step "test", so that nothing is built twice.
            let arguments =
                ["test", "--locked", "--workspace", "--exclude", "tests", "--all-features", "--bench", "*"];
            Ok(vec![c.cargo(&arguments)])
        }),
        quiet("doc", "documentation without broken links", |c| {
            let all = ["doc", "--locked", "--workspace", "--no-deps", "--all-features"];
            // The one whose core alone is of use to others.
            let core = ["doc", "--locked", "-p", "netproxy", "--no-deps", "--no-default-features"];
            let mut docs = vec![c.cargo(&core), c.cargo(&all)];
            docs.iter_mut().for_each(|doc| _ = doc.env("RUSTDOCFLAGS", "-D warnings"));
            Ok(docs)
        }),
        quiet("deny", "licences, banned and doubled crates, sources", deny),
        loud("kvm-lab", "the VMM on a standard /dev/kvm", |c| Ok(vec![xtask(c, &["kvm-lab"])])),
        quiet("release", "the program as users build it", |c| {
            Ok(vec![c.cargo(&["build", "--locked", "--release", "-p", "examples", "--examples"])])
        }),
        quiet("client-programs", "curl, Go, Java, Node for the next steps", |_| {
            Ok(clients::programs()?.into_iter().collect())
        }),
        quiet("client-libraries", "Python and Node packages in the cache", clients::libraries),
        loud("clients", "real clients through the proxy", |c| {
            let mut test = c.cargo(&["test", "--locked", "--release", "-p", "tests", "--test", "clients"]);
            test.env("INJECT_PROXY_BIN", c.target.join("release/examples/inject-proxy"));
            test.env("AGENT_SANDBOX_CLIENTS", clients::folder(c));
            // The steps before have brought them: here the absence of one is a failure, not a skip.
            test.env("AGENT_SANDBOX_REQUIRE_CLIENTS", "1");
            Ok(vec![test])
        }),
        loud("e2e", "whole sandboxes with a real guest", |c| {
            let mut test = c.cargo(&["test", "--locked", "--release", "-p", "tests", "--test", "it"]);
            test.env("AGENT_SANDBOX_BIN", c.target.join("release/examples/agent-sandbox"));
            test.env("CREDVAULT_REQUIRE_KEYRING", "1");
            require_kernel_keyring(&mut test);
            Ok(vec![test])
        }),
        loud("fuzz-smoke", "every fuzz target on its kept corpus, where the tools are", |c| {
            Ok(vec![xtask(c, &["fuzz-smoke", "--seconds", "0"])])
        }),
    ]
}

impl Step {
    /// Runs the commands one after the other.
    pub fn run(&self, context: &Context) -> Outcome<Counts> {
        let mut counts = Counts::default();
        for mut command in (self.commands)(context)? {
            counts.add(if self.loud {
                loud(&mut command)?
            } else {
                quiet(context, self.name, &mut command)?
            });
        }
        Ok(counts)
    }
}

/// Where the kernel has one for us, a test that does not get it fails.
fn require_kernel_keyring(test: &mut Command) {
    match kernel_keyring() {
        Ok(()) => {
            test.env("CREDVAULT_REQUIRE_KEYUTILS", "1");
        }
        Err(reason) => println!("SKIPPED: tests of the kernel's keyring: {reason}"),
    }
}

/// Asks the kernel for the user's keyring, by another way than the code under test: a container may forbid the call.
fn kernel_keyring() -> Result<(), String> {
    let number = match std::env::consts::ARCH {
        "x86_64" => 250,
        "aarch64" => 219,
        other => return Err(format!("the number of keyctl(2) on {other} is not known here")),
    };
    // KEYCTL_GET_KEYRING_ID of KEY_SPEC_USER_KEYRING, created if need be.
    let probe = format!(
        "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); \
         c.syscall({number}, 0, -4, 1) >= 0 or exit('keyctl(2): ' + os.strerror(ctypes.get_errno()))"
    );
    let output = Command::new("python3").args(["-c", &probe]).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

fn formatting(context: &Context) -> Outcome<Vec<Command>> {
    // Without `--all`: of `fuzz` that would also format what it depends on.
    let mut commands = vec![context.cargo(&["fmt", "--all"])];
    commands.extend(APART.map(|manifest| context.cargo(&["fmt", "--manifest-path", manifest])));
    for command in &mut commands {
        command.args(["--check", "--", "--color", "never"]);
    }
    Ok(commands)
}

fn clippy(context: &Context) -> Command {
    context.cargo(&[
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ])
}

fn alone(context: &Context) -> Outcome<Vec<Command>> {
    let crates = ["policy", "credvault", "netproxy", "vmm-core", "guest-agent", "guest-image"];
    let commands = crates.iter().map(|name| {
        let mut command = context.cargo(&["clippy", "--locked", "--no-default-features", "-p", name]);
        command.args(["--", "-D", "warnings"]);
        command
    });
    Ok(commands.collect())
}

/// Nothing of them is run or even linked here, so this is what tells that they still build.
fn apart(context: &Context) -> Outcome<Vec<Command>> {
    let commands = APART.map(|manifest| {
        let mut command =
            context.cargo(&["clippy", "--locked", "--all-targets", "--manifest-path", manifest]);
        if manifest.starts_with("fuzz/") {
            // As cargo-fuzz builds them, but by the stable compiler. Other flags must not rebuild the rest.
            command.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", "--cfg fuzzing");
            command.arg("--target-dir").arg(context.target.join("fuzzing"));
        }
        command.args(["--", "-D", "warnings"]);
        command
    });
    Ok(commands.into())
}

/// cargo-deny from the machine, or a build of our own in the cache: unoptimised, it is run once.
fn deny(context: &Context) -> Outcome<Vec<Command>> {
    let tools = context.cache.join("tools");
    let own = tools.join("bin/cargo-deny");
    let mut commands = Vec::new();
    let program = match find_program("cargo-deny") {
        Some(program) => program,
        None => {
            if !own.is_file() {
                let mut install = context.cargo(&["install", "--locked", "--debug", "--quiet", "--root"]);
                install.arg(&tools).args(["cargo-deny", "--version", DENY_VERSION]);
                install.env("CARGO_PROFILE_DEV_DEBUG", "0");
                commands.push(install);
            }
            own
        }
    };
    let mut check = Command::new(program);
    check.current_dir(&context.root).args([
        "--workspace",
        "--locked",
        "check",
        "licenses",
        "bans",
        "sources",
    ]);
    commands.push(check);
    Ok(commands)
}

/// Another verb of ours, as a command of its own, so that its output and failure are like any other's. By this
/// path because cargo may replace our file while it builds the tests.
fn xtask(context: &Context, arguments: &[&str]) -> Command {
    let mut command = Command::new(SELF);
    command.args(arguments).current_dir(&context.root);
    command
}

/// Output into a log, shown when the command fails.
fn quiet(context: &Context, name: &str, command: &mut Command) -> Outcome<Counts> {
    let path = context.target.join(format!("ci-{name}.log"));
    at(&context.target, std::fs::create_dir_all(&context.target))?;
    let log = at(&path, File::create(&path))?;
    command.stdin(Stdio::null()).stdout(at(&path, log.try_clone())?).stderr(log);
    let status =
        command.status().map_err(|e| Failure::usage(format!("cannot run `{}`: {e}", shown(command))))?;
    if status.success() {
        return Ok(Counts::default());
    }
    let text = String::from_utf8_lossy(&at(&path, std::fs::read(&path))?).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let skip = lines.len().saturating_sub(LOG_LINES_SHOWN);
    lines.iter().skip(skip).for_each(|line| println!("{line}"));
    Err(Failure::new(format!(
        "`{}` failed ({status}); all of its output is in {}",
        shown(command),
        path.display()
    )))
}

/// Output as it comes, counting test results.
fn loud(command: &mut Command) -> Outcome<Counts> {
    let failed =
        |command: &Command, why: String| Failure::new(format!("`{}` failed ({why})", shown(command)));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| failed(command, e.to_string()))?;
    let mut counts = Counts::default();
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(|out| out.split(b'\n')) {
        let line = line.map_err(|e| failed(command, e.to_string()))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counts.read(&line);
    }
    let status = child.wait().map_err(|e| failed(command, e.to_string()))?;
    if status.success() { Ok(counts) } else { Err(failed(command, status.to_string())) }
}

/// Sums of libtest's closing lines, and what was not run at all.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
    skipped: Vec<String>,
}

impl Counts {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …` and `SKIPPED …`; other lines count nothing.
    fn read(&mut self, line: &str) {
        if line.starts_with("SKIPPED") {
            self.skipped.push(line.to_owned());
        }
        let Some(rest) = line.trim().strip_prefix("test result: ") else { return };
        for part in rest.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((n, "passed")) => self.passed += n.parse().unwrap_or(0),
                Some((n, "failed")) => self.failed += n.parse().unwrap_or(0),
                Some((n, "ignored")) => self.ignored += n.parse().unwrap_or(0),
                _ => {}
            }
        }
    }

    /// Adds another step's.
    pub fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.skipped.extend(other.skipped);
    }

    /// Whether any test was seen.
    pub fn any(&self) -> bool {
        self.passed + self.failed + self.ignored > 0
    }

    /// What was said to be skipped, in the words of whoever did.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// One word on a step that has not failed: one of which nothing was run is not well.
    pub fn word(&self) -> &'static str {
        if self.skipped.is_empty() || self.any() { "ok" } else { "SKIPPED" }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { passed, failed, ignored, .. } = self;
        write!(f, "{passed} passed; {failed} failed; {ignored} ignored; all steps together")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up() {
        let mut counts = Counts::default();
        counts.read(
            "test result: ok. 27 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.15s",
        );
        counts.read("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        counts.read("running 5 tests");
        assert_eq!(counts, Counts { passed: 28, failed: 2, ignored: 1, skipped: Vec::new() });
    }

    #[test]
    fn a_step_of_which_nothing_was_run_is_not_called_ok() {
        let mut fuzz = loud(Command::new("echo").arg("SKIPPED fuzz-smoke: no cargo-fuzz")).unwrap();
        assert_eq!((fuzz.word(), fuzz.any()), ("SKIPPED", false));
        let test = loud(Command::new("echo").arg("test result: ok. 3 passed; 0 failed")).unwrap();
        assert_eq!(test.word(), "ok");
        fuzz.add(test);
        assert_eq!(
            (fuzz.word(), fuzz.skipped()),
            ("ok", &["SKIPPED fuzz-smoke: no cargo-fuzz".to_owned()][..])
        );
    }

    #[test]
    fn a_failing_loud_command_fails_the_step_and_keeps_no_count() {
        let outcome =
            loud(Command::new("sh").args(["-c", "echo 'test result: ok. 3 passed; 0 failed'; exit 3"]));
        assert!(outcome.is_err_and(|e| e.to_string().contains("exit status: 3")));
        let outcome = loud(Command::new("echo").arg("test result: ok. 3 passed; 0 failed"));
        assert!(outcome.is_ok_and(|c| c.passed == 3));
    }
}
