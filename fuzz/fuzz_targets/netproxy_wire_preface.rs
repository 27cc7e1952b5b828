//! Prefaces of transparent connections: read the same however they arrive, within their limit, and written again
//! they mean the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netproxy::Authority;
use netproxy::limits::PREFACE_BYTES_MAX;
use netproxy::wire::preface::{START, parse, write};

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // Most inputs lack the first word.
    check(&[START, bytes].concat());
});

fn check(bytes: &[u8]) {
    let whole = parse(bytes);
    match &whole {
        Ok(Some((authority, length))) => {
            assert!(*length <= PREFACE_BYTES_MAX);
            let line = std::str::from_utf8(&bytes[..*length]).unwrap();
            let place = line.strip_prefix("TCP1 ").unwrap().strip_suffix('\n').unwrap();
            assert_eq!(Authority::parse(place, None).as_ref(), Ok(authority));
            let again = write(authority);
            assert_eq!(parse(again.as_bytes()), Ok(Some((authority.clone(), again.len()))));
        }
        Ok(None) => {
            assert!(bytes.len() < PREFACE_BYTES_MAX && START.starts_with(&bytes[..bytes.len().min(5)]))
        }
        Err(_) => {}
    }
    for cut in 0..bytes.len().min(PREFACE_BYTES_MAX) {
        let early = parse(&bytes[..cut]);
        assert!(matches!(early, Ok(None)) || early == whole, "{early:?} after {cut} bytes, then {whole:?}");
    }
}
