//! Upstream proxies, as company networks have them: reached and asked here, chosen by the rule that allows a
//! connection. What they carry is the same as without them: TLS to the upstream ends in this process or in the
//! client, never in the proxy.
//!
//! Credentials are never shown, and are wiped from memory when they are done with.

use std::fmt;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::authority::{Authority, AuthorityError, Host};
use crate::limits::{UPSTREAM_PROXY_HEAD_BYTES_MAX, UPSTREAM_PROXY_INTERIM_MAX};
use crate::wire::proxy_reply::{
    BadReply, Parsed, http_status_at_end, socks_method, socks_password, socks_reply,
};

/// A proxy between this one and the world.
pub struct UpstreamProxy {
    protocol: Protocol,
    authority: Authority,
    credentials: Option<ProxyCredentials>,
    remote_names: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    HttpConnect,
    Socks5,
}

/// A user name and a password for an upstream proxy.
pub struct ProxyCredentials {
    user: Zeroizing<String>,
    password: Zeroizing<String>,
}

/// An upstream proxy that cannot be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamProxyError {
    /// Neither `http://`, `socks5://` nor `socks5h://`.
    #[error("write an upstream proxy as http://[USER:PASSWORD@]HOST:PORT, or with socks5:// or socks5h://")]
    Scheme,
    /// Host or port.
    #[error("the upstream proxy's place is not usable: {0}")]
    Authority(#[from] AuthorityError),
    /// Empty, too long, or with bytes that cannot be sent.
    #[error(
        "the upstream proxy's user name or password is empty, longer than 255 bytes or has control characters"
    )]
    Credentials,
}

impl ProxyCredentials {
    /// Both are copied; the caller's are the caller's to wipe.
    ///
    /// # Errors
    /// An empty user name, one with a colon (RFC 7617 §2), more than 255 bytes (RFC 1929 §2) or control characters.
    pub fn new(user: &str, password: &str) -> Result<Self, UpstreamProxyError> {
        let sendable = |text: &str| text.len() <= 255 && !text.chars().any(char::is_control);
        if user.is_empty() || user.contains(':') || !sendable(user) || !sendable(password) {
            return Err(UpstreamProxyError::Credentials);
        }
        Ok(Self { user: Zeroizing::new(user.to_owned()), password: Zeroizing::new(password.to_owned()) })
    }
}

impl UpstreamProxy {
    /// One that is asked with `CONNECT`, for plain http too, and with Basic authentication (RFC 7617).
    #[must_use]
    pub fn http_connect(authority: Authority, credentials: Option<ProxyCredentials>) -> Self {
        Self { protocol: Protocol::HttpConnect, authority, credentials, remote_names: false }
    }

    /// One that speaks SOCKS5 (RFC 1928, RFC 1929).
    #[must_use]
    pub fn socks5(authority: Authority, credentials: Option<ProxyCredentials>) -> Self {
        Self { protocol: Protocol::Socks5, authority, credentials, remote_names: false }
    }

    /// Sends host names and lets the proxy resolve them, for networks where only it can. Then nobody here can judge
    /// the addresses of a name: private ones are the proxy's to refuse. Literal addresses are judged all the same.
    /// Default: a name is resolved and judged here, and its address is sent.
    #[must_use]
    pub fn with_remote_names(mut self) -> Self {
        self.remote_names = true;
        self
    }

    /// From a URL: `http://[USER:PASSWORD@]HOST:PORT`, `socks5://…`, or `socks5h://…` for remote names. User and
    /// password may be percent-encoded.
    ///
    /// # Errors
    /// [`UpstreamProxyError`].
    pub fn parse(url: &str) -> Result<Self, UpstreamProxyError> {
        let (scheme, rest) = url.split_once("://").ok_or(UpstreamProxyError::Scheme)?;
        let (protocol, remote_names) = match scheme {
            "http" => (Protocol::HttpConnect, false),
            "socks5" => (Protocol::Socks5, false),
            "socks5h" => (Protocol::Socks5, true),
            _ => return Err(UpstreamProxyError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, place) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((user_info, place)) => {
                let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
                (Some(ProxyCredentials::new(&decode(user)?, &decode(password)?)?), place)
            }
        };
        let authority = Authority::parse(place, None)?;
        Ok(Self { protocol, authority, credentials, remote_names })
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn sends_names(&self) -> bool {
        self.remote_names
    }

    /// Asks the proxy, over a connection to it, for a connection to `target`.
    pub(crate) async fn ask<S>(&self, stream: &mut S, target: &Authority) -> Result<(), ProxyFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.protocol {
            Protocol::HttpConnect => self.ask_http(stream, target).await,
            Protocol::Socks5 => self.ask_socks(stream, target).await,
        }
    }

    async fn ask_http<S>(&self, stream: &mut S, target: &Authority) -> Result<(), ProxyFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut head = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
        if let Some(credentials) = &self.credentials {
            let pair =
                Zeroizing::new(format!("{}:{}", credentials.user.as_str(), credentials.password.as_str()));
            // Room first: growing would leave copies behind.
            head.reserve_exact(pair.len().saturating_mul(2).saturating_add(64));
            head.push_str("Proxy-Authorization: Basic ");
            push_base64(&mut head, pair.as_bytes());
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        send(stream, head.as_bytes()).await?;
        for _ in 0..UPSTREAM_PROXY_INTERIM_MAX {
            match read(stream, http_status_at_end).await? {
                100..=199 => {}
                200..=299 => return Ok(()),
                status => return Err(ProxyFailure::Status(status)),
            }
        }
        Err(ProxyFailure::Bad(BadReply::NotHttp))
    }

    async fn ask_socks<S>(&self, stream: &mut S, target: &Authority) -> Result<(), ProxyFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let offer: &[u8] = if self.credentials.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
        send(stream, offer).await?;
        match (read(stream, socks_method).await?, &self.credentials) {
            (0, _) => {}
            (2, Some(credentials)) => {
                let mut message = Zeroizing::new(Vec::with_capacity(3 + 2 * 255));
                message.push(1);
                push_counted(&mut message, credentials.user.as_bytes());
                push_counted(&mut message, credentials.password.as_bytes());
                send(stream, &message).await?;
                if read(stream, socks_password).await? != 0 {
                    return Err(ProxyFailure::Credentials);
                }
            }
            _ => return Err(ProxyFailure::Credentials),
        }
        let mut request = vec![5, 1, 0];
        match target.host() {
            Host::Ip(std::net::IpAddr::V4(ip)) => {
                request.push(1);
                request.extend(ip.octets());
            }
            Host::Ip(std::net::IpAddr::V6(ip)) => {
                request.push(4);
                request.extend(ip.octets());
            }
            Host::Name(name) => {
                request.push(3);
                push_counted(&mut request, name.as_str().as_bytes());
            }
        }
        request.extend(target.port().to_be_bytes());
        send(stream, &request).await?;
        match read(stream, socks_reply).await? {
            0 => Ok(()),
            code => Err(ProxyFailure::Reply(code)),
        }
    }
}

/// Why an upstream proxy does not connect us.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ProxyFailure {
    /// It closed or broke the connection.
    Gone,
    /// Its answer cannot be understood.
    Bad(BadReply),
    /// A status that is no success.
    Status(u16),
    /// It wants other credentials, or some.
    Credentials,
    /// A SOCKS5 reply that is no success.
    Reply(u8),
}

impl fmt::Display for ProxyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("it closed the connection"),
            Self::Bad(bad) => bad.fmt(f),
            Self::Status(407) | Self::Credentials => f.write_str("it does not accept our credentials"),
            Self::Status(403) | Self::Reply(2) => f.write_str("its rules do not allow this destination"),
            Self::Status(status) => write!(f, "it answered with status {status}"),
            Self::Reply(3..=6) => f.write_str("it cannot reach the destination"),
            Self::Reply(code) => write!(f, "it answered with SOCKS5 reply {code}"),
        }
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<(), ProxyFailure> {
    let sent = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    sent.await.map_err(|_: std::io::Error| ProxyFailure::Gone)
}

/// Byte by byte: what follows the answer is the destination's, and must stay in the stream.
async fn read<S, T>(stream: &mut S, parse: impl Fn(&[u8]) -> Parsed<T>) -> Result<T, ProxyFailure>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = Vec::new();
    while bytes.len() < UPSTREAM_PROXY_HEAD_BYTES_MAX {
        bytes.push(stream.read_u8().await.map_err(|_| ProxyFailure::Gone)?);
        if let Some((answer, _)) = parse(&bytes).map_err(ProxyFailure::Bad)? {
            return Ok(answer);
        }
    }
    Err(ProxyFailure::Bad(BadReply::TooLarge))
}

/// At most 255 bytes, which callers have checked.
fn push_counted(message: &mut Vec<u8>, text: &[u8]) {
    message.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    message.extend(text.iter().take(255));
}

/// RFC 4648 §4.
fn push_base64(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte))
            << (8 * 3usize.saturating_sub(group.len()));
        for place in 0..4usize {
            let digit = usize::try_from((bits >> (18usize.saturating_sub(6 * place))) & 63).unwrap_or(0);
            let digit = if place > group.len() { b'=' } else { DIGITS.get(digit).copied().unwrap_or(b'=') };
            out.push(char::from(digit));
        }
    }
}

fn decode(text: &str) -> Result<Zeroizing<String>, UpstreamProxyError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(UpstreamProxyError::Credentials) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| UpstreamProxyError::Credentials)?);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| UpstreamProxyError::Credentials)?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("\u{ff}", "w78="),
        ] {
            let mut out = String::new();
            push_base64(&mut out, text.as_bytes());
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn urls_are_read_or_refused() {
        for (url, expected) in [
            ("http://proxy.example:3128", Ok(("proxy.example:3128", None, false))),
            ("http://u:p%40s%3A@proxy.example:3128/", Ok(("proxy.example:3128", Some(("u", "p@s:")), false))),
            ("socks5://10.0.0.1:1080", Ok(("10.0.0.1:1080", None, false))),
            ("socks5h://u@[fd00::1]:1080", Ok(("[fd00::1]:1080", Some(("u", "")), true))),
            ("https://proxy.example:3128", Err(UpstreamProxyError::Scheme)),
            ("proxy.example:3128", Err(UpstreamProxyError::Scheme)),
            ("ftp://proxy.example", Err(UpstreamProxyError::Scheme)),
            ("ftp://:p@proxy.example", Err(UpstreamProxyError::Scheme)),
            ("http://proxy.example", Err(UpstreamProxyError::Authority(AuthorityError::NoPort))),
            ("http://:p@proxy.example:1", Err(UpstreamProxyError::Credentials)),
            ("http://u%0a:p@proxy.example:1", Err(UpstreamProxyError::Credentials)),
            ("http://u%zz:p@proxy.example:1", Err(UpstreamProxyError::Credentials)),
        ] {
            match (UpstreamProxy::parse(url), expected) {
                (Ok(proxy), Ok((place, credentials, remote))) => {
                    assert_eq!((proxy.authority.to_string().as_str(), proxy.remote_names), (place, remote));
                    let got = proxy.credentials.as_ref().map(|c| (c.user.as_str(), c.password.as_str()));
                    assert_eq!(got, credentials, "{url}");
                }
                (got, expected) => assert_eq!(got.err(), expected.err(), "{url}"),
            }
        }
        let long = |n| ProxyCredentials::new(&"u".repeat(n), "p").err();
        assert_eq!((long(255), long(256)), (None, Some(UpstreamProxyError::Credentials)));
    }
}
