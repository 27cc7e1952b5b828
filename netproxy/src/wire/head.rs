//! The head of one HTTP/1.x request, judged strictly before any HTTP library sees it. A head that two
//! servers could frame differently (request smuggling) is refused, not repaired.
//!
//! RFC 9112 throughout; hyper parses the same bytes again and never sees what is refused here.

use super::bytes::{is_field_value, is_target, is_token, parse_decimal, split_token, trim_ows};
use crate::limits::{HEADER_FIELDS_MAX, METHOD_BYTES_MAX, TARGET_BYTES_MAX};

/// How the body after a head ends (RFC 9112 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunked.
    Chunked,
}

/// The minor version of HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A head that can be read in one way only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// The method, a token.
    pub method: &'a str,
    /// The request target, printable ASCII.
    pub target: &'a str,
    /// The version.
    pub version: Version,
    /// The one `Host` field, printable ASCII.
    pub host: Option<&'a str>,
    /// How the body ends.
    pub framing: Framing,
}

/// Why a head or a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// A line does not end in CR LF, or has a CR or LF inside.
    #[error("a line of the head has a bare CR or LF")]
    BareLineBreak,
    /// Not `METHOD target HTTP/1.x` with single spaces.
    #[error("the request line is malformed")]
    RequestLine,
    /// Neither a path with plain or percent-encoded characters, nor a URL, nor an authority.
    #[error("the request target is no URL, or has characters that must be percent-encoded")]
    Target,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("the HTTP version is neither 1.0 nor 1.1")]
    Version,
    /// A line that starts with white space.
    #[error("a header field is folded over two lines")]
    ObsFold,
    /// No colon, white space before it, or a byte no name may have.
    #[error("a header field has a malformed name")]
    FieldName,
    /// A control byte in a value.
    #[error("a header field has a control byte in its value")]
    FieldValue,
    /// Above the limit.
    #[error("the head has too many header fields")]
    TooManyFields,
    /// Above the limit.
    #[error("the head is too large")]
    TooLarge,
    /// Missing on HTTP/1.1, repeated, or not printable.
    #[error("the Host field is missing, repeated or malformed")]
    Host,
    /// Repeated, a list, signed, or not a number.
    #[error("the Content-Length field is repeated or not a plain number")]
    ContentLength,
    /// Anything but one `chunked`, or on HTTP/1.0.
    #[error("the Transfer-Encoding field is repeated, unknown or on HTTP/1.0")]
    TransferEncoding,
    /// Both framings.
    #[error("the head has both Content-Length and Transfer-Encoding")]
    BothFramings,
    /// `Connection` names a field that must not be dropped.
    #[error("the Connection field names a field that is not hop-by-hop")]
    ConnectionOption,
    /// `CONNECT` with a body.
    #[error("a CONNECT request has a body")]
    ConnectBody,
    /// Bad size, bad extension or no CR LF.
    #[error("a chunk of the body is malformed")]
    Chunk,
    /// A malformed or forbidden field after the last chunk.
    #[error("the trailer section is malformed")]
    Trailer,
}

/// Judges a whole head, including the empty line that ends it.
///
/// # Errors
/// The first rule that is broken, in the order of the bytes.
pub fn parse(head: &[u8]) -> Result<Head<'_>, HeadError> {
    let mut lines = Lines { rest: head };
    let (method, target, version) = request_line(lines.next_line()?)?;
    let mut fields = Fields::default();
    loop {
        let line = lines.next_line()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = field(line)?;
        fields.take(name, value)?;
    }
    fields.into_head(method, target, version)
}

struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    /// Stricter: RFC 9112 §2.2 lets a recipient take a lone LF as a line end.
    fn next_line(&mut self) -> Result<&'a [u8], HeadError> {
        let end = memchr::memchr2(b'\r', b'\n', self.rest);
        let (line, after) =
            end.and_then(|end| self.rest.split_at_checked(end)).ok_or(HeadError::BareLineBreak)?;
        self.rest = after.strip_prefix(b"\r\n").ok_or(HeadError::BareLineBreak)?;
        Ok(line)
    }
}

/// RFC 9112 §3. Stricter: exactly one space between the parts, no leading empty line.
fn request_line(line: &[u8]) -> Result<(&str, &str, Version), HeadError> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadError::RequestLine);
    };
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', ..] => return Err(HeadError::Version),
        _ => return Err(HeadError::RequestLine),
    };
    if method.len() > METHOD_BYTES_MAX || !is_token(method) || !is_target(target) {
        return Err(HeadError::RequestLine);
    }
    if target.len() > TARGET_BYTES_MAX {
        return Err(HeadError::TooLarge);
    }
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| HeadError::RequestLine);
    Ok((text(method)?, text(target)?, version))
}

/// RFC 9112 §5: no white space before the colon (§5.1), no folding (§5.2).
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    if matches!(line, [b' ' | b'\t', ..]) {
        return Err(HeadError::ObsFold);
    }
    let (name, value) = split_token(line).ok_or(HeadError::FieldName)?;
    let value = trim_ows(value.strip_prefix(b":").ok_or(HeadError::FieldName)?);
    if !is_field_value(value) {
        return Err(HeadError::FieldValue);
    }
    Ok((name, value))
}

#[derive(Default)]
struct Fields<'a> {
    count: usize,
    host: Option<&'a [u8]>,
    content_length: Option<u64>,
    chunked: bool,
}

impl<'a> Fields<'a> {
    fn take(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<(), HeadError> {
        self.count = self.count.saturating_add(1);
        if self.count > HEADER_FIELDS_MAX {
            return Err(HeadError::TooManyFields);
        }
        if name.eq_ignore_ascii_case(b"host") {
            // RFC 9112 §3.2: more than one is 400.
            if self.host.replace(value).is_some() {
                return Err(HeadError::Host);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            // Stricter than RFC 9110 §8.6: equal repetitions are refused too.
            let length = parse_decimal(value).ok_or(HeadError::ContentLength)?;
            if self.content_length.replace(length).is_some() {
                return Err(HeadError::ContentLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // RFC 9112 §6.1; stricter: `chunked` alone, once.
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::TransferEncoding);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            check_connection(value)?;
        } else if is_lookalike(name) {
            return Err(HeadError::FieldName);
        }
        Ok(())
    }

    fn into_head(self, method: &'a str, target: &'a str, version: Version) -> Result<Head<'a>, HeadError> {
        let framing = match (self.content_length, self.chunked) {
            // RFC 9112 §6.3: may be smuggling. Stricter: always refused.
            (Some(_), true) => return Err(HeadError::BothFramings),
            // RFC 9112 §6.1: faulty on HTTP/1.0 (CVE-2026-2835 in another proxy).
            (None, true) if version == Version::Http10 => return Err(HeadError::TransferEncoding),
            (None, true) => Framing::Chunked,
            (Some(0) | None, false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
        };
        if method == "CONNECT" && framing != Framing::None {
            return Err(HeadError::ConnectBody);
        }
        let host = match self.host {
            Some(host) if host.is_empty() || !is_target(host) => return Err(HeadError::Host),
            Some(host) => Some(std::str::from_utf8(host).map_err(|_| HeadError::Host)?),
            None if version == Version::Http11 => return Err(HeadError::Host),
            None => None,
        };
        Ok(Head { method, target, version, host, framing })
    }
}

/// RFC 9110 §7.6.1: a sender must not list end-to-end fields; dropping them would change the request.
fn check_connection(value: &[u8]) -> Result<(), HeadError> {
    const NEVER: [&[u8]; 6] =
        [b"host", b"content-length", b"transfer-encoding", b"authorization", b"cookie", b"content-type"];
    let bad = |option: &[u8]| NEVER.iter().any(|name| trim_ows(option).eq_ignore_ascii_case(name));
    if value.split(|byte| *byte == b',').any(bad) { Err(HeadError::ConnectionOption) } else { Ok(()) }
}

/// Names that CGI-style servers fold into the framing fields.
fn is_lookalike(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content_length") || name.eq_ignore_ascii_case(b"transfer_encoding")
}
