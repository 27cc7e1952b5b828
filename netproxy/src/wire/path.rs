//! The path that is judged is the path that is sent: one canonical form, made here, once. What servers read
//! in different ways (dot segments in any spelling, encoded control bytes, backslashes) is refused.
//!
//! Canonical: starts with `/`; unreserved characters are never percent-encoded, all that is not a `pchar`
//! always is, with upper-case digits (RFC 3986 §3.3, §6.2.2); `%2F` stays as it is, since for many services
//! it is not a separator.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Does not start with `/`.
    #[error("it does not start with '/'")]
    NotAbsolute,
    /// A byte that no path may have.
    #[error("it has a character that must be percent-encoded")]
    BadCharacter,
    /// `%` without two hexadecimal digits.
    #[error("it has a '%' without two hexadecimal digits")]
    BadEncoding,
    /// An encoded control byte or backslash.
    #[error("it has an encoded control byte or backslash")]
    EncodedControl,
    /// `.` or `..` as a segment, plain, encoded or before `;`.
    #[error("it has a '.' or '..' segment; send the path already resolved")]
    DotSegment,
}

/// A path in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CanonicalPath(Arc<str>);

impl CanonicalPath {
    /// Parses a path without its query.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if !text.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        let path = match text.bytes().all(|byte| is_pchar(byte) || byte == b'/') {
            true => Cow::Borrowed(text),
            false => Cow::Owned(rewritten(text)?),
        };
        // `..;x` is `..` for Java servers, which strip parameters first; `%2e` was decoded above. Encoded
        // slashes and semicolons separate for servers that decode early.
        let separated = match path.contains('%') {
            true => Cow::Owned(path.replace("%2F", "/").replace("%3B", ";")),
            false => Cow::Borrowed(&*path),
        };
        let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
        if separated.contains("/.") && separated.split('/').any(is_dots) {
            return Err(PathError::DotSegment);
        }
        Ok(Self(Arc::from(path)))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// With what need not be encoded decoded, and what must be encoded.
fn rewritten(text: &str) -> Result<String, PathError> {
    let mut path = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => push_decoded(&mut path, decode(bytes.next(), bytes.next())?)?,
            b'\\' | b'?' | b'#' | 0..=b' ' | 0x7f.. => return Err(PathError::BadCharacter),
            _ if is_pchar(byte) || byte == b'/' => path.push(char::from(byte)),
            // RFC 3986 §3.3 wants brackets, braces and their like encoded; not all clients do.
            _ => push_encoded(&mut path, byte),
        }
    }
    Ok(path)
}

fn decode(high: Option<u8>, low: Option<u8>) -> Result<u8, PathError> {
    let digit = |byte: Option<u8>| {
        byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
    };
    match (digit(high), digit(low)) {
        (Some(high), Some(low)) => Ok((high << 4) | low),
        _ => Err(PathError::BadEncoding),
    }
}

fn push_decoded(path: &mut String, byte: u8) -> Result<(), PathError> {
    match byte {
        0..=0x1f | 0x7f | b'\\' => return Err(PathError::EncodedControl),
        // RFC 3986 §2.3 unreserved.
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
        _ => push_encoded(path, byte),
    }
    Ok(())
}

fn push_encoded(path: &mut String, byte: u8) {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0').to_ascii_uppercase();
    path.extend(['%', digit(byte >> 4), digit(byte & 15)]);
}

/// RFC 3986 §3.3, without `%`.
fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_canonical_form_or_a_refusal() {
        for (given, expected) in [
            ("/", Ok("/")),
            ("/a%2fb/%7Euser/%41", Ok("/a%2Fb/~user/A")),
            ("/v1/files;v=1/x", Ok("/v1/files;v=1/x")),
            ("/a//b/", Ok("/a//b/")),
            ("/...", Ok("/...")),
            ("/{a}|[b]^`\"<>", Ok("/%7Ba%7D%7C%5Bb%5D%5E%60%22%3C%3E")),
            ("/a:b@c!$&'()*+,;=~", Ok("/a:b@c!$&'()*+,;=~")),
            ("/%E2%82%AC", Ok("/%E2%82%AC")),
            ("a", Err(PathError::NotAbsolute)),
            ("/a/../b", Err(PathError::DotSegment)),
            ("/a/.%2E/b", Err(PathError::DotSegment)),
            ("/a/%2e", Err(PathError::DotSegment)),
            ("/a%2F..%2Fb", Err(PathError::DotSegment)),
            ("/a/..;x=1/b", Err(PathError::DotSegment)),
            ("/a/..%3bx/b", Err(PathError::DotSegment)),
            ("/a\\..\\b", Err(PathError::BadCharacter)),
            ("/a%5c..", Err(PathError::EncodedControl)),
            ("/a%00", Err(PathError::EncodedControl)),
            ("/a%0d%0aHost:x", Err(PathError::EncodedControl)),
            ("/a%4", Err(PathError::BadEncoding)),
            ("/a%zz", Err(PathError::BadEncoding)),
            ("/\u{e9}", Err(PathError::BadCharacter)),
        ] {
            let got = CanonicalPath::parse(given);
            assert_eq!(got.as_ref().map(CanonicalPath::as_str), expected.as_ref().map(|s| *s), "{given}");
        }
    }
}
