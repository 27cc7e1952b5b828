//! The `secret` verbs against a real encrypted file and the kernel's keyring; no guest is started. The desktop's keyring
//! is in `keyring.rs`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::program::{finish, path, text};

pub const KEY: &str = "sk-live-0123456789abcdef";

/// `agent-sandbox secret ARGUMENTS` in `folder`, without a session bus and with a home of its own.
fn secret(folder: &Path, arguments: &[&str], input: &str) -> Output {
    secret_on("unix:path=/nonexistent", folder, arguments, input)
}

/// The same on this session bus.
pub fn secret_on(bus: &str, folder: &Path, arguments: &[&str], input: &str) -> Output {
    let all: Vec<&str> = ["secret"].iter().chain(arguments).copied().collect();
    // In a session of its own: without a terminal that could be asked for a passphrase.
    let mut command = std::process::Command::new("setsid");
    command
        .arg("--wait")
        .arg(path())
        .args(&all)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.env("DBUS_SESSION_BUS_ADDRESS", bus).env("XDG_CONFIG_HOME", folder.join("config"));
    command.env_remove("AGENT_SANDBOX_STORE").stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The program may end without reading it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    finish(child)
}

pub fn said(output: &Output) -> String {
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(!said.contains(KEY), "{said}");
    said
}

pub fn ok(output: Output) -> Value {
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

pub fn refused(output: Output) -> String {
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

#[test]
fn a_key_in_an_encrypted_file_from_init_to_rm() {
    let folder = tempfile::tempdir().unwrap();
    let store = ["--json", "--store", "age:keys.age", "--identity", "me.txt"];
    let run = |verb: &[&str], input: &str| {
        let all: Vec<&str> = verb.iter().chain(&store).copied().collect();
        secret(folder.path(), &all, input)
    };
    assert!(refused(run(&["ls"], "")).contains("does not exist"));
    ok(run(&["init"], ""));
    for file in ["keys.age", "me.txt"] {
        let mode = fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert!(refused(run(&["init"], "")).contains("there already"));
    assert!(refused(run(&["rotate", "K"], KEY)).contains("has no credential `K`"));
    assert_eq!(ok(run(&["set", "K"], KEY))["version"], 1);
    let rotated =
        ok(run(&["rotate", "K", "--not-after", "2100-01-31T12:00:00Z"], "sk-live-another-one-0123"));
    assert_eq!((&rotated["version"], &rotated["not_after"]), (&2.into(), &"2100-01-31T12:00:00Z".into()));
    let listed = ok(run(&["ls"], ""));
    assert_eq!(listed["secrets"][0]["version"], 2);
    assert_eq!(listed["names"][0], "K");
    assert!(listed["store"].as_str().unwrap().contains("keys.age"), "{listed}");
    assert!(!fs::read(folder.path().join("keys.age")).unwrap().windows(7).any(|part| part == b"sk-live"));
    let kept = ok(run(&["rotate", "K"], "sk-live-yet-another-0123"));
    assert_eq!((&kept["version"], &kept["not_after"]), (&3.into(), &"2100-01-31T12:00:00Z".into()));
    assert!(refused(run(&["set", "K", "--not-after", "2001-01-31"], KEY)).contains("has passed"));
    assert!(refused(run(&["set", "K"], "short")).contains("shorter than 8 bytes"));
    assert_eq!(ok(run(&["ls"], ""))["secrets"][0]["version"], 3);
    ok(run(&["rm", "K"], ""));
    assert!(refused(run(&["rm", "K"], "")).contains("has no credential"));
    fs::set_permissions(folder.path().join("keys.age"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(run(&["set", "K"], KEY)).contains("mode 0600"));
    let stores = ok(run(&["stores"], ""));
    assert_eq!(
        (&stores["stores"][0]["state"], &stores["stores"][0]["used"]),
        (&"exposed".into(), &false.into())
    );
}

#[test]
fn without_a_keyring_the_file_is_used_once_it_exists_and_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(secret(folder.path(), &["set", "K"], KEY));
    assert!(error.contains("no D-Bus session bus") && error.contains("does not exist"), "{error}");
    let stores = ok(secret(folder.path(), &["stores", "--json"], ""));
    assert_eq!(stores["stores"].as_array().unwrap().len(), 2);
    assert!(stores["stores"].as_array().unwrap().iter().all(|one| one["state"] == "absent"), "{stores}");
    let made = secret(folder.path(), &["init", "--json", "--identity", "me.txt"], "");
    assert!(ok(made)["path"].as_str().unwrap().starts_with(folder.path().to_str().unwrap()));
    let set = secret(folder.path(), &["set", "K", "--identity", "me.txt"], KEY);
    assert_eq!(set.status.code(), Some(0), "{}", said(&set));
    assert!(
        said(&set).contains("age-encrypted file") && said(&set).contains("no D-Bus session bus"),
        "{}",
        said(&set)
    );
    let stores = ok(secret(folder.path(), &["stores", "--json"], ""));
    assert_eq!(stores["stores"][1]["used"], true);
    assert!(stores["stores"][0]["problem"].as_str().unwrap().contains("dbus-run-session"), "{stores}");
}

#[test]
fn a_passphrase_opens_the_file_for_a_time_where_the_kernel_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let run = |verb: &[&str], input: &str| {
        let all: Vec<&str> = verb.iter().chain(&["--json", "--store", "age:keys.age"]).copied().collect();
        secret(folder.path(), &all, input)
    };
    ok(run(&["init"], "correct horse"));
    assert!(refused(run(&["unlock"], "wrong horse")).contains("type the passphrase again"));
    let unlocked = run(&["unlock", "--for", "5m"], "correct horse");
    if unlocked.status.code() != Some(0) {
        let said = said(&unlocked);
        assert!(said.contains("kernel keyring"), "{said}");
        assert!(std::env::var_os("CREDVAULT_REQUIRE_KEYUTILS").is_none(), "{said}");
        return crate::program::skipped("a_passphrase_opens_the_file_for_a_time", &said);
    }
    assert_eq!(ok(run(&["set", "K"], KEY))["version"], 1);
    assert_eq!(ok(run(&["lock"], ""))["was_unlocked"], true);
    // No terminal to ask on, so it is locked, which is neither missing nor wrong.
    let locked = refused(run(&["ls"], ""));
    assert!(locked.contains("is locked"), "{locked}");
}

#[test]
fn services_say_what_they_would_put_in_where() {
    let folder = tempfile::tempdir().unwrap();
    let all = ok(secret(folder.path(), &["services", "--json"], ""));
    assert!(all["services"].as_array().unwrap().len() > 50);
    let one = ok(secret(folder.path(), &["services", "anthropic", "--json"], ""));
    assert_eq!(one["endpoints"][0]["inject"], "x-api-key: KEY");
    assert!(refused(secret(folder.path(), &["services", "nonsense"], "")).contains("no such service"));
    let own = "[[service]]\nname = \"nonsense\"\n[[service.endpoint]]\nhosts = [\"own.example\"]\ninject = \"replace\"\n";
    fs::write(folder.path().join("own.toml"), own).unwrap();
    let one = ok(secret(folder.path(), &["services", "nonsense", "--services", "own.toml", "--json"], ""));
    assert_eq!(one["endpoints"][0]["hosts"][0], "https://own.example");
}
