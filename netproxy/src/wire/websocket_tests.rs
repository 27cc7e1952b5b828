use http::HeaderValue;

use super::*;

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

#[test]
fn a_handshake_is_one_or_none_or_malformed() {
    let good = [
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-key", KEY),
        ("sec-websocket-version", "13"),
    ];
    let judged = |fields: &[(&'static str, &'static str)]| is_upgrade(&Method::GET, true, &headers(fields));
    assert_eq!(judged(&good), Ok(true));
    assert_eq!(judged(&[("upgrade", "h2c"), ("connection", "upgrade")]), Ok(false));
    assert_eq!(judged(&[]), Ok(false));
    assert_eq!(is_upgrade(&Method::POST, true, &headers(&good)), Err(WebSocketError::Method));
    assert_eq!(is_upgrade(&Method::GET, false, &headers(&good)), Err(WebSocketError::Method));
    for (at, value, error) in [
        (1, "close", WebSocketError::Connection),
        (2, "short==", WebSocketError::Key),
        (2, "dGhlIHNhbXBsZSBub25jZQ=", WebSocketError::Key),
        (2, "dGhlIHNhbXBsZSBub25j*Q==", WebSocketError::Key),
        (3, "8", WebSocketError::Version),
    ] {
        let mut bad = good;
        bad[at].1 = value;
        assert_eq!(judged(&bad), Err(error), "{value}");
    }
    let mut twice = headers(&good);
    twice.append("sec-websocket-key", HeaderValue::from_static(KEY));
    assert_eq!(is_upgrade(&Method::GET, true, &twice), Err(WebSocketError::Key));
    let mut body = headers(&good);
    body.append("content-length", HeaderValue::from_static("5"));
    assert_eq!(is_upgrade(&Method::GET, true, &body), Err(WebSocketError::Method));
}

/// The example of RFC 6455 §1.3.
#[test]
fn the_answer_must_fit_the_key_and_the_offer() {
    assert_eq!(accept_of(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let sent = headers(&[("sec-websocket-key", KEY), ("sec-websocket-protocol", "chat, superchat")]);
    let good = [
        ("upgrade", "WebSocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("sec-websocket-protocol", "chat"),
    ];
    assert_eq!(check_answer(&sent, &headers(&good)), Ok(()));
    for (at, value, error) in [
        (0, "h2c", WebSocketError::Connection),
        (1, "close", WebSocketError::Connection),
        (2, "s3pPLMBiTxaQ9kYGzzhZRbK+xOO=", WebSocketError::Accept),
        (3, "other", WebSocketError::NotOffered),
    ] {
        let mut bad = good;
        bad[at].1 = value;
        assert_eq!(check_answer(&sent, &headers(&bad)), Err(error), "{value}");
    }
    let mut more = headers(&good);
    more.append("sec-websocket-extensions", HeaderValue::from_static("permessage-deflate"));
    assert_eq!(check_answer(&sent, &more), Err(WebSocketError::NotOffered));
}

/// Takes "key" out, longer or shorter; holds back what could be its start.
#[derive(Default)]
struct Scrub(Vec<u8>);

impl MessageFilter for Scrub {
    fn piece(&mut self, piece: &[u8]) -> Vec<u8> {
        // One character for each byte: a status code is no text.
        let text: String = self.0.drain(..).chain(piece.iter().copied()).map(char::from).collect();
        let text = text.replace("key", "<gone>");
        let keep = ["ke", "k"].iter().find(|start| text.ends_with(*start)).map_or(0, |start| start.len());
        let mut passes: Vec<u8> = text.chars().map(|byte| u8::try_from(byte).unwrap()).collect();
        self.0 = passes.split_off(passes.len() - keep);
        passes
    }
    fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

/// Feeds `wire` in pieces of `step` bytes; gives the messages that the client puts together.
fn passed(wire: &[u8], step: usize) -> Result<Vec<(u8, String)>, WebSocketError> {
    let (mut frames, mut out) = (ServerFrames::new(Scrub::default(), Scrub::default()), Vec::new());
    for piece in wire.chunks(step) {
        frames.push(piece, &mut out)?;
    }
    let (mut rest, mut messages, mut whole) = (out.as_slice(), Vec::new(), Vec::new());
    let mut kind = 0;
    while !rest.is_empty() {
        let at = (1..=rest.len()).find(|at| matches!(head(&rest[..*at]), Ok(Some(_)))).unwrap();
        let (first, length) = head(&rest[..at]).unwrap().unwrap();
        let (payload, after) = rest[at..].split_at(usize::try_from(length).unwrap());
        rest = after;
        if first & 0x0f >= 8 {
            messages.push((first & 0x0f, String::from_utf8_lossy(payload).into_owned()));
            continue;
        }
        if first & 0x0f != 0 {
            kind = first & 0x0f;
        }
        whole.extend_from_slice(payload);
        if first & 0x80 != 0 {
            messages.push((kind, String::from_utf8(std::mem::take(&mut whole)).unwrap()));
        }
    }
    Ok(messages)
}

#[test]
fn secrets_leave_messages_however_they_are_cut() {
    let mut wire = Vec::new();
    write_frame(0x01, b"the k", &mut wire);
    write_frame(0x89, b"ping key", &mut wire);
    write_frame(0x00, b"", &mut wire);
    write_frame(0x80, b"ey is key, ke", &mut wire);
    write_frame(0x82, "x".repeat(70_000).as_bytes(), &mut wire);
    write_frame(0x81, b"", &mut wire);
    write_frame(0x88, b"\x03\xe8bye key", &mut wire);
    let expected: Vec<(u8, String)> = vec![
        (9, "ping <gone>".to_owned()),
        (1, "the <gone> is <gone>, ke".to_owned()),
        (2, "x".repeat(70_000)),
        (1, String::new()),
        (8, String::from_utf8_lossy(b"\x03\xe8bye <gone>").into_owned()),
    ];
    for step in [1, 2, 3, 7, 1000, wire.len()] {
        assert_eq!(passed(&wire, step).unwrap(), expected, "{step}");
    }
}

/// A secret is no status code, and whatever it takes with it is no longer one.
#[test]
fn a_close_that_begins_with_a_secret_says_nothing() {
    for (payload, expected) in [
        (&b"key"[..], &b""[..]),
        (b"key and more", b""),
        (b"kkey", b""),
        (b"\x03key", b""),
        (b"\x03\xe8key", b"\x03\xe8<gone>"),
        (b"\x03\xe8", b"\x03\xe8"),
        (b"k", b"k"),
        (b"", b""),
    ] {
        let mut wire = Vec::new();
        write_frame(0x88, payload, &mut wire);
        let expected = vec![(8, String::from_utf8_lossy(expected).into_owned())];
        assert_eq!(passed(&wire, 1).unwrap(), expected, "{payload:?}");
    }
}

#[test]
fn frames_that_no_server_may_send_end_it() {
    for (name, wire) in [
        ("masked", &b"\x81\x81\0\0\0\0a"[..]),
        ("reserved bit", b"\xc1\x01a"),
        ("unknown opcode", b"\x83\x01a"),
        ("unknown control", b"\x8b\x01a"),
        ("continuation of nothing", b"\x80\x01a"),
        ("message inside a message", b"\x01\x01a\x81\x01b"),
        ("fragmented ping", b"\x09\x01a"),
        ("long ping", b"\x89\x7e\0\x7e"),
        ("huge length", b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"),
    ] {
        assert_eq!(passed(wire, 1), Err(WebSocketError::Frame), "{name}");
        assert_eq!(passed(wire, wire.len()), Err(WebSocketError::Frame), "{name}");
    }
}
