//! What the embedder decides, each a small trait with a safe do-nothing: [`Authorize`] ([`DenyAll`]),
//! [`Ask`] ([`AskNobody`]), [`Inject`] ([`InjectNothing`]), [`Redact`] ([`RedactNothing`]), [`Audit`] ([`AuditNothing`]) and
//! [`Resolve`] ([`ResolveNothing`], [`StaticResolve`]). They are called per request, never per byte.
//!
//! A hook sees only values that were parsed and made canonical; it is never handed raw bytes of a head.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

mod body;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

pub use self::body::{BodyFilter, BodyRefused};
pub use crate::audit::Record;
use crate::authority::{Authority, Host, HostName};
use crate::id::DecisionId;
pub use crate::limits::RuleLimits;

/// The future that an asynchronous hook returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How a request reaches its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
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

/// What happens to the TLS of an allowed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Terminated with the sandbox's authority; every request inside is decided anew.
    #[default]
    Inspect,
    /// Passed through unread, after the `ClientHello` named the same host.
    Opaque,
}

/// What becomes of a response that must be searched for secrets and cannot be: in an unknown coding, or a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnOpaque {
    /// It is refused.
    #[default]
    Refuse,
    /// It passes unsearched, and its record says so; its headers and trailers are searched.
    Pass,
}

/// An allowed connection or request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allow {
    /// The rule that allows it; empty where it only passes since refusals are recorded (see [`Allow::decided_by`]).
    pub rule: Arc<str>,
    /// The name of the credential that the rule attaches, if any. A name, never a value.
    pub credential: Option<Arc<str>>,
    /// Only read for a connection.
    pub tls: TlsMode,
    /// The upstream proxy to go through, by the name it was registered with; `None` goes there directly.
    pub upstream: Option<Arc<str>>,
    /// Whether a pattern with a wildcard matched the host, and not the host's own name. Only read for a DNS name.
    pub wildcard: bool,
    /// How much the rule lets through.
    pub limits: RuleLimits,
    /// What becomes of a response that cannot be searched for secrets.
    pub on_opaque: OnOpaque,
    /// The refusal that is only recorded, where whoever decides rehearses.
    pub would_deny: Option<Arc<Deny>>,
    /// Which load of the policy decided, for the record.
    pub generation: Option<u64>,
    /// Whether no rule gives it, but the answer of [`Ask`]. Set by the proxy.
    pub(crate) asked: bool,
}

impl Allow {
    /// Allowed by `rule`, without a credential, TLS inspected.
    #[must_use]
    pub fn by(rule: impl Into<Arc<str>>) -> Self {
        Self {
            rule: rule.into(),
            credential: None,
            tls: TlsMode::Inspect,
            upstream: None,
            wildcard: false,
            limits: RuleLimits::default(),
            on_opaque: OnOpaque::Refuse,
            would_deny: None,
            generation: None,
            asked: false,
        }
    }

    /// Refused, but the refusal is only recorded, with verdict `would_deny`. No credential is put in, and whatever
    /// the proxy itself refuses (special-purpose addresses, malformed requests, misused placeholders) stays refused.
    #[must_use]
    pub fn rehearsing(deny: Deny) -> Self {
        let rule = deny.rule.clone().unwrap_or_else(|| Arc::from(""));
        Self { generation: deny.generation, would_deny: Some(Arc::new(deny)), ..Self::by(rule) }
    }

    /// By the policy of this load.
    #[must_use]
    pub fn of_generation(mut self, generation: u64) -> Self {
        self.generation = Some(generation);
        self
    }

    /// The rule that decided, allowing or refusing.
    #[must_use]
    pub fn decided_by(&self) -> Option<Arc<str>> {
        match &self.would_deny {
            Some(deny) => deny.rule.clone(),
            None => Some(Arc::clone(&self.rule)),
        }
    }

    /// With the credential of this name.
    #[must_use]
    pub fn with_credential(mut self, name: impl Into<Arc<str>>) -> Self {
        self.credential = Some(name.into());
        self
    }

    /// Through the upstream proxy of this name.
    #[must_use]
    pub fn via(mut self, name: impl Into<Arc<str>>) -> Self {
        self.upstream = Some(name.into());
        self
    }

    /// By a pattern with a wildcard, if `wildcard`.
    #[must_use]
    pub fn with_wildcard(mut self, wildcard: bool) -> Self {
        self.wildcard = wildcard;
        self
    }

    /// With limits of the rule's own.
    #[must_use]
    pub fn with_limits(mut self, limits: RuleLimits) -> Self {
        self.limits = limits;
        self
    }

    /// With responses that cannot be searched handled this way.
    #[must_use]
    pub fn with_on_opaque(mut self, on_opaque: OnOpaque) -> Self {
        self.on_opaque = on_opaque;
        self
    }

    /// With TLS handled this way.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsMode) -> Self {
        self.tls = tls;
        self
    }
}

/// A refused connection, request or name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deny {
    /// The rule that denies it; `None` if no rule allows it.
    pub rule: Option<Arc<str>>,
    /// One sentence for the client.
    pub reason: String,
    /// What to do about it, for the client; a general hint stands in for `None`.
    pub hint: Option<String>,
    /// Which load of the policy decided, for the record.
    pub generation: Option<u64>,
    /// Somebody may be asked about it: see [`Ask`].
    pub may_ask: bool,
}

impl Deny {
    /// No rule allows it.
    #[must_use]
    pub fn unmatched(reason: impl Into<String>) -> Self {
        Self { rule: None, reason: reason.into(), hint: None, generation: None, may_ask: false }
    }

    /// `rule` denies it.
    #[must_use]
    pub fn by(rule: impl Into<Arc<str>>, reason: impl Into<String>) -> Self {
        Self { rule: Some(rule.into()), reason: reason.into(), hint: None, generation: None, may_ask: false }
    }

    /// By the policy of this load.
    #[must_use]
    pub fn of_generation(mut self, generation: u64) -> Self {
        self.generation = Some(generation);
        self
    }

    /// Unless [`Ask`] says otherwise.
    #[must_use]
    pub fn unless_asked(mut self) -> Self {
        self.may_ask = true;
        self
    }

    /// With a hint for the client.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The answer of [`Authorize`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allow(Allow),
    /// Refuse.
    Deny(Deny),
}

impl From<Allow> for Verdict {
    fn from(allow: Allow) -> Self {
        Self::Allow(allow)
    }
}

impl From<Deny> for Verdict {
    fn from(deny: Deny) -> Self {
        Self::Deny(deny)
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
    /// For tests of an [`Authorize`].
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
    /// Whether it is in a special-purpose range.
    pub special: bool,
}

impl<'a> AddressFacts<'a> {
    /// For tests of an [`Authorize`]: the proxy itself tells a special address by its ranges.
    #[must_use]
    pub fn new(host: &'a Host, port: Option<u16>, address: IpAddr, special: bool) -> Self {
        Self { host, port, address, special }
    }
}

/// Decides. Called before any name is resolved and any address dialled.
pub trait Authorize: Send + Sync {
    /// May a connection to this authority be opened? Each request inside is asked again, if inspected.
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict;
    /// May this request be sent?
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict;
    /// May bytes that are neither TLS nor HTTP pass, unread, in both directions? Asked when a connection turns out
    /// to carry such bytes, or none until the server speaks. By default they may not.
    fn tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
        Deny::unmatched(format!("no rule allows other protocols to {}", facts.authority)).into()
    }
    /// May this name be resolved for the guest?
    fn dns_name(&self, name: &HostName) -> Verdict;
    /// May this address, to which an allowed name leads, be dialled? By default a public one may and a
    /// special one (loopback, private, …) may not.
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        !facts.special
    }
}

/// What somebody is asked about: a refusal with [`Deny::may_ask`].
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

/// Asks somebody about what no rule decides, while the request waits. [`Authorize`] stays a quick answer from what is
/// known; this may take as long as a person does. It is never asked about a connection as such: whoever wants to be
/// asked about what is inside lets [`Authorize::connect`] allow it, inspected; nothing is dialled for that.
pub trait Ask: Send + Sync {
    /// The verdict that replaces `deny`; `deny` itself where nobody says otherwise. Must end within a time of its own:
    /// a request waits, and with it a place among the client connections. Dropped if the client goes.
    fn ask<'a>(&'a self, miss: Miss<'a>, deny: Deny) -> BoxFuture<'a, Verdict>;
}

/// Refusals stay what they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct AskNobody;

impl Ask for AskNobody {
    fn ask<'a>(&'a self, _: Miss<'a>, deny: Deny) -> BoxFuture<'a, Verdict> {
        Box::pin(std::future::ready(deny.into()))
    }
}

/// The floor: refuses everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct DenyAll;

impl DenyAll {
    fn verdict() -> Verdict {
        Deny::unmatched("no policy is loaded, so nothing is allowed").into()
    }
}

impl Authorize for DenyAll {
    fn connect(&self, _: &ConnectFacts<'_>) -> Verdict {
        Self::verdict()
    }
    fn request(&self, _: &RequestFacts<'_>) -> Verdict {
        Self::verdict()
    }
    fn dns_name(&self, _: &HostName) -> Verdict {
        Self::verdict()
    }
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

/// The parts of a decided request that [`Inject`] may change. Host, framing and connection headers are
/// written by the proxy afterwards; the path is what was judged and cannot change.
#[non_exhaustive]
pub struct RequestHead {
    /// End-to-end headers.
    pub headers: HeaderMap,
    /// The query without its `?`.
    pub query: Option<String>,
    /// The whole body, if [`Inject::reads_body`] asked for it; another one may be put in its place, of any length.
    pub body: Option<Bytes>,
    /// What the body has to pass through, if it is not in hand; empty when [`Inject`] is called.
    pub body_filter: Option<Box<dyn BodyFilter>>,
}

impl RequestHead {
    /// With these headers and this query (without its `?`).
    #[must_use]
    pub fn new(headers: HeaderMap, query: Option<String>) -> Self {
        Self { headers, query, body: None, body_filter: None }
    }
}

/// Without the body, which may hold a secret.
impl std::fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestHead").field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// What [`Inject`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Injected {
    /// The name of the credential that was put in, for the audit record.
    pub credential: Option<Arc<str>>,
}

impl Injected {
    /// This credential was put in.
    #[must_use]
    pub fn credential(name: impl Into<Arc<str>>) -> Self {
        Self { credential: Some(name.into()) }
    }
}

/// Why a request cannot get its credential. None of the texts may hold a secret: clients see them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// The store has no such credential.
    #[error("the credential {name} does not exist on the host")]
    Missing {
        /// Its name.
        name: String,
    },
    /// The store is locked.
    #[error("the credential {name} is locked on the host")]
    Locked {
        /// Its name.
        name: String,
    },
    /// The request may not have it, e.g. a placeholder sent to another host.
    #[error("{reason}")]
    Refused {
        /// One sentence for the client.
        reason: String,
    },
}

/// Puts credentials into decided requests. Also called when the verdict names no credential, so that a
/// placeholder sent to the wrong place can be refused. The body is passed on as it comes, encoded or not.
pub trait Inject: Send + Sync {
    /// Whether [`RequestHead::body`] must be in hand, because a signature covers it or a placeholder is in it. Then
    /// nothing is sent before the whole body is here; one larger than [`crate::limits::Limits::held_body_bytes_max`]
    /// is refused (413).
    fn reads_body(&self, _decided: &Decided<'_>, _head: &RequestHead) -> bool {
        false
    }

    /// Alters `head`.
    ///
    /// # Errors
    /// [`InjectError`] refuses the request; nothing of it is sent.
    fn inject<'a>(
        &'a self,
        decided: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>>;
}

/// Changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct InjectNothing;

impl Inject for InjectNothing {
    fn inject<'a>(
        &'a self,
        _: &'a Decided<'a>,
        _: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        Box::pin(std::future::ready(Ok(Injected::default())))
    }
}

/// Removes secrets from responses.
pub trait Redact: Send + Sync {
    /// The filter for the response of this request; `None` if nothing can come back that must not.
    /// With a filter, the upstream is asked for codings that can be decoded, the response is passed on decoded, and
    /// one that cannot be searched is handled as [`Allow::on_opaque`] says.
    fn filter(&self, decided: &Decided<'_>) -> Option<Box<dyn ResponseFilter>>;
}

/// What becomes of a header of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderFate {
    /// It passes.
    Keep,
    /// It gets this value.
    Replace(HeaderValue),
    /// It is left out, with every value of its name: the name itself must not pass.
    Drop,
}

/// One response passing by. Implementations hold back no more than could be the start of a secret, so that
/// an event stream is not delayed.
pub trait ResponseFilter: Send {
    /// Judges a header. The name is in lower case, however the upstream wrote it.
    fn header(&mut self, name: &HeaderName, value: &HeaderValue) -> HeaderFate;
    /// Takes the next chunk and gives what may be sent now; may be empty.
    fn body(&mut self, chunk: Bytes) -> Bytes;
    /// The body ended: gives what was held back.
    fn finish(&mut self) -> Bytes;
    /// How many values were removed so far.
    fn redactions(&self) -> u64;
}

/// Filters nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedactNothing;

impl Redact for RedactNothing {
    fn filter(&self, _: &Decided<'_>) -> Option<Box<dyn ResponseFilter>> {
        None
    }
}

/// The audit sink cannot take another record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct AuditUnavailable;

/// Keeps one [`Record`] per refusal and per finished exchange.
pub trait Audit: Send + Sync {
    /// Asked before each exchange; an error refuses it, so that nothing happens unrecorded.
    ///
    /// # Errors
    /// [`AuditUnavailable`] while the sink cannot write.
    fn ready(&self) -> Result<(), AuditUnavailable> {
        Ok(())
    }
    /// Takes the record. Called from async code: must not block for long.
    fn record(&self, record: Record);
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct AuditNothing;

impl Audit for AuditNothing {
    fn record(&self, _: Record) {}
}

/// Why a name has no addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The name does not exist, or has no A and no AAAA record.
    #[error("the name does not exist")]
    NotFound,
    /// The resolver did not answer in time.
    #[error("the resolver did not answer in time")]
    Timeout,
    /// Any other failure of the resolver.
    #[error("the resolver failed")]
    Failed,
}

/// Turns an allowed name into addresses, once per connection.
pub trait Resolve: Send + Sync {
    /// All addresses of `name`, IPv4 and IPv6.
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>>;
}

/// Knows no name.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResolveNothing;

impl Resolve for ResolveNothing {
    fn resolve<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(std::future::ready(Err(ResolveError::NotFound)))
    }
}

/// Fixed answers for some names, another resolver for the rest (`--resolve HOST:ADDR`).
pub struct StaticResolve {
    fixed: BTreeMap<HostName, Vec<IpAddr>>,
    rest: Arc<dyn Resolve>,
}

impl StaticResolve {
    /// Without fixed answers yet; `rest` is asked for every other name.
    #[must_use]
    pub fn over(rest: Arc<dyn Resolve>) -> Self {
        Self { fixed: BTreeMap::new(), rest }
    }

    /// Adds one address of `name`.
    #[must_use]
    pub fn with(mut self, name: HostName, address: IpAddr) -> Self {
        self.fixed.entry(name).or_default().push(address);
        self
    }
}

impl Resolve for StaticResolve {
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        match self.fixed.get(name) {
            Some(addresses) => Box::pin(std::future::ready(Ok(addresses.clone()))),
            None => self.rest.resolve(name),
        }
    }
}

/// A hook behind an `Arc` is a hook: it can be shared with whoever reloads or reads it.
mod shared {
    use super::*;

    impl<T: Authorize + ?Sized> Authorize for Arc<T> {
        fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
            (**self).connect(facts)
        }
        fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
            (**self).request(facts)
        }
        fn tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
            (**self).tcp(facts)
        }
        fn dns_name(&self, name: &HostName) -> Verdict {
            (**self).dns_name(name)
        }
        fn address(&self, facts: &AddressFacts<'_>) -> bool {
            (**self).address(facts)
        }
    }

    impl<T: Ask + ?Sized> Ask for Arc<T> {
        fn ask<'a>(&'a self, miss: Miss<'a>, deny: Deny) -> BoxFuture<'a, Verdict> {
            (**self).ask(miss, deny)
        }
    }

    impl<T: Inject + ?Sized> Inject for Arc<T> {
        fn reads_body(&self, decided: &Decided<'_>, head: &RequestHead) -> bool {
            (**self).reads_body(decided, head)
        }
        fn inject<'a>(
            &'a self,
            decided: &'a Decided<'a>,
            head: &'a mut RequestHead,
        ) -> BoxFuture<'a, Result<Injected, InjectError>> {
            (**self).inject(decided, head)
        }
    }

    impl<T: Redact + ?Sized> Redact for Arc<T> {
        fn filter(&self, decided: &Decided<'_>) -> Option<Box<dyn ResponseFilter>> {
            (**self).filter(decided)
        }
    }

    impl<T: Audit + ?Sized> Audit for Arc<T> {
        fn ready(&self) -> Result<(), AuditUnavailable> {
            (**self).ready()
        }
        fn record(&self, record: Record) {
            (**self).record(record);
        }
    }

    impl<T: Resolve + ?Sized> Resolve for Arc<T> {
        fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
            (**self).resolve(name)
        }
    }
}
