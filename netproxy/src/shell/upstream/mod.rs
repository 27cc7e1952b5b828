//! Upstream connections: reach the place, verify it, and send.

pub mod dial;
pub mod http1;
pub mod http2;
pub mod local;
pub mod pool;
pub mod proxy;
pub mod reach;
#[cfg(feature = "hickory")]
pub mod renewed;
#[cfg(feature = "hickory")]
pub mod resolve;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::http1::{Sender, Stream, Unanswered};
use self::pool::Place;
use self::reach::{OpenTimes, connect};
use super::exchange::body::RequestBody;
use super::shared::Shared;
use super::stream::incoming::Incoming;
use crate::audit::Layer;
use crate::authority::Host;
use crate::hooks::Scheme;
use crate::refuse::{Kind, Refusal};

/// A response with what it took to get it.
pub struct Arrived {
    pub response: Response<Incoming>,
    /// `None` on a connection that was open already.
    pub opened: Option<OpenTimes>,
}

/// Sends `request`, over an open connection if there is one. A kept connection that the upstream has closed
/// meanwhile is replaced once, if nothing of the request was sent.
pub async fn send(
    shared: &Shared,
    place: &Place,
    mut request: Request<RequestBody>,
) -> Result<Arrived, Box<Refusal>> {
    if let Some(sender) = shared.pool.take(place) {
        match sender.send(request).await {
            Ok(response) => return Ok(Arrived { response, opened: None }),
            Err(Unanswered::Unsent(unsent)) => request = *unsent,
            Err(unanswered) => return Err(unanswered.into()),
        }
    }
    // Boxed: requests over an open connection do not carry its room about.
    Box::pin(send_anew(shared, place, request)).await
}

async fn send_anew(
    shared: &Shared,
    place: &Place,
    request: Request<RequestBody>,
) -> Result<Arrived, Box<Refusal>> {
    let (sender, opened) = open(shared, place).await?;
    send_over(sender, request, opened).await
}

/// Sends over a connection that was opened just now.
pub async fn send_over(
    sender: Sender,
    request: Request<RequestBody>,
    opened: OpenTimes,
) -> Result<Arrived, Box<Refusal>> {
    let response = sender.send(request).await.map_err(|unanswered| opened.on(unanswered.into()))?;
    Ok(Arrived { response, opened: Some(opened) })
}

impl From<Unanswered> for Box<Refusal> {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::TooLate => too_late(),
            Unanswered::TooManyBytes => failure(
                Kind::UpstreamProtocol,
                "the upstream sent too many bytes, such as interim answers (1xx), and no answer",
            ),
            Unanswered::BrokenBody => Box::new(body_broke_off()),
            Unanswered::Bad(error) => failure(Kind::UpstreamProtocol, &error.to_string()),
            Unanswered::Broken | Unanswered::Unsent(_) => {
                failure(Kind::UpstreamProtocol, "the upstream broke the connection, and did not answer")
            }
        }
    }
}

pub fn too_late() -> Box<Refusal> {
    failure(Kind::UpstreamTimeout, "the upstream did not answer the request in time")
}

pub fn malformed_body() -> Refusal {
    Refusal::new(Kind::Malformed, Layer::Http, "the body of the request is malformed")
}

pub fn body_broke_off() -> Refusal {
    Refusal::new(Kind::BodyBrokeOff, Layer::Http, "the body of the request broke off")
}

pub fn body_too_quiet() -> Refusal {
    Refusal::new(Kind::BodyTooQuiet, Layer::Http, "no byte of the request's body came in time")
}

pub fn failure(kind: Kind, detail: &str) -> Box<Refusal> {
    Box::new(Refusal::new(kind, Layer::Upstream, detail))
}

/// Opens an HTTP/1.1 connection.
async fn open(shared: &Shared, place: &Place) -> Result<(Sender, OpenTimes), Box<Refusal>> {
    match place.scheme {
        Scheme::Http => {
            let (stream, times) = connect(shared, &place.authority, place.via.as_ref()).await?;
            Ok((over(shared, stream), times))
        }
        Scheme::Https => {
            let (stream, times) = open_tls(shared, place, &shared.upstream_tls).await?;
            Ok((over(shared, stream), times))
        }
    }
}

/// Opens a TLS connection with what `config` offers, and the client certificate that the host is to be shown.
pub async fn open_tls(
    shared: &Shared,
    place: &Place,
    config: &Arc<ClientConfig>,
) -> Result<(TlsStream<TcpStream>, OpenTimes), Box<Refusal>> {
    let host = place.authority.host();
    let (tcp, times) = connect(shared, &place.authority, place.via.as_ref()).await?;
    let started = Instant::now();
    let config = match place.certified {
        true => shared.client_certificates.config_for(host, config),
        false => Arc::clone(config),
    };
    let tls = TlsConnector::from(config).connect(server_name(host)?, tcp);
    let shaken = timeout(shared.limits.connect_timeout, tls).await;
    let times = OpenTimes { tls: Some(started.elapsed()), ..times };
    match shaken {
        Ok(Ok(stream)) => Ok((stream, times)),
        Ok(Err(error)) => Err(times.on(tls_failure(&error))),
        Err(_) => {
            let detail = "the upstream's TLS handshake takes too long";
            Err(times.on(failure(Kind::UpstreamTimeout, detail)))
        }
    }
}

/// Speaks HTTP/1.1 over this stream.
pub fn over(shared: &Shared, io: impl Stream + 'static) -> Sender {
    Sender::over(io, &shared.limits)
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
            let (fault, hint) = certificate_fault(why);
            let mut refusal = failure(Kind::UpstreamCertificate, fault);
            refusal.hint = hint.map(str::to_owned);
            refusal
        }
        _ => failure(Kind::UpstreamTls, "the TLS handshake with the upstream failed"),
    }
}

/// In words that a user can act on, and what to do where another root would not help; names in the certificate are not
/// repeated.
fn certificate_fault(error: &CertificateError) -> (&'static str, Option<&'static str>) {
    let theirs =
        |fault| (fault, Some("Do not retry. Whoever runs the upstream has to mend its certificate."));
    match error {
        CertificateError::UnknownIssuer => {
            ("the upstream's certificate is not signed by an authority that this machine trusts", None)
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            theirs("the upstream's certificate is for another name")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            theirs("the upstream's certificate has expired")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            "the upstream's certificate is not valid yet",
            Some("Do not retry. Ask the user whether the clock of the host machine is right."),
        ),
        CertificateError::Revoked => theirs("the upstream's certificate is revoked"),
        _ => theirs("the upstream's certificate is malformed or may not be used for a server"),
    }
}
