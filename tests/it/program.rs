//! Finds and runs the program under test.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Far beyond what any test takes: past it, something hangs, and the test says so.
const HANG: Duration = Duration::from_secs(240);

/// A key in the environment of every program under test, for `--secret NAME=env:HOST_SIDE_KEY@…`. No guest
/// may ever see it.
pub const HOST_SIDE_KEY: &str = "test-key-0123456789abcdef";

static ONE_GUEST: Mutex<()> = Mutex::new(());

/// Held while a guest runs.
pub fn one_guest() -> MutexGuard<'static, ()> {
    ONE_GUEST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The release build of the example, or `AGENT_SANDBOX_BIN`.
pub fn path() -> PathBuf {
    if let Some(path) = std::env::var_os("AGENT_SANDBOX_BIN") {
        return PathBuf::from(path);
    }
    // This test binary is in <target>/<profile>/deps.
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    let program = target.join("release/examples/agent-sandbox");
    assert!(
        program.is_file(),
        "{} is missing: run `cargo build --release --example agent-sandbox` first",
        program.display()
    );
    program
}

/// `agent-sandbox ARGUMENTS` with no standard input, in `folder`.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(path());
    command
        .args(arguments)
        .current_dir(folder)
        .env("HOST_SIDE_KEY", HOST_SIDE_KEY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The distribution's unmodified kernel, also where a quicker one was built.
pub const KERNEL: &[&str] = &["--kernel", "debian-6.12"];

/// `agent-sandbox run -q --yes … -- COMMAND` in an empty folder of its own.
pub fn run(options: &[&str], guest_command: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    run_in(folder.path(), options, guest_command, b"")
}

/// The same, not started: whoever starts it holds [`one_guest`].
pub fn run_command(folder: &Path, options: &[&str], guest_command: &[&str]) -> Command {
    let arguments: Vec<&str> = ["run", "-q", "--yes"]
        .iter()
        .chain(KERNEL)
        .chain(options)
        .chain(&["--"])
        .chain(guest_command)
        .copied()
        .collect();
    command(folder, &arguments)
}

/// The same in `folder`, with standard input.
pub fn run_in(folder: &Path, options: &[&str], guest_command: &[&str], stdin: &[u8]) -> Output {
    let _guest = one_guest();
    let mut child = run_command(folder, options, guest_command).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    let feeder = std::thread::spawn(move || {
        // The program may end without reading all of it.
        let _ = input.write_all(&stdin);
    });
    let output = finish(child);
    feeder.join().unwrap();
    output
}

/// Waits, collecting output, and kills what hangs.
pub fn finish(mut child: Child) -> Output {
    use std::io::Read;
    let drain = |mut pipe: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            bytes
        })
    };
    let pipe = |pipe: Option<Box<dyn Read + Send>>| drain(pipe.unwrap_or_else(|| Box::new(std::io::empty())));
    let stdout = pipe(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = pipe(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > HANG {
            let _ = child.kill();
            let status = child.wait().unwrap();
            panic!("the program hung: {status}, {}", String::from_utf8_lossy(&stderr.join().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Says that a test did not run, where nobody can overlook it.
pub fn skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stdout(), "\nSKIPPED: {test}: {why}");
}
