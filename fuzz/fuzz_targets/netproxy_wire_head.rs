//! Request heads: an accepted one is read in the same way by another parser, and says only what it shows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netproxy::wire::head::{self, Framing, Head, Version};

fuzz_target!(|bytes: &[u8]| {
    let Ok(head) = head::parse(bytes) else { return };
    let length = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an end") + 4;
    let text = &bytes[..length];
    assert_eq!(head::parse(text).as_ref(), Ok(&head), "bytes after the head make a difference");
    for cut in 0..length {
        assert!(head::parse(&text[..cut]).is_err(), "a cut head is accepted");
    }
    let line_ends = text.windows(2).filter(|pair| pair == b"\r\n").count();
    assert_eq!(text.iter().filter(|byte| **byte == b'\r').count(), line_ends);
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), line_ends);
    assert!(text.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b'\t' | 0x20..=0x7e | 0x80..)));
    assert!([head.method, head.target].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_graphic())));
    check_rewritten(&head);
    check_second_opinion(&head, text);
});

/// What was understood, written anew, is understood as the same.
fn check_rewritten(head: &Head<'_>) {
    let version = if head.version == Version::Http11 { "1.1" } else { "1.0" };
    let mut text = format!("{} {} HTTP/{version}\r\n", head.method, head.target);
    if let Some(host) = head.host {
        text += &format!("Host: {host}\r\n");
    }
    match head.framing {
        Framing::None => {}
        Framing::Length(length) => text += &format!("Content-Length: {length}\r\n"),
        Framing::Chunked => text += "Transfer-Encoding: chunked\r\n",
    }
    text += "\r\n";
    assert_eq!(head::parse(text.as_bytes()).as_ref(), Ok(head));
}

fn check_second_opinion(head: &Head<'_>, text: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(text), Ok(httparse::Status::Complete(text.len())));
    assert_eq!((request.method, request.path), (Some(head.method), Some(head.target)));
    assert_eq!(request.version, Some(u8::from(head.version == Version::Http11)));
    let values = |wanted: &str| -> Vec<&[u8]> {
        request.headers.iter().filter(|f| f.name.eq_ignore_ascii_case(wanted)).map(|f| f.value).collect()
    };
    let lengths = values("content-length");
    let encodings = values("transfer-encoding");
    assert!(lengths.len() + encodings.len() <= 1, "two framings");
    assert_eq!(values("host").first().copied(), head.host.map(str::as_bytes));
    match head.framing {
        Framing::None => {
            assert!(encodings.is_empty() && lengths.iter().all(|l| l.iter().all(|b| *b == b'0')))
        }
        Framing::Length(length) => assert_eq!(std::str::from_utf8(lengths[0]).unwrap().parse(), Ok(length)),
        Framing::Chunked => assert!(encodings[0].eq_ignore_ascii_case(b"chunked")),
    }
}
