//! A command behaves as if it ran here: streams, exit codes, signals, time.

use std::io::Read;
use std::process::Stdio;

use crate::program::{self, run, run_in, text};

#[test]
fn exit_codes_are_the_commands_own() {
    let code = |script: &str| {
        let output = run(&[], &["/bin/sh", "-c", script]);
        (output.status.code(), text(&output.stderr))
    };
    assert_eq!(code("exit 0"), (Some(0), String::new()));
    assert_eq!(code("exit 3"), (Some(3), String::new()));
    assert_eq!(code("kill -9 $$").0, Some(137));
}

#[test]
fn a_missing_command_is_127_and_one_that_cannot_run_126() {
    let missing = program::command(
        std::path::Path::new("/tmp"),
        &["run", "--yes", "--kernel", "debian-6.12", "--no-workspace", "--", "no-such-command"],
    );
    let output = {
        let _guest = program::one_guest();
        let mut missing = missing;
        program::finish(missing.spawn().unwrap())
    };
    assert_eq!(output.status.code(), Some(127));
    assert!(
        text(&output.stderr).contains("no-such-command: command not found in the guest"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(run(&[], &["/etc/passwd"]).status.code(), Some(126));
}

#[test]
fn standard_output_and_error_are_apart_and_input_ends() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_in(folder.path(), &[], &["/bin/sh", "-c", "echo out; echo err >&2; cat"], b"in\n");
    assert_eq!(text(&output.stdout), "out\nin\n");
    assert_eq!(text(&output.stderr), "err\n");
}

#[test]
fn a_hundred_megabytes_pass_through_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    // A pattern with no short period, so that a lost or repeated piece shows.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut input = Vec::with_capacity(100 << 20);
    while input.len() < 100 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        input.extend_from_slice(&state.to_le_bytes());
    }
    let output = run_in(folder.path(), &[], &["cat"], &input);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(output.stdout.len(), input.len());
    assert!(output.stdout == input, "the bytes differ");
}

#[test]
fn a_time_limit_ends_the_command_with_124() {
    let output = run(&["--timeout", "1s"], &["sleep", "1000"]);
    assert_eq!(output.status.code(), Some(124));
}

#[test]
fn a_closed_output_ends_the_command() {
    let _guest = program::one_guest();
    let folder = tempfile::tempdir().unwrap();
    let mut child = program::command(folder.path(), &["run", "-q", "--yes", "--", "yes"]).spawn().unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"y\n");
    // The pipe is closed here; `yes` would run for ever.
    child.stdout = Some(dummy_stdout());
    assert_eq!(program::finish(child).status.code(), Some(141));
}

/// `finish` wants a pipe; the one under test is closed already.
fn dummy_stdout() -> std::process::ChildStdout {
    let mut child = std::process::Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    child.wait().unwrap();
    stdout
}

#[test]
fn interrupt_is_for_the_command() {
    let _guest = program::one_guest();
    let folder = tempfile::tempdir().unwrap();
    let script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done";
    let mut child = program::command(folder.path(), &["run", "-q", "--yes", "--", "/bin/sh", "-c", script])
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = program::finish(child);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(5), "caught\n"));
}

#[test]
fn a_terminal_is_one_and_has_a_size() {
    let output = run(&["-t"], &["/bin/sh", "-c", "tty >/dev/null && stty size"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).trim(), "24 80");
}
