//! Who knows addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::BoxFuture;
use crate::authority::HostName;

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
