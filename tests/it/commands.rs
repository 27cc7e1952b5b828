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
    let mut child =
        program::command(folder.path(), &["run", "-q", "--yes", "--kernel", "debian-6.12", "--", "yes"])
            .spawn()
            .unwrap();
    let mut first = [0; 2];
    // The pipe closes at the end of this line; `yes` would run for ever.
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"y\n");
    assert_eq!(program::finish(child).status.code(), Some(141));
}

#[test]
fn an_output_that_nobody_reads_does_not_hold_the_deadline() {
    let _guest = program::one_guest();
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["run", "-q", "--yes", "--kernel", "debian-6.12", "--timeout", "1s", "--", "yes"];
    let mut child = program::command(folder.path(), &arguments).spawn().unwrap();
    // Held open and never read.
    let _unread = child.stdout.take().unwrap();
    assert_eq!(program::finish(child).status.code(), Some(124));
}

#[test]
fn who_insists_gets_out_of_a_command_that_ignores_signals() {
    let _guest = program::one_guest();
    let folder = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    let mut child = program::command(
        folder.path(),
        &["run", "-q", "--yes", "--kernel", "debian-6.12", "--", "/bin/sh", "-c", script],
    )
    .spawn()
    .unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let pid = child.id().to_string();
    // Two may be merged into one while it is pending; the program ends some time after the third.
    while child.try_wait().unwrap().is_none() {
        let _ = std::process::Command::new("kill").args(["-TERM", &pid]).stderr(Stdio::null()).status();
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(program::finish(child).status.code(), Some(143));
}

/// kill -9 leaves nobody to clean up: the emulator has to go by itself.
#[test]
fn nothing_outlives_a_killed_program() {
    let _guest = program::one_guest();
    let folder = tempfile::tempdir().unwrap();
    // A memory size of its own, by which its emulator is told from others on this machine.
    let arguments = [
        "run",
        "-q",
        "--yes",
        "--kernel",
        "debian-6.12",
        "--memory",
        "1013",
        "--",
        "/bin/sh",
        "-c",
        "echo ready; sleep 1000",
    ];
    let mut child = program::command(folder.path(), &arguments).spawn().unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let left = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines.filter(|line| String::from_utf8_lossy(line).contains("size=1013M")).count()
    };
    let begun = std::time::Instant::now();
    while left() > 0 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "an emulator outlived the program");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn closed_input_options_and_json_events() {
    let _guest = program::one_guest();
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "run",
        "--yes",
        "--kernel",
        "debian-6.12",
        "--json",
        "--cpus",
        "2",
        "--memory",
        "512",
        "-e",
        "GREETING=hello",
        "--",
        "/bin/sh",
        "-c",
        "cat; echo $GREETING; nproc; exit 7",
    ];
    let output = program::finish(program::command(folder.path(), &arguments).spawn().unwrap());
    assert_eq!(text(&output.stdout), "hello\n2\n");
    assert_eq!(output.status.code(), Some(7));
    let stderr = text(&output.stderr);
    let events: Vec<serde_json::Value> =
        stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = events.last().unwrap();
    assert_eq!((last["event"].as_str(), last["code"].as_u64()), (Some("exit"), Some(7)));
    assert!(events.iter().any(|event| event["event"] == "ready" && event["kernel_ms"].is_number()));
}

#[test]
fn interrupt_is_for_the_command() {
    let _guest = program::one_guest();
    let folder = tempfile::tempdir().unwrap();
    let script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done";
    let mut child = program::command(
        folder.path(),
        &["run", "-q", "--yes", "--kernel", "debian-6.12", "--", "/bin/sh", "-c", script],
    )
    .spawn()
    .unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = program::finish(child);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(5), "caught\n"));
}

/// `script` gives the program a terminal of its own, as a person's.
#[test]
fn a_terminal_is_one_has_a_size_and_is_restored() {
    let _guest = program::one_guest();
    let folder = tempfile::tempdir().unwrap();
    let inside = "tty >/dev/null && stty size";
    let shell = format!(
        "stty rows 33 cols 99; before=$(stty -g); {} run -q --yes --kernel debian-6.12 -t -- /bin/sh -c '{inside}'; code=$?; \
         test \"$before\" = \"$(stty -g)\" && echo restored; exit $code",
        program::path().display()
    );
    let output = std::process::Command::new("script")
        .args(["-qec", &shell, "/dev/null"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert!(printed.contains("33 99") && printed.contains("restored"), "{printed}");
}
