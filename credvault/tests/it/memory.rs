//! What is left of a secret in the memory of a process that used it, and whether the process can be dumped.
//!
//! Each test runs itself again in a child process, so that other tests' memory does not count. The child
//! never holds the value other than in the crate's own keeping: needles are stored inverted.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

use credvault::{
    BadHeader, Binding, HeaderAccess, HeaderEdit, MemoryStore, Scheme, Secret, Store, Target, Vault,
};
use zeroize::{Zeroize, Zeroizing};

const CHILD: &str = "CREDVAULT_TEST_CHILD";

/// Inverted at compile time: the plain bytes are nowhere in the program.
const fn inverted<const N: usize>(plain: &[u8; N]) -> [u8; N] {
    let mut out = [0; N];
    let mut at = 0;
    while at < N {
        out[at] = !plain[at];
        at += 1;
    }
    out
}

const VALUE: [u8; 31] = inverted(b"sk-leak-Qw7Zr4Tn9Xk2Vb6Lm1Pc8Hd");
/// The end of the value: freeing a piece of heap overwrites the first 16 bytes of what was in it.
const TAIL: &[u8] = VALUE.split_at(16).1;

/// The value in base64 at the start of a text, after one byte and after two; in hexadecimal.
const FORMS: [&[u8]; 4] = [
    &inverted(b"c2stbGVhay1RdzdacjRUbjlYazJWYjZMbTFQYzhIZ"),
    &inverted(b"rLWxlYWstUXc3WnI0VG45WGsyVmI2TG0xUGM4SG"),
    &inverted(b"zay1sZWFrLVF3N1pyNFRuOVhrMlZiNkxtMVBjOEhk"),
    &inverted(b"736b2d6c65616b2d5177375a7234546e39586b325662364c6d31506338486"),
];

fn value() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(VALUE.iter().map(|byte| !byte).collect())
}

/// Runs the test `name` of this binary in a process of its own, with `CHILD` set.
fn in_a_child(name: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// How often each needle is found in all memory that this process has written.
fn count_in_memory(needles: &[&[u8]]) -> Vec<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = File::open("/proc/self/mem").unwrap();
    let mut found = vec![0; needles.len()];
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        if !fields.next().unwrap().starts_with("rw") {
            continue; // what was never written holds no secret
        }
        let mut bytes = Zeroizing::new(vec![0; usize::try_from(end - start).unwrap()]);
        if memory.read_exact_at(&mut bytes, start).is_err() {
            continue; // [vvar] and the like
        }
        // From here on this copy is inverted too, so that a later round does not find it.
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        for (needle, found) in needles.iter().zip(&mut found) {
            *found += bytes.windows(needle.len()).filter(|window| window == needle).count();
        }
    }
    found
}

/// Headers that clear what they hold, as the copy in an HTTP library is not this crate's.
#[derive(Default)]
struct ClearedHeaders(Vec<Zeroizing<Vec<u8>>>);

impl HeaderAccess for ClearedHeaders {
    fn visit(&self, see: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        self.0.iter().all(|value| see(b"authorization", value));
    }
    fn rewrite(&mut self, edit: &mut HeaderEdit<'_>) -> Result<(), BadHeader> {
        for value in &mut self.0 {
            if let Some(new) = edit(b"authorization", value) {
                *value = new;
            }
        }
        Ok(())
    }
    fn remove(&mut self, doomed: &mut dyn FnMut(&[u8]) -> bool) {
        self.0.retain(|_| !doomed(b"authorization"));
    }
    fn append(&mut self, _: &str, value: &[u8]) -> Result<(), BadHeader> {
        self.0.push(Zeroizing::new(value.to_vec()));
        Ok(())
    }
}

/// One sandbox's life: store, bind, inject, scrub.
fn use_the_secret() -> (Vault, MemoryStore) {
    let store = MemoryStore::new();
    let mut plain = value();
    store.put("leak", &Secret::new(std::mem::take(&mut *plain))).unwrap();
    let mut builder = Vault::builder();
    let binding = Binding::bearer("leak", "api.example.com").unwrap();
    builder.bind(binding, store.get("leak").unwrap(), &mut credvault::os_random).unwrap();
    let vault = builder.build();

    let target =
        Target { scheme: Scheme::Https, host: "api.example.com", port: 443, method: "GET", path: "/" };
    let mut headers = ClearedHeaders::default();
    assert!(vault.inject(&target, &mut headers).unwrap().credential.is_some());
    assert!(headers.0[0].len() > VALUE.len());

    let (mut scrubber, mut out, mut echo) = (vault.scrubber(), Vec::new(), value());
    for chunk in echo.chunks(5) {
        scrubber.push(chunk, &mut out);
    }
    scrubber.finish(&mut out);
    echo.zeroize();
    assert_eq!(scrubber.redactions(), 1);
    (vault, store)
}

#[test]
fn nothing_of_a_secret_is_left_in_memory_after_use() {
    if std::env::var_os(CHILD).is_none() {
        return in_a_child("memory::nothing_of_a_secret_is_left_in_memory_after_use");
    }
    let needles: Vec<&[u8]> = std::iter::once(TAIL).chain(FORMS.map(|form| &form[16..])).collect();
    let (vault, store) = use_the_secret();
    let alive = count_in_memory(&needles);
    // The search is able to find: the store's copy, the vault's, and the scrubber's. Forms are nowhere written out.
    assert!(alive[0] >= 3, "{alive:?}");
    assert_eq!(alive[1..], [0; 4]);
    let mut written: Vec<u8> = FORMS.concat().iter().map(|byte| !byte).collect();
    assert!(count_in_memory(&needles)[1..].iter().all(|&count| count >= 1));
    written.zeroize();
    drop((vault, store));
    assert_eq!(count_in_memory(&needles), [0; 5], "value, three base64 forms, hexadecimal");
}

#[cfg(feature = "secret-service")]
#[test]
fn the_keyrings_client_leaves_no_copy_behind() {
    use crate::session::{Keyring, Session};
    if std::env::var_os(CHILD).is_none() {
        return in_a_child("memory::the_keyrings_client_leaves_no_copy_behind");
    }
    let home = tempfile::tempdir().unwrap();
    let Some(session) = Session::start(home.path(), Keyring::Unlocked) else { return };
    let store = session.store("agent-sandbox");
    let mut plain = value();
    store.put("leak", &Secret::new(std::mem::take(&mut *plain))).unwrap();
    let secret = store.get("leak").unwrap();
    assert!(count_in_memory(&[TAIL])[0] >= 1);
    drop(secret);
    assert_eq!(count_in_memory(&[TAIL]), [0]);
}

#[test]
fn a_hardened_process_cannot_be_dumped() {
    if std::env::var_os(CHILD).is_none() {
        return in_a_child("memory::a_hardened_process_cannot_be_dumped");
    }
    credvault::harden_process().unwrap();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    assert_eq!(rustix::process::dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);
}

#[test]
fn without_leave_to_lock_a_secret_still_works_and_says_so() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    if std::env::var_os(CHILD).is_none() {
        return in_a_child("memory::without_leave_to_lock_a_secret_still_works_and_says_so");
    }
    // Root may lock beyond the limit; this thread gives that up.
    let mut caps = capabilities(None).unwrap();
    caps.effective.remove(CapabilitySet::IPC_LOCK);
    caps.permitted.remove(CapabilitySet::IPC_LOCK);
    set_capabilities(None, caps).unwrap();
    setrlimit(Resource::Memlock, Rlimit { current: Some(0), ..getrlimit(Resource::Memlock) }).unwrap();
    let secret = Secret::new(value().to_vec());
    let protection = secret.protection();
    assert!(!protection.locked && !protection.is_full());
    assert!(protection.kept_out_of_dumps && protection.wiped_on_fork);
    assert!(protection.remedy().unwrap().contains("ulimit -l"));
    assert_eq!(secret.len(), VALUE.len());
}
