//! Request paths: an accepted one is canonical, stays as it is, and no reading of it climbs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netproxy::wire::path::CanonicalPath;

fuzz_target!(|text: &str| {
    let Ok(path) = CanonicalPath::parse(text) else { return };
    let path = path.as_str();
    assert_eq!(CanonicalPath::parse(path).as_ref().map(CanonicalPath::as_str), Ok(path));
    assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(path.len() <= 3 * text.len());
    assert!(!path.contains(['\\', '?', '#']));
    assert_eq!(decode(path), decode(text), "the bytes mean something else now");
    let decoded = decode(path);
    assert!(decoded.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f), "a control byte");
    // Servers that decode before they split, strip parameters, or take a backslash for a slash.
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        let plain = segment.split(|byte| *byte == b';').next().unwrap();
        assert!(plain != b"." && plain != b"..", "a dot segment");
    }
});

fn decode(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte.unwrap()).to_digit(16).unwrap();
        if byte == b'%' {
            let (high, low) = (digit(bytes.next()), digit(bytes.next()));
            out.push(u8::try_from(high * 16 + low).unwrap());
        } else {
            out.push(byte);
        }
    }
    out
}
