//! The shipped resolver: the DNS servers of this machine, asked by hickory-resolver.

use std::net::IpAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;

use crate::authority::HostName;
use crate::hooks::{BoxFuture, Resolve, ResolveError};

/// Asks the DNS servers that this machine is set up with; `/etc/hosts` is read too.
pub struct SystemResolve {
    resolver: TokioResolver,
}

/// The machine's resolver configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("this machine's DNS configuration cannot be used ({0}); check /etc/resolv.conf")]
pub struct SystemResolveError(#[from] NetError);

impl SystemResolve {
    /// Reads the machine's configuration.
    ///
    /// # Errors
    /// [`SystemResolveError`] if there is none that can be used.
    pub fn new() -> Result<Self, SystemResolveError> {
        let mut builder = TokioResolver::builder_tokio()?;
        // All addresses: the guard must see every one, and refuses a mixed answer.
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        Ok(Self { resolver: builder.build()? })
    }
}

impl Resolve for SystemResolve {
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async move {
            // With the root's dot: no search domain is tried.
            match self.resolver.lookup_ip(format!("{name}.")).await {
                Ok(found) => Ok(found.iter().collect()),
                Err(error) if error.is_no_records_found() => Err(ResolveError::NotFound),
                Err(NetError::Timeout) => Err(ResolveError::Timeout),
                Err(_) => Err(ResolveError::Failed),
            }
        })
    }
}
