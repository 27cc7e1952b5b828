//! Frames of HTTP/2 byte by byte, for what no library would send.

use tokio::io::{AsyncRead, AsyncReadExt};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// HPACK: literal fields that are never indexed, without Huffman (RFC 7541 §6.2.3).
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0x10);
        for text in [name, value] {
            length(&mut out, text.len());
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

fn length(out: &mut Vec<u8>, length: usize) {
    if length < 127 {
        return out.push(u8::try_from(length).unwrap());
    }
    out.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).unwrap() | 0x80);
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap());
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of a HEADERS frame that a Rust server wrote: an index into the static table, or a literal.
    pub fn status(&self) -> u16 {
        match self.payload[0] {
            0x88 => 200,
            0x8c => 400,
            0x8d => 404,
            // Literal with an indexed name, the value in plain or Huffman: digits are 5 or 6 bits long there.
            _ => {
                let raw = &self.payload[1..];
                let length = usize::from(raw[0] & 0x7f);
                let text = &raw[1..=length];
                if raw[0] & 0x80 == 0 {
                    String::from_utf8(text.to_vec()).unwrap().parse().unwrap()
                } else {
                    huffman(text)
                }
            }
        }
    }
}

/// Decimal digits in HPACK's Huffman code: 0, 1, 2 are five bits 0, 1, 2; 3 to 9 are six bits 0x19 to 0x1f.
fn huffman(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)).collect();
    let take =
        |at: usize, count: usize| bits[at..at + count].iter().fold(0u16, |v, bit| v * 2 + u16::from(*bit));
    let (mut at, mut value) = (0, 0);
    for _ in 0..3 {
        let short = take(at, 5);
        if short < 3 {
            (at, value) = (at + 5, value * 10 + short);
        } else {
            (at, value) = (at + 6, value * 10 + take(at, 6) - 0x19 + 3);
        }
    }
    value
}

pub async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Frame> {
    let mut head = [0u8; 9];
    stream.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    let number = u32::from_be_bytes(head[5..9].try_into().unwrap()) & 0x7fff_ffff;
    Some(Frame { kind: head[3], flags: head[4], stream: number, payload })
}

/// The first frame that ends something: HEADERS, RST_STREAM or GOAWAY.
pub async fn verdict<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Frame> {
    loop {
        let frame = read_frame(stream).await?;
        if matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY) {
            return Some(frame);
        }
    }
}
