//! DNS streams and sockets: each query decided, resolved through the same hook and judged by the same guard as a
//! connection. No query of the guest ever leaves this process as it came.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::audit::{Layer, Outcome, Record, milliseconds};
use crate::authority::{Authority, Host, HostName};
use crate::dns::cache::{Cache, Resolved};
use crate::dns::covert::{Budget, Covert, check_name};
use crate::dns::synthetic::{Synthetic, is_synthetic};
use crate::dns::{Asked, Query};
use crate::flow::subject_of;
use crate::hooks::{AddressFacts, Allow, ResolveError, Verdict};
use crate::limits::{DNS_QUERIES_MAX, DNS_QUERY_BYTES_MAX, DNS_STREAM_IDLE, DNS_STREAMS_MAX, Limits};
use crate::refuse::{Kind, Refusal, Subject, dns_extra_text};
use crate::shell::shared::{Decision, Shared};
use crate::shell::upstream::reach::{guard_refusal, resolve_failure};

/// What the DNS side of a proxy remembers. The locks are held for moments, never over I/O.
pub struct DnsState {
    cache: Mutex<Cache>,
    budget: Mutex<Budget>,
    /// `None`: real addresses are given.
    synthetic: Option<Mutex<Synthetic>>,
    slots: Arc<Semaphore>,
}

impl DnsState {
    pub fn new(limits: &Limits, synthetic: bool) -> Self {
        Self {
            cache: Mutex::new(Cache::new(limits.dns_ttl_s)),
            budget: Mutex::new(Budget::new(limits.dns_new_names_per_minute)),
            synthetic: synthetic.then(Mutex::default),
            slots: Arc::new(Semaphore::new(DNS_QUERIES_MAX)),
        }
    }

    /// The name that a synthetic address stands for.
    pub fn name_of(&self, address: IpAddr) -> Option<HostName> {
        lock(self.synthetic.as_ref()?).name_of(address)
    }

    /// The limits on names below a wildcard, of which `allow` may be. They are the same whether the guest asks for a
    /// name or connects to it: who answers for the wildcard learns it either way.
    pub fn take_name(&self, allow: &Allow, name: &HostName) -> Result<(), Box<Refusal>> {
        if !allow.wildcard {
            return Ok(());
        }
        check_name(name).and_then(|()| lock(&self.budget).take(&allow.rule, name, Instant::now())).map_err(
            |covert| {
                let kind = if covert == Covert::TooMany { Kind::TooManyNames } else { Kind::Policy };
                Box::new(Refusal::new(kind, Layer::Dns, covert.to_string()))
            },
        )
    }

    /// The place that a connection means: a synthetic address stands for a name.
    pub fn named(&self, authority: Authority) -> Result<Authority, Box<Refusal>> {
        let Host::Ip(ip) = authority.host() else { return Ok(authority) };
        if self.synthetic.is_none() || !is_synthetic(*ip) {
            return Ok(authority);
        }
        let named = self.name_of(*ip).map(|name| Authority::new(Host::Name(name), authority.port()));
        match named {
            Some(Ok(named)) => Ok(named),
            _ => {
                let detail = format!("{ip} stands for no name any more; resolve the name again");
                let refusal = Refusal::new(Kind::SpecialAddress, Layer::Address, detail);
                Err(Box::new(refusal.about(subject_of(&authority))))
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records a stream above the limit; its client finds it closed, as RFC 7766 §6.2.2 lets a server do.
pub fn record_turned_away(shared: &Shared) {
    let detail = format!("the sandbox may have {DNS_STREAMS_MAX} DNS streams open");
    let refusal = Refusal::new(Kind::TooManyConnections, Layer::Dns, detail);
    shared.record_refusal(&shared.begin(), &refusal, false);
}

/// Answers queries with two bytes of length before each (RFC 1035 §4.2.2), one after the other. A client that neither
/// asks nor reads is given up.
pub async fn serve<S>(shared: &Arc<Shared>, mut stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut query = Vec::with_capacity(DNS_QUERY_BYTES_MAX);
    while !shared.control.is_draining() {
        let read = timeout(DNS_STREAM_IDLE, read_query(&mut stream, &mut query));
        let Some(Ok(Ok(true))) = shared.control.unless_draining(read).await else { return };
        // What is not even a query is not worth an answer, nor is its sender worth a connection.
        let Some(answer) = answer_in_turn(shared, &query).await else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
        let written = timeout(DNS_STREAM_IDLE, async {
            stream.write_all(&framed).await?;
            stream.flush().await
        });
        if !matches!(written.await, Ok(Ok(()))) {
            return;
        }
    }
}

/// The answer, once a slot is free. That is given back before anything is written: nobody waits for a client that does
/// not read.
async fn answer_in_turn(shared: &Shared, query: &[u8]) -> Option<Vec<u8>> {
    let _slot = shared.dns.slots.acquire().await.ok()?;
    answer(shared, query, usize::from(u16::MAX)).await
}

async fn read_query<S: AsyncRead + Unpin>(stream: &mut S, query: &mut Vec<u8>) -> io::Result<bool> {
    let length = usize::from(stream.read_u16().await?);
    if length > DNS_QUERY_BYTES_MAX {
        return Ok(false);
    }
    query.resize(length, 0);
    stream.read_exact(query).await?;
    Ok(true)
}

/// Answers queries on a UDP socket, several at once, for ever; returns when the socket breaks.
pub async fn serve_udp(shared: &Arc<Shared>, socket: UdpSocket) -> io::Error {
    let socket = Arc::new(socket);
    // One more than a query may have: what fills it was cut off.
    let mut buffer = vec![0; DNS_QUERY_BYTES_MAX.saturating_add(1)];
    loop {
        // More queries than slots wait in the socket's own buffer, which is bounded.
        let Ok(slot) = Arc::clone(&shared.dns.slots).acquire_owned().await else {
            return io::ErrorKind::Other.into();
        };
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // A client that has gone: an ICMP answer to something we sent before.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return error,
        };
        let Some(query) = buffer.get(..length).filter(|query| query.len() <= DNS_QUERY_BYTES_MAX) else {
            continue;
        };
        let (shared, socket, query) = (Arc::clone(shared), Arc::clone(&socket), query.to_vec());
        tokio::spawn(async move {
            let room = Query::parse(&query).map_or(0, |query| query.udp_bytes_max());
            if let Some(answer) = answer(&shared, &query, room).await {
                // Whoever does not get it asks again.
                let _ = socket.send_to(&answer, from).await;
            }
            drop(slot);
        });
    }
}

/// Answers one query with at most `room` bytes; a longer answer becomes "ask over TCP".
pub async fn answer(shared: &Shared, bytes: &[u8], room: usize) -> Option<Vec<u8>> {
    let query = Query::parse(bytes)?;
    let answer = answer_query(shared, &query).await?;
    if answer.len() > room { query.truncated() } else { Some(answer) }
}

async fn answer_query(shared: &Shared, query: &Query) -> Option<Vec<u8>> {
    let decision = shared.begin();
    let name = match query.asked() {
        Asked::Malformed => {
            let why = "the query is not one standard question of class IN, or its EDNS has a version above 0";
            let refusal = Refusal::new(Kind::Malformed, Layer::Dns, why);
            return refuse(shared, &decision, query, (None, refusal));
        }
        Asked::Type(None) => return refuse(shared, &decision, query, (None, not_served(query))),
        Asked::Type(Some(name)) | Asked::Addresses(name) | Asked::Nothing(name) => name,
    };
    let allow = match allow(shared, name).await {
        Ok(allow) => allow,
        Err(refusal) => return refuse(shared, &decision, query, (Some(name), *refusal)),
    };
    match query.asked() {
        Asked::Nothing(_) => {
            record(shared, &decision, query, (name, &allow));
            return query.answer(&[], shared.limits.dns_ttl_s);
        }
        Asked::Type(_) => {
            // The name is allowed.
            let refusal = not_served(query).about(subject(query, Some(name)));
            shared.record_refusal(&decision, &refusal, false);
            return query.not_served(&dns_extra_text(&refusal, &decision.id));
        }
        Asked::Addresses(_) | Asked::Malformed => {}
    }
    match addresses(shared, name).await {
        Ok((addresses, ttl_s)) => {
            record(shared, &decision, query, (name, &allow));
            query.answer(&addresses, ttl_s)
        }
        Err(refusal) => {
            let refusal = refusal.after(&allow);
            refuse(shared, &decision, query, (Some(name), refusal))
        }
    }
}

/// The policy's verdict, below a wildcard the limits on names, and whether there is room for the record.
async fn allow(shared: &Shared, name: &HostName) -> Result<Allow, Box<Refusal>> {
    let allow = match shared.may_resolve(name).await {
        Verdict::Allow(allow) => allow,
        Verdict::Deny(deny) => return Err(Box::new(Refusal::policy(Layer::Dns, deny))),
    };
    shared.dns.take_name(&allow, name).map_err(|refusal| refusal.after(&allow))?;
    match shared.recordable_now(Layer::Dns) {
        Ok(()) => Ok(allow),
        Err(refusal) => Err(Box::new(refusal.after(&allow))),
    }
}

/// The addresses to give for an allowed name, and for how long.
async fn addresses(shared: &Shared, name: &HostName) -> Result<(Vec<IpAddr>, u32), Box<Refusal>> {
    if let Some(synthetic) = &shared.dns.synthetic {
        return Ok((lock(synthetic).addresses_of(name).to_vec(), shared.limits.dns_ttl_s));
    }
    let (resolved, ttl_s) = resolve(shared, name).await;
    let addresses = resolved.map_err(resolve_failure)?;
    let host = Host::Name(name.clone());
    let admits = |address, special| {
        shared.authorize.address(&AddressFacts { host: &host, port: None, address, special })
    };
    let near = shared.local.get(Instant::now());
    let judged = shared.guard.check_answer(&host, &addresses, &near, &admits);
    Ok((judged.map_err(|error| guard_refusal(&error))?, ttl_s))
}

async fn resolve(shared: &Shared, name: &HostName) -> (Resolved, u32) {
    if let Some(kept) = lock(&shared.dns.cache).get(name, Instant::now()) {
        return kept;
    }
    let resolved = timeout(shared.limits.resolve_timeout, shared.resolve.resolve(name))
        .await
        .unwrap_or(Err(ResolveError::Timeout));
    lock(&shared.dns.cache).put(name, &resolved, Instant::now());
    (resolved, shared.limits.dns_ttl_s)
}

fn not_served(query: &Query) -> Refusal {
    let detail = match query.record_type().as_str() {
        // These are; but this name, as it is no host's, was not even looked at.
        kind @ ("A" | "AAAA") => {
            format!("a host has no such name, so that there is no record of type {kind}")
        }
        kind => format!("DNS records of type {kind} are not served here"),
    };
    Refusal::new(Kind::Policy, Layer::Dns, detail)
}

fn refuse(
    shared: &Shared,
    decision: &Decision,
    query: &Query,
    (name, refusal): (Option<&HostName>, Refusal),
) -> Option<Vec<u8>> {
    let refusal = refusal.about(subject(query, name));
    let extra = dns_extra_text(&refusal, &decision.id);
    let answer = match refusal.kind {
        // Too many names: there is no gentler answer that stub resolvers do not repeat at once.
        Kind::Policy | Kind::SpecialAddress | Kind::TooManyNames => query.blocked(&extra),
        Kind::NameNotFound => query.no_such_name(),
        Kind::Malformed => query.format_error(),
        _ => query.server_failure(),
    };
    shared.record_refusal(decision, &refusal, false);
    answer
}

fn subject(query: &Query, name: Option<&HostName>) -> Subject {
    let host = name.map(HostName::shared);
    Subject { host, method: Some(query.record_type().into()), ..Subject::default() }
}

fn record(shared: &Shared, decision: &Decision, query: &Query, (name, allow): (&HostName, &Allow)) {
    let mut record = Record::new(decision.time, decision.id.clone(), Layer::Dns, Outcome::Allow);
    record.decided(allow);
    record.error = allow.would_deny.as_ref().map(|_| Kind::Policy.code());
    record.host = Some(name.shared());
    record.method = Some(query.record_type().into());
    record.ms_total = milliseconds(decision.started.elapsed());
    shared.record(&decision.span, record);
}
