//! Where one HTTP/1.x message ends and the next begins. [`Framer`] is asked with the bytes at hand and says
//! how many of them belong to the message in hand and are well-formed; the shell lets only those pass.
//!
//! Heads are announced, not passed: the shell decides what follows a head. It keeps no bytes itself.

use super::bytes::{is_field_value, is_token, trim_ows};
use super::head::{self, Framing, HeadError};
use crate::limits::{CHUNK_BYTES_MAX, CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

/// What may happen with the bytes at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Too few to tell.
    Need,
    /// This many bytes of the body in hand may pass.
    Pass(usize),
    /// A whole, well-formed head of this many bytes is at the front.
    Head {
        /// Bytes, with the empty line.
        length: usize,
        /// How its body ends.
        framing: Framing,
        /// Whether the method is `CONNECT`.
        connect: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailer(usize),
}

/// The state between two messages or inside one.
#[derive(Debug, Clone)]
pub struct Framer {
    state: State,
    /// Bytes of an unfinished head that were searched for its end already: no byte is searched twice.
    searched: usize,
    head_bytes_max: usize,
    /// The messages are answers.
    of_answers: bool,
}

impl Framer {
    /// Before the first message.
    #[must_use]
    pub fn new(head_bytes_max: usize) -> Self {
        Self { state: State::Head, searched: 0, head_bytes_max, of_answers: false }
    }

    /// For the body of an answer. Laxer: servers are known that pad the sizes of chunks, and trailers of any name are for the
    /// reader to drop.
    #[must_use]
    pub(super) fn of_answer() -> Self {
        Self { of_answers: true, ..Self::new(0) }
    }

    /// Whether the next line is of the trailer section.
    pub(super) fn in_trailer(&self) -> bool {
        matches!(self.state, State::Trailer(_))
    }

    /// Whether the next byte starts a message.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.state == State::Head
    }

    /// How many bytes of a body of known length are still to come: they need no looking at.
    #[must_use]
    pub fn opaque_bytes(&self) -> u64 {
        match self.state {
            State::Body(left) | State::ChunkData(left) => left,
            _ => 0,
        }
    }

    /// `count` bytes of [`Framer::opaque_bytes`] passed without being shown.
    pub fn passed(&mut self, count: u64) {
        match self.state {
            State::Body(left) if left > count => self.state = State::Body(left.saturating_sub(count)),
            State::Body(_) => self.state = State::Head,
            State::ChunkData(left) if left > count => {
                self.state = State::ChunkData(left.saturating_sub(count))
            }
            State::ChunkData(_) => self.state = State::ChunkEnd,
            _ => {}
        }
    }

    /// The head that was announced passes; its body follows.
    pub fn accept_head(&mut self, framing: Framing) {
        self.searched = 0;
        self.state = match framing {
            Framing::None | Framing::Length(0) => State::Head,
            Framing::Length(length) => State::Body(length),
            Framing::Chunked => State::ChunkLine,
        };
    }

    /// Looks at `bytes`, all that came after what already passed.
    ///
    /// # Errors
    /// [`HeadError`]: nothing of `bytes` may pass, and the connection can only be refused and closed.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, HeadError> {
        match self.state {
            State::Head => self.step_head(bytes),
            State::Body(left) | State::ChunkData(left) => {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                self.passed(u64::try_from(here).unwrap_or(u64::MAX));
                Ok(if here == 0 { Step::Need } else { Step::Pass(here) })
            }
            State::ChunkLine => self.step_chunk_line(bytes),
            State::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.state = State::ChunkLine;
                    Ok(Step::Pass(2))
                }
                [] | [b'\r'] => Ok(Step::Need),
                _ => Err(HeadError::Chunk),
            },
            State::Trailer(seen) => self.step_trailer(bytes, seen),
        }
    }

    fn step_head(&mut self, bytes: &[u8]) -> Result<Step, HeadError> {
        let Some(length) = self.find_head_end(bytes) else {
            // A bare LF cannot become a head any more; say so now and not after a timeout.
            if bytes.len() > self.head_bytes_max {
                return Err(HeadError::TooLarge);
            }
            if has_bare_line_feed(bytes) {
                return Err(HeadError::BareLineBreak);
            }
            // TLS, SOCKS, SSH and other protocols that will never become a head.
            if bytes.first().is_some_and(|first| !is_token(&[*first])) {
                return Err(HeadError::RequestLine);
            }
            self.searched = bytes.len();
            return Ok(Step::Need);
        };
        if length > self.head_bytes_max {
            return Err(HeadError::TooLarge);
        }
        let head = head::parse(bytes.get(..length).unwrap_or(bytes))?;
        Ok(Step::Head { length, framing: head.framing, connect: head.method == "CONNECT" })
    }

    fn find_head_end(&self, bytes: &[u8]) -> Option<usize> {
        let from = self.searched.saturating_sub(3);
        let tail = bytes.get(from..)?;
        let is_end = |at: &usize| tail.get(..=*at).is_some_and(|head| head.ends_with(b"\r\n\r\n"));
        let end = memchr::memchr_iter(b'\n', tail).find(is_end)?;
        from.checked_add(end)?.checked_add(1)
    }

    /// RFC 9112 §7.1. Stricter: in requests no white space before the extension, short lines, no huge chunk.
    fn step_chunk_line(&mut self, bytes: &[u8]) -> Result<Step, HeadError> {
        let Some(line) = take_line(bytes, CHUNK_LINE_BYTES_MAX, HeadError::Chunk)? else {
            return Ok(Step::Need);
        };
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at_checked(digits).ok_or(HeadError::Chunk)?;
        let extension = if self.of_answers { trim_ows(extension) } else { extension };
        if !matches!(extension, [] | [b';', ..]) || !is_field_value(extension) {
            return Err(HeadError::Chunk);
        }
        let size = parse_hex(size).filter(|size| *size <= CHUNK_BYTES_MAX).ok_or(HeadError::Chunk)?;
        self.state = if size == 0 { State::Trailer(0) } else { State::ChunkData(size) };
        Ok(Step::Pass(line.len().saturating_add(2)))
    }

    /// RFC 9112 §7.1.2: fields as in a head; those that frame a message are refused in a request.
    fn step_trailer(&mut self, bytes: &[u8], seen: usize) -> Result<Step, HeadError> {
        let room = TRAILER_BYTES_MAX.saturating_sub(seen);
        let Some(line) = take_line(bytes, room, HeadError::Trailer)? else { return Ok(Step::Need) };
        let length = line.len().saturating_add(2);
        if line.is_empty() {
            self.state = State::Head;
            return Ok(Step::Pass(length));
        }
        let (name, _) = head::field(line).map_err(|_| HeadError::Trailer)?;
        const NEVER: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"host", b"trailer"];
        if !self.of_answers && NEVER.iter().any(|never| name.eq_ignore_ascii_case(never)) {
            return Err(HeadError::Trailer);
        }
        self.state = State::Trailer(seen.saturating_add(length));
        Ok(Step::Pass(length))
    }
}

/// The line at the front without its CR LF; `None` if it is not all there.
fn take_line(bytes: &[u8], bytes_max: usize, error: HeadError) -> Result<Option<&[u8]>, HeadError> {
    match bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(end) if end > bytes_max => Err(error),
        Some(end) => match bytes.get(end..) {
            Some([b'\r', b'\n', ..]) => Ok(bytes.get(..end)),
            Some([b'\r']) => Ok(None),
            _ => Err(error),
        },
        None if bytes.len() > bytes_max => Err(error),
        None => Ok(None),
    }
}

fn parse_hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 15 {
        return None;
    }
    let text = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(text, 16).ok()
}

fn has_bare_line_feed(bytes: &[u8]) -> bool {
    let mut before = 0;
    bytes.iter().any(|byte| {
        let bare = *byte == b'\n' && before != b'\r';
        before = *byte;
        bare
    })
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
