//! One rule: as it is written (in TOML or in code), and as it is matched.

use std::sync::Arc;

use crate::canonical::PathReading;
use crate::facts::{Facts, Host, Layer, Scheme};
use crate::pattern::{Cidr, HostPattern, PathPattern, PortSet, QueryKeys};
use crate::ruleset::Mode;
use crate::verdict::{Effect, Field, OnOpaque, RuleLimits, RuleRef, TlsMode};

/// A rule to be given to a [`RulesetBuilder`](crate::RulesetBuilder), with the keys of the file format as
/// methods. Values are checked when it is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub(crate) effect: Effect,
    pub(crate) id: Option<String>,
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) cidrs: Option<Vec<String>>,
    pub(crate) ports: Option<Vec<String>>,
    pub(crate) schemes: Option<Vec<String>>,
    pub(crate) methods: Option<Vec<String>>,
    pub(crate) paths: Option<Vec<String>>,
    pub(crate) query: Option<Vec<String>>,
    pub(crate) tls: Option<TlsMode>,
    pub(crate) tcp: bool,
    pub(crate) websocket: bool,
    pub(crate) credential: Option<String>,
    pub(crate) upstream: Option<String>,
    pub(crate) on_opaque: Option<OnOpaque>,
    pub(crate) limits: Option<RuleLimits>,
    pub(crate) write_capable: bool,
    pub(crate) expires: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) origin: Option<String>,
}

impl Rule {
    /// A rule that allows. Without further calls: https on port 443, any method, any path.
    #[must_use]
    pub fn allow() -> Self {
        Self::new(Effect::Allow)
    }

    /// A rule that denies. Without further calls: any port, any scheme, raw bytes too.
    #[must_use]
    pub fn deny() -> Self {
        Self::new(Effect::Deny)
    }

    pub(crate) fn new(effect: Effect) -> Self {
        Self {
            effect,
            id: None,
            hosts: None,
            cidrs: None,
            ports: None,
            schemes: None,
            methods: None,
            paths: None,
            query: None,
            tls: None,
            tcp: false,
            websocket: false,
            credential: None,
            upstream: None,
            on_opaque: None,
            limits: None,
            write_capable: false,
            expires: None,
            reason: None,
            origin: None,
        }
    }

    /// Its name; else `allow-1`, `deny-2`… by its place.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// One host more: `api.example.com`, `*.example.com`, `**.example.com` or `**`.
    #[must_use]
    pub fn host(mut self, pattern: impl Into<String>) -> Self {
        self.hosts.get_or_insert_default().push(pattern.into());
        self
    }

    /// One network more, as `127.0.0.0/8`.
    #[must_use]
    pub fn cidr(mut self, network: impl Into<String>) -> Self {
        self.cidrs.get_or_insert_default().push(network.into());
        self
    }

    /// One port more.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.ports.get_or_insert_default().push(port.to_string());
        self
    }

    /// All ports.
    #[must_use]
    pub fn any_port(mut self) -> Self {
        self.ports = Some(vec!["any".to_owned()]);
        self
    }

    /// One scheme more: `https` or `http`. The first one replaces the default.
    #[must_use]
    pub fn scheme(mut self, scheme: impl Into<String>) -> Self {
        self.schemes.get_or_insert_default().push(scheme.into());
        self
    }

    /// One method more, in upper case.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.methods.get_or_insert_default().push(method.into());
        self
    }

    /// One path glob more.
    #[must_use]
    pub fn path(mut self, glob: impl Into<String>) -> Self {
        self.paths.get_or_insert_default().push(glob.into());
        self
    }

    /// One query key more. In a rule that allows, a request may have no others.
    #[must_use]
    pub fn query_key(mut self, key: impl Into<String>) -> Self {
        self.query.get_or_insert_default().push(key.into());
        self
    }

    /// No query at all; for rules that allow.
    #[must_use]
    pub fn no_query(mut self) -> Self {
        self.query = Some(Vec::new());
        self
    }

    /// Until when it allows, as RFC 3339 date-time with an offset.
    #[must_use]
    pub fn expires(mut self, time: impl Into<String>) -> Self {
        self.expires = Some(time.into());
        self
    }

    /// The name of the proxy through which matching requests leave.
    #[must_use]
    pub fn upstream(mut self, name: impl Into<String>) -> Self {
        self.upstream = Some(name.into());
        self
    }

    /// What becomes of a response that cannot be decoded to look for secrets.
    #[must_use]
    pub fn on_opaque(mut self, what: OnOpaque) -> Self {
        self.on_opaque = Some(what);
        self
    }

    /// How much may pass.
    #[must_use]
    pub fn limits(mut self, limits: RuleLimits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// How TLS is treated.
    #[must_use]
    pub fn tls(mut self, tls: TlsMode) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Raw bytes.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// WebSockets too.
    #[must_use]
    pub fn websocket(mut self) -> Self {
        self.websocket = true;
        self
    }

    /// The credential to put into matching requests.
    #[must_use]
    pub fn credential(mut self, name: impl Into<String>) -> Self {
        self.credential = Some(name.into());
        self
    }

    /// Labels it: what is sent there could be read by others. Changes no decision.
    #[must_use]
    pub fn write_capable(mut self) -> Self {
        self.write_capable = true;
        self
    }

    /// Shown with the verdict.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// What stands for the file in verdicts and errors, as `--secret OPENAI@api.openai.com`.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }
}

/// A set of [`Scheme`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SchemeSet(u8);

impl SchemeSet {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self(0b1_1111);
    pub(crate) const WEBSOCKETS: Self = Self(0b0_1100);

    fn bit(scheme: Scheme) -> u8 {
        match scheme {
            Scheme::Https => 1,
            Scheme::Http => 2,
            Scheme::Wss => 4,
            Scheme::Ws => 8,
            Scheme::Tcp => 16,
        }
    }

    pub(crate) fn with(self, scheme: Scheme) -> Self {
        Self(self.0 | Self::bit(scheme))
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn contains(self, scheme: Scheme) -> bool {
        self.0 & Self::bit(scheme) != 0
    }

    /// The WebSocket schemes of the HTTP schemes in it, added.
    pub(crate) fn with_websockets(self) -> Self {
        Self(self.0 | (self.0 & 0b11) << 2)
    }
}

/// A rule ready to be matched.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    pub(crate) id: Box<str>,
    pub(crate) effect: Effect,
    pub(crate) file: Arc<str>,
    pub(crate) layer: Arc<str>,
    /// 0 for a rule that grants; else 1 more than the number of the ceiling it belongs to.
    pub(crate) ceiling: u8,
    /// Of its layer.
    pub(crate) mode: Mode,
    pub(crate) line: u32,
    pub(crate) reason: Option<Box<str>>,
    pub(crate) write_capable: bool,
    pub(crate) hosts: Box<[HostPattern]>,
    pub(crate) cidrs: Box<[Cidr]>,
    pub(crate) ports: PortSet,
    pub(crate) schemes: SchemeSet,
    pub(crate) methods: Option<Box<[Box<str>]>>,
    pub(crate) paths: Option<Box<[PathPattern]>>,
    pub(crate) query: Option<QueryKeys>,
    /// Seconds since 1970; only in rules that allow.
    pub(crate) expires: Option<i64>,
    pub(crate) tls: TlsMode,
    pub(crate) credential: Option<Box<str>>,
    pub(crate) upstream: Option<Box<str>>,
    pub(crate) on_opaque: OnOpaque,
    pub(crate) limits: RuleLimits,
}

/// How a rule's conditions stand to facts whose host it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// All hold.
    Yes,
    /// None fails, but some concern what is not known yet.
    Perhaps,
    /// The first that fails.
    No(Field),
}

impl Compiled {
    pub(crate) fn reference(&self) -> RuleRef<'_> {
        RuleRef {
            id: &self.id,
            effect: self.effect,
            file: &self.file,
            line: self.line,
            layer: &self.layer,
            reason: self.reason.as_deref(),
            write_capable: self.write_capable,
        }
    }

    /// All conditions but host and address.
    pub(crate) fn fit(&self, facts: &Facts<'_>, reading: PathReading) -> Fit {
        let mut fit = Fit::Yes;
        match facts.port() {
            Some(port) if !self.ports.contains(port) => return Fit::No(Field::Port),
            None if self.ports != PortSet::Any => fit = Fit::Perhaps,
            _ => {}
        }
        match facts.scheme() {
            Some(scheme) if !self.schemes.contains(scheme) => return Fit::No(Field::Scheme),
            None if self.schemes != SchemeSet::ALL => fit = Fit::Perhaps,
            _ => {}
        }
        if let Some(methods) = &self.methods {
            match facts.method() {
                Some(method) if !methods.iter().any(|known| &**known == method) => {
                    return Fit::No(Field::Method);
                }
                Some(_) => {}
                None => fit = Fit::Perhaps,
            }
        }
        if let Some(paths) = &self.paths {
            match facts.path() {
                Some(path) if !self.path_matches(paths, path, reading) => return Fit::No(Field::Path),
                Some(_) => {}
                None => fit = Fit::Perhaps,
            }
        }
        if let Some(keys) = &self.query {
            match (facts.query(), facts.layer()) {
                (Some(query), _) if !keys.matches(query) => return Fit::No(Field::Query),
                (Some(_), _) => {}
                // Nobody will ask again: what was not told is the worst it could be.
                (None, Layer::Http) if self.effect == Effect::Allow => return Fit::No(Field::Query),
                (None, Layer::Http) => {}
                (None, _) => fit = Fit::Perhaps,
            }
        }
        match self.expires {
            Some(end) if facts.now().is_none_or(|now| now >= end) => Fit::No(Field::Expires),
            _ => fit,
        }
    }

    /// Where servers differ on what a path means, it is the worst: not allowed, and denied.
    fn path_matches(&self, paths: &[PathPattern], path: &str, reading: PathReading) -> bool {
        match reading {
            PathReading::Ambiguous => self.effect == Effect::Deny,
            PathReading::Plain => paths.iter().any(|pattern| pattern.matches(path)),
        }
    }

    /// Whether one of its host patterns matches; an address has no name.
    pub(crate) fn names(&self, host: Host<'_>) -> bool {
        matches!(host, Host::Name(name) if self.hosts.iter().any(|pattern| pattern.matches(name)))
    }

    /// How many kinds of conditions it has, for choosing among rules that all match.
    pub(crate) fn condition_count(&self) -> u8 {
        u8::from(self.methods.is_some()) + u8::from(self.paths.is_some()) + u8::from(self.query.is_some())
    }
}
