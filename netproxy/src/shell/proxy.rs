//! The public face of the shell: build a [`Proxy`], hand it streams.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::client::http2::ALPN;
use super::control::Control;
use super::door::distrust::Distrust;
use super::door::dns::DnsState;
use super::door::paced::Paced;
use super::door::token::Token;
use super::door::{dns, front, preface, socks};
use super::limiter::{Entry, Limiter};
use super::shared::{RandomIds, Shared};
use super::stream::rewind::Rewind;
use super::trace::Span;
use super::upstream::local::{self, Local};
use super::upstream::pool::Pool;
use super::upstream::proxy::UpstreamProxy;
use crate::audit::Outcome;
use crate::authority::{Host, HostName};
use crate::coding::Room;
use crate::guard::{Guard, LocalNetwork};
use crate::hooks::{
    Ask, AskNobody, Audit, AuditNothing, Authorize, DenyAll, Inject, InjectNothing, Redact, RedactNothing,
    Resolve, ResolveNothing,
};
use crate::id::IdSource;
use crate::limits::{CODING_BYTES_MAX, END_LOOK_EVERY, END_WAIT, Limits};
use crate::metrics::Metrics;
use crate::tls::{
    CaError, ClientCertificateError, ClientCertificates, LeafCache, SandboxCa, UpstreamTlsError,
    client_config,
};

/// A proxy for one sandbox: its authority, its hooks, its limits. Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

/// Where a client comes in.
enum Door {
    Any,
    Socks,
    Transparent,
}

/// A proxy cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The sandbox's certificate authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The trust roots for upstreams.
    #[error(transparent)]
    UpstreamTls(#[from] UpstreamTlsError),
    /// A client certificate.
    #[error(transparent)]
    ClientCertificate(#[from] ClientCertificateError),
    /// Which addresses are this machine's own.
    #[error(
        "the addresses of this machine's interfaces cannot be read ({0}), so that it cannot be kept from the sandbox; \
         allow netlink sockets to this program"
    )]
    LocalNetwork(std::io::Error),
}

/// Collects hooks; whatever is not given does nothing, and allows nothing.
pub struct Builder {
    name: String,
    authorize: Arc<dyn Authorize>,
    ask: Arc<dyn Ask>,
    inject: Arc<dyn Inject>,
    redact: Arc<dyn Redact>,
    audit: Arc<dyn Audit>,
    resolve: Arc<dyn Resolve>,
    ids: Arc<dyn IdSource>,
    limits: Limits,
    own_listeners: Vec<SocketAddr>,
    local_network: local::Read,
    extra_roots_pem: Vec<String>,
    upstream_tls: Option<Arc<ClientConfig>>,
    socks_token: Option<Token>,
    client_certificates: Result<ClientCertificates, ClientCertificateError>,
    synthetic_dns: bool,
    upstream_proxies: BTreeMap<Arc<str>, UpstreamProxy>,
}

impl Proxy {
    /// Starts a builder with [`DenyAll`] and friends.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            name: String::new(),
            authorize: Arc::new(DenyAll),
            ask: Arc::new(AskNobody),
            inject: Arc::new(InjectNothing),
            redact: Arc::new(RedactNothing),
            audit: Arc::new(AuditNothing),
            resolve: Arc::new(ResolveNothing),
            ids: Arc::new(RandomIds::default()),
            limits: Limits::default(),
            own_listeners: Vec::new(),
            local_network: Box::new(LocalNetwork::of_this_machine),
            extra_roots_pem: Vec::new(),
            upstream_tls: None,
            socks_token: None,
            client_certificates: Ok(ClientCertificates::default()),
            synthetic_dns: false,
            upstream_proxies: BTreeMap::new(),
        }
    }

    /// The certificate that programs in the sandbox must trust.
    #[must_use]
    pub fn ca_certificate_pem(&self) -> &str {
        self.shared.leaves.ca().certificate_pem()
    }

    /// Serves one client connection until it ends: absolute-form HTTP and `CONNECT`, or, told by the first bytes,
    /// SOCKS5 or a transparent connection with its preface. Never fails: what goes wrong is answered and recorded.
    /// A TCP stream should have `TCP_NODELAY` set. Needs a tokio runtime with I/O and time enabled.
    ///
    /// Requests are served in tasks of their own. Where this future is dropped they end soon after, with their records.
    pub async fn serve<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.enter(stream, Door::Any).await;
    }

    /// What is inside an intercepted connection to `authority` over which HTTP/2 was agreed on: for the fuzz target
    /// of this name, which would otherwise spend its time on handshakes.
    #[cfg(fuzzing)]
    pub async fn serve_http2_inside<S>(&self, authority: crate::Authority, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let policy = self.shared.control.policy();
        let client = super::client::http1::Client::inside_http2(Arc::clone(&self.shared), authority, policy);
        Box::pin(super::client::http2::serve(stream, &Arc::new(client))).await;
    }

    /// Serves one SOCKS5 client (RFC 1928; `CONNECT` only) until it ends, as [`Proxy::serve`] does others.
    pub async fn serve_socks<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.enter(stream, Door::Socks).await;
    }

    /// Serves one transparent connection until it ends: a line that says where to, as in
    /// [`crate::wire::preface`], then its bytes.
    pub async fn serve_transparent<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.enter(stream, Door::Transparent).await;
    }

    /// Lets one client in, as far as the limits of the sandbox allow, unless the proxy is draining.
    async fn enter<S>(&self, stream: S, door: Door)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // A drain waits until it is dropped.
        let _served = self.shared.control.alarm();
        if self.shared.control.is_draining() {
            return;
        }
        self.shared.control.unless_ended(self.let_in(stream, door)).await;
    }

    async fn let_in<S>(&self, stream: S, door: Door)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = &self.shared.limits;
        let span = Span::connection(&self.shared.name);
        match (self.shared.limiter.enter(limits), limits.bytes_per_s) {
            (Entry::In(_slot), None) => Box::pin(span.around(self.serve_at(stream, door))).await,
            (Entry::In(_slot), Some(per_s)) => {
                let paced = Paced::new(stream, Arc::clone(&self.shared), per_s);
                Box::pin(span.around(self.serve_at(paced, door))).await;
            }
            (Entry::TurnedAway(_slot), _) => Box::pin(front::turn_away(&self.shared, stream)).await,
            (Entry::Closed, _) => front::record_turned_away(&self.shared, false),
        }
    }

    async fn serve_at<S>(&self, stream: S, door: Door)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match door {
            Door::Any => Box::pin(front::serve(Arc::clone(&self.shared), stream)).await,
            Door::Socks => {
                Box::pin(socks::serve(&self.shared, Rewind::new(stream, BytesMut::new()))).await;
            }
            Door::Transparent => {
                Box::pin(preface::serve(&self.shared, Rewind::new(stream, BytesMut::new()))).await;
            }
        }
    }

    /// Serves DNS queries, each with two bytes of length before it (RFC 1035 §4.2.2), until the stream ends or is idle
    /// for [`DNS_STREAM_IDLE`](crate::limits::DNS_STREAM_IDLE). More streams than
    /// [`DNS_STREAMS_MAX`](crate::limits::DNS_STREAMS_MAX) are closed and recorded.
    pub async fn serve_dns<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let _served = self.shared.control.alarm();
        if self.shared.control.is_draining() {
            return;
        }
        match self.shared.limiter.dns_stream() {
            Some(_slot) => self.shared.control.unless_ended(dns::serve(&self.shared, stream)).await,
            None => dns::record_turned_away(&self.shared),
        }
    }

    /// What happened so far, in Prometheus' text format. Names no host and no rule.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let Shared { metrics, limiter, leaves, local, .. } = &*self.shared;
        metrics.text(limiter.clients(), leaves.minted(), local.failures())
    }

    /// Takes no new connections and requests: HTTP/1.1 clients get `Connection: close`, HTTP/2 clients GOAWAY.
    /// Waits until what runs has ended, at most for `longest`; says whether it has. Tunnels and WebSockets run on
    /// until they end by themselves. What is left after `longest` is for [`Proxy::end`].
    pub async fn drain(&self, longest: Duration) -> bool {
        self.shared.control.drain();
        self.shared.pool.clear();
        timeout(longest, self.shared.control.all_gone()).await.is_ok()
    }

    /// Ends all that is open, at once, and takes nothing new. Returns when each has its record, or after
    /// [`END_WAIT`](crate::limits::END_WAIT): an embedder that flushes its log then has all of them.
    pub async fn end(&self) {
        let Shared { control, limiter, pool, .. } = &*self.shared;
        control.end();
        pool.clear();
        let recorded = async {
            control.all_gone().await;
            // Tasks of connections that are gone end after them.
            while limiter.are_under_way() {
                sleep(END_LOOK_EVERY).await;
            }
        };
        let _ = timeout(END_WAIT, recorded).await;
    }

    /// To be called when the answers of [`Authorize`] have changed. Tunnels, WebSockets and intercepted connections
    /// ask again, and end where they are not allowed any more; each has a record (`policy_changed` for a tunnel, a
    /// refusal for an intercepted connection). Requests under way go on: they were allowed when they were sent.
    pub fn reauthorize(&self) {
        self.shared.control.reauthorize();
        self.close_idle_upstreams();
    }

    /// To be called when another policy is in force, or the first: a record of layer `policy`, and [`Proxy::reauthorize`].
    /// `generation` is the embedder's count of policies; the metrics show it.
    pub fn policy_replaced(&self, generation: u64) {
        self.shared.metrics.policy_generation(generation);
        // Before the records of what ends by it.
        let text = format!("policy generation {generation} is in force");
        self.shared.record_policy(Outcome::Allow, None, text);
        self.reauthorize();
    }

    /// To be called when a policy was to be replaced and the new one does not load: a record of layer `policy` with
    /// the error `policy_not_loaded` and this reason, which the metrics count. Nothing else changes.
    pub fn policy_not_loaded(&self, why: &str) {
        self.shared.record_policy(Outcome::Error, Some("policy_not_loaded"), why.to_owned());
    }

    /// Closes upstream connections that no request is using, so that the next request resolves, judges and
    /// dials anew. For embedders whose policy has changed.
    pub fn close_idle_upstreams(&self) {
        self.shared.pool.clear();
    }

    /// Answers one DNS query, for callers with a framing of their own (UDP). `None`: not worth an answer.
    pub async fn answer_dns(&self, query: &[u8]) -> Option<Vec<u8>> {
        dns::answer(&self.shared, query, usize::from(u16::MAX)).await
    }

    /// Answers DNS queries on a UDP socket until it breaks, and gives the error that it broke with. Queries whose
    /// answers are too long for the client are told to come over TCP: to [`Proxy::serve_dns`].
    pub async fn serve_dns_udp(&self, socket: UdpSocket) -> io::Error {
        dns::serve_udp(&self.shared, socket).await
    }

    /// The name that a synthetic address stands for (see [`Builder::synthetic_dns`]); `None` for any other
    /// address, and for one that was given out too long ago.
    #[must_use]
    pub fn name_of(&self, address: IpAddr) -> Option<HostName> {
        self.shared.dns.name_of(address)
    }
}

impl Builder {
    /// The sandbox's name: in its authority's certificate, its records and its spans.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Who decides. Default: nothing is allowed.
    #[must_use]
    pub fn authorize(mut self, hook: impl Authorize + 'static) -> Self {
        self.authorize = Arc::new(hook);
        self
    }

    /// Who is asked about refusals with [`Deny::may_ask`](crate::hooks::Deny::may_ask). Default: nobody.
    #[must_use]
    pub fn ask(mut self, hook: impl Ask + 'static) -> Self {
        self.ask = Arc::new(hook);
        self
    }

    /// Who puts credentials in. Default: nobody.
    #[must_use]
    pub fn inject(mut self, hook: impl Inject + 'static) -> Self {
        self.inject = Arc::new(hook);
        self
    }

    /// Who takes secrets out. Default: nobody.
    #[must_use]
    pub fn redact(mut self, hook: impl Redact + 'static) -> Self {
        self.redact = Arc::new(hook);
        self
    }

    /// Who keeps records. Default: nobody.
    #[must_use]
    pub fn audit(mut self, hook: impl Audit + 'static) -> Self {
        self.audit = Arc::new(hook);
        self
    }

    /// Who knows addresses. Default: nobody; see `SystemResolve` and [`crate::hooks::StaticResolve`].
    #[must_use]
    pub fn resolve(mut self, hook: impl Resolve + 'static) -> Self {
        self.resolve = Arc::new(hook);
        self
    }

    /// Where decision ids come from. Default: time and randomness.
    #[must_use]
    pub fn ids(mut self, hook: impl IdSource + 'static) -> Self {
        self.ids = Arc::new(hook);
        self
    }

    /// Other limits than the defaults.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// An address that this process listens on (proxy, control, metrics): refused as an upstream.
    #[must_use]
    pub fn own_listener(mut self, address: SocketAddr) -> Self {
        self.own_listeners.push(address);
        self
    }

    /// Who knows which addresses are this machine's own and its links': those are special-purpose to the rules, also
    /// where they are public ones. Asked when something is resolved, but not within
    /// [`LOCAL_NETWORK_AGE`](crate::limits::LOCAL_NETWORK_AGE) of the last time; should take no longer than a system
    /// call. Where that fails later, what was known stays, and `local_network_failures_total` of
    /// [`Proxy::metrics_text`] counts it. Default: [`LocalNetwork::of_this_machine`].
    #[must_use]
    pub fn local_network(
        mut self,
        read: impl Fn() -> io::Result<LocalNetwork> + Send + Sync + 'static,
    ) -> Self {
        self.local_network = Box::new(read);
        self
    }

    /// More trust roots for upstreams, as PEM, on top of this machine's.
    #[must_use]
    pub fn extra_roots_pem(mut self, pem: impl Into<String>) -> Self {
        self.extra_roots_pem.push(pem.into());
        self
    }

    /// Another TLS configuration for upstreams, whole; must offer HTTP/1.1 only; HTTP/2 is added where it may be used.
    #[must_use]
    pub fn upstream_tls(mut self, config: Arc<ClientConfig>) -> Self {
        self.upstream_tls = Some(config);
        self
    }

    /// What SOCKS clients must give as their user name (RFC 1929; any password). Default: no authentication.
    #[must_use]
    pub fn socks_token(mut self, token: &str) -> Self {
        self.socks_token = Some(Token::new(token));
        self
    }

    /// Whether DNS answers for allowed names are addresses that stand for the name, from 198.18.0.0/15 and
    /// fd73:616e:6462:6f78::/96, instead of real ones. Nothing is resolved then until something connects, to a name
    /// or to its address: `CONNECT`, SOCKS and transparent connections know which name is meant. For sandboxes whose
    /// programs must be routed here without knowing of a proxy. Default: real addresses.
    #[must_use]
    pub fn synthetic_dns(mut self, on: bool) -> Self {
        self.synthetic_dns = on;
        self
    }

    /// An upstream proxy that rules may name (see [`Allow::via`](crate::hooks::Allow::via)). Its own address may be
    /// a private one, since the embedder chose it.
    #[must_use]
    pub fn upstream_proxy(mut self, name: impl Into<Arc<str>>, proxy: UpstreamProxy) -> Self {
        self.upstream_proxies.insert(name.into(), proxy);
        self
    }

    /// A certificate (a PEM chain, the leaf first, and its unencrypted key) to show to `host`, on any port, if it asks
    /// for one. No other host is shown it, and it is not used where TLS is passed on unread. What is wrong with it is
    /// an error of [`Builder::build`].
    #[must_use]
    pub fn client_certificate(mut self, host: Host, chain_pem: &str, key_pem: &str) -> Self {
        if let Ok(certificates) = &mut self.client_certificates
            && let Err(error) = certificates.add(host, chain_pem, key_pem)
        {
            self.client_certificates = Err(error);
        }
        self
    }

    /// Makes the sandbox's certificate authority and loads the trust roots.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(self) -> Result<Proxy, BuildError> {
        let ca = SandboxCa::generate(&self.name, SystemTime::now())?;
        let upstream_tls = match self.upstream_tls {
            Some(config) => config,
            None => {
                let roots: Vec<&str> = self.extra_roots_pem.iter().map(String::as_str).collect();
                Arc::new(client_config(&roots)?)
            }
        };
        let mut upstream_tls_http2 = ClientConfig::clone(&upstream_tls);
        upstream_tls_http2.alpn_protocols.insert(0, ALPN.to_vec());
        let shared = Shared {
            name: self.name.into(),
            metrics: Metrics::default(),
            authorize: self.authorize,
            ask: self.ask,
            inject: self.inject,
            redact: self.redact,
            audit: self.audit,
            resolve: self.resolve,
            ids: self.ids,
            distrust: Distrust::default(),
            dns: DnsState::new(&self.limits, self.synthetic_dns),
            upstream_proxies: self.upstream_proxies,
            limits: self.limits,
            limiter: Limiter::default(),
            guard: Guard::new(self.own_listeners),
            local: Local::new(self.local_network).map_err(BuildError::LocalNetwork)?,
            coding: Room::new(CODING_BYTES_MAX),
            leaves: LeafCache::new(ca),
            upstream_tls,
            upstream_tls_http2: Arc::new(upstream_tls_http2),
            client_certificates: self.client_certificates?,
            pool: Pool::default(),
            held: Arc::default(),
            control: Control::default(),
            socks_token: self.socks_token,
        };
        Ok(Proxy { shared: Arc::new(shared) })
    }
}
