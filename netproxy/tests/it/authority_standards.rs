//! `Authority` against the standards' own case files: WHATWG's `urltestdata.json` and Unicode's `IdnaTestV2.txt`.
//! Both ship in the archives of the crates `url` and `idna`, where they are read. In every case we give the same
//! value as the standard, or refuse; where we refuse what the standard takes, the reason is counted and listed here,
//! so that a new reason is noticed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;

use netproxy::{Authority, AuthorityError, Host};
use serde_json::Value;

/// The text of `file` in the published archive of `package`, as cargo unpacked it. Fails if it is not there: these
/// cases are never skipped.
fn shipped(package: &str, file: &str) -> String {
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        // What this machine builds with is unpacked here; packages for other systems need not be.
        .args(["--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = metadata["packages"].as_array().unwrap().iter().find(|one| one["name"] == package);
    let manifest = found.unwrap_or_else(|| panic!("{package} is no dependency"))["manifest_path"].as_str();
    let path = PathBuf::from(manifest.unwrap()).with_file_name(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Cases in which we refuse what the standard takes, by our reason.
type Stricter = BTreeMap<String, Vec<String>>;

fn assert_reasons(stricter: &Stricter, expected: &[AuthorityError]) {
    let mut expected: Vec<String> = expected.iter().map(|error| format!("{error:?}")).collect();
    expected.sort();
    assert_eq!(stricter.keys().cloned().collect::<Vec<_>>(), expected, "{stricter:#?}");
}

/// The authority in an absolute URL of a scheme with a default port, as it is written.
fn written_authority(input: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = input.split_once("://")?;
    let port = match scheme {
        "http" | "ws" => 80,
        "https" | "wss" => 443,
        _ => return None,
    };
    Some((rest.split(['/', '?', '#', '\\']).next().unwrap(), port))
}

#[test]
fn every_url_of_whatwg_has_the_same_authority_or_none() {
    let cases: Vec<Value> = serde_json::from_str(&shipped("url", "tests/urltestdata.json")).unwrap();
    assert!(cases.len() > 800, "{} cases", cases.len());
    let (mut same, mut both_refuse, mut stricter) = (0, 0, Stricter::new());
    for case in cases.iter().filter(|case| case.is_object()) {
        let input = case["input"].as_str().unwrap();
        let Some((text, default_port)) = written_authority(input) else { continue };
        let ours = Authority::parse(text, Some(default_port));
        match (ours, case["failure"] == true) {
            (Err(_), true) => both_refuse += 1,
            (Err(error), false) => stricter.entry(format!("{error:?}")).or_default().push(input.to_owned()),
            (Ok(ours), true) => panic!("{input:?}: a failure for WHATWG, {ours} for us"),
            (Ok(ours), false) => {
                let host = case["hostname"].as_str().unwrap();
                assert_eq!(ours.host().to_string(), canonical(host), "{input:?}");
                let port = case["port"].as_str().unwrap();
                assert_eq!(ours.port(), port.parse().unwrap_or(default_port), "{input:?}");
                same += 1;
            }
        }
    }
    assert!(same > 100 && both_refuse > 150, "{same} the same, {both_refuse} refused by both");
    assert_reasons(
        &stricter,
        &[
            AuthorityError::BadCharacter, // tab, CR and LF, which WHATWG takes out; DEL in a password
            AuthorityError::BadIpv4,      // short, octal and hexadecimal forms
            AuthorityError::BadName,      // punctuation; no certificate and no resolver has use for it
            AuthorityError::BadPort,      // empty, 0, with leading zeros
            AuthorityError::Empty,        // nothing but a dot
            AuthorityError::EmptyLabel,
            AuthorityError::Percent,  // percent-encoded hosts
            AuthorityError::UserInfo, // the whole text is given, where a URL may name a user
        ],
    );
}

/// WHATWG keeps a final dot, and IPv4 inside IPv6.
fn canonical(hostname: &str) -> String {
    let bare = hostname.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare.map(|bare| bare.parse::<Ipv6Addr>().unwrap()) {
        Some(ip) => match IpAddr::V6(ip).to_canonical() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        },
        None => hostname.strip_suffix('.').unwrap_or(hostname).to_owned(),
    }
}

#[test]
fn every_name_of_uts46_maps_to_the_same_or_is_refused() {
    let text = shipped("idna", "tests/IdnaTestV2.txt");
    let (mut same, mut both_refuse, mut stricter) = (0, 0, Stricter::new());
    for line in text.lines() {
        let line = line.split_once('#').map_or(line, |(case, _)| case);
        if line.trim().is_empty() {
            continue;
        }
        let columns: Vec<&str> = line.split(';').map(str::trim).collect();
        let source = unescaped(columns[0]);
        let unicode = if columns[1].is_empty() { source.clone() } else { unescaped(columns[1]) };
        let ascii = if columns[3].is_empty() { unicode } else { unescaped(columns[3]) };
        let status = if columns[4].is_empty() { columns[2] } else { columns[4] };
        let faults: Vec<&str> = status
            .trim_matches(['[', ']'])
            .split(',')
            .map(str::trim)
            .filter(|fault| !fault.is_empty())
            .collect();
        match Host::parse(&source) {
            Ok(ours) => {
                let root = ascii.strip_suffix('.');
                for fault in faults {
                    // Hyphens in third and fourth place are in real names (WHATWG: CheckHyphens is false); an empty
                    // label at the end is the root, which we take off.
                    let taken = fault == "V2" || (fault == "A4_2" && root.is_some());
                    assert!(taken, "{source:?} has the fault {fault}, and is {ours} for us");
                }
                assert_eq!(ours.to_string(), root.unwrap_or(&ascii), "{source:?}");
                same += 1;
            }
            Err(error) if faults.is_empty() => {
                stricter.entry(format!("{error:?}")).or_default().push(source);
            }
            Err(_) => both_refuse += 1,
        }
    }
    assert!(same > 500 && both_refuse > 5000, "{same} the same, {both_refuse} refused by both");
    assert_reasons(&stricter, &[]);
}

/// `\uXXXX` and `\x{XXXX}`; `""` is empty.
fn unescaped(text: &str) -> String {
    let mut parts = text.trim_matches('"').split('\\');
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (digits, rest) = match part.strip_prefix("x{") {
            Some(braced) => braced.split_once('}').unwrap(),
            None => part.strip_prefix('u').unwrap().split_at(4),
        };
        let code = u32::from_str_radix(digits, 16).unwrap();
        // A lone surrogate is no text; the standard calls it a fault, and so is what stands for it.
        out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        out.push_str(rest);
    }
    out
}
