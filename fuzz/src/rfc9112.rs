//! A second reading of request heads, written from RFC 9112 and RFC 9110 and not from our parser: it names every rule
//! that a head breaks, where the parser stops at the first. Slow and plain. Must never share code with `netproxy`.

use netproxy::limits::{HEADER_FIELDS_MAX, METHOD_BYTES_MAX, TARGET_BYTES_MAX};
use netproxy::wire::head::{Framing, HeadError};

/// What a head says, and every rule that it breaks.
#[derive(Debug, Default)]
pub struct Reading<'t> {
    /// Of the request line, if it has three parts.
    pub line: Option<(&'t [u8], &'t [u8], &'t [u8])>,
    /// Names and values, without white space around a value.
    pub fields: Vec<(&'t [u8], &'t [u8])>,
    /// As our parser would call them.
    pub broken: Vec<HeadError>,
}

/// Reads `text`, a head with the empty line that ends it.
pub fn read(text: &[u8]) -> Reading<'_> {
    let mut reading = Reading::default();
    // RFC 9112 §2.2: lines end in CR LF, and neither stands alone.
    let ends = text.windows(2).filter(|pair| pair == b"\r\n").count();
    let of = |byte: u8| text.iter().filter(|other| **other == byte).count();
    if of(b'\r') != ends || of(b'\n') != ends || !text.ends_with(b"\r\n\r\n") {
        reading.broken.push(HeadError::BareLineBreak);
    }
    let mut lines = lines(text).into_iter();
    reading.request_line(lines.next().unwrap_or_default());
    for line in lines {
        reading.field(line);
    }
    reading.whole_head();
    reading
}

/// The lines before the first empty one; the request line may be empty itself.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        if line.is_empty() && !all.is_empty() {
            break;
        }
        all.push(line);
        rest = after;
    }
    all
}

impl<'t> Reading<'t> {
    /// RFC 9112 §3: method SP request-target SP HTTP-version.
    fn request_line(&mut self, line: &'t [u8]) {
        let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [method, target, version] = parts[..] else {
            return self.broken.push(HeadError::RequestLine);
        };
        self.line = Some((method, target, version));
        // RFC 9112 §2.3. Names of later versions are told apart from what is no version at all.
        if version != b"HTTP/1.1" && version != b"HTTP/1.0" {
            let named = version.starts_with(b"HTTP/");
            self.broken.push(if named { HeadError::Version } else { HeadError::RequestLine });
        }
        if !is_token(method) || method.len() > METHOD_BYTES_MAX || !is_uri_text(target) {
            self.broken.push(HeadError::RequestLine);
        }
        if target.len() > TARGET_BYTES_MAX {
            self.broken.push(HeadError::TooLarge);
        }
    }

    /// RFC 9112 §5: field-name ":" OWS field-value OWS.
    fn field(&mut self, line: &'t [u8]) {
        if line.first().is_some_and(|byte| b" \t".contains(byte)) {
            self.broken.push(HeadError::ObsFold);
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return self.broken.push(HeadError::FieldName);
        };
        let (name, value) = (&line[..colon], trimmed(&line[colon + 1..]));
        // A name that a CGI variable cannot tell from a framing field, too.
        let folded = name.to_ascii_lowercase();
        if !is_token(name) || folded == b"content_length" || folded == b"transfer_encoding" {
            self.broken.push(HeadError::FieldName);
        }
        // RFC 9110 §5.5: VCHAR, obs-text, SP and HTAB.
        if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            self.broken.push(HeadError::FieldValue);
        }
        self.fields.push((name, value));
    }

    fn whole_head(&mut self) {
        if self.fields.len() > HEADER_FIELDS_MAX {
            self.broken.push(HeadError::TooManyFields);
        }
        let (method, _, version) = self.line.unwrap_or_default();
        let is_http10 = version == b"HTTP/1.0";
        // RFC 9112 §3.2.
        let hosts = self.values(b"host");
        if hosts.len() > 1 || (hosts.is_empty() && !is_http10) || hosts.iter().any(|host| !is_uri_text(host))
        {
            self.broken.push(HeadError::Host);
        }
        // RFC 9110 §8.6, and never twice.
        let lengths = self.values(b"content-length");
        let is_plain = |text: &&[u8]| (1..=18).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
        if lengths.len() > 1 || !lengths.iter().all(is_plain) {
            self.broken.push(HeadError::ContentLength);
        }
        // RFC 9112 §6.1 to §6.3.
        let encodings = self.values(b"transfer-encoding");
        if encodings.len() > 1 || encodings.iter().any(|value| !value.eq_ignore_ascii_case(b"chunked")) {
            self.broken.push(HeadError::TransferEncoding);
        }
        if !encodings.is_empty() && is_http10 {
            self.broken.push(HeadError::TransferEncoding);
        }
        if !encodings.is_empty() && !lengths.is_empty() {
            self.broken.push(HeadError::BothFramings);
        }
        if method == b"CONNECT" && self.framing() != Some(Framing::None) {
            self.broken.push(HeadError::ConnectBody);
        }
        // RFC 9110 §7.6.1: what belongs to the request must not be named as belonging to the connection.
        let options = self.values(b"connection");
        let named = options.iter().flat_map(|value| value.split(|byte| *byte == b','));
        let end_to_end: [&[u8]; 6] =
            [b"host", b"content-length", b"transfer-encoding", b"authorization", b"cookie", b"content-type"];
        if named.map(trimmed).any(|name| end_to_end.contains(&name.to_ascii_lowercase().as_slice())) {
            self.broken.push(HeadError::ConnectionOption);
        }
    }

    /// RFC 9112 §6.3 for a head without faults; `None` where lengths are none.
    pub fn framing(&self) -> Option<Framing> {
        if !self.values(b"transfer-encoding").is_empty() {
            return Some(Framing::Chunked);
        }
        let lengths = self.values(b"content-length");
        let Some(length) = lengths.first() else { return Some(Framing::None) };
        match std::str::from_utf8(length).ok()?.parse().ok()? {
            0 => Some(Framing::None),
            length => Some(Framing::Length(length)),
        }
    }

    /// Of the fields called so.
    pub fn values(&self, wanted: &[u8]) -> Vec<&'t [u8]> {
        let of_name = self.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        of_name.map(|(_, value)| *value).collect()
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_tchar)
}

/// Printable, without what RFC 3986 has in no URI and no client sends.
fn is_uri_text(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\#".contains(byte))
}

fn trimmed(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| b" \t".contains(byte);
    let start = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}
