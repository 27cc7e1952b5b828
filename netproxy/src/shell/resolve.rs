//! The shipped resolver: real DNS servers, asked by hickory-resolver.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};

use crate::authority::HostName;
use crate::hooks::{BoxFuture, Resolve, ResolveError};

/// Asks DNS servers for the A and AAAA records of a name, and knows `/etc/hosts`. No search domain is tried:
/// a name is what was judged.
pub struct SystemResolve {
    resolver: TokioResolver,
}

/// The resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the DNS configuration cannot be used ({0}); check /etc/resolv.conf on this machine")]
pub struct SystemResolveError(#[from] NetError);

impl SystemResolve {
    /// With the servers that this machine is set up with.
    ///
    /// # Errors
    /// [`SystemResolveError`] if there is no usable configuration.
    pub fn new() -> Result<Self, SystemResolveError> {
        Self::finish(TokioResolver::builder_tokio()?)
    }

    /// With these servers, over UDP and, for long answers, TCP.
    ///
    /// # Errors
    /// [`SystemResolveError`] if the resolver refuses them.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, SystemResolveError> {
        let servers = servers.iter().map(|server| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut config.connections {
                connection.port = server.port();
            }
            config
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        Self::finish(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
    }

    fn finish(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, SystemResolveError> {
        let options: &mut ResolverOpts = builder.options_mut();
        // All addresses: the guard must see every one, and refuses a mixed answer.
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        Ok(Self { resolver: builder.build()? })
    }
}

impl Resolve for SystemResolve {
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async move {
            match self.resolver.lookup_ip(format!("{name}.")).await {
                Ok(found) => Ok(found.iter().collect()),
                Err(error) if error.is_no_records_found() => Err(ResolveError::NotFound),
                Err(NetError::Timeout) => Err(ResolveError::Timeout),
                Err(_) => Err(ResolveError::Failed),
            }
        })
    }
}
