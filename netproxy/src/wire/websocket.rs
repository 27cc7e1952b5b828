//! WebSocket (RFC 6455): the two halves of its handshake, judged strictly, and the frames of a server, taken
//! apart and written anew so that secrets can be taken out of messages whatever their length.
//!
//! Frames are never collected: each piece of a message leaves as a fragment of its own. A server that masks,
//! uses reserved bits or breaks the order of fragments is cut off.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderName, Method};
use sha1::{Digest, Sha1};

use crate::fields::has;

/// Why an upgrade or a frame is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// Not a GET of HTTP/1.1 without a body.
    #[error("a WebSocket is opened by a GET of HTTP/1.1 without a body")]
    Method,
    /// `Connection` does not list `upgrade`.
    #[error("the Connection field of the WebSocket handshake does not list upgrade")]
    Connection,
    /// Missing, repeated, or not 16 bytes in base64.
    #[error("the Sec-WebSocket-Key field is missing, repeated or not 16 bytes in base64")]
    Key,
    /// Not 13.
    #[error("the Sec-WebSocket-Version field is not 13")]
    Version,
    /// The upstream's proof does not fit the key.
    #[error("the upstream's Sec-WebSocket-Accept field does not fit the key")]
    Accept,
    /// The upstream chose what nobody offered.
    #[error("the upstream chose a WebSocket protocol or extension that was not offered")]
    NotOffered,
    /// A frame that no server may send.
    #[error("the upstream sent a malformed WebSocket frame")]
    Frame,
}

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The opcode of a Close frame (RFC 6455 §5.5.1).
const CLOSE: u8 = 8;
/// Longest payload of a control frame, in bytes (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// The one value of a field; `None` if it is missing, repeated or not text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| first.trim())
}

fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case(wanted))
}

/// Whether the request asks to become a WebSocket. Any other upgrade is not one; whoever forwards drops it.
///
/// # Errors
/// It asks, and its handshake is malformed (RFC 6455 §4.1).
pub fn is_upgrade(method: &Method, is_http11: bool, headers: &HeaderMap) -> Result<bool, WebSocketError> {
    if !has(headers, &UPGRADE) || !lists(headers, &UPGRADE, "websocket") {
        return Ok(false);
    }
    let body = headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    if method != Method::GET || !is_http11 || body {
        return Err(WebSocketError::Method);
    }
    if !lists(headers, &CONNECTION, "upgrade") {
        return Err(WebSocketError::Connection);
    }
    if only(headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(WebSocketError::Version);
    }
    let key = only(headers, &SEC_WEBSOCKET_KEY).ok_or(WebSocketError::Key)?;
    let digits = key.strip_suffix("==").ok_or(WebSocketError::Key)?;
    if digits.len() != 22 || !digits.bytes().all(|digit| BASE64.contains(&digit)) {
        return Err(WebSocketError::Key);
    }
    Ok(true)
}

/// Judges the upstream's `101` against the request that was sent.
///
/// # Errors
/// It is not an answer to that request (RFC 6455 §4.1).
pub fn check_answer(sent: &HeaderMap, answer: &HeaderMap) -> Result<(), WebSocketError> {
    let key = only(sent, &SEC_WEBSOCKET_KEY).ok_or(WebSocketError::Key)?;
    let upgrades = only(answer, &UPGRADE).is_some_and(|it| it.eq_ignore_ascii_case("websocket"));
    if !upgrades || !lists(answer, &CONNECTION, "upgrade") {
        return Err(WebSocketError::Connection);
    }
    if only(answer, &SEC_WEBSOCKET_ACCEPT) != Some(accept_of(key).as_str()) {
        return Err(WebSocketError::Accept);
    }
    if answer.contains_key(SEC_WEBSOCKET_EXTENSIONS) && !sent.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(WebSocketError::NotOffered);
    }
    if answer.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        let chosen = only(answer, &SEC_WEBSOCKET_PROTOCOL).ok_or(WebSocketError::NotOffered)?;
        if !lists(sent, &SEC_WEBSOCKET_PROTOCOL, chosen) {
            return Err(WebSocketError::NotOffered);
        }
    }
    Ok(())
}

/// RFC 6455 §4.2.2: SHA-1 of key and GUID, in base64.
#[must_use]
pub fn accept_of(key: &str) -> String {
    base64(&Sha1::new().chain_update(key.as_bytes()).chain_update(GUID).finalize())
}

fn base64(bytes: &[u8]) -> String {
    let digit = |bits: u32| BASE64.get((bits & 63) as usize).map_or('=', |digit| char::from(*digit));
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4u32 {
            let beyond = usize::try_from(at).is_ok_and(|at| at > chunk.len());
            text.push(if beyond { '=' } else { digit(bits >> (18u32.saturating_sub(at.saturating_mul(6)))) });
        }
    }
    text
}

/// Takes secrets out of messages, or out of the payloads of control frames, one after the other.
pub trait MessageFilter {
    /// Takes the next piece and gives what may pass now.
    fn piece(&mut self, piece: &[u8]) -> Vec<u8>;
    /// The message ended: gives what was held back. The next piece begins another.
    fn end(&mut self) -> Vec<u8>;
}

/// What comes next from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Head,
    /// Payload of a data frame: bytes left, and whether the frame ends its message.
    Data {
        left: u64,
        last: bool,
    },
    /// Payload of a control frame.
    Control {
        opcode: u8,
        length: usize,
    },
}

/// The frames of a server, between two reads. Keeps at most one control frame.
pub struct ServerFrames<F> {
    next: Next,
    /// Bytes of an unfinished head or control frame.
    held: Vec<u8>,
    messages: F,
    /// Control frames may come in the middle of a message, so they have a filter of their own.
    controls: F,
    /// The opcode that the first fragment of the message under way still has to carry.
    message: Option<u8>,
}

impl<F: MessageFilter> ServerFrames<F> {
    /// `messages` and `controls` take secrets out of messages and of control frames.
    pub fn new(messages: F, controls: F) -> Self {
        Self { next: Next::Head, held: Vec::new(), messages, controls, message: None }
    }

    /// Takes what the server sent, and appends to `out` what the client gets.
    ///
    /// # Errors
    /// [`WebSocketError::Frame`]: nothing more may pass.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), WebSocketError> {
        loop {
            match self.next {
                Next::Head => {
                    let Some((byte, rest)) = bytes.split_first() else { return Ok(()) };
                    self.held.push(*byte);
                    bytes = rest;
                    if let Some((first, length)) = head(&self.held)? {
                        self.held.clear();
                        self.begin(first, length)?;
                    }
                }
                Next::Data { left, last } => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (piece, rest) = bytes.split_at_checked(count).ok_or(WebSocketError::Frame)?;
                    let left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
                    self.data(piece, last && left == 0, out)?;
                    bytes = rest;
                    if left > 0 {
                        self.next = Next::Data { left, last };
                        return Ok(());
                    }
                    self.next = Next::Head;
                }
                Next::Control { opcode, length } => {
                    let count = length.saturating_sub(self.held.len()).min(bytes.len());
                    let (piece, rest) = bytes.split_at_checked(count).ok_or(WebSocketError::Frame)?;
                    self.held.extend_from_slice(piece);
                    bytes = rest;
                    if self.held.len() < length {
                        return Ok(());
                    }
                    let payload = std::mem::take(&mut self.held);
                    control(opcode, &payload, &mut self.controls, out);
                    self.next = Next::Head;
                }
            }
        }
    }

    /// A head is whole. RFC 6455 §5.4: a message is one first frame and its continuations.
    fn begin(&mut self, first: u8, length: u64) -> Result<(), WebSocketError> {
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        match opcode {
            0 if self.message.is_some() => {}
            1 | 2 if self.message.is_none() => self.message = Some(opcode),
            8..=10 if last => {
                let length = usize::try_from(length).map_err(|_| WebSocketError::Frame)?;
                if length > CONTROL_BYTES_MAX {
                    return Err(WebSocketError::Frame);
                }
                self.next = Next::Control { opcode, length };
                return Ok(());
            }
            _ => return Err(WebSocketError::Frame),
        }
        self.next = Next::Data { left: length, last };
        Ok(())
    }

    fn data(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), WebSocketError> {
        let opcode = self.message.as_mut().ok_or(WebSocketError::Frame)?;
        let mut passes = self.messages.piece(piece);
        if last {
            passes.extend(self.messages.end());
        }
        if last || !passes.is_empty() {
            write_frame(*opcode | if last { 0x80 } else { 0 }, &passes, out);
            *opcode = 0;
        }
        if last {
            self.message = None;
        }
        Ok(())
    }
}

/// The first byte and the payload's length of a frame head; `None` while it is not whole (RFC 6455 §5.2).
fn head(held: &[u8]) -> Result<Option<(u8, u64)>, WebSocketError> {
    let (first, rest) = match held {
        [first, rest @ ..] if first & 0x70 == 0 => (*first, rest),
        [] => return Ok(None),
        _ => return Err(WebSocketError::Frame),
    };
    let length = match rest {
        [] => return Ok(None),
        // Masked: a server must not (§5.1).
        [masked, ..] if *masked >= 128 => return Err(WebSocketError::Frame),
        [126, a, b] => u64::from(u16::from_be_bytes([*a, *b])),
        [127, length @ ..] if length.len() == 8 => {
            let length = length.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
            if length >> 63 == 1 {
                return Err(WebSocketError::Frame);
            }
            length
        }
        [126 | 127, ..] => return Ok(None),
        [length, ..] => u64::from(*length),
    };
    Ok(Some((first, length)))
}

/// A control frame with its payload searched. What grows too long is left out: nobody needs it.
fn control(opcode: u8, payload: &[u8], filter: &mut impl MessageFilter, out: &mut Vec<u8>) {
    let mut clean = filter.piece(payload);
    clean.extend(filter.end());
    // Close begins with a status code (§5.5.1); a secret that stands where one belongs leaves none.
    let code = payload.get(..2).filter(|_| opcode == CLOSE).unwrap_or_default();
    if !clean.starts_with(code) {
        clean.clear();
    } else if clean.len() > CONTROL_BYTES_MAX {
        clean.truncate(code.len());
    }
    write_frame(0x80 | opcode, &clean, out);
}

/// Appends one unmasked frame.
pub fn write_frame(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
