//! SOCKS5 messages: read the same however they arrive, nothing beyond them is taken, and what a request names is
//! what it says, byte for byte.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use netproxy::wire::socks5::{self, Parsed, Reply};
use netproxy::{Authority, Host};

fuzz_target!(|bytes: &[u8]| {
    check_arrival(bytes, socks5::greeting);
    check_arrival(bytes, |bytes| {
        Ok(socks5::user_name(bytes)?.map(|(name, length)| (name.0.to_vec(), length)))
    });
    check_arrival(bytes, socks5::request);
    match socks5::request(bytes) {
        Ok(Some((authority, length))) => check_request(&authority, &bytes[..length]),
        Ok(None) => {}
        Err(error) => assert!(error.reply() != Reply::Succeeded && error.reply() != Reply::NotAllowed),
    }
});

/// Too few bytes stay too few until the whole message is there, or say what is wrong with it already.
fn check_arrival<T: PartialEq + Debug>(bytes: &[u8], parse: impl Fn(&[u8]) -> Parsed<T>) {
    let whole = parse(bytes);
    let length = match &whole {
        Ok(Some((_, length))) => *length,
        _ => bytes.len(),
    };
    assert!(length <= bytes.len());
    for cut in 0..length {
        let early = parse(&bytes[..cut]);
        let agrees = matches!(early, Ok(None)) || (early.is_err() && early == whole);
        assert!(agrees, "{early:?} after {cut} bytes, then {whole:?}");
    }
    assert_eq!(parse(&bytes[..length]), whole);
}

fn check_request(authority: &Authority, message: &[u8]) {
    let [5, 1, 0, kind, rest @ .., high, low] = message else { panic!("not a CONNECT: {message:?}") };
    assert_eq!(authority.port(), u16::from_be_bytes([*high, *low]));
    let host = match kind {
        1 => Host::from_ip(<[u8; 4]>::try_from(rest).unwrap().into()),
        4 => Host::from_ip(<[u8; 16]>::try_from(rest).unwrap().into()),
        3 => {
            assert_eq!(usize::from(rest[0]), rest.len() - 1);
            assert!(!rest[1..].contains(&0), "a NUL in a name");
            Host::parse(std::str::from_utf8(&rest[1..]).unwrap()).unwrap()
        }
        _ => panic!("address type {kind}"),
    };
    assert_eq!(&host, authority.host());
    assert_eq!(Authority::parse(&authority.to_string(), None).as_ref(), Ok(authority));
}
