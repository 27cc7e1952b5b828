//! What a hook is told: values that were parsed and made canonical.

use std::net::IpAddr;

use super::Allow;
use crate::authority::{Authority, Host, HostName};
use crate::id::DecisionId;

/// How a request reaches its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// 80 or 443.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A connection (`CONNECT`, SOCKS, transparent), before anything inside it is known.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ConnectFacts<'a> {
    /// Where to.
    pub authority: &'a Authority,
}

impl<'a> ConnectFacts<'a> {
    /// For tests of an [`Authorize`](super::Authorize).
    #[must_use]
    pub fn to(authority: &'a Authority) -> Self {
        Self { authority }
    }
}

/// One request, in the form in which it will be sent.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RequestFacts<'a> {
    /// How it goes out.
    pub scheme: Scheme,
    /// Where to.
    pub authority: &'a Authority,
    /// The method, case kept.
    pub method: &'a str,
    /// The path in canonical form (see [`crate::wire::path`]); starts with `/`.
    pub path: &'a str,
    /// The query without its `?`, as sent.
    pub query: Option<&'a str>,
    /// It asks to become a WebSocket: allowed, it is a connection over which anything may be said both ways.
    /// Whoever decides must grant that on its own.
    pub websocket: bool,
}

/// One address that a name or literal leads to.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct AddressFacts<'a> {
    /// What was asked for.
    pub host: &'a Host,
    /// `None` for a DNS answer.
    pub port: Option<u16>,
    /// Canonical: IPv4 inside IPv6 is unwrapped.
    pub address: IpAddr,
    /// Whether it is in a special-purpose range, this machine's own, or on a link of this machine.
    pub special: bool,
}

impl<'a> AddressFacts<'a> {
    /// For tests of an [`Authorize`](super::Authorize): the proxy itself tells a special address by its ranges.
    #[must_use]
    pub fn new(host: &'a Host, port: Option<u16>, address: IpAddr, special: bool) -> Self {
        Self { host, port, address, special }
    }
}

/// What somebody is asked about: a refusal with [`Deny::may_ask`](super::Deny::may_ask).
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Miss<'a> {
    /// A request that waits to be sent.
    Request(RequestFacts<'a>),
    /// A connection with bytes that are neither TLS nor HTTP, not dialled yet.
    Tcp(ConnectFacts<'a>),
    /// A name, not looked up yet.
    Name(&'a HostName),
}

/// A request that was allowed: what the later hooks see.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Decided<'a> {
    /// The request, as it was judged.
    pub request: RequestFacts<'a>,
    /// The verdict.
    pub allow: &'a Allow,
    /// The id of the decision.
    pub decision_id: &'a DecisionId,
}
