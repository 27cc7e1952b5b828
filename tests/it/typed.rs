//! What is typed at the terminal: secrets, hidden, with the terminal as before whatever ends the question; and answers to
//! what the sandbox wants.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;

use crate::network::{audit, upstream_options};
use crate::program::{KERNEL, finish, one_guest, path, text};
use crate::pty::{Person, is_usual, pty};
use crate::secrets::KEY;
use crate::upstream::{self, HOST};

/// `agent-sandbox ARGUMENTS`, to be started at a terminal of its own, in `folder`. What it writes goes to the terminal too.
pub fn at_terminal(folder: &Path, arguments: &[&str]) -> (Command, File, Person) {
    let (terminal, person) = pty();
    let mut command = Command::new("setsid");
    // In a session of its own, whose controlling terminal this becomes.
    command.arg("--ctty").arg(path()).args(arguments).current_dir(folder);
    for stream in [Command::stdin, Command::stdout, Command::stderr] {
        stream(&mut command, Stdio::from(terminal.try_clone().unwrap()));
    }
    (command, terminal, person)
}

/// `agent-sandbox secret ARGUMENTS` with `age:keys.age`, answering each question; what was shown after the first, how it
/// ended, and whether the terminal is as before.
fn secret(folder: &Path, arguments: &[&str], answers: &[(&str, &str)]) -> (String, ExitStatus, bool) {
    let all: Vec<&str> =
        ["secret"].iter().chain(arguments).chain(&["--store", "age:keys.age"]).copied().collect();
    let (mut command, mut terminal, mut person) = at_terminal(folder, &all);
    let child = command.env_remove("AGENT_SANDBOX_STORE").spawn().unwrap();
    let mut shown = String::new();
    for (question, answer) in answers {
        shown += &person.read_until(question);
        person.types(answer);
    }
    let output = finish(child);
    terminal.write_all(b"#").unwrap();
    shown += &person.read_until("#");
    assert!(text(&output.stdout).is_empty());
    (shown, output.status, is_usual(&terminal))
}

const NEW: &str = "new passphrase of keys.age: ";
const SAME: &str = "the same again: ";
const OPEN: &str = "passphrase of keys.age: ";
const VALUE: &str = "value (not shown; end with Enter, then Ctrl-D): ";

#[test]
fn a_passphrase_and_a_key_are_typed_unseen() {
    let folder = tempfile::tempdir().unwrap();
    let (shown, status, usual) =
        secret(folder.path(), &["init"], &[(NEW, "correct horse\r"), (SAME, "wrong horse\r")]);
    assert!(shown.contains("the two are not the same") && !shown.contains("horse"), "{shown}");
    assert_eq!((status.code(), usual), (Some(2), true), "{shown}");
    let (shown, status, usual) =
        secret(folder.path(), &["init"], &[(NEW, "correct horse\r"), (SAME, "correct horse\r")]);
    assert!(shown.contains("created") && !shown.contains("horse"), "{shown}");
    assert_eq!((status.code(), usual), (Some(0), true), "{shown}");
    let typed = format!("{KEY}\r\u{4}");
    let (shown, status, usual) =
        secret(folder.path(), &["set", "K"], &[(VALUE, &typed), (OPEN, "correct horse\r")]);
    assert!(shown.contains("stored K") && !shown.contains(KEY) && !shown.contains("horse"), "{shown}");
    assert_eq!((status.code(), usual), (Some(0), true), "{shown}");
}

#[test]
fn ctrl_c_at_a_question_ends_the_program_and_what_is_typed_from_then_on_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let interrupted = |arguments: &[&str], answers: &[(&str, &str)]| {
        let (shown, status, usual) = secret(folder.path(), arguments, answers);
        assert_eq!((status.signal(), usual), (Some(2), true), "{arguments:?}: {shown}");
        assert!(!shown.contains("half") && !shown.contains(KEY), "{shown}");
    };
    interrupted(&["init"], &[(NEW, "half\u{3}")]);
    interrupted(&["init"], &[(NEW, "half a horse\r"), (SAME, "half\u{3}")]);
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "a file was made");
    let (shown, ..) =
        secret(folder.path(), &["init"], &[(NEW, "correct horse\r"), (SAME, "correct horse\r")]);
    assert!(shown.contains("created"), "{shown}");
    let before = std::fs::read(folder.path().join("keys.age")).unwrap();
    interrupted(&["set", "K"], &[(VALUE, "half\r\u{3}")]);
    interrupted(&["set", "K"], &[(VALUE, &format!("{KEY}\r\u{4}")), (OPEN, "half\u{3}")]);
    interrupted(&["unlock"], &[(OPEN, "half\u{3}")]);
    assert!(std::fs::read(folder.path().join("keys.age")).unwrap() == before, "the file was changed");
}

#[test]
fn what_no_rule_decides_is_asked_at_the_terminal_and_the_answer_holds_for_that_request() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = upstream::start(folder.path());
    let asked = format!("https://{HOST}:{}/asked", upstream.address.port());
    let other = "https://other.test/";
    let fetch = |url: &str| format!("curl -sS -o /dev/null -w '%{{http_code}} ' {url};");
    let script = [&asked, other, &asked].map(fetch).concat();
    let usual = upstream_options(folder.path(), &upstream);
    let usual = usual.iter().map(String::as_str);
    let command = ["--ask", "--", "/bin/sh", "-c", &script];
    let arguments: Vec<&str> = ["run", "-q", "--yes"]
        .into_iter()
        .chain(KERNEL.iter().copied())
        .chain(usual)
        .chain(command)
        .collect();
    let (mut command, terminal, mut person) = at_terminal(folder.path(), &arguments);
    let _guest = one_guest();
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    for (url, answer) in [(asked.as_str(), "o\r"), (other, "n\r"), (&asked, "n\r")] {
        let mut shown = person.read_until("allow? ");
        // Asked on this port where the client takes its time: it may be one that lets the server speak first.
        if shown.contains("\n  TCP ") {
            person.types("n\r");
            shown = person.read_until("allow? ");
        }
        assert!(shown.contains(&format!("  GET {url}\n")), "{shown}");
        person.types(answer);
    }
    let output = finish(child);
    assert_eq!(text(&output.stdout), "200 403 403 ");
    assert!(is_usual(&terminal));
    assert_eq!(upstream.requests.load(Ordering::SeqCst), 1);
    let log = audit(folder.path());
    let by = |verdict: &str| {
        let lines = log.iter().filter(|line| line["layer"] == "http" && line["verdict"] == verdict);
        lines.map(|line| (line["host"].as_str(), line["rule"].as_str())).collect::<Vec<_>>()
    };
    assert_eq!(by("allow"), [(Some(HOST), Some("ask"))]);
    assert_eq!(by("deny"), [(Some("other.test"), None), (Some(HOST), None)]);
}
