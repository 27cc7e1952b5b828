//! What is known about one attempt to reach something, borrowed from whoever parsed it.
//! Never normalises: text that is not canonical is refused by [`decide`](crate::decide) with its own cause.

use std::fmt;
use std::net::IpAddr;

use crate::canonical::{self, Fault, PathReading};

/// Where an attempt goes: a name or a literal address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Host<'a> {
    /// Lower-case A-labels (UTS 46) without a trailing dot.
    Name(&'a str),
    /// A literal address; IPv4 inside IPv6 must have been unwrapped.
    Ip(IpAddr),
}

/// What is spoken with the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// HTTP over TLS.
    Https,
    /// HTTP in clear text.
    Http,
    /// WebSocket over TLS.
    Wss,
    /// WebSocket in clear text.
    Ws,
    /// Bytes that nobody understands.
    Tcp,
}

/// At which point of an attempt the question is asked. The later, the more is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// A name is to be resolved: only the name is known.
    Dns,
    /// A tunnel is to be opened: host and port are known. What passes through it is asked about again.
    Connect,
    /// One request: all is known.
    Http,
    /// A tunnel carries bytes that are neither TLS nor HTTP; there will be no later question.
    Tcp,
}

/// One attempt. Made by a constructor per [`Layer`], so that no layer lacks what it must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Facts<'a> {
    host: Host<'a>,
    port: Option<u16>,
    scheme: Option<Scheme>,
    method: Option<&'a str>,
    path: Option<&'a str>,
    query: Option<&'a str>,
    now: Option<i64>,
    decision_id: Option<u128>,
    layer: Layer,
}

impl Scheme {
    /// All five.
    pub const ALL: [Self; 5] = [Self::Https, Self::Http, Self::Wss, Self::Ws, Self::Tcp];

    /// As in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Wss => "wss",
            Self::Ws => "ws",
            Self::Tcp => "tcp",
        }
    }

    /// The port a URL of this scheme means when it names none; `tcp` has none.
    #[must_use]
    pub fn default_port(self) -> Option<u16> {
        match self {
            Self::Https | Self::Wss => Some(443),
            Self::Http | Self::Ws => Some(80),
            Self::Tcp => None,
        }
    }
}

impl<'a> Facts<'a> {
    /// A name is to be resolved. Allowed if a rule allows the name on any port.
    #[must_use]
    pub fn dns(name: &'a str) -> Self {
        Self::new(Host::Name(name), None, Layer::Dns)
    }

    /// A tunnel to `host:port` is to be opened (CONNECT, SOCKS, transparent TCP), before its first byte.
    #[must_use]
    pub fn connect(host: Host<'a>, port: u16) -> Self {
        Self::new(host, Some(port), Layer::Connect)
    }

    /// Raw bytes to `host:port`: the tunnel turned out to be neither TLS nor HTTP.
    #[must_use]
    pub fn tcp(host: Host<'a>, port: u16) -> Self {
        Self { scheme: Some(Scheme::Tcp), ..Self::new(host, Some(port), Layer::Tcp) }
    }

    /// One request. `path` is canonical and without query; a WebSocket handshake has scheme `ws` or `wss`
    /// and method `GET`, also over HTTP/2 (RFC 8441). Its query is not known until [`Facts::with_query`]
    /// tells it: until then no allow rule with `query` matches, and every such deny rule does.
    #[must_use]
    pub fn http(scheme: Scheme, host: Host<'a>, port: u16, method: &'a str, path: &'a str) -> Self {
        let scheme = Some(scheme);
        let base = Self::new(host, Some(port), Layer::Http);
        Self { scheme, method: Some(method), path: Some(path), ..base }
    }

    fn new(host: Host<'a>, port: Option<u16>, layer: Layer) -> Self {
        let (scheme, method, path, query, now, decision_id) = (None, None, None, None, None, None);
        Self { host, port, scheme, method, path, query, now, decision_id, layer }
    }

    /// Narrows a tunnel's question once its first bytes show what it carries.
    #[must_use]
    pub fn with_scheme(mut self, scheme: Scheme) -> Self {
        self.scheme = Some(scheme);
        self
    }

    /// Tells the query, as sent, without its `?`; `""` where there is none.
    #[must_use]
    pub fn with_query(mut self, query: &'a str) -> Self {
        self.query = Some(query);
        self
    }

    /// Tells the time, in seconds since 1970-01-01T00:00:00Z. Without it no rule with `expires` allows
    /// anything: this crate reads no clock.
    #[must_use]
    pub fn at(mut self, now: i64) -> Self {
        self.now = Some(now);
        self
    }

    /// The name that the verdict shall carry, so that answer, log and question can be brought together.
    #[must_use]
    pub fn with_decision_id(mut self, id: u128) -> Self {
        self.decision_id = Some(id);
        self
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> Host<'a> {
        self.host
    }

    /// The port, 1–65535; unknown at the DNS layer.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The scheme, where it is known.
    #[must_use]
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// The method, at the HTTP layer.
    #[must_use]
    pub fn method(&self) -> Option<&'a str> {
        self.method
    }

    /// The path, at the HTTP layer.
    #[must_use]
    pub fn path(&self) -> Option<&'a str> {
        self.path
    }

    /// The query, where it is known.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The time, where it is known; seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn now(&self) -> Option<i64> {
        self.now
    }

    /// What [`Facts::with_decision_id`] was given.
    #[must_use]
    pub fn decision_id(&self) -> Option<u128> {
        self.decision_id
    }

    /// When the question is asked.
    #[must_use]
    pub fn layer(&self) -> Layer {
        self.layer
    }

    /// Whether all of it is canonical.
    ///
    /// # Errors
    /// The first [`Fault`], in the order host, port, method, path.
    pub fn check(&self) -> Result<(), Fault> {
        self.reading().map(|_| ())
    }

    pub(crate) fn reading(&self) -> Result<PathReading, Fault> {
        match self.host {
            Host::Name(name) => canonical::check_host_name(name)?,
            Host::Ip(ip) => check_ip(ip)?,
        }
        if self.port == Some(0) {
            return Err(Fault::Port);
        }
        let Some(method) = self.method else { return Ok(PathReading::Plain) };
        canonical::check_method(method)?;
        self.path.map_or(Ok(PathReading::Plain), |path| canonical::check_path(path, method))
    }
}

/// IPv4 has one spelling for every rule: `127.0.0.0/8` must also mean `::ffff:127.0.0.1`.
pub(crate) fn check_ip(ip: IpAddr) -> Result<(), Fault> {
    if ip.to_canonical() == ip { Ok(()) } else { Err(Fault::HostMapped) }
}

impl From<IpAddr> for Host<'_> {
    /// Unwraps IPv4 inside IPv6.
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip.to_canonical())
    }
}

impl fmt::Display for Host<'_> {
    /// IPv6 in brackets; bytes that a terminal would obey are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.escape_debug().fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Facts<'_> {
    /// One line in the form that [`Facts::parse`] reads; hostile bytes are escaped, of a query only `?…` is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host;
        let port = self.port.unwrap_or(0);
        match (self.layer, self.scheme, self.method, self.path) {
            (Layer::Dns, ..) => write!(f, "DNS {host}"),
            (Layer::Connect, ..) => write!(f, "CONNECT {host}:{port}"),
            (Layer::Tcp, ..) => write!(f, "TCP {host}:{port}"),
            (Layer::Http, scheme, method, path) => {
                let scheme = scheme.unwrap_or(Scheme::Https);
                write!(f, "{} {scheme}://{host}", method.unwrap_or("").escape_debug())?;
                if scheme.default_port() != self.port {
                    write!(f, ":{port}")?;
                }
                path.unwrap_or("").escape_debug().fmt(f)?;
                match self.query {
                    // Values may be secrets: that there is a query is all that is shown.
                    Some(query) if !query.is_empty() => f.write_str("?…"),
                    _ => Ok(()),
                }
            }
        }
    }
}
