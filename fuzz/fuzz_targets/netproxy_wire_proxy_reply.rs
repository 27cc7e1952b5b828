//! Answers of upstream proxies: read the same however they arrive; nothing of the destination's bytes is taken; a
//! status is the one that httparse sees.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use netproxy::wire::proxy_reply::{Parsed, http_status, socks_method, socks_password, socks_reply};

fuzz_target!(|bytes: &[u8]| {
    check_arrival(bytes, http_status);
    check_arrival(bytes, socks_method);
    check_arrival(bytes, socks_password);
    check_arrival(bytes, socks_reply);
    if let Ok(Some((status, length))) = http_status(bytes) {
        assert!((100..=999).contains(&status));
        assert!(bytes[..length].ends_with(b"\r\n\r\n"));
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        if response.parse(bytes) == Ok(httparse::Status::Complete(length)) {
            assert_eq!(response.code, Some(status));
        }
    }
});

fn check_arrival<T: PartialEq + Debug>(bytes: &[u8], parse: impl Fn(&[u8]) -> Parsed<T>) {
    let whole = parse(bytes);
    let length = match &whole {
        Ok(Some((_, length))) => *length,
        _ => bytes.len(),
    };
    let step = 1 + length / 256;
    for cut in (0..length).step_by(step) {
        let early = parse(&bytes[..cut]);
        let agrees = matches!(early, Ok(None)) || (early.is_err() && early == whole);
        assert!(agrees, "{early:?} after {cut} bytes, then {whole:?}");
    }
    assert_eq!(parse(&bytes[..length]), whole);
}
