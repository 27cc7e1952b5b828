//! Our reading of request heads against two others: `httparse`, and the rules of RFC 9112 written down a second time.
//!
//! - What we accept breaks no rule, and httparse reads the same method, target, fields and chunk sizes out of it.
//! - What we refuse breaks the very rule that we name; what breaks no rule is not refused.
//! - What we refuse and httparse accepts is refused for one of the reasons for which we mean to be stricter.

#![no_main]

use fuzz::{Input, rfc9112};
use libfuzzer_sys::fuzz_target;
use netproxy::wire::framing::{Framer, Step};
use netproxy::wire::head::{self, Framing, Head, HeadError, Version};

/// Rules that httparse does not hold, or not always. The others (a folded line, a control byte in a value, a version
/// that is none) it must refuse as we do.
const STRICTER: [HeadError; 11] = [
    HeadError::BareLineBreak,    // takes a lone LF as the end of a line
    HeadError::RequestLine,      // skips empty lines before it; takes any length and obs-text
    HeadError::FieldName,        // knows no lookalikes of framing fields
    HeadError::TooManyFields,    // takes as many as its caller has room for
    HeadError::TooLarge,         // has no limit
    HeadError::Host,             // gives no meaning to fields
    HeadError::ContentLength,    // the same
    HeadError::TransferEncoding, // the same
    HeadError::BothFramings,     // the same
    HeadError::ConnectionOption, // the same
    HeadError::ConnectBody,      // the same
];

/// Pieces of heads: what a byte of the input stands for, so that heads are mostly well-formed.
const PIECES: [&str; 60] = [
    "GET ",
    "POST ",
    "CONNECT ",
    "OPTIONS ",
    "/",
    "/a?b=c",
    "*",
    "http://a.example/x",
    "a.example:443",
    " ",
    "HTTP/1.1\r\n",
    "HTTP/1.0\r\n",
    "HTTP/1.2\r\n",
    "HTTP/2.0\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "\t",
    "\0",
    "Host: a.example\r\n",
    "Host:a.example:80\r\n",
    "host: ",
    "Host : b\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: ",
    "content-length:",
    "5",
    "0",
    "+5",
    "5, 5",
    "0x5",
    "99999999999999999999",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: ",
    "transfer-encoding:",
    "chunked",
    "identity",
    ", ",
    "xchunked",
    "Connection: close\r\n",
    "Connection: ",
    "close",
    "keep-alive",
    "Host",
    "content-length",
    "Content_Length: 5\r\n",
    "Transfer_Encoding: chunked\r\n",
    "X-A: b\r\n",
    "X-A",
    ":",
    ": ",
    "\r\n ",
    "\u{e9}",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "5;ext=1\r\nhello\r\n",
    "Trailer: X\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "Expect: 100-continue\r\n",
];

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let text = if input.u8() & 1 == 0 { input.0.to_vec() } else { composed(input) };
    let end = text.windows(4).position(|window| window == b"\r\n\r\n").map_or(text.len(), |at| at + 4);
    let (head_text, body) = text.split_at(end);
    let reading = rfc9112::read(head_text);
    match head::parse(head_text) {
        Ok(head) => {
            assert!(reading.broken.is_empty(), "accepted, but breaks {:?}", reading.broken);
            assert_eq!(reading.framing(), Some(head.framing));
            check_httparse(&head, head_text, &reading);
            check_chunks(head.framing, body);
        }
        Err(error) => {
            assert!(reading.broken.contains(&error), "refused for {error:?}, breaks {:?}", reading.broken);
            if httparse_accepts(head_text) {
                assert!(STRICTER.contains(&error), "httparse accepts what we refuse for {error:?}");
            }
        }
    }
});

fn composed(mut input: Input<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    while !input.is_empty() {
        match input.u8() {
            // A byte as it is, so that anything can still be said.
            0xff => text.push(input.u8()),
            piece => text.extend_from_slice(PIECES[usize::from(piece) % PIECES.len()].as_bytes()),
        }
    }
    text
}

fn httparse_accepts(text: &[u8]) -> bool {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(text).is_ok_and(|status| status.is_complete())
}

fn check_httparse(head: &Head<'_>, text: &[u8], reading: &rfc9112::Reading<'_>) {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(text), Ok(httparse::Status::Complete(text.len())));
    assert_eq!((request.method, request.path), (Some(head.method), Some(head.target)));
    assert_eq!(request.version, Some(u8::from(head.version == Version::Http11)));
    let (method, target, _) = reading.line.expect("three parts");
    assert_eq!((method, target), (head.method.as_bytes(), head.target.as_bytes()));
    let theirs: Vec<(&[u8], &[u8])> =
        request.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
    assert_eq!(theirs, reading.fields);
    assert_eq!(reading.values(b"host").first().copied(), head.host.map(str::as_bytes));
}

/// Each chunk that we let pass has the size that httparse reads.
fn check_chunks(framing: Framing, body: &[u8]) {
    if framing != Framing::Chunked {
        return;
    }
    let mut framer = Framer::new(1024);
    framer.accept_head(framing);
    let mut rest = body;
    while let Ok(Step::Pass(length)) = framer.step(rest) {
        let size = framer.opaque_bytes();
        assert_eq!(httparse::parse_chunk_size(rest), Ok(httparse::Status::Complete((length, size))));
        // A last chunk: the trailers are for the target of the framer.
        let Some(after) = usize::try_from(size).ok().and_then(|size| rest.get(length + size..)) else {
            return;
        };
        if size == 0 {
            return;
        }
        framer.passed(size);
        let Ok(Step::Pass(2)) = framer.step(after) else { return };
        rest = &after[2..];
    }
}
