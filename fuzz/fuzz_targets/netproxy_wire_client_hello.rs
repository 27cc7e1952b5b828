//! TLS hellos: the answer does not depend on how the bytes arrive, nor on how the hello is cut into records.

#![no_main]

use fuzz::Input;
use libfuzzer_sys::fuzz_target;
use netproxy::wire::client_hello::{Peek, peek};

fuzz_target!(|bytes: &[u8]| {
    check_arrival(bytes);
    let mut input = Input(bytes);
    let cuts = input.piece();
    let body = input.0;
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], body].concat();
    let whole = peek(&records(&message, &[]));
    assert_ne!(whole, Peek::Need, "a whole hello is not seen as one");
    assert_ne!(whole, Peek::NotTls);
    let cut = records(&message, cuts);
    assert_eq!(peek(&cut), whole, "records make a difference");
    check_arrival(&cut);
});

/// Once there is an answer it stays, whatever follows.
fn check_arrival(bytes: &[u8]) {
    let whole = peek(bytes);
    if let Peek::Hello(hello) = &whole {
        let good = |name: &String| !name.is_empty() && name.is_ascii() && name.len() < bytes.len();
        assert!(hello.server_name.as_ref().is_none_or(good));
    }
    let step = 1 + bytes.len() / 256;
    for cut in (0..bytes.len()).step_by(step) {
        let early = peek(&bytes[..cut]);
        assert!(early == Peek::Need || early == whole, "{early:?} after {cut} bytes, then {whole:?}");
    }
}

/// The message in TLS records of the given lengths, the rest in full ones.
fn records(message: &[u8], cuts: &[u8]) -> Vec<u8> {
    let mut rest = message;
    let mut out = Vec::new();
    let mut cuts = cuts.iter();
    while !rest.is_empty() {
        let size = cuts.next().map_or(0x4000, |cut| usize::from(*cut).max(1)).min(rest.len());
        out.extend([22, 3, 1]);
        out.extend(u16::try_from(size).unwrap().to_be_bytes());
        out.extend_from_slice(&rest[..size]);
        rest = &rest[size..];
    }
    out
}
