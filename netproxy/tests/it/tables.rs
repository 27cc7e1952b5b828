//! The shared case files against the pure functions.

use std::net::IpAddr;

use netproxy::dns::{Asked, Query};
use netproxy::guard::{Guard, GuardError, LocalNetwork, special_range};
use netproxy::wire::framing::{Framer, Step};
use netproxy::{Authority, Host, HostName};
use serde::Deserialize;

#[derive(Deserialize)]
struct Table<T> {
    case: Vec<T>,
}

fn table<T: for<'de> Deserialize<'de>>(text: &str) -> Vec<T> {
    toml::from_str::<Table<T>>(text).unwrap().case
}

/// Bytes written as hexadecimal digits, with spaces.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

#[derive(Deserialize)]
struct AuthorityCase {
    text: String,
    canonical: Option<String>,
    error: Option<String>,
}

#[test]
fn authorities_are_canonical_or_refused() {
    let cases: Vec<AuthorityCase> = table(include_str!("../../../testdata/authority.toml"));
    assert!(cases.len() > 50);
    for case in cases {
        let got = Authority::parse(&case.text, Some(443));
        let text = got.as_ref().map(ToString::to_string).map_err(|error| format!("{error:?}"));
        let expected = case.canonical.ok_or_else(|| case.error.unwrap());
        assert_eq!(text, expected, "{:?}", case.text);
        if let Ok(authority) = got {
            // Canonical is a fixed point.
            assert_eq!(Authority::parse(&authority.to_string(), None), Ok(authority), "{:?}", case.text);
        }
    }
}

#[derive(Deserialize)]
struct AddressCase {
    range: Option<String>,
    addresses: Vec<IpAddr>,
}

#[test]
fn special_addresses_are_refused_alone_and_among_public_ones() {
    let public: IpAddr = "1.1.1.1".parse().unwrap();
    let name = Authority::parse("a.example:443", None).unwrap();
    let cases: Vec<AddressCase> = table(include_str!("../../../testdata/addresses.toml"));
    for (range, address) in cases.iter().flat_map(|case| case.addresses.iter().map(|a| (&case.range, *a))) {
        assert_eq!(special_range(address), range.as_deref(), "{address}");
        for answer in [vec![address], vec![public, address], vec![address, public]] {
            let checked =
                Guard::default().check(&name, &answer, &LocalNetwork::default(), &|_, special| !special);
            assert_eq!(checked.is_ok(), range.is_none(), "{answer:?}");
            assert!(Guard::default().check(&name, &answer, &LocalNetwork::default(), &|_, _| true).is_ok());
        }
    }
}

#[test]
fn own_listeners_are_refused_whatever_a_rule_allows() {
    let guard = Guard::new(vec!["127.0.0.1:3128".parse().unwrap(), "0.0.0.0:9090".parse().unwrap()]);
    let near = LocalNetwork::default().with_interface("198.51.101.7".parse().unwrap(), 24);
    for (place, address, refused) in [
        ("a.example:9090", "198.51.101.7", true),
        ("a.example:9090", "64:ff9b::198.51.101.7", true),
        ("a.example:3128", "64:ff9b::127.0.0.1", true),
        ("a.example:9090", "198.51.101.8", false),
        ("a.example:3128", "198.51.101.7", false),
        ("a.example:3128", "127.0.0.1", true),
        ("[::ffff:127.0.0.1]:3128", "::ffff:127.0.0.1", true),
        ("a.example:3128", "0.0.0.0", true),
        ("a.example:3128", "::", true),
        ("a.example:3129", "127.0.0.1", false),
        ("a.example:9090", "127.0.0.1", true),
        ("a.example:9090", "192.168.1.7", true),
        ("a.example:9090", "1.1.1.1", false),
    ] {
        let authority = Authority::parse(place, None).unwrap();
        let got = guard.check(&authority, &[address.parse().unwrap()], &near, &|_, _| true);
        assert_eq!(matches!(got, Err(GuardError::OwnListener { .. })), refused, "{place} {address}");
    }
}

#[test]
fn an_answer_is_deduplicated_bounded_and_never_empty() {
    let name = Authority::parse("a.example:443", None).unwrap();
    let (guard, near) = (Guard::default(), LocalNetwork::default());
    let public = ["198.51.101.7".parse().unwrap()];
    assert_eq!(
        guard.check(&name, &public, &near, &|_, _| false),
        Err(GuardError::Denied { host: name.host().clone(), address: public[0] })
    );
    assert_eq!(guard.check(&name, &[], &near, &|_, _| true), Err(GuardError::NoAddress));
    let many: Vec<IpAddr> = (0..200u8).map(|n| IpAddr::from([1, 1, 1, n / 2])).collect();
    assert_eq!(guard.check(&name, &many, &near, &|_, special| !special).unwrap().addresses().len(), 16);
    // The bound does not hide a bad address at the end.
    let hidden = [many, vec!["10.0.0.1".parse().unwrap()]].concat();
    assert!(guard.check(&name, &hidden, &near, &|_, special| !special).is_err());
}

#[test]
fn public_addresses_of_this_machine_and_its_links_are_special() {
    let name = Authority::parse("a.example:443", None).unwrap();
    let near = LocalNetwork::default()
        .with_interface("198.51.101.7".parse().unwrap(), 32)
        .with_interface("2a00:1:2:3::7".parse().unwrap(), 128);
    let public: IpAddr = "1.1.1.1".parse().unwrap();
    for (text, place) in [
        ("198.51.101.7", "an address of this machine"),
        ("::ffff:198.51.101.7", "an address of this machine"),
        ("2a00:1:2:3::8", "on this machine's local network"),
    ] {
        let address: IpAddr = text.parse().unwrap();
        for answer in [vec![address], vec![public, address]] {
            let guard = Guard::default();
            let refused = guard.check(&name, &answer, &near, &|_, special| !special).unwrap_err();
            assert!(matches!(refused, GuardError::Near { .. }) && refused.to_string().ends_with(place));
            assert!(guard.check_answer(name.host(), &answer, &near, &|_, special| !special).is_err());
            // Only a rule that admits special addresses opens it.
            assert!(guard.check(&name, &answer, &near, &|_, _| true).is_ok());
        }
    }
}

#[derive(Deserialize)]
struct DnsCase {
    name: String,
    bytes: String,
    asked: String,
    host: Option<String>,
}

#[test]
fn dns_queries_are_understood_or_refused() {
    let cases: Vec<DnsCase> = table(include_str!("../../../testdata/dns.toml"));
    for case in cases {
        let bytes = hex(&case.bytes);
        let query = Query::parse(&bytes);
        let (kind, host) = match query.as_ref().map(Query::asked) {
            None => ("none", None),
            Some(Asked::Malformed) => ("malformed", None),
            Some(Asked::Addresses(name)) => ("addresses", Some(name)),
            Some(Asked::Nothing(name)) => ("nothing", Some(name)),
            Some(Asked::Type(name)) => ("type", name.as_ref()),
        };
        assert_eq!(kind, case.asked, "{}", case.name);
        assert_eq!(host.map(HostName::as_str), case.host.as_deref(), "{}", case.name);
        if let Some(query) = query {
            let any: IpAddr = "1.1.1.1".parse().unwrap();
            for answer in [query.blocked("x"), query.format_error(), query.server_failure()] {
                assert_eq!(answer.unwrap()[..2], [0x12, 0x34], "{}", case.name);
            }
            assert_eq!(query.answer(&[any], 30).is_some(), case.name != "no question");
        }
    }
}

#[derive(Deserialize)]
struct FramingCase {
    name: String,
    request: String,
    status: u16,
}

#[test]
fn framings_are_judged_the_same_however_they_arrive() {
    let cases: Vec<FramingCase> = table(include_str!("../../../testdata/framing.toml"));
    for case in cases {
        let bytes = case.request.replace("PLACE", "a.example:80").into_bytes();
        let whole = judge(&bytes, bytes.len());
        for cut in 1..bytes.len() {
            assert_eq!(judge(&bytes, cut), whole, "{} cut {cut}", case.name);
        }
        if case.status == 200 {
            assert!(whole.is_ok(), "{}", case.name);
        }
    }
}

/// How many whole heads, or the refusal.
fn judge(bytes: &[u8], cut: usize) -> Result<usize, String> {
    let (mut framer, mut start, mut have, mut heads) = (Framer::new(4096), 0, 0, 0);
    loop {
        match framer.step(&bytes[start..have]).map_err(|error| error.to_string())? {
            Step::Need if have == bytes.len() => return Ok(heads),
            Step::Need => have = (have + cut).min(bytes.len()),
            Step::Pass(count) => start += count,
            Step::Head { length, framing, .. } => {
                framer.accept_head(framing);
                start += length;
                heads += 1;
            }
        }
    }
}

#[test]
fn hosts_are_parsed_alike_alone_and_with_a_port() {
    for text in ["a.example", "[::1]", "192.0.2.1", "A.example.", "a..b", "::1", "1"] {
        let alone = Host::parse(text);
        let joined = Authority::parse(&format!("{text}:1"), None).map(|a| a.host().clone());
        assert_eq!(alone.is_ok(), joined.is_ok(), "{text}");
        assert!(alone.is_err() || alone == joined, "{text}");
    }
}
