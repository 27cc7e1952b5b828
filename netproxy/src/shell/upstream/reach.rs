//! From an authority to an open stream: resolve once, judge every address, dial what was judged, or have an
//! upstream proxy dial it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::dial::{DialError, dial};
use crate::audit::{Layer, milliseconds};
use crate::authority::{Authority, Host};
use crate::guard::{Checked, GuardError};
use crate::hooks::{AddressFacts, Allow, ResolveError, Verdict};
use crate::refuse::{Kind, Refusal};
use crate::shell::shared::Shared;
use crate::shell::upstream::failure;

/// What it took to open a connection. The judging is part of `dns`; an upstream proxy is part of `dial`.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenTimes {
    pub dns: Duration,
    /// `None` where it did not come to that.
    pub dial: Option<Duration>,
    pub tls: Option<Duration>,
}

impl OpenTimes {
    /// The refusal that ended it, which tells them.
    pub fn on(self, mut refusal: Box<Refusal>) -> Box<Refusal> {
        refusal.before.ms_dns = Some(milliseconds(self.dns));
        refusal.before.ms_connect = self.dial.map(milliseconds);
        refusal.before.ms_tls = self.tls.map(milliseconds);
        refusal
    }
}

/// Resolves, judges and dials; by way of the upstream proxy `via`, if one is named.
pub async fn connect(
    shared: &Shared,
    authority: &Authority,
    via: Option<&Arc<str>>,
) -> Result<(TcpStream, OpenTimes), Box<Refusal>> {
    let started = Instant::now();
    may_look_up(shared, authority)?;
    let (dialled, dns) = match via {
        None => {
            let checked = check(shared, authority).await;
            let dns = started.elapsed();
            let checked = checked.map_err(|refusal| OpenTimes { dns, ..OpenTimes::default() }.on(refusal))?;
            (dial_checked(shared, &checked).await, dns)
        }
        Some(name) => (connect_via(shared, authority, name).await, Duration::ZERO),
    };
    let times = OpenTimes { dns, dial: Some(started.elapsed().saturating_sub(dns)), tls: None };
    let stream = dialled.map_err(|refusal| times.on(refusal))?;
    shared.metrics.upstream_opened();
    Ok((stream, times))
}

/// Names below a wildcard are limited here as at the DNS door; an upstream proxy that is sent names looks them up, too.
/// A name that may not be resolved for the guest has no rule with a wildcard either.
fn may_look_up(shared: &Shared, authority: &Authority) -> Result<(), Box<Refusal>> {
    match authority.host() {
        Host::Ip(_) => Ok(()),
        Host::Name(name) => match shared.authorize.dns_name(name) {
            Verdict::Allow(allow) => shared.dns.take_name(&allow, name),
            Verdict::Deny(_) => Ok(()),
        },
    }
}

async fn dial_checked(shared: &Shared, checked: &Checked) -> Result<TcpStream, Box<Refusal>> {
    let dialled = timeout(shared.limits.connect_timeout, dial(checked, shared.limits.connect_attempt_delay));
    match dialled.await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(DialError::Unreachable)) => {
            Err(failure(Kind::Unreachable, "the upstream refuses the connection or has no route"))
        }
        Ok(Err(DialError::Timeout)) | Err(_) => {
            Err(failure(Kind::UpstreamTimeout, "the upstream does not accept the connection in time"))
        }
    }
}

async fn connect_via(
    shared: &Shared,
    authority: &Authority,
    name: &Arc<str>,
) -> Result<TcpStream, Box<Refusal>> {
    let failed =
        |why: &dyn std::fmt::Display| failure(Kind::UpstreamProxy, &format!("upstream proxy {name}: {why}"));
    let proxy = shared.upstream_proxies.get(name).ok_or_else(|| failed(&"it is not set up on the host"))?;
    let target = match authority.host() {
        Host::Name(_) if proxy.sends_names() => authority.clone(),
        _ => judged_target(&check(shared, authority).await?)?,
    };
    // Its place is the embedder's choice, and may be private; only our own listeners are none.
    let addresses = resolve(shared, proxy.authority()).await.map_err(|refusal| failed(&refusal.detail))?;
    let near = shared.local.get(Instant::now());
    let checked = shared.guard.check(proxy.authority(), &addresses, &near, &|_, _| true);
    let checked = checked.map_err(|error| failed(&error))?;
    let mut stream = dial_checked(shared, &checked).await.map_err(|refusal| failed(&refusal.detail))?;
    match timeout(shared.limits.connect_timeout, proxy.ask(&mut stream, &target)).await {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(failure)) => Err(failed(&failure)),
        Err(_) => Err(failed(&"it does not answer in time")),
    }
}

/// The judged address that an upstream proxy is sent to. An IPv4 one if there is any: nobody knows which networks
/// it has.
fn judged_target(checked: &Checked) -> Result<Authority, Box<Refusal>> {
    let mut addresses = checked.addresses().iter();
    let first = addresses.clone().next();
    let best = addresses.find(|address| address.is_ipv4()).or(first);
    best.and_then(|address| Authority::new(Host::from_ip(address.ip()), address.port()).ok())
        .ok_or_else(|| failure(Kind::NameNotFound, "the upstream's name has no address"))
}

async fn resolve(shared: &Shared, authority: &Authority) -> Result<Vec<IpAddr>, Box<Refusal>> {
    match authority.host() {
        Host::Ip(ip) => Ok(vec![*ip]),
        Host::Name(name) => timeout(shared.limits.resolve_timeout, shared.resolve.resolve(name))
            .await
            .unwrap_or(Err(ResolveError::Timeout))
            .map_err(resolve_failure),
    }
}

async fn check(shared: &Shared, authority: &Authority) -> Result<Checked, Box<Refusal>> {
    let addresses = resolve(shared, authority).await?;
    judge(shared, authority, &addresses).map_err(|error| guard_refusal(&error))
}

/// The address that an open connection leads to, if it is one that was judged: an upstream proxy's is not, nor the one at which
/// Linux arrives for 0.0.0.0 or ::.
pub fn peer(stream: &TcpStream, (authority, allow): (&Authority, &Allow)) -> Option<IpAddr> {
    let is_judged = match authority.host() {
        Host::Ip(ip) => allow.upstream.is_none() && !ip.is_unspecified(),
        Host::Name(_) => allow.upstream.is_none(),
    };
    stream.peer_addr().ok().filter(|_| is_judged).map(|address| address.ip())
}

/// Whether a connection to `peer` would still be opened for `authority`.
pub fn still_admits(shared: &Shared, authority: &Authority, peer: Option<IpAddr>) -> bool {
    peer.is_none_or(|address| judge(shared, authority, &[address]).is_ok())
}

fn judge(shared: &Shared, authority: &Authority, addresses: &[IpAddr]) -> Result<Checked, GuardError> {
    let admits = |address, special| {
        let port = Some(authority.port());
        shared.authorize.address(&AddressFacts { host: authority.host(), port, address, special })
    };
    let near = shared.local.get(Instant::now());
    shared.guard.check(authority, addresses, &near, &admits)
}

pub fn resolve_failure(error: ResolveError) -> Box<Refusal> {
    match error {
        ResolveError::Timeout => failure(Kind::NameTimeout, "the resolver did not answer in time"),
        ResolveError::NotFound => failure(Kind::NameNotFound, "the upstream's name does not exist"),
        ResolveError::Failed => failure(Kind::NameNotFound, "the resolver failed"),
    }
}

pub fn guard_refusal(error: &GuardError) -> Box<Refusal> {
    let kind = match error {
        GuardError::NoAddress => Kind::NameNotFound,
        GuardError::Denied { .. } => Kind::Policy,
        GuardError::Special { .. } | GuardError::Near { .. } | GuardError::OwnListener { .. } => {
            Kind::SpecialAddress
        }
    };
    Box::new(Refusal::new(kind, Layer::Address, error.to_string()))
}
