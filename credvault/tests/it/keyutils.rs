//! The kernel's keyring, where this machine lets us have one.

use credvault::{KeyutilsStore, NoStoreReason, Secret, Store, StoreError};
use std::io::Write as _;

fn secret(value: &str) -> Secret {
    Secret::new(value.as_bytes().to_vec())
}

/// A name of its own per test process: the keyring is the user's.
fn store(what: &str, timeout_s: u32) -> Option<KeyutilsStore> {
    let store = KeyutilsStore::new(&format!("test-{what}-{}", std::process::id()), timeout_s).unwrap();
    match store.probe() {
        Ok(()) => Some(store),
        Err(
            error @ (StoreError::NoStore { reason: NoStoreReason::NoKernelKeyring, .. }
            | StoreError::Denied { .. }),
        ) => {
            assert!(std::env::var_os("CREDVAULT_REQUIRE_KEYUTILS").is_none(), "{error}");
            let _ = writeln!(std::io::stdout(), "\nSKIPPED: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn keeps_replaces_lists_and_deletes() {
    let Some(store) = store("keeps", 600) else { return };
    assert_eq!(store.list().unwrap(), Vec::<String>::new());
    assert!(matches!(store.get("a"), Err(StoreError::Missing { .. })));
    store.put("b", &secret("first value, longer than the second")).unwrap();
    store.put("b", &Secret::new(vec![0, 0xff, b'\n'])).unwrap();
    store.put("a", &secret("third")).unwrap();
    assert!(store.get("b").unwrap() == Secret::new(vec![0, 0xff, b'\n']));
    assert_eq!(store.list().unwrap(), ["a", "b"]);
    let longest = Secret::new(vec![b'k'; 16 * 1024]);
    store.put("long", &longest).unwrap();
    assert!(store.get("long").unwrap() == longest);
    for name in ["a", "b", "long"] {
        store.delete(name).unwrap();
        assert!(matches!(store.get(name), Err(StoreError::Missing { .. })));
    }
    assert!(matches!(store.delete("a"), Err(StoreError::Missing { .. })));
    assert_eq!(store.list().unwrap(), Vec::<String>::new());
    assert!(store.put("empty", &secret("")).is_err());
}

/// Polled, as only the kernel knows when a second is over.
#[test]
fn a_value_is_forgotten_after_its_time() {
    let Some(store) = store("ends", 1) else { return };
    store.put("a", &secret("for a second")).unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    // Found and gone before it was read is `Failed`.
    while !matches!(store.get("a"), Err(StoreError::Missing { .. })) {
        assert!(std::time::Instant::now() < end, "the kernel still has it");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // What is stored without a time stays; its end clears the list of names too.
    let stays = KeyutilsStore::new(&format!("test-ends-{}", std::process::id()), 0).unwrap();
    stays.put("a", &secret("for good")).unwrap();
    assert!(store.get("a").unwrap() == secret("for good"));
    store.delete("a").unwrap();
    assert_eq!(store.list().unwrap(), Vec::<String>::new());
}
