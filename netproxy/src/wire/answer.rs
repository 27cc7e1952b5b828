//! What an upstream answers over HTTP/1.x: the head, and which bytes after it are of the body (RFC 9112).
//!
//! `httparse` reads the lines of the head. Where the body ends is decided here, and chunked ones are read by the same
//! [`Framer`] as those of requests. After an answer that another reader could cut differently, nothing else is read from its
//! connection.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use httparse::Status;

use super::bytes::parse_decimal;
use super::framing::{Framer, Step};
use super::head::{self, Framing, HeadError};
use crate::limits::HEADER_FIELDS_MAX;

/// What an answer begins with.
const START: &[u8] = b"HTTP/1.";

/// Pieces of a body below this are copied: each would keep the memory of a whole read, and whoever reads slowly may have many.
const SHARED_BYTES_MIN: usize = 1024;

/// Why something is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// Not a status line and fields.
    #[error("the upstream did not answer in HTTP/1.x")]
    Malformed,
    /// Above a limit.
    #[error("the head of the upstream's answer is longer, or has more fields, than is borne")]
    TooLarge,
    /// Two lengths, one that is no number, any transfer coding but `chunked`, or one in HTTP/1.0.
    #[error(
        "it is not certain where the upstream's answer ends: its lengths or its Transfer-Encoding cannot be understood"
    )]
    Length,
    /// A chunk or the trailer section.
    #[error("a chunk or a trailer of the upstream's answer is malformed")]
    Chunk,
}

/// The head of an answer, and what it says of the rest.
#[derive(Debug)]
pub struct Answer {
    /// 101, or 200 to 599 and what else has three digits.
    pub status: StatusCode,
    /// As they came, but that a length is said once.
    pub headers: HeaderMap,
    /// Where it ends.
    pub body: Body,
    /// Another request may follow on the connection, where the end is not the connection's.
    pub persists: bool,
}

/// Reads heads: those of interim answers (1xx but 101) are left out.
#[derive(Debug)]
pub struct Heads {
    bytes_max: usize,
    /// So many bytes were searched for the end already: none is twice.
    searched: usize,
}

impl Heads {
    /// Of at most `bytes_max` bytes each.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, searched: 0 }
    }

    /// The head of the answer to a request of this method, taken off the front of `buffer`; `None` if more must come.
    ///
    /// # Errors
    /// [`AnswerError`]: the connection is of no more use.
    pub fn take(&mut self, buffer: &mut BytesMut, method: &Method) -> Result<Option<Answer>, AnswerError> {
        loop {
            if self.searched == 0 {
                skip_empty_lines(buffer);
            }
            // What speaks another protocol may wait for us: said at once, and not when time is over.
            let start = buffer.get(..START.len()).unwrap_or(buffer);
            if start == b"\r" {
                return Ok(None);
            }
            if !START.starts_with(start) {
                return Err(AnswerError::Malformed);
            }
            let end = self.find_end(buffer);
            if end.unwrap_or(buffer.len()) > self.bytes_max {
                return Err(AnswerError::TooLarge);
            }
            let Some(length) = end else {
                self.searched = buffer.len();
                return Ok(None);
            };
            self.searched = 0;
            let head = buffer.split_to(length).freeze();
            if let Some(answer) = parse(&head, method)? {
                return Ok(Some(answer));
            }
        }
    }

    /// An empty line. One LF ends a line, too (RFC 9112 §2.2).
    fn find_end(&self, bytes: &[u8]) -> Option<usize> {
        let from = self.searched.saturating_sub(2);
        let tail = bytes.get(from..)?;
        let is_end = |at: &usize| {
            let line = tail.get(..*at).unwrap_or_default();
            line.ends_with(b"\n") || line.ends_with(b"\n\r")
        };
        let end = memchr::memchr_iter(b'\n', tail).find(is_end)?;
        from.checked_add(end)?.checked_add(1)
    }
}

/// RFC 9112 §2.2 has this of requests; some servers need it, too.
fn skip_empty_lines(buffer: &mut BytesMut) {
    loop {
        match **buffer {
            [b'\n', ..] => buffer.advance(1),
            [b'\r', b'\n', ..] => buffer.advance(2),
            _ => return,
        }
    }
}

/// `None` for an interim answer.
fn parse(head: &Bytes, method: &Method) -> Result<Option<Answer>, AnswerError> {
    let mut fields = [const { MaybeUninit::uninit() }; HEADER_FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        head,
        &mut fields,
    );
    match parsed {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(AnswerError::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(AnswerError::TooLarge),
        Err(_) => return Err(AnswerError::Malformed),
    }
    let status =
        response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(AnswerError::Malformed)?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| AnswerError::Malformed)?;
        // Not copied: a part of the head.
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value));
        headers.append(name, value.map_err(|_| AnswerError::Malformed)?);
    }
    let is_http11 = response.version == Some(1);
    let body = Body::after(status, &headers, (method, is_http11))?;
    if matches!(body.0, Left::Length(_))
        && (has_list(&headers) || has_none(status, method))
        && let Some(length) = length(&headers)?
    {
        // As one number: not every reader knows that the same one several times is one.
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    // §6.3: framed twice, it may be an attempt to smuggle the next one.
    let is_certain = match body.0 {
        Left::Length(_) => true,
        Left::Chunked(_) => !headers.contains_key(CONTENT_LENGTH),
        Left::UntilEnd => false,
    };
    let persists = is_certain && persists(&headers, is_http11);
    Ok(Some(Answer { status, headers, body, persists }))
}

/// Whether there is no body, whatever the fields say.
fn has_none(status: StatusCode, method: &Method) -> bool {
    matches!(status.as_u16(), 101 | 204 | 304) || *method == Method::HEAD
}

/// Whether the length is said more than once.
fn has_list(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    lengths.next().is_some_and(|first| first.as_bytes().contains(&b',')) || lengths.next().is_some()
}

/// The one number that Content-Length says, if any. RFC 9112 §6.3: the same one several times is one.
fn length(headers: &HeaderMap) -> Result<Option<u64>, AnswerError> {
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for number in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let number = parse_decimal(number).ok_or(AnswerError::Length)?;
            if length.replace(number).is_some_and(|before| before != number) {
                return Err(AnswerError::Length);
            }
        }
    }
    Ok(length)
}

/// RFC 9112 §9.3.
fn persists(headers: &HeaderMap, is_http11: bool) -> bool {
    let mut says_close = false;
    let mut says_keep = false;
    for value in headers.get_all(CONNECTION) {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            says_close |= option.eq_ignore_ascii_case(b"close");
            says_keep |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    !says_close && (is_http11 || says_keep)
}

/// What is still to come of the body.
#[derive(Debug)]
pub struct Body(Left);

#[derive(Debug)]
enum Left {
    Length(u64),
    Chunked(Box<Chunked>),
    /// All until the connection ends.
    UntilEnd,
}

#[derive(Debug)]
struct Chunked {
    framer: Framer,
    /// Those that were read; given out when all were.
    trailers: HeaderMap,
    ended: bool,
    /// Found behind what was given out last.
    bad: Option<HeadError>,
}

/// What comes next of a body.
#[derive(Debug)]
pub enum Piece {
    /// Too few bytes to tell.
    Need,
    /// Of the body.
    Data(Bytes),
    /// After all of it.
    Trailers(HeaderMap),
    /// It is over.
    End,
}

impl Body {
    /// RFC 9112 §6.3.
    fn after(
        status: StatusCode,
        headers: &HeaderMap,
        (method, is_http11): (&Method, bool),
    ) -> Result<Self, AnswerError> {
        if has_none(status, method) {
            return Ok(Self(Left::Length(0)));
        }
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        if let Some(coding) = codings.next() {
            // §6.1, §7: in HTTP/1.0 it is faulty, and no coding but this one was asked for.
            let is_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
            return if is_http11 && is_chunked && codings.next().is_none() {
                Ok(Self(Left::Chunked(Box::new(Chunked::new()))))
            } else {
                Err(AnswerError::Length)
            };
        }
        Ok(Self(length(headers)?.map_or(Left::UntilEnd, Left::Length)))
    }

    /// Whether all of it was taken, trailers too.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match &self.0 {
            Left::Length(left) => *left == 0,
            Left::Chunked(chunked) => chunked.ended,
            Left::UntilEnd => false,
        }
    }

    /// How many bytes are still to come, where that is known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match &self.0 {
            Left::Length(left) => Some(*left),
            Left::Chunked(chunked) if chunked.ended => Some(0),
            Left::Chunked(_) | Left::UntilEnd => None,
        }
    }

    /// Takes the next piece off the front of `buffer`.
    ///
    /// # Errors
    /// [`AnswerError::Chunk`]: what came before is not the whole of it.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Piece, AnswerError> {
        match &mut self.0 {
            Left::Length(0) => Ok(Piece::End),
            Left::Chunked(chunked) => chunked.take(buffer).map_err(|_| AnswerError::Chunk),
            Left::Length(_) | Left::UntilEnd if buffer.is_empty() => Ok(Piece::Need),
            Left::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left = left.saturating_sub(u64::try_from(here).unwrap_or(u64::MAX));
                Ok(Piece::Data(split(buffer, here)))
            }
            Left::UntilEnd => Ok(Piece::Data(split(buffer, buffer.len()))),
        }
    }

    /// The connection has ended: whether the body has, too.
    pub fn end(&mut self) -> bool {
        if matches!(self.0, Left::UntilEnd) {
            self.0 = Left::Length(0);
        }
        self.is_over()
    }
}

impl Chunked {
    fn new() -> Self {
        let mut framer = Framer::of_answer();
        framer.accept_head(Framing::Chunked);
        Self { framer, trailers: HeaderMap::new(), ended: false, bad: None }
    }

    fn take(&mut self, buffer: &mut BytesMut) -> Result<Piece, HeadError> {
        if let Some(error) = self.bad {
            return Err(error);
        }
        self.bad = self.skip_framing(buffer).err();
        self.bad.map_or(Ok(()), Err)?;
        let data = self.framer.opaque_bytes();
        if data > 0 {
            return match self.framer.step(buffer)? {
                Step::Pass(count) => {
                    let data = split(buffer, count.min(buffer.len()));
                    // That it was the last is known with it, where the end is here, too.
                    self.bad = self.skip_framing(buffer).err();
                    Ok(Piece::Data(data))
                }
                Step::Need | Step::Head { .. } => Ok(Piece::Need),
            };
        }
        if !self.framer.at_boundary() {
            return Ok(Piece::Need);
        }
        self.ended = true;
        let trailers = std::mem::take(&mut self.trailers);
        Ok(if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers) })
    }

    /// Takes what is not data.
    fn skip_framing(&mut self, buffer: &mut BytesMut) -> Result<(), HeadError> {
        while !self.framer.at_boundary() && self.framer.opaque_bytes() == 0 {
            let in_trailer = self.framer.in_trailer();
            let Step::Pass(count) = self.framer.step(buffer)? else { return Ok(()) };
            let line = buffer.split_to(count.min(buffer.len())).freeze();
            if in_trailer && let Some(field) = line.strip_suffix(b"\r\n").filter(|field| !field.is_empty()) {
                if self.trailers.len() >= HEADER_FIELDS_MAX {
                    return Err(HeadError::TooManyFields);
                }
                let (name, value) = head::field(field)?;
                let name = HeaderName::from_bytes(name).map_err(|_| HeadError::Trailer)?;
                let value = HeaderValue::from_maybe_shared(line.slice_ref(value));
                self.trailers.append(name, value.map_err(|_| HeadError::Trailer)?);
            }
        }
        self.ended = self.framer.at_boundary() && self.trailers.is_empty();
        Ok(())
    }
}

fn split(buffer: &mut BytesMut, count: usize) -> Bytes {
    if count >= SHARED_BYTES_MIN {
        return buffer.split_to(count).freeze();
    }
    let piece = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
    buffer.advance(count);
    piece
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
