//! Upstream connections: reach the place, verify it, and send.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::body::RequestBody;
use super::incoming::Incoming;
use super::pool::Place;
use super::reach::{OpenTimes, connect};
use super::sender::{Sender, Unanswered};
use super::shared::Shared;
use crate::audit::Layer;
use crate::authority::Host;
use crate::hooks::Scheme;
use crate::refuse::{Kind, Refusal};

/// A response with what it took to get it.
pub struct Arrived {
    pub response: Response<Incoming>,
    /// `None` on a connection that was open already.
    pub opened: Option<OpenTimes>,
    /// What it comes over, if that is this exchange's alone.
    pub sender: Option<Sender>,
}

/// Sends `request`, over an open connection if there is one. A kept connection that the upstream has closed
/// meanwhile is replaced once, if nothing of the request was sent.
pub async fn send(
    shared: &Shared,
    place: &Place,
    mut request: Request<RequestBody>,
) -> Result<Arrived, Box<Refusal>> {
    if let Some(mut sender) = shared.pool.take(place)
        && becomes_ready(shared, &mut sender).await
    {
        match sender.send(request).await {
            Ok(response) => {
                return Ok(Arrived {
                    response: response.map(Incoming::Http1),
                    opened: None,
                    sender: Some(sender),
                });
            }
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
    send_over(sender, (request, Some(opened))).await
}

/// Sends over a connection that was opened just now.
pub async fn send_over(
    mut sender: Sender,
    (request, opened): (Request<RequestBody>, Option<OpenTimes>),
) -> Result<Arrived, Box<Refusal>> {
    let response = sender.send(request).await?;
    Ok(Arrived { response: response.map(Incoming::Http1), opened, sender: Some(sender) })
}

impl From<Unanswered> for Box<Refusal> {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::TooLate => too_late(),
            Unanswered::TooManyBytes => failure(
                Kind::UpstreamProtocol,
                "the upstream sent too many bytes, such as interim answers (1xx), and no answer",
            ),
            Unanswered::Broken(error) => broken(&error),
            Unanswered::Unsent(_) => broke_off(),
        }
    }
}

/// The answer before was read to its end, so a live connection is ready at once; one that was broken off says so.
async fn becomes_ready(shared: &Shared, sender: &mut Sender) -> bool {
    sender.is_ready()
        || timeout(shared.limits.connect_attempt_timeout, sender.becomes_ready()).await.unwrap_or(false)
}

pub fn too_late() -> Box<Refusal> {
    failure(Kind::UpstreamTimeout, "the upstream did not answer the request in time")
}

pub fn broken(error: &hyper::Error) -> Box<Refusal> {
    // "User" is whoever wrote the body: our client.
    if error.is_user() {
        return malformed_body();
    }
    if error.is_parse_too_large() {
        return failure(
            Kind::UpstreamProtocol,
            "the head of the upstream's answer is longer, or has more fields, than is borne",
        );
    }
    broke_off()
}

fn broke_off() -> Box<Refusal> {
    failure(Kind::UpstreamProtocol, "the upstream broke the connection or did not answer in HTTP")
}

pub fn malformed_body() -> Box<Refusal> {
    let detail = "the body of the request is malformed, broke off, or stopped for too long";
    Box::new(Refusal::new(Kind::Malformed, Layer::Http, detail))
}

pub fn failure(kind: Kind, detail: &str) -> Box<Refusal> {
    Box::new(Refusal::new(kind, Layer::Upstream, detail))
}

/// Opens an HTTP/1.1 connection.
async fn open(shared: &Shared, place: &Place) -> Result<(Sender, OpenTimes), Box<Refusal>> {
    match place.scheme {
        Scheme::Http => {
            let (stream, times) = connect(shared, &place.authority, place.via.as_ref()).await?;
            Ok((handshake(shared, stream).await?, times))
        }
        Scheme::Https => {
            let (stream, times) = open_tls(shared, place, &shared.upstream_tls).await?;
            Ok((handshake(shared, stream).await?, times))
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
    let config = shared.client_certificates.config_for(host, config);
    let tls = TlsConnector::from(config).connect(server_name(host)?, tcp);
    match timeout(shared.limits.connect_timeout, tls).await {
        Ok(Ok(stream)) => Ok((stream, OpenTimes { tls: Some(started.elapsed()), ..times })),
        Ok(Err(error)) => Err(tls_failure(&error)),
        Err(_) => Err(failure(Kind::UpstreamTimeout, "the upstream's TLS handshake takes too long")),
    }
}

pub async fn handshake<S>(shared: &Shared, io: S) -> Result<Sender, Box<Refusal>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let bounds = (shared.limits.response_timeout, shared.limits.header_bytes_max);
    Sender::over(io, bounds).await.map_err(|error| broken(&error))
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
            failure(Kind::UpstreamCertificate, certificate_fault(why))
        }
        _ => failure(Kind::UpstreamTls, "the TLS handshake with the upstream failed"),
    }
}

/// In words that a user can act on; names in the certificate are not repeated.
fn certificate_fault(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownIssuer => {
            "the upstream's certificate is not signed by an authority that this machine trusts"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the upstream's certificate is for another name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the upstream's certificate has expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the upstream's certificate is not valid yet; check the clock of this machine"
        }
        CertificateError::Revoked => "the upstream's certificate is revoked",
        _ => "the upstream's certificate is malformed or may not be used for a server",
    }
}
