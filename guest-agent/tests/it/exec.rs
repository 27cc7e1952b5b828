//! The exec service with real programs. Each test is one lesson of other people's bugs.

use std::io::Write;
use std::time::Instant;

use guest_agent::client::Event;
use guest_agent::proto::{Exit, ExitStatus, FailKind, StdinMode, TtySize};

use crate::support::{PATIENCE, collect, request, run, sh, start};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Events up to and including the first output.
fn until_output(events: &mut guest_agent::client::Events) -> Vec<u8> {
    loop {
        if let Event::Stdout(bytes) = events.recv().unwrap().unwrap() {
            return bytes;
        }
    }
}

#[test]
fn exit_is_a_code_or_a_signal() {
    assert_eq!(run(&request(&["true"])).exit, Some(Exit::code(0)));
    assert_eq!(run(&sh("exit 3")).exit, Some(Exit::code(3)));
    assert_eq!(run(&sh("exit 137")).exit, Some(Exit::code(137)));
    assert_eq!(run(&sh("kill -9 $$")).exit, Some(Exit::signal(9)));
}

#[test]
fn what_never_ran_is_told_apart_with_its_stage() {
    let failure = |request| run(&request).failure.unwrap();
    let missing = failure(request(&["no-such-program-here"]));
    assert_eq!((missing.kind, missing.errno, missing.stage.as_str()), (FailKind::NotFound, 2, "exec"));
    assert_eq!(failure(request(&["/etc/passwd"])).kind, FailKind::NotExecutable);
    assert_eq!(failure(request(&["/etc"])).kind, FailKind::NotExecutable);
    let mut lost = request(&["true"]);
    lost.cwd = "/no/such/place".into();
    let lost = failure(lost);
    assert_eq!((lost.kind, lost.stage.as_str()), (FailKind::Cwd, "cwd"));
}

#[test]
fn a_script_without_an_interpreter_line_runs_as_in_a_shell() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "echo \"$0 $1\"").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = run(&request(&[script.to_str().unwrap(), "arg"]));
    assert_eq!(text(&outcome.stdout), format!("{} arg\n", script.display()));
}

#[test]
fn stdout_and_stderr_are_kept_apart() {
    let outcome = run(&sh("echo out; echo err >&2"));
    assert_eq!((text(&outcome.stdout), text(&outcome.stderr)), ("out\n", "err\n"));
}

#[test]
fn stdin_is_at_its_end_when_the_caller_gives_none() {
    assert_eq!(run(&request(&["cat"])).exit, Some(Exit::code(0)));
    let mut on_terminal = request(&["cat"]);
    on_terminal.tty = Some(TtySize { rows: 24, cols: 80 });
    assert_eq!(run(&on_terminal).exit, Some(Exit::code(0)));
}

#[test]
fn environment_and_directory_arrive_as_bytes() {
    let mut request = sh("printf '%s|%s|%s' \"$A\" \"$DEFAULT\" \"$PWD\"");
    request.env = vec![("A".into(), vec![b'x', 0xff, b'y'].into())];
    request.cwd = "/usr".into();
    assert_eq!(run(&request).stdout, b"x\xffy|yes|/usr");
}

#[test]
fn ten_megabytes_go_through_cat_and_end() {
    let mut request = request(&["cat"]);
    request.stdin = StdinMode::Pipe;
    let mut running = start(&request);
    let sent: Vec<u8> = (0..10_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let outcome = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut stdin = running.stdin;
            stdin.write_all(&sent).unwrap();
            stdin.close().unwrap();
        });
        let outcome = collect(&mut running.events);
        writer.join().unwrap();
        outcome
    });
    assert!(outcome.stdout == sent, "{} bytes came back", outcome.stdout.len());
    assert_eq!(outcome.exit, Some(Exit::code(0)));
}

#[test]
fn a_program_that_does_not_read_its_input_can_be_signalled() {
    let mut request = sh("echo up; exec sleep 1000");
    request.stdin = StdinMode::Pipe;
    let mut running = start(&request);
    until_output(&mut running.events);
    let remote = running.remote.clone();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut stdin = running.stdin;
            // More than window and pipe hold: blocks until the program is gone.
            stdin.write_all(&vec![0; 4 << 20]).unwrap_err().kind()
        });
        remote.signal(15).unwrap();
        assert_eq!(collect(&mut running.events).exit, Some(Exit::signal(15)));
        assert_eq!(writer.join().unwrap(), std::io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_closed_input_is_told_and_is_not_the_end() {
    let mut request = sh("exec <&-; echo alive");
    request.stdin = StdinMode::Pipe;
    let mut running = start(&request);
    let mut closed = false;
    let mut out = Vec::new();
    while let Some(event) = running.events.recv().unwrap() {
        match event {
            Event::StdinClosed => {
                closed = true;
                assert!(running.stdin.write(b"x").is_err(), "a closed input takes nothing");
            }
            Event::Stdout(bytes) => out.extend(bytes),
            _ => {}
        }
    }
    assert!(closed);
    assert_eq!(text(&out), "alive\n");
}

#[test]
fn a_grandchild_that_holds_the_pipes_does_not_hold_the_exit() {
    let started = Instant::now();
    let outcome = run(&sh("sleep 1000 & echo $!; exit 4"));
    assert!(started.elapsed() < PATIENCE);
    let exit = outcome.exit.unwrap();
    assert_eq!((exit.status, exit.output_cut), (ExitStatus::Code(4), true));
    kill(text(&outcome.stdout).trim());
}

#[test]
fn a_grandchild_that_never_stops_writing_does_not_hold_the_exit() {
    let outcome = run(&sh("yes & echo $! >&2; exit 5"));
    assert_eq!(outcome.exit.unwrap().status, ExitStatus::Code(5));
    kill(text(&outcome.stderr).trim());
}

#[test]
fn all_output_comes_before_the_exit() {
    // More than one pipe holds, so that the program ends with its last bytes still in the pipe.
    let outcome = run(&sh("head -c 3000000 /dev/zero; head -c 100000 /dev/zero >&2"));
    assert_eq!((outcome.stdout.len(), outcome.stderr.len()), (3_000_000, 100_000));
    assert_eq!(outcome.exit, Some(Exit::code(0)));
}

#[test]
fn signals_reach_the_whole_group() {
    let mut running = start(&sh("trap 'echo got; exit 7' INT; echo up; sleep 1000 & wait"));
    until_output(&mut running.events);
    running.remote.signal(2).unwrap();
    let outcome = collect(&mut running.events);
    assert_eq!((text(&outcome.stdout), outcome.exit.map(|e| e.status)), ("got\n", Some(ExitStatus::Code(7))));
    let mut running = start(&sh("sleep 1000 | sleep 1000; echo never"));
    wait_started(&mut running.events);
    running.remote.signal(9).unwrap();
    assert_eq!(
        collect(&mut running.events).exit,
        Some(Exit::signal(9)),
        "the sleeps hold the pipe no longer"
    );
}

#[test]
fn a_timeout_ends_the_group_in_the_guest_even_if_it_ignores_the_polite_signal() {
    let mut stubborn = sh("trap '' TERM; echo set; while :; do sleep 1000; done");
    let exit = (5..16)
        .map(|power| {
            stubborn.timeout_ms = Some(1 << power);
            run(&stubborn)
        })
        // On a busy machine the time may be over before the shell has come to ignore the signal.
        .find_map(|outcome| (text(&outcome.stdout) == "set\n").then_some(outcome.exit.unwrap()))
        .unwrap();
    assert_eq!((exit.status, exit.timed_out), (ExitStatus::Signal(9), true));
    let mut gentle = sh("sleep 1000");
    gentle.timeout_ms = Some(50);
    let exit = run(&gentle).exit.unwrap();
    assert_eq!((exit.status, exit.timed_out), (ExitStatus::Signal(15), true));
}

#[test]
fn a_host_that_goes_away_ends_the_program() {
    let mut running = start(&sh("trap '' HUP; echo up; exec sleep 1000"));
    until_output(&mut running.events);
    drop(running.events);
    // The server reaps the program before it comes back.
    running.server.join().unwrap();
}

#[test]
fn a_host_that_goes_away_ends_the_jobs_of_a_shell_too() {
    // `set -m` gives the job a group of its own, as in an interactive shell.
    let mut running = start(&sh("set -m; sleep 1000 & echo $!; wait"));
    let stat = format!("/proc/{}/stat", text(&until_output(&mut running.events)).trim());
    let alive = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(alive());
    drop(running.events);
    running.server.join().unwrap();
    let deadline = Instant::now() + PATIENCE;
    // Killed it is already; its last steps are the kernel's.
    while alive() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(!alive(), "the job of a shell outlived its host");
}

#[test]
fn a_terminal_has_a_size_and_is_resized() {
    let mut request = sh("stty size; trap 'stty size; exit 0' WINCH; echo up; while :; do sleep 0.01; done");
    request.tty = Some(TtySize { rows: 24, cols: 80 });
    request.stdin = StdinMode::Pipe;
    let mut running = start(&request);
    let mut out = Vec::new();
    while !text(&out).contains("up") {
        out.extend(until_output(&mut running.events));
    }
    assert!(text(&out).starts_with("24 80\r\n"), "{:?}", text(&out));
    running.remote.resize(TtySize { rows: 50, cols: 132 }).unwrap();
    let rest = collect(&mut running.events);
    assert!(text(&rest.stdout).contains("50 132"), "{:?}", text(&rest.stdout));
}

#[test]
fn a_terminal_is_a_controlling_terminal() {
    let mut request = sh("tty; echo up > /dev/tty; ps -o tpgid= -p $$ | tr -d ' '; echo $$");
    request.tty = Some(TtySize { rows: 24, cols: 80 });
    let outcome = run(&request);
    let lines: Vec<&str> = text(&outcome.stdout).lines().collect();
    assert!(lines[1] == "up" && lines[2] == lines[3], "{lines:?}");
}

#[test]
fn end_of_input_on_a_terminal_is_typed() {
    for typed in ["line\n", "half a line"] {
        let mut request = request(&["cat"]);
        request.tty = Some(TtySize { rows: 24, cols: 80 });
        request.stdin = StdinMode::Pipe;
        let mut running = start(&request);
        wait_started(&mut running.events);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut stdin = running.stdin;
                stdin.write_all(typed.as_bytes()).unwrap();
                stdin.close().unwrap();
            });
            let outcome = collect(&mut running.events);
            assert_eq!(outcome.exit, Some(Exit::code(0)));
            // Echoed once by the terminal, once by cat.
            assert_eq!(text(&outcome.stdout).matches(typed.trim()).count(), 2, "{:?}", text(&outcome.stdout));
        });
    }
}

#[test]
fn hundreds_of_execs_leave_nothing_behind() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut pids = Vec::new();
    for _ in 0..150 {
        let outcome = run(&request(&["true"]));
        assert_eq!(outcome.exit, Some(Exit::code(0)));
        pids.push(outcome.pid);
        run(&request(&["no-such-program-here"]));
    }
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(!stat.contains(") Z "), "zombie: {stat}");
    }
    // Other tests of this binary open descriptors at the same time; a leak of 300 execs would stand out.
    assert!(descriptors() < 250, "{} descriptors", descriptors());
}

#[test]
fn a_request_that_breaks_a_rule_never_leaves_the_host() {
    let (host, _guest) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = guest_agent::client::exec(host, &request(&[])).unwrap_err();
    assert!(error.to_string().contains("name a program"), "{error}");
}

fn wait_started(events: &mut guest_agent::client::Events) {
    assert!(matches!(events.recv().unwrap(), Some(Event::Started(_))));
}

fn kill(pid: &str) {
    let pid = pid.parse::<i32>().unwrap();
    assert!(run(&request(&["kill", "-9", &pid.to_string()])).exit == Some(Exit::code(0)), "{pid}");
}
