//! The encrypted file: what it keeps, what it refuses, and what is left after a kill between any two writes.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::replace::{STEPS, Step, replace};
use super::*;

const CHILD: &str = "CREDVAULT_TEST_STEP";
const FOLDER: &str = "CREDVAULT_TEST_FOLDER";

fn secret(value: &str) -> Secret {
    Secret::new(value.as_bytes().to_vec())
}

/// With the smallest cost of guessing: the tests are about files.
fn store(folder: &Path) -> AgeFileStore {
    with_passphrase(folder, "correct horse")
}

fn with_passphrase(folder: &Path, passphrase: &str) -> AgeFileStore {
    AgeFileStore::new(folder.join("secrets.age"), AgeKey::Passphrase(secret(passphrase))).work_factor_log2(1)
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn error(result: Result<Secret, StoreError>) -> StoreError {
    result.map(|_| ()).unwrap_err()
}

#[test]
fn keeps_replaces_lists_and_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    assert!(matches!(store.probe(), Err(StoreError::NoStore { reason: NoStoreReason::NoFile, .. })));
    assert!(matches!(store.delete("a"), Err(StoreError::NoStore { reason: NoStoreReason::NoFile, .. })));
    store.put("b", &secret("first")).unwrap();
    store.put("b", &Secret::new(vec![0, b'\n', 0xff])).unwrap();
    store.put("a", &secret("third")).unwrap();
    assert!(store.get("b").unwrap() == Secret::new(vec![0, b'\n', 0xff]));
    assert_eq!(store.list().unwrap(), ["a", "b"]);
    let third = store.put_until("b", &secret("ends"), Some(9)).unwrap();
    assert_eq!((third.version, third.not_after_s), (3, Some(9)));
    // Another program's view of the same file.
    assert_eq!(
        with_passphrase(folder.path(), "correct horse").entries().unwrap(),
        [Stored::first("a", None), third]
    );
    store.delete("b").unwrap();
    assert!(matches!(store.delete("b"), Err(StoreError::Missing { .. })));
    assert!(matches!(store.put("a b", &secret("x")), Err(StoreError::Name)));
    assert!(store.create().unwrap_err().to_string().contains("there already"));
    let meta = std::fs::metadata(folder.path().join("secrets.age")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    let text = std::fs::read(folder.path().join("secrets.age")).unwrap();
    assert!(text.starts_with(b"age-encryption.org/v1") && !text.windows(5).any(|piece| piece == b"third"));
}

#[test]
fn the_key_is_asked_for_once_and_not_by_a_probe() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let folder = tempfile::tempdir().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let asking = |answer: Option<&'static str>| {
        let asked = asked.clone();
        let ask = move || {
            asked.fetch_add(1, Ordering::Relaxed);
            Ok(answer.map(|answer| AgeKey::Passphrase(secret(answer))))
        };
        AgeFileStore::asking(folder.path().join("secrets.age"), Box::new(ask)).work_factor_log2(1)
    };
    let locked = asking(None);
    assert!(matches!(locked.probe(), Err(StoreError::NoStore { reason: NoStoreReason::NoFile, .. })));
    assert!(matches!(locked.create(), Err(StoreError::Locked { .. })));
    assert!(!folder.path().join("secrets.age").exists());
    assert_eq!(asked.swap(0, Ordering::Relaxed), 1);
    let store = asking(Some("correct horse"));
    store.create().unwrap();
    store.probe().unwrap();
    assert_eq!(store.entries().unwrap(), []);
    store.put("a", &secret("value")).unwrap();
    assert_eq!(asked.swap(0, Ordering::Relaxed), 1);
    locked.probe().unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert!(matches!(error(locked.get("a")), StoreError::Locked { .. }));
    assert!(matches!(asking(Some("wrong")).unlock(), Err(StoreError::WrongKey { .. })));
    std::fs::write(folder.path().join("secrets.age"), "OPENAI_API_KEY=sk-in-the-clear").unwrap();
    assert!(matches!(locked.probe(), Err(StoreError::Damaged { .. })));
}

#[test]
fn why_the_key_cannot_be_had_is_said_and_is_not_locked() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path()).create().unwrap();
    let ask = || Err("the file `me.txt` is refused: mode 0600".to_owned());
    let error = error(AgeFileStore::asking(folder.path().join("secrets.age"), Box::new(ask)).get("a"));
    assert!(matches!(error, StoreError::NoKey { .. }), "{error}");
    assert!(error.to_string().contains("`me.txt` is refused"), "{error}");
}

#[test]
fn an_identity_opens_what_it_wrote_and_another_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let with = |identity: &age::x25519::Identity| {
        let file = format!("# created by a test\n{}\n", identity.to_string().expose_secret());
        AgeFileStore::new(folder.path().join("s.age"), AgeKey::Identity(secret(&file)))
    };
    let (mine, other) = (age::x25519::Identity::generate(), age::x25519::Identity::generate());
    with(&mine).put("a", &secret("value")).unwrap();
    assert!(with(&mine).get("a").unwrap() == secret("value"));
    assert!(matches!(error(with(&other).get("a")), StoreError::WrongKey { .. }));
    assert!(matches!(with(&other).put("a", &secret("x")), Err(StoreError::WrongKey { .. })));
    let none = AgeFileStore::new(folder.path().join("s.age"), AgeKey::Identity(secret("nonsense")));
    assert!(matches!(error(none.get("a")), StoreError::WrongKey { .. }));
}

#[test]
fn a_wrong_passphrase_is_its_own_error_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    store(folder.path()).put("a", &secret("value")).unwrap();
    let wrong = with_passphrase(folder.path(), "wrong horse");
    let before = std::fs::read(folder.path().join("secrets.age")).unwrap();
    for error in
        [error(wrong.get("a")), wrong.put("a", &secret("x")).unwrap_err(), wrong.delete("a").unwrap_err()]
    {
        assert!(matches!(error, StoreError::WrongKey { .. }), "{error}");
        assert!(error.to_string().contains("type the passphrase again"), "{error}");
    }
    assert_eq!(std::fs::read(folder.path().join("secrets.age")).unwrap(), before);
}

#[test]
fn every_truncation_and_every_flipped_byte_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.put("a", &secret("value")).unwrap();
    let path = folder.path().join("secrets.age");
    let whole = std::fs::read(&path).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut check = |content: &[u8], what: String| {
        std::fs::write(&path, content).unwrap();
        match error(store.get("a")) {
            StoreError::Damaged { .. } => seen.insert("damaged"),
            StoreError::WrongKey { .. } => seen.insert("wrong key"),
            other => panic!("{what}: {other}"),
        };
        assert!(store.put("b", &secret("lost?")).is_err(), "{what}");
        assert_eq!(std::fs::read(&path).unwrap(), content, "{what}: nothing is overwritten");
    };
    for length in 0..whole.len() {
        check(&whole[..length], format!("cut to {length}"));
    }
    // Without the salt and the work factor: another one is a second's work each time, see the next test.
    for at in (0..whole.len()).filter(|at| !(30..70).contains(at)) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        check(&flipped, format!("byte {at} flipped"));
    }
    assert!(seen.contains("damaged"));
    std::fs::write(&path, &whole).unwrap();
    assert!(store.get("a").unwrap() == secret("value"));
}

#[test]
fn a_header_that_asks_for_hours_of_work_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.put("a", &secret("value")).unwrap();
    let path = folder.path().join("secrets.age");
    let whole = std::fs::read(&path).unwrap();
    let header = b"-> scrypt ";
    let salt = whole.windows(header.len()).position(|piece| piece == header).unwrap() + header.len();
    let end = salt + whole[salt..].iter().position(|&byte| byte == b'\n').unwrap();
    assert_eq!(&whole[end - 2..end], b" 1");
    // 2^40 rounds: days, and a terabyte or more.
    let hours = [&whole[..end - 1], b"40", &whole[end..]].concat();
    std::fs::write(&path, hours).unwrap();
    let error = error(store.get("a"));
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn what_others_can_read_or_replace_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.put("a", &secret("value")).unwrap();
    let path = folder.path().join("secrets.age");
    for bad in [0o644, 0o640, 0o620, 0o602, 0o604] {
        mode(&path, bad);
        let error = error(store.get("a"));
        assert!(matches!(error, StoreError::Exposed { .. }), "{bad:o}: {error}");
        assert!(error.to_string().contains("0600"), "{error}");
        assert!(matches!(store.put("a", &secret("x")), Err(StoreError::Exposed { .. })));
    }
    mode(&path, 0o600);
    let elsewhere = folder.path().join("elsewhere.age");
    std::fs::rename(&path, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    assert!(matches!(error(store.get("a")), StoreError::Exposed { .. }));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(error(store.get("a")), StoreError::Exposed { .. }));
}

#[test]
fn two_writers_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let folder = folder.path();
            scope.spawn(move || {
                let store = store(folder);
                for n in 0..8 {
                    store.put(&format!("w{writer}-{n}"), &secret(&format!("value {writer} {n}"))).unwrap();
                }
            });
        }
    });
    let store = store(folder.path());
    assert_eq!(store.list().unwrap().len(), 32);
    assert!(store.get("w3-7").unwrap() == secret("value 3 7"));
}

/// As the child: replaces the file and ends itself by SIGKILL after the step of this number.
fn child(step: usize) {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let store = store(&folder);
    let _lock = store.lock().unwrap();
    let mut entries = store.load().unwrap();
    entries.push((Stored::first("new", None), secret("new value")));
    let sealed = store.encrypt(&entries).unwrap();
    replace(&store.path, &sealed, &mut |done| {
        if STEPS.get(step) == Some(&done) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_kill_between_any_two_writes_loses_nothing() {
    use std::os::unix::process::ExitStatusExt;
    const NAME: &str = "store::age_file::tests::a_kill_between_any_two_writes_loses_nothing";
    if let Some(step) = std::env::var(CHILD).ok().and_then(|step| step.parse().ok()) {
        return child(step);
    }
    for (number, step) in STEPS.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        store.put("old", &secret("old value")).unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--test-threads=1"])
            .env(CHILD, number.to_string())
            .env(FOLDER, folder.path())
            .output()
            .unwrap()
            .status;
        assert_eq!(status.signal(), Some(9), "{step:?}: {status}");
        assert!(store.get("old").unwrap() == secret("old value"), "{step:?}");
        let is_new = matches!(step, Step::Renamed | Step::FolderSynced);
        assert_eq!(store.get("new").is_ok(), is_new, "{step:?}");
        // Neither the lock nor what was half written is in the way.
        store.put("after", &secret("later")).unwrap();
        assert!(store.get("old").unwrap() == secret("old value"), "{step:?}");
        assert!(!folder.path().join("secrets.age.new").exists(), "{step:?}");
    }
}

#[test]
fn an_error_at_any_step_is_told_and_the_old_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for (number, step) in STEPS.iter().enumerate() {
        std::fs::write(&path, "old").unwrap();
        let result = replace(&path, b"new!", &mut |done| {
            if done == *step { Err(io::Error::other("disk full")) } else { Ok(()) }
        });
        assert!(result.is_err(), "{step:?}");
        let expected = if number >= 5 { "new!" } else { "old" };
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected, "{step:?}");
    }
}
