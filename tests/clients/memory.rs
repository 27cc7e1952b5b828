//! Where a key is in the memory of a running `inject-proxy` after it was used: read from outside, as a debugger or a
//! core dump would.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::check::HELLO;
use crate::proxy::KEY;
use crate::tools::{find, need};
use crate::world::{KEYED, World, shown};

/// One mapping of a process that holds what it wrote.
struct Region {
    name: String,
    /// In RAM for good, and left out of core dumps: `lo` and `dd` among the `VmFlags` (proc_pid_smaps(5)).
    is_kept_safe: bool,
    bytes: Vec<u8>,
}

/// Everything that the process could have written its key to.
fn memory_of(pid: u32) -> io::Result<Vec<Region>> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut regions = Vec::new();
    let mut mapping: Option<(u64, u64, String)> = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let Some((start, end, name)) = mapping.take() else { continue };
            let has = |wanted| flags.split_ascii_whitespace().any(|flag| flag == wanted);
            let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
            if memory.read_exact_at(&mut bytes, start).is_ok() {
                regions.push(Region { name, is_kept_safe: has("lo") && has("dd"), bytes });
            }
        } else if let Some((start, end)) = first.split_once('-')
            && words.next().is_some_and(|rights| rights.starts_with("rw"))
        {
            let address = |text| u64::from_str_radix(text, 16).unwrap();
            let name = words.nth(3).unwrap_or("anonymous").to_owned();
            mapping = Some((address(start), address(end), name));
        }
    }
    Ok(regions)
}

/// The key as it is, in hexadecimal, and in base64 after no, one and two other bytes: the ends that depend on what
/// surrounds it are left off. It has no character that URLs or JSON would escape.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![("as it is", KEY.as_bytes().to_vec()), ("hex", hex.into_bytes())];
    for (name, before) in [("base64", ""), ("base64 after one", "x"), ("base64 after two", "xx")] {
        let text = base64(format!("{before}{KEY}").as_bytes());
        forms.push((name, text[4..text.len() - 4].to_vec()));
    }
    forms
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        out.extend([18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift & 63) as usize]));
    }
    out
}

/// Every place of a form: which, where, and whether the place is safe.
fn places(regions: &[Region]) -> Vec<(String, bool)> {
    let mut places = Vec::new();
    for Region { name, is_kept_safe, bytes } in regions {
        for (form, needle) in forms() {
            let count = bytes.windows(needle.len()).filter(|window| *window == needle).count();
            places.extend(std::iter::repeat_n((format!("{form} in {name}"), *is_kept_safe), count));
        }
    }
    places
}

/// How long closing may take on a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

#[test]
fn a_used_key_is_left_in_locked_memory_only() {
    const TEST: &str = "a_used_key_is_left_in_locked_memory_only";
    let Some(_) = need(TEST, "curl", find("curl")) else { return };
    let mut world = World::start();
    let pid = world.proxy().pid();
    let auth = format!("Authorization: Bearer {}", world.placeholder());
    let basic = format!("user:{}", world.placeholder());
    for version in ["--http1.1", "--http2"] {
        for credential in [["-H", auth.as_str()], ["-u", basic.as_str()]] {
            let mut curl = world.client("curl".as_ref());
            curl.args(["-sS", "--fail-with-body", version]).args(credential).arg(world.url(KEYED, "/hello"));
            assert!(shown(&curl.output().unwrap()).contains(HELLO), "{version}");
        }
    }
    assert_eq!(world.seen(KEYED).len(), 4);
    // Connections to the upstream are kept, and so are the buffers that a head was written from. A policy that changed
    // closes them.
    let file = world.folder.path().join("policy.toml");
    let policy = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{policy}\n# changed\n")).unwrap();
    world.proxy().signal(Signal::HUP);
    while !world.proxy().next_message().contains("loaded again") {}
    // A connection that was told to close ends a moment after that was said.
    let end = Instant::now() + CLOSED_WITHIN;
    let (safe, open) = loop {
        let regions = match memory_of(pid) {
            Ok(regions) => regions,
            // What the user's other processes meet too. Root sees more.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                eprintln!("SKIPPED: {TEST}: only root may read a hardened process ({error})");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let (safe, open): (Vec<_>, Vec<_>) = places(&regions).into_iter().partition(|(_, is_safe)| *is_safe);
        if open.is_empty() || Instant::now() > end {
            break (safe, open);
        }
    };
    // The search is able to find: the vault's copy, and every form in the patterns that answers are searched for.
    for (form, _) in forms() {
        assert!(safe.iter().any(|(place, _)| place.starts_with(form)), "{form}: {safe:?}");
    }
    assert_eq!(open, [], "beyond locked memory");
}
