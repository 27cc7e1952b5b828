//! Where a key is in the memory of a running program: read from outside, as a debugger or a core dump would.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// One mapping of a process that holds what it wrote.
pub struct Region {
    name: String,
    /// In RAM for good, and left out of core dumps: `lo` and `dd` among the `VmFlags` (proc_pid_smaps(5)).
    is_kept_safe: bool,
    bytes: Vec<u8>,
}

/// Everything that the process could have written its key to.
pub fn memory_of(pid: u32) -> io::Result<Vec<Region>> {
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
            // Shared with a guest (its memory) or with a file: not this process's own.
            && words.next().is_some_and(|rights| rights.starts_with("rw") && rights.ends_with('p'))
        {
            let address = |text| u64::from_str_radix(text, 16).unwrap();
            let name = words.nth(3).unwrap_or("anonymous").to_owned();
            mapping = Some((address(start), address(end), name));
        }
    }
    Ok(regions)
}

/// The key as it is, in hexadecimal, percent-encoded, and in base64 after no, one and two other bytes: the ends that
/// depend on what surrounds it are left off.
pub fn forms(key: &str) -> Vec<(&'static str, Vec<u8>)> {
    let hex: String = key.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![("as it is", key.as_bytes().to_vec()), ("hex", hex.into_bytes())];
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if !key.bytes().all(is_plain) {
        let percent =
            |byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        forms.push(("percent", key.bytes().map(percent).collect::<String>().into_bytes()));
    }
    for (name, before) in [("base64", ""), ("base64 after one", "x"), ("base64 after two", "xx")] {
        let text = base64(format!("{before}{key}").as_bytes());
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
pub fn places(regions: &[Region], key: &str) -> Vec<(String, bool)> {
    let mut places = Vec::new();
    for (form, needle) in forms(key) {
        for Region { name, is_kept_safe, bytes } in regions {
            places.extend(std::iter::repeat_n(
                (format!("{form} in {name}"), *is_kept_safe),
                count(bytes, &needle),
            ));
        }
    }
    places
}

/// That the search is able to find: every form, where this process itself holds them all.
pub fn assert_finds(key: &str) {
    let held = forms(key);
    let found = places(&memory_of(std::process::id()).unwrap(), key);
    for (form, _) in &held {
        assert!(
            found.iter().any(|(place, _)| place.starts_with(&format!("{form} in "))),
            "{form}: {found:?}"
        );
    }
}

/// By its first byte, so that an unoptimised build is done with a hundred megabytes as well.
fn count(bytes: &[u8], needle: &[u8]) -> usize {
    let (mut rest, mut count) = (bytes, 0);
    while let Some(at) = rest.iter().position(|byte| *byte == needle[0]) {
        rest = &rest[at..];
        count += usize::from(rest.starts_with(needle));
        rest = &rest[1..];
    }
    count
}
