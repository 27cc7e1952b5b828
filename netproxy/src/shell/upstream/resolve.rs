//! The shipped resolver: real DNS servers, asked by hickory-resolver.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};

use super::renewed::Renewed;
use crate::authority::HostName;
use crate::hooks::{BoxFuture, Resolve, ResolveError};

/// Asks DNS servers for the A and AAAA records of a name, and knows `/etc/hosts`. No search domain is tried:
/// a name is what was judged.
pub struct SystemResolve(Source);

enum Source {
    Machine(Renewed<Arc<TokioResolver>>),
    Servers(Box<TokioResolver>),
}

/// The resolver cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the DNS servers cannot be used ({0})")]
pub struct SystemResolveError(#[from] NetError);

impl SystemResolve {
    /// With the servers that this machine is set up with at the time, and its `/etc/hosts`: both are read again when they have
    /// changed. Where it is set up with none, no name resolves.
    #[must_use]
    pub fn new() -> Self {
        let make = || finish(TokioResolver::builder_tokio().ok()?).ok().map(Arc::new);
        let files = ["/etc/resolv.conf", "/etc/hosts"].map(PathBuf::from).to_vec();
        Self(Source::Machine(Renewed::new(files, Box::new(make))))
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
        let resolver = finish(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))?;
        Ok(Self(Source::Servers(Box::new(resolver))))
    }
}

impl Default for SystemResolve {
    fn default() -> Self {
        Self::new()
    }
}

fn finish(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<TokioResolver, NetError> {
    let options: &mut ResolverOpts = builder.options_mut();
    // All addresses: the guard must see every one, and refuses a mixed answer.
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

async fn look_up(resolver: &TokioResolver, name: &HostName) -> Result<Vec<IpAddr>, ResolveError> {
    match resolver.lookup_ip(format!("{name}.")).await {
        Ok(found) => Ok(found.iter().collect()),
        Err(error) if error.is_no_records_found() => Err(ResolveError::NotFound),
        Err(NetError::Timeout) => Err(ResolveError::Timeout),
        Err(_) => Err(ResolveError::Failed),
    }
}

impl Resolve for SystemResolve {
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async move {
            match &self.0 {
                Source::Servers(resolver) => look_up(resolver, name).await,
                Source::Machine(renewed) => match renewed.get(Instant::now()) {
                    Some(resolver) => look_up(&resolver, name).await,
                    None => Err(ResolveError::Failed),
                },
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use hickory_proto::op::{Message, ResponseCode};
    use hickory_proto::rr::{Name, RData, Record, RecordType};
    use tokio::net::UdpSocket;

    use super::*;
    use crate::authority::Host;

    /// Has an address for whatever is asked below `corp.example`, and for nothing else; remembers what it was asked.
    async fn server() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (socket.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
                let question = query.queries[0].clone();
                let name = question.name().to_ascii();
                match (name.ends_with(".corp.example."), question.query_type()) {
                    (true, RecordType::A) => {
                        let data = RData::A("192.0.2.1".parse().unwrap());
                        answer.add_answer(Record::from_rdata(question.name().clone(), 60, data));
                    }
                    (true, _) => {}
                    (false, _) => answer.metadata.response_code = ResponseCode::NXDomain,
                }
                log.lock().unwrap().push(name);
                answer.add_query(question);
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        (address, asked)
    }

    fn name(text: &str) -> HostName {
        match Host::parse(text) {
            Ok(Host::Name(name)) => name,
            other => panic!("{other:?}"),
        }
    }

    /// Else `intern`, which no rule of the policy means by that, would be `intern.corp.example`.
    #[tokio::test]
    async fn no_search_domain_of_this_machine_is_tried() {
        let (address, asked) = server().await;
        let mut server = NameServerConfig::udp(address.ip());
        server.connections.iter_mut().for_each(|connection| connection.port = address.port());
        let search = vec![Name::from_ascii("corp.example.").unwrap()];
        let config = ResolverConfig::from_parts(None, search, vec![server]);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = finish(builder).unwrap();
        for short in ["intern", "gone.test"] {
            assert_eq!(look_up(&resolver, &name(short)).await, Err(ResolveError::NotFound), "{short}");
        }
        assert_eq!(look_up(&resolver, &name("a.corp.example")).await, Ok(vec!["192.0.2.1".parse().unwrap()]));
        let mut asked = asked.lock().unwrap().clone();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked, ["a.corp.example.", "gone.test.", "intern."]);
    }
}
