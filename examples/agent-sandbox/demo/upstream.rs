//! A stand-in for a model API: TLS on loopback, checks the key, streams events, echoes headers.
//!
//! It paces its event stream by permission: the next event leaves only when the demo has seen the one
//! before arrive *in the guest*. A proxy that buffers would never get a second event, so the check needs
//! no clock.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::error::{Error, Result};

pub const HOST: &str = "api.model.test";
/// Events in one answer of the model.
pub const EVENTS: usize = 4;

/// A running upstream; it ends with the runtime.
pub struct Upstream {
    pub address: SocketAddr,
    /// Certificate authority of the upstream, for `--upstream-ca`.
    pub ca_pem: String,
    /// One permit lets one event go.
    pub pace: Arc<Semaphore>,
}

/// What the request handler needs to know.
struct Api {
    key: String,
    pace: Arc<Semaphore>,
}

type Body = BoxBody<Bytes, Infallible>;

/// Starts the upstream on a free port of loopback.
pub async fn start(key: String) -> Result<Upstream> {
    let (ca_pem, tls) =
        certificates().map_err(|problem| Error::Sandbox(format!("demo certificates: {problem}")))?;
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::io("cannot listen on loopback"))?;
    let address = listener.local_addr().map_err(Error::io("cannot listen on loopback"))?;
    let pace = Arc::new(Semaphore::new(0));
    let api = Arc::new(Api { key, pace: pace.clone() });
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (api, acceptor) = (api.clone(), acceptor.clone());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(move |request| answer(api.clone(), request));
                // A client that goes away ends its connection; that is no failure of the demo.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(Upstream { address, ca_pem, pace })
}

async fn answer(api: Arc<Api>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let authorised =
        request.headers().get("x-api-key").is_some_and(|value| value.as_bytes() == api.key.as_bytes());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let echoed: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    // The whole request is read before the answer, as a model would.
    let _ = request.into_body().collect().await;
    let response = match (method, path.as_str()) {
        _ if !authorised => text(StatusCode::UNAUTHORIZED, "{\"error\":\"invalid x-api-key\"}\n".to_owned()),
        (Method::POST, "/v1/messages") => stream(&api),
        (Method::GET, "/echo") => text(StatusCode::OK, echoed.concat()),
        _ => text(StatusCode::NOT_FOUND, "{\"error\":\"no such path\"}\n".to_owned()),
    };
    Ok(response)
}

/// Server-sent events, one per permit.
fn stream(api: &Api) -> Response<Body> {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    let pace = api.pace.clone();
    tokio::spawn(async move {
        for number in 1..=EVENTS {
            let Ok(permit) = pace.acquire().await else { return };
            permit.forget();
            let event = format!("event: delta\ndata: {{\"number\":{number}}}\n\n");
            if sender.send_data(event.into()).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(body.boxed());
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/event-stream"));
    response
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed());
    *response.status_mut() = status;
    response
}

/// A CA of its own and a leaf for [`HOST`]: the PEM of the CA, and the server's TLS settings.
fn certificates() -> Result<(String, rustls::ServerConfig), Box<dyn std::error::Error>> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &issuer)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )?;
    Ok((issuer.pem(), config))
}
