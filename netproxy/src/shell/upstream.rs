//! Upstream connections: resolve once, judge, dial what was judged, verify, and keep for the next request
//! of the same client connection to the same place.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::body::RequestBody;
use super::dial::{DialError, dial};
use super::shared::Shared;
use crate::audit::Layer;
use crate::authority::{Authority, Host};
use crate::guard::{Checked, GuardError};
use crate::hooks::{AddressFacts, ResolveError, Scheme};
use crate::limits::UPSTREAMS_PER_CLIENT_MAX;
use crate::refuse::{Kind, Refusal};

type Sender = SendRequest<RequestBody>;

/// The open upstream connections of one client connection.
#[derive(Default)]
pub struct Upstreams {
    open: Vec<(Scheme, Authority, Sender)>,
}

/// A response with what it took to get it.
pub struct Arrived {
    pub response: Response<Incoming>,
    /// `None` on a connection that was open already.
    pub connect: Option<Duration>,
}

impl Upstreams {
    /// Sends `request`, over an open connection if there is one. A kept connection that the upstream has
    /// closed meanwhile is replaced once, if nothing of the request was sent.
    pub async fn send(
        &mut self,
        shared: &Shared,
        (scheme, authority): (Scheme, &Authority),
        mut request: Request<RequestBody>,
    ) -> Result<Arrived, Box<Refusal>> {
        if let Some(mut sender) = self.take(scheme, authority) {
            match wait_for_head(shared, sender.try_send_request(request)).await? {
                Ok(response) => {
                    self.keep(scheme, authority, sender);
                    return Ok(Arrived { response, connect: None });
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(broken()),
                },
            }
        }
        let started = Instant::now();
        let mut sender = open(shared, scheme, authority).await?;
        let connect = started.elapsed();
        match wait_for_head(shared, sender.try_send_request(request)).await? {
            Ok(response) => {
                self.keep(scheme, authority, sender);
                Ok(Arrived { response, connect: Some(connect) })
            }
            Err(_) => Err(broken()),
        }
    }

    fn take(&mut self, scheme: Scheme, authority: &Authority) -> Option<Sender> {
        let at = self.open.iter().position(|(s, a, _)| *s == scheme && a == authority)?;
        let (_, _, sender) = self.open.swap_remove(at);
        // Not ready means that the answer before was not read to its end; such a connection is given up.
        sender.is_ready().then_some(sender)
    }

    fn keep(&mut self, scheme: Scheme, authority: &Authority, sender: Sender) {
        if self.open.len() >= UPSTREAMS_PER_CLIENT_MAX {
            self.open.remove(0);
        }
        self.open.push((scheme, authority.clone(), sender));
    }
}

async fn wait_for_head<T>(shared: &Shared, head: impl Future<Output = T>) -> Result<T, Box<Refusal>> {
    timeout(shared.limits.response_timeout, head)
        .await
        .map_err(|_| failure(Kind::UpstreamTimeout, "the upstream did not answer the request in time"))
}

fn broken() -> Box<Refusal> {
    failure(Kind::UpstreamProtocol, "the upstream broke the connection or did not answer in HTTP/1.1")
}

fn failure(kind: Kind, detail: &str) -> Box<Refusal> {
    Box::new(Refusal::new(kind, Layer::Upstream, detail))
}

/// Opens an HTTP connection.
async fn open(shared: &Shared, scheme: Scheme, authority: &Authority) -> Result<Sender, Box<Refusal>> {
    let tcp = connect(shared, authority).await?;
    match scheme {
        Scheme::Http => handshake(tcp).await,
        Scheme::Https => {
            let name = server_name(authority.host())?;
            let tls = TlsConnector::from(Arc::clone(&shared.upstream_tls)).connect(name, tcp);
            match timeout(shared.limits.connect_timeout, tls).await {
                Ok(Ok(stream)) => handshake(stream).await,
                Ok(Err(error)) => Err(tls_failure(&error)),
                Err(_) => Err(failure(Kind::UpstreamTimeout, "the upstream's TLS handshake takes too long")),
            }
        }
    }
}

async fn handshake<S>(io: S) -> Result<Sender, Box<Refusal>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|_| broken())?;
    // Ends when the sender is dropped, or when the upstream closes; its error reaches the request.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// Resolves, judges and dials.
pub async fn connect(shared: &Shared, authority: &Authority) -> Result<TcpStream, Box<Refusal>> {
    let checked = check(shared, authority).await?;
    let dialled =
        timeout(shared.limits.connect_timeout, dial(&checked, shared.limits.connect_attempt_timeout));
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

async fn check(shared: &Shared, authority: &Authority) -> Result<Checked, Box<Refusal>> {
    let addresses = match authority.host() {
        Host::Ip(ip) => vec![*ip],
        Host::Name(name) => timeout(shared.limits.resolve_timeout, shared.resolve.resolve(name))
            .await
            .unwrap_or(Err(ResolveError::Timeout))
            .map_err(resolve_failure)?,
    };
    let allow = |address| {
        shared.authorize.special_address(&AddressFacts {
            host: authority.host(),
            port: Some(authority.port()),
            address,
        })
    };
    shared.guard.check(authority, &addresses, &allow).map_err(|error| guard_refusal(&error))
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
        GuardError::Special { .. } | GuardError::OwnListener { .. } => Kind::SpecialAddress,
    };
    Box::new(Refusal::new(kind, Layer::Address, error.to_string()))
}

fn server_name(host: &Host) -> Result<ServerName<'static>, Box<Refusal>> {
    match host {
        Host::Ip(ip) => Ok(ServerName::from(*ip)),
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned())
            .map_err(|_| failure(Kind::UpstreamTls, "the host name cannot be in a certificate")),
    }
}

fn tls_failure(error: &io::Error) -> Box<Refusal> {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(why)) => {
            failure(Kind::UpstreamCertificate, &format!("the upstream's certificate is not valid: {why}"))
        }
        _ => failure(Kind::UpstreamTls, "the TLS handshake with the upstream failed"),
    }
}
