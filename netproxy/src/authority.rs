//! The one host-and-port type. A text from the wire is parsed here once; matcher, resolver, dialer, TLS,
//! certificate and audit share the value, and nobody below this file takes `host: &str`.
//!
//! It never repairs a text that two parsers could read differently: such a text is refused.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use crate::limits::{AUTHORITY_TEXT_BYTES_MAX, HOST_LABEL_BYTES_MAX, HOST_NAME_BYTES_MAX};

/// Why a text is not an authority. Texts name the fault, never the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// Nothing there, or nothing but a dot or a port.
    #[error("the host is empty; write host:port")]
    Empty,
    /// Longer than any host name can be.
    #[error("the host is longer than a host name can be")]
    TooLong,
    /// Control byte, NUL, space or a character no host may have.
    #[error("the host has a character that no host name may have")]
    BadCharacter,
    /// `user@host`.
    #[error("the host carries user information before '@'; send credentials in a header")]
    UserInfo,
    /// `%`: percent-encoding or an IPv6 zone id.
    #[error("the host has a '%'; percent-encoding and zone ids are not accepted")]
    Percent,
    /// Two dots in a row, or a leading dot.
    #[error("the host has an empty label")]
    EmptyLabel,
    /// Not a valid internationalised name (UTS 46), or a label of bad form.
    #[error("the host is not a valid domain name")]
    BadName,
    /// Short, octal, hexadecimal or out-of-range IPv4.
    #[error("the host looks like an IPv4 address but is not four decimal numbers")]
    BadIpv4,
    /// Not an IPv6 address inside brackets, or one without brackets.
    #[error("the host is not an IPv6 address in brackets")]
    BadIpv6,
    /// Not 1–65535 in plain decimal.
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
    /// No port, and the context has no default.
    #[error("the port is missing; write host:port")]
    NoPort,
}

/// A domain name in its canonical form: lower-case A-labels (UTS 46), no trailing dot, 1–253 bytes of
/// `a-z 0-9 - _ .`, no empty label, and never something an address parser would take for a number.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

/// Either a canonical name or an address. IPv4 inside IPv6 (`::ffff:a.b.c.d`) is unwrapped.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A domain name.
    Name(HostName),
    /// An address literal.
    Ip(IpAddr),
}

/// Host and port, canonical: two authorities are the same place if and only if they are equal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority {
    host: Host,
    port: u16,
}

impl HostName {
    /// The name as text, without a trailing dot.
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

impl Host {
    /// Parses the host part of an authority; IPv6 must be in brackets.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        check_characters(text)?;
        match text.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or(AuthorityError::BadIpv6).and_then(parse_ipv6),
            None if text.contains(':') => Err(AuthorityError::BadIpv6),
            None => parse_name_or_ipv4(text),
        }
    }

    /// As `Display` writes it; a name is not copied.
    #[must_use]
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Name(name) => Cow::Borrowed(name.as_str()),
            Self::Ip(_) => Cow::Owned(self.to_string()),
        }
    }

    /// The same, shared; a name is not copied.
    #[must_use]
    pub fn shared_text(&self) -> Arc<str> {
        match self {
            Self::Name(name) => name.shared(),
            Self::Ip(_) => Arc::from(self.to_string()),
        }
    }

    /// An address as a host, v4-mapped IPv6 unwrapped.
    #[must_use]
    pub fn from_ip(ip: IpAddr) -> Self {
        Self::Ip(ip.to_canonical())
    }
}

impl Authority {
    /// Parses `host`, `host:port` or `[v6]:port`.
    ///
    /// # Errors
    /// [`AuthorityError::NoPort`] if neither the text nor `default_port` has one; else what is wrong.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, AuthorityError> {
        check_characters(text)?;
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (inner, after) = rest.split_once(']').ok_or(AuthorityError::BadIpv6)?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(port),
                None if after.is_empty() => None,
                None => return Err(AuthorityError::BadIpv6),
            };
            (parse_ipv6(inner)?, port)
        } else {
            let (host, port) = match text.split_once(':') {
                // A second colon means IPv6 without brackets: where the port starts is a guess.
                Some((_, port)) if port.contains(':') => return Err(AuthorityError::BadIpv6),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            (parse_name_or_ipv4(host)?, port)
        };
        let port = match port {
            Some(digits) => parse_port(digits)?,
            None => default_port.filter(|port| *port != 0).ok_or(AuthorityError::NoPort)?,
        };
        Ok(Self { host, port })
    }

    /// Joins a host that is already canonical and a port.
    ///
    /// # Errors
    /// [`AuthorityError::BadPort`] for port 0.
    pub fn new(host: Host, port: u16) -> Result<Self, AuthorityError> {
        if port == 0 { Err(AuthorityError::BadPort) } else { Ok(Self { host, port }) }
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, 1–65535.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As a `Host` header writes it: without the port where it is the default of the scheme.
    #[must_use]
    pub fn host_header(&self, default_port: u16) -> String {
        let mut text = self.host.to_text().into_owned();
        if self.port != default_port {
            text.push(':');
            text.push_str(&self.port.to_string());
        }
        text
    }

    /// Whether `text` is what [`Authority::host_header`] writes.
    #[must_use]
    pub fn is_host_header(&self, text: &str, default_port: u16) -> bool {
        match text.strip_prefix(&*self.host.to_text()) {
            Some("") => self.port == default_port,
            Some(rest) => {
                let port = rest.strip_prefix(':').and_then(|digits| parse_port(digits).ok());
                self.port != default_port && port == Some(self.port)
            }
            None => false,
        }
    }
}

fn check_characters(text: &str) -> Result<(), AuthorityError> {
    if text.is_empty() {
        return Err(AuthorityError::Empty);
    }
    if text.len() > AUTHORITY_TEXT_BYTES_MAX {
        return Err(AuthorityError::TooLong);
    }
    for byte in text.bytes() {
        match byte {
            // Refused before any mapping: a NUL once ended the name for the dialer but not for the matcher.
            0..=0x20 | 0x7f => return Err(AuthorityError::BadCharacter),
            b'@' => return Err(AuthorityError::UserInfo),
            b'%' => return Err(AuthorityError::Percent),
            _ => {}
        }
    }
    Ok(())
}

/// RFC 3986 §3.2.3 `*DIGIT`. Stricter: not empty, no leading zero, no 0.
fn parse_port(digits: &str) -> Result<u16, AuthorityError> {
    let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().map_err(|_| AuthorityError::BadPort) } else { Err(AuthorityError::BadPort) }
}

fn parse_ipv6(inner: &str) -> Result<Host, AuthorityError> {
    let ip: Ipv6Addr = inner.parse().map_err(|_| AuthorityError::BadIpv6)?;
    Ok(Host::from_ip(IpAddr::V6(ip)))
}

fn parse_name_or_ipv4(text: &str) -> Result<Host, AuthorityError> {
    let mapped = if is_plain_ascii_name(text) {
        Cow::Borrowed(text)
    } else {
        let mapped = Uts46::new()
            .to_ascii(text.as_bytes(), AsciiDenyList::URL, Hyphens::CheckFirstLast, DnsLength::Ignore)
            .map_err(|_| AuthorityError::BadName)?;
        refuse_unassigned(&mapped)?;
        mapped
    };
    // One dot, after mapping: U+3002 and U+FF0E are dots too.
    let name = mapped.strip_suffix('.').unwrap_or(&mapped);
    check_labels(name)?;
    if ends_in_number(name) {
        let ip: Ipv4Addr = name.parse().map_err(|_| AuthorityError::BadIpv4)?;
        return Ok(Host::Ip(IpAddr::V4(ip)));
    }
    Ok(Host::Name(HostName(Arc::from(name))))
}

/// The library's tables take some code points from plane 3 on that UTS 46 forbids since they are not assigned.
/// The few ideographs that are there are in no host name.
fn refuse_unassigned(name: &str) -> Result<(), AuthorityError> {
    let (unicode, _) = Uts46::new().to_unicode(name.as_bytes(), AsciiDenyList::URL, Hyphens::CheckFirstLast);
    if unicode.chars().any(|c| c >= '\u{30000}') { Err(AuthorityError::BadName) } else { Ok(()) }
}

/// Names that UTS 46 maps to themselves: the common case, without its tables.
fn is_plain_ascii_name(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
        && !labels(text).any(|label| label.starts_with(b"xn--"))
}

/// As bytes: names are short, and a search made for long texts costs more than it saves.
fn labels(name: &str) -> impl DoubleEndedIterator<Item = &[u8]> {
    name.as_bytes().split(|byte| *byte == b'.')
}

fn check_labels(name: &str) -> Result<(), AuthorityError> {
    if name.is_empty() {
        return Err(AuthorityError::Empty);
    }
    if name.len() > HOST_NAME_BYTES_MAX {
        return Err(AuthorityError::TooLong);
    }
    for label in labels(name) {
        if label.is_empty() {
            return Err(AuthorityError::EmptyLabel);
        }
        if label.len() > HOST_LABEL_BYTES_MAX {
            return Err(AuthorityError::TooLong);
        }
        // Stricter than WHATWG: letters, digits, hyphen inside, underscore. No resolver or certificate
        // has use for more, and each further byte is one that some other parser reads differently.
        let ldh = label.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        // UTS 46 V4: what a label decodes to must not look encoded itself.
        let nested = label.starts_with(b"xn--xn--");
        if !ldh || nested || label.starts_with(b"-") || label.ends_with(b"-") {
            return Err(AuthorityError::BadName);
        }
    }
    Ok(())
}

/// WHATWG "ends in a number": the last label is decimal, or `0x` and hexadecimal digits.
fn ends_in_number(name: &str) -> bool {
    let last = labels(name).next_back().unwrap_or_default();
    match last.strip_prefix(b"0x") {
        Some(hex) => hex.iter().all(u8::is_ascii_hexdigit),
        None => last.iter().all(u8::is_ascii_digit),
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Host {
    /// IPv6 in brackets, as an authority needs it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({self})")
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_header_is_known_by_its_text() {
        let names = [
            "a.example",
            "a.example.",
            "A.example",
            "192.0.2.1",
            "[2001:db8::1]",
            "[2001:DB8::1]",
            "b.a.example",
        ];
        let ports = ["", ":443", ":80", ":0443", ":8443", ":", ":+443"];
        let texts = || names.iter().flat_map(|name| ports.map(|port| format!("{name}{port}")));
        for authority in texts().filter_map(|text| Authority::parse(&text, Some(443)).ok()) {
            for text in texts() {
                let ours = authority.host_header(443) == text;
                assert_eq!(authority.is_host_header(&text, 443), ours, "{text} for {authority}");
            }
        }
    }
}
