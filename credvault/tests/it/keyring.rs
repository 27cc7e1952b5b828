//! The keyring store against a real gnome-keyring on a bus of the test's own.
//!
//! The daemon is started by D-Bus activation, so the first call waits for it and no test sleeps. Where the
//! programs are missing, each test says SKIPPED; with `CREDVAULT_REQUIRE_KEYRING=1` it fails instead.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use credvault::{NoStoreReason, Secret, SecretServiceStore, Store, StoreError};

/// A message bus and, once something calls it, a keyring daemon; both end with the value.
pub(crate) struct Session {
    bus: Child,
    address: String,
    home: PathBuf,
}

/// What answers for `org.freedesktop.secrets`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Keyring {
    /// Nobody.
    Absent,
    /// A daemon that was given no password: what it has on disk stays locked.
    WithoutPassword,
    /// A daemon that unlocks, or creates, the login keyring.
    Unlocked,
}

impl Session {
    /// `home` holds the keyring files and may be used by a later session.
    pub(crate) fn start(home: &Path, keyring: Keyring) -> Option<Self> {
        if let Some(missing) =
            ["dbus-daemon", "gnome-keyring-daemon"].into_iter().find(|name| !is_installed(name))
        {
            assert!(std::env::var_os("CREDVAULT_REQUIRE_KEYRING").is_none(), "{missing} is not installed");
            eprintln!("SKIPPED: {missing} is not installed (apt-get install gnome-keyring dbus)");
            return None;
        }
        let services = home.join("services");
        let _ = std::fs::remove_dir_all(&services);
        for folder in [&services, &home.join("run"), &home.join("data")] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        if keyring != Keyring::Absent {
            install_service(home, &services, keyring == Keyring::Unlocked);
        }
        let config = home.join("bus.conf");
        std::fs::write(&config, bus_config(home, &services)).unwrap();
        let mut bus = Command::new("dbus-daemon")
            .args(["--nofork", "--print-address=1", "--config-file"])
            .arg(&config)
            .env("HOME", home)
            .env("XDG_DATA_HOME", home.join("data"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(bus.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some(Self { bus, address: address.trim().to_owned(), home: home.to_owned() })
    }

    /// Ends our own daemon, by the number that it wrote before it became the daemon.
    fn kill_daemon(&self, signal: &str) {
        if let Ok(pid) = std::fs::read_to_string(self.home.join("daemon.pid")) {
            let _ = std::fs::remove_file(self.home.join("daemon.pid"));
            let _ = Command::new("kill").args([signal, pid.trim()]).stderr(Stdio::null()).status();
        }
    }

    pub(crate) fn store(&self, application: &str) -> SecretServiceStore {
        SecretServiceStore::new(application).unwrap().on_bus(&self.address)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill_daemon("-TERM");
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn install_service(home: &Path, services: &Path, unlock: bool) {
    let script = home.join("keyring.sh");
    let (flag, input) = if unlock { ("--unlock", "password") } else { ("", "empty") };
    std::fs::write(home.join("password"), "correct horse").unwrap();
    std::fs::write(home.join("empty"), "").unwrap();
    let home = home.display();
    let text = format!(
        "#!/bin/sh\necho $$ > {home}/daemon.pid\n\
         exec gnome-keyring-daemon --foreground --components=secrets --control-directory={home}/run {flag} \
         < {home}/{input} > {home}/daemon.log 2>&1\n"
    );
    std::fs::write(&script, text).unwrap();
    let text = format!("[D-BUS Service]\nName=org.freedesktop.secrets\nExec=/bin/sh {}\n", script.display());
    std::fs::write(services.join("org.freedesktop.secrets.service"), text).unwrap();
}

fn bus_config(home: &Path, services: &Path) -> String {
    format!(
        r#"<busconfig><type>session</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth>
        <servicedir>{}</servicedir><policy context="default"><allow send_destination="*"/><allow own="*"/>
        <allow receive_sender="*"/></policy></busconfig>"#,
        home.display(),
        services.display()
    )
}

fn secret(value: &str) -> Secret {
    Secret::new(value.as_bytes().to_vec())
}

fn each_call(store: &dyn Store) -> Vec<StoreError> {
    let results = [
        store.probe(),
        store.list().map(|_| ()),
        store.get("anthropic").map(|_| ()),
        store.put("anthropic", &secret("another-value")),
        store.delete("anthropic"),
    ];
    results.into_iter().map(|result| result.unwrap_err()).collect()
}

#[test]
fn an_unlocked_keyring_keeps_lists_and_deletes() {
    let home = tempfile::tempdir().unwrap();
    let Some(session) = Session::start(home.path(), Keyring::Unlocked) else { return };
    let store = session.store("agent-sandbox");
    store.probe().unwrap();
    assert_eq!(store.list().unwrap(), Vec::<String>::new());
    assert!(matches!(store.get("anthropic"), Err(StoreError::Missing { .. })));
    assert!(matches!(store.delete("anthropic"), Err(StoreError::Missing { .. })));

    store.put("anthropic", &secret("first value")).unwrap();
    store.put("anthropic", &secret("sk-ant-api03-ünïcode \u{1f511}")).unwrap();
    store.put("github", &Secret::new(vec![0, 0xff, b'\n'])).unwrap();
    assert!(store.get("anthropic").unwrap() == secret("sk-ant-api03-ünïcode \u{1f511}"));
    assert!(store.get("github").unwrap() == Secret::new(vec![0, 0xff, b'\n']));
    assert_eq!(store.list().unwrap(), ["anthropic", "github"]);

    let ends = store.put_until("github", &secret("third value"), Some(4_000_000_000)).unwrap();
    assert_eq!((ends.version, ends.not_after_s), (2, Some(4_000_000_000)));
    assert_eq!(store.fetch("github").unwrap().1, ends);
    assert_eq!(store.entries().unwrap()[1], ends);
    assert_eq!(store.entries().unwrap()[0].version, 2);

    let other = session.store("another-program");
    assert_eq!(other.list().unwrap(), Vec::<String>::new());
    assert!(matches!(other.get("anthropic"), Err(StoreError::Missing { .. })));

    store.delete("anthropic").unwrap();
    assert_eq!(store.list().unwrap(), ["github"]);
    assert!(matches!(store.get("bad name"), Err(StoreError::Name)));
}

#[test]
fn a_locked_keyring_says_locked_for_every_call_and_never_missing() {
    let home = tempfile::tempdir().unwrap();
    let Some(session) = Session::start(home.path(), Keyring::Unlocked) else { return };
    session.store("agent-sandbox").put("anthropic", &secret("the value")).unwrap();
    drop(session);
    let Some(session) = Session::start(home.path(), Keyring::WithoutPassword) else { return };
    for error in each_call(&session.store("agent-sandbox")) {
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        assert!(error.to_string().contains("unlock the keyring"), "{error}");
    }
    drop(session);
    // And nothing was lost by asking.
    let Some(session) = Session::start(home.path(), Keyring::Unlocked) else { return };
    assert!(session.store("agent-sandbox").get("anthropic").unwrap() == secret("the value"));
}

#[test]
fn a_daemon_killed_between_two_calls_never_makes_a_secret_missing() {
    let home = tempfile::tempdir().unwrap();
    let Some(session) = Session::start(home.path(), Keyring::Unlocked) else { return };
    let store = session.store("agent-sandbox");
    store.put("anthropic", &secret("the value")).unwrap();
    // The bus starts another daemon for the next call; that one gets no password.
    install_service(home.path(), &home.path().join("services"), false);
    session.kill_daemon("-KILL");
    for error in each_call(&store) {
        // Failed: the call was on its way when the daemon died.
        assert!(matches!(error, StoreError::Locked { .. } | StoreError::Failed { .. }), "{error}");
    }
    drop(session);
    let Some(session) = Session::start(home.path(), Keyring::Unlocked) else { return };
    assert!(session.store("agent-sandbox").get("anthropic").unwrap() == secret("the value"));
}

#[test]
fn a_daemon_killed_while_values_are_stored_loses_none_that_was_acknowledged() {
    let home = tempfile::tempdir().unwrap();
    let Some(session) = Session::start(home.path(), Keyring::Unlocked) else { return };
    let store = session.store("agent-sandbox");
    store.put("anthropic", &secret("value 1")).unwrap();
    install_service(home.path(), &home.path().join("services"), false);
    let (sender, stored) = std::sync::mpsc::channel();
    let last = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for version in 2..10_000 {
                match store.put_until("anthropic", &secret(&format!("value {version}")), None) {
                    Ok(known) => sender.send(known.version).unwrap(),
                    Err(error) => return (version, error),
                }
            }
            panic!("the daemon was not killed");
        });
        // In the middle of one of the calls that follow the fourth.
        (2..5).for_each(|version| assert_eq!(stored.recv().unwrap(), version));
        session.kill_daemon("-KILL");
        let (version, error) = writer.join().unwrap();
        assert!(!matches!(error, StoreError::Missing { .. }), "{error}");
        version - 1
    });
    drop(session);
    let Some(session) = Session::start(home.path(), Keyring::Unlocked) else { return };
    let (value, known) = session.store("agent-sandbox").fetch("anthropic").unwrap();
    // The call that was cut short may have been carried out or not.
    assert!((last..=last + 1).contains(&known.version), "{} after {last}", known.version);
    assert!(value == secret(&format!("value {}", known.version)));
    // What it left behind is gone with the next value.
    assert_eq!(session.store("agent-sandbox").entries().unwrap().len(), 1);
    assert_eq!(
        session.store("agent-sandbox").put_until("anthropic", &value, None).unwrap().version,
        known.version + 1
    );
}

#[test]
fn a_keyring_without_default_collection_says_so() {
    let home = tempfile::tempdir().unwrap();
    let Some(session) = Session::start(home.path(), Keyring::WithoutPassword) else { return };
    for error in each_call(&session.store("agent-sandbox")) {
        assert!(matches!(error, StoreError::NoStore { reason: NoStoreReason::NoCollection, .. }), "{error}");
    }
}

#[test]
fn no_daemon_is_no_store() {
    let home = tempfile::tempdir().unwrap();
    let Some(session) = Session::start(home.path(), Keyring::Absent) else { return };
    for error in each_call(&session.store("agent-sandbox")) {
        assert!(matches!(error, StoreError::NoStore { reason: NoStoreReason::NoService, .. }), "{error}");
        assert!(error.to_string().contains("install and start a keyring"), "{error}");
    }
}

#[test]
fn no_bus_is_no_store() {
    let store = SecretServiceStore::new("agent-sandbox").unwrap().on_bus("unix:path=/nonexistent/bus");
    for error in each_call(&store) {
        assert!(matches!(error, StoreError::NoStore { reason: NoStoreReason::NoBus, .. }), "{error}");
        assert!(error.to_string().contains("dbus-run-session"), "{error}");
    }
}
