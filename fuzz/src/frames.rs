//! Frames of HTTP/2 as a fuzzer writes them: well-formed ones, and those that no library would send.

use crate::Input;

/// RFC 9113 §3.4.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// RFC 9113 §6.
pub mod kind {
    /// Bytes of a body.
    pub const DATA: u8 = 0;
    /// Fields of a head or of trailers.
    pub const HEADERS: u8 = 1;
    /// Ends a stream.
    pub const RST_STREAM: u8 = 3;
    /// Parameters of the connection.
    pub const SETTINGS: u8 = 4;
    /// To be answered.
    pub const PING: u8 = 6;
    /// Ends the connection.
    pub const GOAWAY: u8 = 7;
    /// Room for more bytes.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More fields.
    pub const CONTINUATION: u8 = 9;
}

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// RFC 7541 §6.2.3 without Huffman, or §6.2.1 (kept in the table) if `indexed`.
pub fn field(out: &mut Vec<u8>, (name, value): (&[u8], &[u8]), indexed: bool) {
    out.push(if indexed { 0x40 } else { 0x10 });
    for text in [name, value] {
        let mut rest = text.len();
        if rest < 127 {
            out.push(u8::try_from(rest).expect("below 127"));
        } else {
            out.push(127);
            rest -= 127;
            while rest >= 128 {
                out.push(u8::try_from(rest % 128).expect("below 128") | 0x80);
                rest /= 128;
            }
            out.push(u8::try_from(rest).expect("below 128"));
        }
        out.extend_from_slice(text);
    }
}

const METHODS: [&str; 8] = ["GET", "POST", "HEAD", "CONNECT", "DELETE", "get", "G ET", ""];
const SCHEMES: [&str; 4] = ["https", "http", "ftp", ""];
const AUTHORITIES: [&str; 8] = [
    "ok.example",
    "OK.example.:443",
    "ok.example:444",
    "evil.example",
    "u@ok.example",
    "",
    "127.0.0.1",
    "ok.example:443",
];
const PATHS: [&str; 12] = [
    "/",
    "/a",
    "/a?b=c",
    "/private/x",
    "/%70rivate",
    "/a/../private",
    "//private",
    "*",
    "",
    "https://evil.example/",
    "/a b",
    "/a\r\nx: y",
];
const NAMES: [&str; 20] = [
    "x-a",
    "host",
    "content-length",
    "te",
    "connection",
    "transfer-encoding",
    "upgrade",
    "cookie",
    "authorization",
    ":path",
    ":authority",
    ":x",
    "Upper",
    "x a",
    "",
    "content_length",
    "expect",
    "trailer",
    "proxy-connection",
    "x\r\ny",
];
const VALUES: [&str; 12] = [
    "1",
    "0",
    "trailers",
    "ok.example",
    "evil.example",
    "a b",
    " a",
    "b\r\nx: y",
    "\0",
    "close, host",
    "chunked",
    "100-continue",
];

/// A head: mostly the four pseudo-header fields as they should be, then fields of any kind.
pub fn head(input: &mut Input<'_>) -> Vec<u8> {
    let mut list: Vec<(&[u8], &[u8])> = Vec::new();
    let choice = input.u8();
    let pick = |all: &'static [&'static str], odd: bool, by: u8| {
        all[if odd { usize::from(by) % all.len() } else { 0 }].as_bytes()
    };
    let by = input.u8();
    // A bit of `choice` says which part is odd.
    list.push((b":method", pick(&METHODS, choice & 1 != 0, by)));
    list.push((b":scheme", pick(&SCHEMES, choice & 2 != 0, by)));
    list.push((b":authority", pick(&AUTHORITIES, choice & 4 != 0, by)));
    list.push((b":path", pick(&PATHS, choice & 8 != 0, by)));
    if choice & 16 != 0 {
        list.remove(usize::from(by) % 4);
    }
    if choice & 32 != 0 {
        let with = usize::from(by) % list.len();
        list.swap(0, with);
    }
    for _ in 0..input.below(6) {
        let own = input.u8() & 0x80 != 0;
        let name = if own { input.piece() } else { input.one(&NAMES).as_bytes() };
        let value = if own { input.piece() } else { input.one(&VALUES).as_bytes() };
        list.push((name, value));
    }
    let mut block = Vec::new();
    list.into_iter().for_each(|pair| field(&mut block, pair, choice & 64 != 0));
    block
}

/// One frame, or many of the same.
pub fn any(input: &mut Input<'_>) -> Vec<u8> {
    // Odd streams, in order mostly: clients' own.
    let stream = u32::from(input.u8() % 32) * 2 + 1;
    let flags = input.u8();
    let one = match input.below(12) {
        0..=3 => frame(kind::HEADERS, flags & 1 | 4, stream, &head(input)),
        4 => frame(kind::HEADERS, flags & 5, stream, &head(input)),
        5 => frame(kind::CONTINUATION, flags & 4, stream, &head(input)),
        6 => frame(kind::DATA, flags & 1, stream, input.piece()),
        7 => frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, flags % 14]),
        8 => {
            let parameter = [0, flags % 8, 0, input.u8(), input.u8(), input.u8()];
            frame(kind::SETTINGS, 0, 0, &parameter)
        }
        9 => {
            frame(kind::WINDOW_UPDATE, 0, if flags & 1 == 0 { 0 } else { stream }, &input.u32().to_be_bytes())
        }
        10 => frame(kind::PING, flags & 1, 0, &[7; 8]),
        _ => {
            let (kind, stream) = (input.u8(), u32::from(input.u8()));
            frame(kind, flags, stream, input.piece())
        }
    };
    match input.u8() {
        times @ 0xf0.. => one.repeat(usize::from(times - 0xef) * 16),
        _ => one,
    }
}
