//! The `secret` verbs of the built program against a real gnome-keyring: unlocked, locked, killed, absent, without a
//! default collection. One guest is started, to see a stored key arrive where it belongs.
//!
//! The bus is the test's own and not `dbus-run-session`'s: that one would start the keyring that this machine has
//! installed, and who tests it could not choose whether it gets a password.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::network::{audit, upstream_options};
use crate::program::{finish, one_guest, run_command};
use crate::secrets::{KEY, ok, refused, said, secret_on};
use crate::session::{Keyring, Session, install_service};
use crate::upstream::{self, HOST};

const ANOTHER: &str = "sk-live-another-one-0123";

/// `agent-sandbox secret ARGUMENTS --json` on the bus of `session`, with a home in `folder`, and with what opens the
/// file there: were the file used in the keyring's place, that would succeed.
fn secret(session: &Session, folder: &Path, arguments: &[&str], input: &str) -> Output {
    let all: Vec<&str> = arguments.iter().chain(&["--json", "--identity", "me.txt"]).copied().collect();
    secret_on(session.address(), folder, &all, input)
}

/// An encrypted file at its usual place, which `auto` takes where there is no keyring.
fn make_file(session: &Session, folder: &Path) -> String {
    let made = ok(secret(session, folder, &["init"], ""));
    made["path"].as_str().unwrap().to_owned()
}

/// Every verb that needs the store, with what it said when it was refused.
fn each_refused(session: &Session, folder: &Path) -> Vec<String> {
    let verbs: [(&[&str], &str); 4] =
        [(&["ls"], ""), (&["set", "K"], ANOTHER), (&["rotate", "K"], ANOTHER), (&["rm", "K"], "")];
    let said = verbs.map(|(verb, input)| refused(secret(session, folder, verb, input)));
    assert!(!said.iter().any(|error| error.contains(ANOTHER)), "the value is printed: {said:?}");
    said.to_vec()
}

fn stores(session: &Session, folder: &Path) -> Value {
    ok(secret(session, folder, &["stores"], ""))["stores"].take()
}

/// A keyring's home and the user's; both end with the test.
fn folders() -> (TempDir, TempDir) {
    (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
}

#[test]
fn an_unlocked_keyring_from_set_to_rm() {
    let (home, folder) = folders();
    let Some(session) = Session::start(home.path(), Keyring::Unlocked) else { return };
    let run = |verb: &[&str], input: &str| secret(&session, folder.path(), verb, input);
    assert_eq!(ok(run(&["ls"], ""))["names"], serde_json::json!([]));
    assert!(refused(run(&["rotate", "K"], KEY)).contains("has no credential `K`"));
    let set = ok(run(&["set", "K"], KEY));
    assert_eq!((&set["stored"], &set["version"], &set["not_after"]), (&"K".into(), &1.into(), &Value::Null));
    assert!(set["store"].as_str().unwrap().contains("keyring"), "{set}");
    let rotated = ok(run(&["rotate", "K", "--not-after", "2100-01-31T12:00:00Z"], ANOTHER));
    assert_eq!((&rotated["version"], &rotated["not_after"]), (&2.into(), &"2100-01-31T12:00:00Z".into()));
    assert!(refused(run(&["set", "K"], "short")).contains("shorter than 8 bytes"));
    let listed = ok(run(&["ls"], ""));
    assert_eq!((&listed["names"], &listed["secrets"][0]["version"]), (&serde_json::json!(["K"]), &2.into()));
    // The keyring comes first, also where the file is there; what opens and closes the file is not for it.
    let file = make_file(&session, folder.path());
    let found = stores(&session, folder.path());
    assert_eq!((&found[0]["state"], &found[0]["used"]), (&"usable".into(), &true.into()), "{found}");
    assert_eq!(
        (&found[1]["store"].as_str().unwrap().contains(&file), &found[1]["used"]),
        (&true, &false.into())
    );
    for verb in ["init", "unlock", "lock"] {
        let error = refused(run(&[verb, "--store", "secret-service"], "correct horse"));
        assert!(error.contains("unlocked by its own program"), "{verb}: {error}");
    }
    assert_eq!(ok(run(&["ls", "--store", "secret-service"], ""))["names"], serde_json::json!(["K"]));
    ok(run(&["rm", "K"], ""));
    assert!(refused(run(&["rm", "K"], "")).contains("has no credential"));
    assert_eq!(ok(run(&["ls"], ""))["names"], serde_json::json!([]));
}

#[test]
fn a_locked_keyring_is_not_passed_over_for_the_file() {
    let (home, folder) = folders();
    let Some(session) = Session::start(home.path(), Keyring::Unlocked) else { return };
    make_file(&session, folder.path());
    ok(secret(&session, folder.path(), &["set", "K"], KEY));
    drop(session);
    let Some(session) = Session::start(home.path(), Keyring::WithoutPassword) else { return };
    for error in each_refused(&session, folder.path()) {
        assert!(error.contains("is locked") && error.contains("unlock the keyring"), "{error}");
    }
    let found = stores(&session, folder.path());
    assert_eq!((&found[0]["state"], &found[0]["used"]), (&"locked".into(), &false.into()), "{found}");
    assert_eq!((&found[1]["state"], &found[1]["used"]), (&"usable".into(), &false.into()), "{found}");
    drop(session);
    // None of it took effect.
    let Some(session) = Session::start(home.path(), Keyring::Unlocked) else { return };
    let listed = ok(secret(&session, folder.path(), &["ls"], ""));
    assert_eq!((&listed["names"], &listed["secrets"][0]["version"]), (&serde_json::json!(["K"]), &1.into()));
}

#[test]
fn a_keyring_that_was_killed_is_never_an_empty_one() {
    let (home, folder) = folders();
    let Some(session) = Session::start(home.path(), Keyring::Unlocked) else { return };
    make_file(&session, folder.path());
    ok(secret(&session, folder.path(), &["set", "K"], KEY));
    // The bus starts another daemon for the next call; that one gets no password.
    install_service(home.path(), &home.path().join("services"), false);
    session.kill_daemon("-KILL");
    for error in each_refused(&session, folder.path()) {
        // Failed: the bus had not noticed yet.
        assert!(error.contains("is locked") || error.contains("failed"), "{error}");
        assert!(!error.contains("has no credential"), "{error}");
    }
}

#[test]
fn without_a_keyring_program_the_file_is_used_and_the_reason_is_said() {
    let (home, folder) = folders();
    let Some(session) = Session::start(home.path(), Keyring::Absent) else { return };
    for error in each_refused(&session, folder.path()) {
        assert!(error.contains("no keyring program answers") && error.contains("does not exist"), "{error}");
        assert!(error.contains("install and start a keyring") && error.contains("secret init"), "{error}");
    }
    falls_to_the_file(&session, folder.path(), "no keyring program answers");
}

#[test]
fn a_keyring_without_a_default_collection_is_no_store_and_the_reason_is_said() {
    let (home, folder) = folders();
    let Some(session) = Session::start(home.path(), Keyring::WithoutPassword) else { return };
    for error in each_refused(&session, folder.path()) {
        assert!(error.contains("no default collection") && error.contains("create a default"), "{error}");
    }
    falls_to_the_file(&session, folder.path(), "no default collection");
}

fn falls_to_the_file(session: &Session, folder: &Path, reason: &str) {
    let named = refused(secret(session, folder, &["set", "K", "--store", "secret-service"], KEY));
    assert!(named.contains(reason), "{named}");
    let file = make_file(session, folder);
    let found = stores(session, folder);
    assert_eq!((&found[0]["state"], &found[0]["used"]), (&"absent".into(), &false.into()), "{found}");
    assert_eq!(found[1]["used"], true, "{found}");
    let set = secret_on(session.address(), folder, &["set", "K", "--identity", "me.txt"], KEY);
    assert_eq!(set.status.code(), Some(0), "{}", said(&set));
    assert!(said(&set).contains(&file) && said(&set).contains(reason), "{}", said(&set));
    let listed = ok(secret(session, folder, &["ls"], ""));
    assert_eq!(listed["names"], serde_json::json!(["K"]));
    assert!(listed["passed"][0].as_str().unwrap().contains(reason), "{listed}");
}

#[test]
fn a_key_in_the_keyring_reaches_its_host_and_no_guest() {
    let (home, folder) = folders();
    let Some(session) = Session::start(home.path(), Keyring::Unlocked) else { return };
    ok(secret(&session, folder.path(), &["set", "API_KEY"], KEY));
    let upstream = upstream::start(folder.path());
    let port = upstream.address.port();
    let script = format!(
        "curl -sS -H \"Authorization: Bearer $API_KEY\" https://{HOST}:{port}/ok/echo; env | grep ^API_KEY="
    );
    let binding = format!("API_KEY@{HOST}:{port}");
    let usual = upstream_options(folder.path(), &upstream);
    let options: Vec<&str> = usual.iter().map(String::as_str).chain(["--secret", &binding]).collect();
    let mut command = run_command(folder.path(), &options, &["/bin/sh", "-c", &script]);
    command.env("DBUS_SESSION_BUS_ADDRESS", session.address()).env_remove("AGENT_SANDBOX_STORE");
    let _guest = one_guest();
    let output = finish(command.spawn().unwrap());
    let printed = said(&output);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let placeholder = printed.lines().find_map(|line| line.strip_prefix("API_KEY=")).unwrap();
    // The upstream echoed the head it got: with the key, which the guest sees as its placeholder.
    let echoed = format!("authorization: Bearer {placeholder}").to_lowercase();
    assert!(printed.to_lowercase().contains(&echoed), "{printed}");
    let line = audit(folder.path()).into_iter().find(|line| line["layer"] == "http").unwrap();
    assert_eq!((line["credential"].as_str(), line["redactions"].as_u64()), (Some("API_KEY"), Some(1)));
}
