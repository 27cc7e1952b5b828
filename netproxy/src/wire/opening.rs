//! What the first bytes of a connection are: TLS, an HTTP/1 request, or neither. Decides who reads them, never
//! whether they are well-formed: that is for the reader, which sees the same bytes again.
//!
//! What can still become TLS or HTTP is waited for: a client that stutters must not slip past their rules as
//! "neither".

use super::bytes::is_token;
use super::client_hello::{self, ClientHello, Peek};
use crate::limits::REQUEST_LINE_BYTES_MAX;

/// What the bytes at hand are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Too few to tell.
    Need,
    /// A TLS hello, whole.
    Tls(ClientHello),
    /// TLS, and malformed or too large.
    BadTls,
    /// The first line of an HTTP request, or one too long to tell.
    Http,
    /// Neither TLS nor HTTP.
    Other,
}

/// Looks at the first bytes of a connection.
#[must_use]
pub fn look(bytes: &[u8]) -> Opening {
    match client_hello::peek(bytes) {
        Peek::Need => Opening::Need,
        Peek::Hello(hello) => Opening::Tls(hello),
        Peek::Malformed => Opening::BadTls,
        Peek::NotTls => look_for_http(bytes),
    }
}

/// RFC 9112 §3: `method SP request-target SP HTTP-version CRLF`. Lenient on purpose (bare LF, lines before it
/// that are empty, any version): what some server might take for HTTP is for the strict parser to refuse.
fn look_for_http(bytes: &[u8]) -> Opening {
    // RFC 9112 §2.2: empty lines before a request are skipped by servers.
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let line = bytes.get(blank..).unwrap_or_default();
    // What comes after makes no difference.
    let line = line.get(..=REQUEST_LINE_BYTES_MAX).unwrap_or(line);
    if blank > REQUEST_LINE_BYTES_MAX {
        return Opening::Other;
    }
    // Of any length: a server may take a longer method than we do.
    let Some(space) = line.iter().position(|byte| *byte == b' ') else {
        return match line {
            _ if !line.is_empty() && !is_token(line) => Opening::Other,
            _ if line.len() > REQUEST_LINE_BYTES_MAX => Opening::Http,
            _ => Opening::Need,
        };
    };
    if !line.get(..space).is_some_and(is_token) {
        return Opening::Other;
    }
    let rest = line.get(space..).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == b'\n');
    let text = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    // No request line has control bytes; binary protocols soon do.
    if text.iter().any(|byte| *byte < b' ' || *byte == 0x7f) {
        return Opening::Other;
    }
    match end {
        Some(_) if names_http(text) => Opening::Http,
        Some(_) => Opening::Other,
        None if line.len() > REQUEST_LINE_BYTES_MAX => Opening::Http,
        None => Opening::Need,
    }
}

/// ` … HTTP/d.d`, in any case of letters.
fn names_http(text: &[u8]) -> bool {
    let version = text.rsplit(|byte| *byte == b' ').find(|word| !word.is_empty()).unwrap_or_default();
    version.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"HTTP/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_http_is_http_and_the_rest_is_other() {
        let long = format!("GET /{}", "a".repeat(REQUEST_LINE_BYTES_MAX));
        for (bytes, expected) in [
            (&b""[..], Opening::Need),
            (b"GET", Opening::Need),
            (b"GET / HTTP/1.1\r", Opening::Need),
            (b"GET / HTTP/1.1\r\n", Opening::Http),
            (b"get / http/1.1\n", Opening::Http),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", Opening::Http),
            (b"PRI * HTTP/2.0\r\n", Opening::Http),
            (b"X http://a/ HTTP/9.9 \r\n", Opening::Http),
            (b"GET / HTTP/1.1\0\r\n", Opening::Other),
            (long.as_bytes(), Opening::Http),
            (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Opening::Other),
            (b"EHLO there\r\n", Opening::Other),
            (b"PING\r\n", Opening::Other),
            (b"*1\r\n$4\r\nPING\r\n", Opening::Other),
            (b"GET key\r\n", Opening::Other),
            (&[0, 0, 0, 8, 4, 210, 22, 47], Opening::Other),
            (b"0032git-upload-pack /a\0host=b\0", Opening::Other),
            (&[b'M'; REQUEST_LINE_BYTES_MAX], Opening::Need),
            (&[b'M'; REQUEST_LINE_BYTES_MAX + 1], Opening::Http),
            // Longer than any method that we take, and taken by some.
            (b"S2.0-OpenSSSH-2.0-OpS2.0-O`enSSSH-2.0- /x HTTP/1.1\r\n", Opening::Http),
            (&[22, 3, 1, 0, 0], Opening::BadTls),
            (&[22, 3], Opening::Need),
        ] {
            assert_eq!(
                look(bytes),
                expected,
                "{:?}",
                String::from_utf8_lossy(bytes.get(..40).unwrap_or(bytes))
            );
        }
    }

    #[test]
    fn an_early_look_never_contradicts_a_later_one() {
        for bytes in
            [&b"GET /x?y HTTP/1.1\r\nHost: a\r\n"[..], b"EHLO x\r\n", b"SSH-2.0-x y\r\n", b"\r\n\x01"]
        {
            let whole = look(bytes);
            for cut in 0..bytes.len() {
                let early = look(&bytes[..cut]);
                assert!(early == Opening::Need || early == whole, "{cut} of {bytes:?}");
            }
        }
    }
}
