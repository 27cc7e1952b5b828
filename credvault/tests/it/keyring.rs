//! The keyring store against a real gnome-keyring on a bus of the test's own.

use credvault::{NoStoreReason, Secret, SecretServiceStore, Store, StoreError};

use crate::session::{Keyring, Session, install_service};

impl Session {
    pub(crate) fn store(&self, application: &str) -> SecretServiceStore {
        SecretServiceStore::new(application).unwrap().on_bus(self.address())
    }
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
