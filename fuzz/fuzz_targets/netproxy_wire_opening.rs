//! The first bytes of a connection: the answer does not depend on how they arrive, and what a server would take for
//! HTTP or TLS is never "neither".

#![no_main]

use libfuzzer_sys::fuzz_target;
use netproxy::limits::{CLIENT_HELLO_BYTES_MAX, REQUEST_LINE_BYTES_MAX};
use netproxy::wire::client_hello::{Peek, peek};
use netproxy::wire::opening::{Opening, look};

fuzz_target!(|bytes: &[u8]| {
    let whole = look(bytes);
    let step = 1 + bytes.len() / 256;
    for cut in (0..bytes.len()).step_by(step) {
        let early = look(&bytes[..cut]);
        assert!(early == Opening::Need || early == whole, "{early:?} after {cut} bytes, then {whole:?}");
    }
    match (&whole, peek(bytes)) {
        (Opening::Tls(hello), Peek::Hello(also)) => assert_eq!(hello, &also),
        (Opening::BadTls, Peek::Malformed) => {}
        (Opening::Need, Peek::Need) => {}
        (_, Peek::NotTls) => {}
        other => panic!("{other:?}"),
    }
    if whole == Opening::Need {
        assert!(bytes.len() <= REQUEST_LINE_BYTES_MAX.max(2 * CLIENT_HELLO_BYTES_MAX) * 6);
    }
    if whole == Opening::Other {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut fields);
        let complete = matches!(request.parse(bytes), Ok(httparse::Status::Complete(_)));
        assert!(!complete, "httparse reads it as a request");
    }
});
