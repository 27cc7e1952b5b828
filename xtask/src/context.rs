//! What every verb needs: where things are, how to run a program, how to fail.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The one target that the guest's and the lab's static programs are built for.
pub const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// The running xtask, whatever has become of its file.
pub const SELF: &str = "/proc/self/exe";

/// Why a verb failed, and the exit code that says so.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    text: String,
    /// Exit code of `xtask`.
    pub code: u8,
}

/// Result of a verb.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// Something was checked or tried, and it failed.
    pub fn new(text: impl Into<String>) -> Self {
        Failure { text: text.into(), code: 1 }
    }

    /// The command line makes no sense, or the machine lacks something.
    pub fn usage(text: impl Into<String>) -> Self {
        Failure { text: text.into(), code: 2 }
    }

    /// With the exit code of a program that was run on the user's behalf.
    pub fn with_code(text: impl Into<String>, code: u8) -> Self {
        Failure { text: text.into(), code }
    }
}

impl From<guest_image::Error> for Failure {
    fn from(error: guest_image::Error) -> Self {
        Failure::usage(error.to_string())
    }
}

/// The checkout and the caches.
#[derive(Debug)]
pub struct Context {
    /// Root of the checkout.
    pub root: PathBuf,
    /// The program's cache, shared with `agent-sandbox`.
    pub cache: PathBuf,
    /// cargo's target folder.
    pub target: PathBuf,
    /// The cargo that runs us.
    pub cargo: PathBuf,
}

impl Context {
    /// Reads the environment that cargo and the user set.
    pub fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf();
        let home = env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let cache = env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
        let target = env::var_os("CARGO_TARGET_DIR").filter(|v| !v.is_empty()).map(PathBuf::from);
        Context {
            cache: cache.unwrap_or_else(|| home.join(".cache")).join("agent-sandbox"),
            target: target.map_or_else(|| root.join("target"), |t| root.join(t)),
            cargo: env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from),
            root,
        }
    }

    /// A cargo command in the checkout, with nothing read from our input.
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.cargo);
        command.args(arguments).current_dir(&self.root).stdin(Stdio::null());
        // Set by the `cargo run` that started us; it would pin the toolchain's own choices onto others.
        command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_PKG_NAME");
        command
    }

    /// cargo for static programs, in a target folder of their own: other flags must not rebuild the rest.
    pub fn static_cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.cargo(arguments);
        command.args(["--target", STATIC_TARGET]).arg("--target-dir").arg(self.static_target());
        command.env_remove("CARGO_ENCODED_RUSTFLAGS");
        command
            .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static -C strip=debuginfo");
        command
    }

    /// Where [`Context::static_cargo`] puts things.
    pub fn static_target(&self) -> PathBuf {
        self.target.join("static")
    }
}

/// Runs a command; a failure names it so that it can be repeated by hand.
pub fn run(command: &mut Command) -> Outcome {
    let shown = shown(command);
    let status = command.status().map_err(|e| Failure::usage(format!("cannot run `{shown}`: {e}")))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("`{shown}` failed ({status})"))) }
}

/// Runs a command and returns what it printed.
pub fn output(command: &mut Command) -> Outcome<String> {
    let shown = shown(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| Failure::usage(format!("cannot run `{shown}`: {e}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!("`{shown}` failed ({})", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| Failure::new(format!("`{shown}` printed no UTF-8")))
}

/// A command as a shell line, environment included.
pub fn shown(command: &Command) -> String {
    let plain = |text: &OsStr| {
        let text = text.to_string_lossy();
        let simple =
            !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_=/.,:+@%".contains(c));
        if simple { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
    };
    let set = command.get_envs().filter_map(|(k, v)| Some(format!("{}={}", k.to_string_lossy(), plain(v?))));
    let program = Path::new(command.get_program());
    let program = match program.file_name().and_then(OsStr::to_str) {
        Some("cargo") => "cargo".to_owned(),
        _ if program == Path::new(SELF) => "cargo xtask".to_owned(),
        _ => plain(program.as_os_str()),
    };
    set.chain([program]).chain(command.get_args().map(plain)).collect::<Vec<_>>().join(" ")
}

/// The program's path, if it is on `PATH` or in the system's folders.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Whether we may install packages.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Reads a text file of the checkout or of the system.
pub fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|e| Failure::new(format!("cannot read {}: {e}", path.display())))
}

/// Turns an I/O result into an outcome that names the place.
pub fn at<T>(path: &Path, result: std::io::Result<T>) -> Outcome<T> {
    result.map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_can_be_pasted_into_a_shell() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "--", "it's"]).env("A", "b c");
        assert_eq!(shown(&command), r"A='b c' cargo test -- 'it'\''s'");
        let text = run(Command::new("false").arg("x")).unwrap_err().to_string();
        assert!(text.starts_with("`false x` failed"), "{text}");
    }
}
