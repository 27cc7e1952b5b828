//! What an upstream proxy answers to our `CONNECT` (RFC 9110 §9.3.6) or SOCKS5 request (RFC 1928, RFC 1929). Each
//! function takes the bytes at hand and gives the answer and its length, or `None` for too few.
//!
//! Its bytes are as hostile as any server's. Nothing of them is repeated to a client but a number.

use crate::limits::UPSTREAM_PROXY_HEAD_BYTES_MAX;

/// Why an answer cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadReply {
    /// Not `HTTP/1.x NNN`.
    #[error("it does not answer in HTTP/1.1")]
    NotHttp,
    /// A head without end.
    #[error("the head of its answer is too large")]
    TooLarge,
    /// Another version, method or address type.
    #[error("it does not answer in SOCKS5")]
    NotSocks,
}

/// An answer and how many bytes it took, or `None` for too few.
pub type Parsed<T> = Result<Option<(T, usize)>, BadReply>;

const HTTP_START: &[u8] = b"HTTP/1.";

/// The status of an HTTP response, once its head is whole.
///
/// # Errors
/// Not HTTP/1, or above the limit.
pub fn http_status(bytes: &[u8]) -> Parsed<u16> {
    let start = bytes.get(..HTTP_START.len()).unwrap_or(bytes);
    if !HTTP_START.starts_with(start) {
        return Err(BadReply::NotHttp);
    }
    let seen = bytes.get(..UPSTREAM_PROXY_HEAD_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") else {
        let full = seen.len() >= UPSTREAM_PROXY_HEAD_BYTES_MAX;
        return if full { Err(BadReply::TooLarge) } else { Ok(None) };
    };
    // RFC 9112 §4: the version, one space, three digits, and a space before the reason even if that is empty;
    // laxer: without that space there is no reason.
    let line = seen.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', a, b, c, rest @ ..] = line else {
        return Err(BadReply::NotHttp);
    };
    if !(rest.is_empty() || rest.starts_with(b" ")) {
        return Err(BadReply::NotHttp);
    }
    let mut status = 0u16;
    for digit in [a, b, c] {
        if !digit.is_ascii_digit() {
            return Err(BadReply::NotHttp);
        }
        status = status.saturating_mul(10).saturating_add(u16::from(digit.saturating_sub(b'0')));
    }
    if status < 100 {
        return Err(BadReply::NotHttp);
    }
    Ok(Some((status, end.saturating_add(4))))
}

/// [`http_status`] for who calls it after each byte: a head that was not whole before is only so where it ends in an
/// empty line, so that not all of it is searched again each time.
///
/// # Errors
/// Those of [`http_status`].
pub fn http_status_at_end(bytes: &[u8]) -> Parsed<u16> {
    let begun = bytes.len() >= HTTP_START.len() && bytes.len() < UPSTREAM_PROXY_HEAD_BYTES_MAX;
    if begun && bytes.starts_with(HTTP_START) && !bytes.ends_with(b"\r\n\r\n") {
        return Ok(None);
    }
    http_status(bytes)
}

/// RFC 1928 §3: the method that the server chose.
///
/// # Errors
/// Not SOCKS5.
pub fn socks_method(bytes: &[u8]) -> Parsed<u8> {
    pair(bytes, 5)
}

/// RFC 1929 §2: 0 if the user name and password are accepted.
///
/// # Errors
/// Not RFC 1929.
pub fn socks_password(bytes: &[u8]) -> Parsed<u8> {
    pair(bytes, 1)
}

fn pair(bytes: &[u8], version: u8) -> Parsed<u8> {
    match bytes {
        [] => Ok(None),
        [first, ..] if *first != version => Err(BadReply::NotSocks),
        [_, value, ..] => Ok(Some((*value, 2))),
        [_] => Ok(None),
    }
}

/// RFC 1928 §6: the reply code. The bound address after it is skipped.
///
/// # Errors
/// Not SOCKS5.
pub fn socks_reply(bytes: &[u8]) -> Parsed<u8> {
    if bytes.first().is_some_and(|version| *version != 5) {
        return Err(BadReply::NotSocks);
    }
    let Some(([_, code, _, kind], rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let address = match (kind, rest.first()) {
        (1, _) => 4usize,
        (4, _) => 16,
        (3, Some(length)) => usize::from(*length).saturating_add(1),
        (3, None) => return Ok(None),
        _ => return Err(BadReply::NotSocks),
    };
    // Version, code, reserved, type, address, port.
    let length = address.saturating_add(6);
    if bytes.len() < length { Ok(None) } else { Ok(Some((*code, length))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_however_they_arrive_or_refused() {
        type Parse = fn(&[u8]) -> Parsed<u16>;
        let http: Parse = |bytes| {
            // However it arrives, both say the same.
            assert_eq!(http_status_at_end(bytes), http_status(bytes), "{bytes:?}");
            http_status(bytes)
        };
        let method: Parse = |bytes| Ok(socks_method(bytes)?.map(|(value, n)| (value.into(), n)));
        let password: Parse = |bytes| Ok(socks_password(bytes)?.map(|(value, n)| (value.into(), n)));
        let reply: Parse = |bytes| Ok(socks_reply(bytes)?.map(|(value, n)| (value.into(), n)));
        for (parse, bytes, expected) in [
            (http, &b"HTTP/1.1 200 Connection Established\r\n\r\n"[..], Ok(200)),
            (http, b"HTTP/1.0 407 \r\nProxy-Authenticate: Basic\r\n\r\n", Ok(407)),
            (http, b"HTTP/1.1 200\r\n\r\n", Ok(200)),
            (http, b"HTTP/2 200\r\n\r\n", Err(BadReply::NotHttp)),
            (http, b"HTTP/1.1 20\r\n\r\n", Err(BadReply::NotHttp)),
            (http, b"HTTP/1.1 2000\r\n\r\n", Err(BadReply::NotHttp)),
            (http, b"HTTP/1.1 +20 x\r\n\r\n", Err(BadReply::NotHttp)),
            (http, b"HTTP/1.1  200 x\r\n\r\n", Err(BadReply::NotHttp)),
            (http, b"HTTP/1.1 000 x\r\n\r\n", Err(BadReply::NotHttp)),
            (http, b"SSH-2.0-x\r\n", Err(BadReply::NotHttp)),
            (method, &[5, 2], Ok(2)),
            (method, &[5, 0xff], Ok(255)),
            (method, b"HT", Err(BadReply::NotSocks)),
            (password, &[1, 0], Ok(0)),
            (password, &[5, 0], Err(BadReply::NotSocks)),
            (reply, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0], Ok(0)),
            (reply, &[5, 2, 0, 3, 1, b'a', 0, 0], Ok(2)),
            (reply, &[5, 5, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Ok(5)),
            (reply, &[5, 0, 0, 2, 0, 0], Err(BadReply::NotSocks)),
            (reply, &[4, 0], Err(BadReply::NotSocks)),
        ] {
            let got = parse(bytes);
            assert_eq!(got, expected.map(|value| Some((value, bytes.len()))), "{bytes:?}");
            if got.is_ok() {
                for cut in 0..bytes.len() {
                    assert_eq!(parse(&bytes[..cut]), Ok(None), "{bytes:?} cut at {cut}");
                }
            }
        }
        let endless = |n: usize| [b"HTTP/1.1 200 ".as_slice(), &vec![b'x'; n - 13]].concat();
        assert_eq!(http_status(&endless(UPSTREAM_PROXY_HEAD_BYTES_MAX - 1)), Ok(None));
        assert_eq!(http_status(&endless(UPSTREAM_PROXY_HEAD_BYTES_MAX)), Err(BadReply::TooLarge));
        assert_eq!(http_status_at_end(&endless(UPSTREAM_PROXY_HEAD_BYTES_MAX)), Err(BadReply::TooLarge));
        // Looks at the end alone: an end before it was found when it was the last byte.
        assert_eq!(http_status_at_end(b"HTTP/1.1 200 x\r\n\r\nmore"), Ok(None));
    }
}
