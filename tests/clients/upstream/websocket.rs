//! A WebSocket that gives back what it is told (RFC 6455).

use std::io::{self, Read, Write};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::http::Request;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// Agrees to the handshake, if the request is one.
pub fn accept(request: &Request, out: &mut impl Write) -> io::Result<bool> {
    let Some(key) = request.header("sec-websocket-key") else { return Ok(false) };
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
        BASE64_STANDARD.encode(proof)
    );
    out.write_all(head.as_bytes())?;
    out.flush()?;
    Ok(true)
}

/// Says `first`, then echoes texts until the client closes.
pub fn talk(stream: &mut (impl Read + Write), first: &str) -> io::Result<()> {
    write_frame(stream, TEXT, first.as_bytes())?;
    loop {
        let (kind, payload) = read_frame(stream)?;
        write_frame(stream, kind, &payload)?;
        if kind == CLOSE {
            return Ok(());
        }
    }
}

/// A short frame of a client: masked, whole.
fn read_frame(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 6];
    stream.read_exact(&mut head)?;
    let [first, length, mask @ ..] = head;
    let mut payload = vec![0; usize::from(length & 0x7f)];
    if first & 0x80 == 0 || length & 0x80 == 0 || payload.len() > 125 {
        return Err(io::Error::other("not a short masked frame"));
    }
    stream.read_exact(&mut payload)?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((first & 0x0f, payload))
}

fn write_frame(stream: &mut impl Write, kind: u8, payload: &[u8]) -> io::Result<()> {
    let length = u16::try_from(payload.len()).map_err(io::Error::other)?;
    stream.write_all(&[0x80 | kind])?;
    match u8::try_from(length).ok().filter(|length| *length <= 125) {
        Some(length) => stream.write_all(&[length])?,
        None => {
            stream.write_all(&[126])?;
            stream.write_all(&length.to_be_bytes())?;
        }
    }
    stream.write_all(payload)?;
    stream.flush()
}
