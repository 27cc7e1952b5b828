//! Facts from one line of text, for `[[test]]` blocks and for a person who asks "would this pass?".
//! Splits only: what it hands on is judged by the same check as facts from the network, never repaired.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::facts::{Facts, Host, Scheme};

/// Why a line is not a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No space between the two halves.
    #[error("write a method and a URL, as in \"GET https://api.example.com/v1/models\"")]
    NoTarget,
    /// Not one of the five schemes, or `tcp`, which is asked for with `TCP host:port`.
    #[error("the URL must start with https://, http://, wss:// or ws://")]
    Scheme,
    /// Port not in 1–65535.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// CONNECT and TCP have no default port.
    #[error("write the port, as in \"CONNECT db.example.com:5432\"")]
    NoPort,
    /// `[…]` that does not hold an IPv6 address.
    #[error("an IPv6 address must stand in brackets, as in https://[2001:db8::1]/")]
    Ipv6,
}

impl<'a> Facts<'a> {
    /// Reads `METHOD URL`, `CONNECT host:port`, `TCP host:port` or `DNS name`. No path means
    /// `/`, no port means the scheme's own, no `?` means that there is no query.
    ///
    /// # Errors
    /// [`RequestError`] where the line has no such form. Host, method and path are not checked here.
    pub fn parse(line: &'a str) -> Result<Self, RequestError> {
        let (method, target) = line.trim().split_once(' ').ok_or(RequestError::NoTarget)?;
        match method {
            "DNS" => Ok(Self::dns(target)),
            "CONNECT" | "TCP" => {
                let (host, port) = split_port(target)?;
                let port = port.ok_or(RequestError::NoPort)?;
                Ok(if method == "TCP" { Self::tcp(host, port) } else { Self::connect(host, port) })
            }
            _ => parse_url(method, target),
        }
    }
}

fn parse_url<'a>(method: &'a str, url: &'a str) -> Result<Facts<'a>, RequestError> {
    let (scheme, rest) = url.split_once("://").ok_or(RequestError::Scheme)?;
    let scheme =
        Scheme::ALL.into_iter().find(|known| known.as_str() == scheme).ok_or(RequestError::Scheme)?;
    let default_port = scheme.default_port().ok_or(RequestError::Scheme)?;
    let rest = rest.split('#').next().unwrap_or(rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match rest.find('/').and_then(|at| rest.split_at_checked(at)) {
        Some(parts) => parts,
        None => (rest, "/"),
    };
    let (host, port) = split_port(authority)?;
    Ok(Facts::http(scheme, host, port.unwrap_or(default_port), method, path).with_query(query))
}

fn split_port(authority: &str) -> Result<(Host<'_>, Option<u16>), RequestError> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (inner, after) = rest.split_once(']').ok_or(RequestError::Ipv6)?;
        let ip: Ipv6Addr = inner.parse().map_err(|_| RequestError::Ipv6)?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return Err(RequestError::Ipv6),
        };
        (Host::Ip(IpAddr::V6(ip)), port)
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(RequestError::Ipv6),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        (host.parse::<Ipv4Addr>().map_or(Host::Name(host), |ip| Host::Ip(IpAddr::V4(ip))), port)
    };
    Ok((host, port.map(parse_port).transpose()?))
}

/// Plain digits: the standard parser would also take a sign.
fn parse_port(digits: &str) -> Result<u16, RequestError> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = if plain { digits.parse().ok() } else { None };
    port.filter(|port| *port != 0).ok_or(RequestError::Port)
}
