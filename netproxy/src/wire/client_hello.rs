//! The server name of a TLS `ClientHello`, read before anything is answered. Understands a hello that is
//! split over records and reads at any byte; believes none of its lengths.
//!
//! An encrypted hello (ECH) is not looked for: browsers send a random one always. The outer name is compared,
//! so whoever can decrypt the inner one is the host that was allowed.
//!
//! It never terminates TLS and checks only what it needs: an inspected connection is parsed again, whole,
//! by rustls; an opaque one is passed on as it came.

use crate::limits::CLIENT_HELLO_BYTES_MAX;

/// What the hello says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// The one `host_name` of RFC 6066 §3, as text.
    pub server_name: Option<String>,
}

/// What the bytes at hand are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peek {
    /// Too few to tell.
    Need,
    /// A hello, whole.
    Hello(ClientHello),
    /// Not TLS.
    NotTls,
    /// TLS, and malformed or too large.
    Malformed,
}

/// Looks at the first bytes of a connection.
#[must_use]
pub fn peek(bytes: &[u8]) -> Peek {
    match collect_handshake(bytes) {
        Ok(Some(message)) => parse_hello(&message).map_or(Peek::Malformed, Peek::Hello),
        Ok(None) => Peek::Need,
        Err(peek) => peek,
    }
}

/// RFC 8446 §5.1: handshake messages may be cut into records anywhere.
fn collect_handshake(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, Peek> {
    let mut message = Vec::new();
    loop {
        match bytes {
            [] => return Ok(None),
            [22] | [22, 3] => return Ok(None),
            [22, 3, ..] => {}
            _ if message.is_empty() => return Err(Peek::NotTls),
            _ => return Err(Peek::Malformed),
        }
        let Some(([_, _, _, high, low], rest)) = bytes.split_first_chunk::<5>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // Empty handshake records are forbidden, and would let a hello grow without end.
        if length == 0 || length > 0x4000 {
            return Err(Peek::Malformed);
        }
        let take = length.min(rest.len());
        let (fragment, after) = rest.split_at_checked(take).ok_or(Peek::Malformed)?;
        message.extend_from_slice(fragment);
        if let Some((kind_and_length, body)) = message.split_first_chunk::<4>() {
            let [kind, a, b, c] = *kind_and_length;
            let wanted = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            if kind != 1 || wanted > CLIENT_HELLO_BYTES_MAX {
                return Err(Peek::Malformed);
            }
            if body.len() >= wanted {
                return Ok(Some(body.get(..wanted).unwrap_or(body).to_vec()));
            }
        }
        if take < length {
            return Ok(None);
        }
        bytes = after;
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn u8(&mut self) -> Option<usize> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(usize::from(*byte))
    }

    fn u16(&mut self) -> Option<usize> {
        let (bytes, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(usize::from(u16::from_be_bytes(*bytes)))
    }

    fn vec8(&mut self) -> Option<Reader<'a>> {
        let length = self.u8()?;
        self.take(length).map(Reader)
    }

    fn vec16(&mut self) -> Option<Reader<'a>> {
        let length = self.u16()?;
        self.take(length).map(Reader)
    }
}

/// RFC 8446 §4.1.2.
fn parse_hello(message: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(message);
    reader.take(2 + 32)?;
    reader.vec8()?;
    reader.vec16()?;
    reader.vec8()?;
    let mut hello = ClientHello::default();
    if reader.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = reader.vec16()?;
    if !reader.0.is_empty() {
        return None;
    }
    let mut seen_name = false;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let mut data = extensions.vec16()?;
        match kind {
            0 if seen_name => return None,
            0 => {
                seen_name = true;
                hello.server_name = Some(parse_server_name(&mut data)?);
            }
            _ => {}
        }
    }
    Some(hello)
}

/// Stricter than RFC 6066 §3: exactly one entry, and it is a `host_name`.
fn parse_server_name(data: &mut Reader<'_>) -> Option<String> {
    let mut list = data.vec16()?;
    if list.u8()? != 0 {
        return None;
    }
    let name = list.vec16()?.0;
    let whole = list.0.is_empty() && data.0.is_empty() && !name.is_empty() && name.is_ascii();
    if whole { String::from_utf8(name.to_vec()).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &u16::try_from(data.len()).unwrap().to_be_bytes(), data].concat()
    }

    fn server_name(name: &str) -> Vec<u8> {
        name_of_type(0, name)
    }

    fn name_of_type(kind: u8, name: &str) -> Vec<u8> {
        let length = u16::try_from(name.len()).unwrap();
        let entry = [&[kind][..], &length.to_be_bytes(), name.as_bytes()].concat();
        extension(0, &[&u16::try_from(entry.len()).unwrap().to_be_bytes()[..], &entry].concat())
    }

    fn message(extensions: &[u8]) -> Vec<u8> {
        let mut body = [3, 3].to_vec();
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1][..], &length[1..], &body].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let record =
            |part: &[u8]| [&[22, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat();
        message.chunks(size).flat_map(record).collect()
    }

    #[test]
    fn a_hello_is_read_however_it_is_cut() {
        let alpn = extension(16, b"\0\x0c\x02h2\x08http/1.1"); // list of two
        let message = message(&[server_name("a.example"), alpn].concat());
        for size in 1..=message.len() {
            let bytes = records(&message, size);
            for have in 0..bytes.len() {
                assert_eq!(peek(&bytes[..have]), Peek::Need, "records of {size}, {have} bytes");
            }
            let Peek::Hello(hello) = peek(&bytes) else { panic!("records of {size}") };
            assert_eq!(hello.server_name.as_deref(), Some("a.example"));
        }
    }

    #[test]
    fn what_is_no_good_hello_is_told_apart() {
        let two_names = [server_name("a.example"), server_name("b.example")].concat();
        let mut too_long = records(&message(&server_name("a.example")), 1 << 14);
        too_long[6..9].copy_from_slice(&[0xff; 3]);
        for (bytes, expected) in [
            (b"GET / HTTP/1.1\r\n".to_vec(), Peek::NotTls),
            (b"SSH-2.0-x\r\n".to_vec(), Peek::NotTls),
            (vec![22, 2, 0], Peek::NotTls),
            (vec![22, 3, 1, 0, 0], Peek::Malformed),
            (vec![22, 3, 1, 0xff, 0xff, 1], Peek::Malformed),
            (vec![22, 3, 1, 0, 4, 2, 0, 0, 0], Peek::Malformed),
            (records(&message(&two_names), 1 << 14), Peek::Malformed),
            (records(&message(&extension(0, b"\0\0")), 1 << 14), Peek::Malformed),
            // Nobody knows what is named by another type (RFC 6066 §3).
            (records(&message(&name_of_type(1, "a.example")), 1 << 14), Peek::Malformed),
            (records(&message(&[0, 0, 0, 9]), 1 << 14), Peek::Malformed),
            (too_long, Peek::Malformed),
        ] {
            assert_eq!(peek(&bytes), expected, "{bytes:?}");
        }
    }
}
