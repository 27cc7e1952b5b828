//! Client certificates: shown to the host they are for, and to no other.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use netproxy::hooks::*;
use netproxy::{BuildError, Host, HostName, Proxy};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::client::*;
use crate::hooks::{Any, Names};
use crate::http2::{H2, client as h2};

struct Authority {
    pem: String,
    der: rustls::pki_types::CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Authority { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
}

/// A chain and its key.
fn leaf(authority: &Authority, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    (CertificateParams::new(names).unwrap().signed_by(&key, &authority.issuer).unwrap(), key)
}

/// TLS that asks for certificates of `clients`, and insists on one if told so.
fn asking(server: &Authority, clients: &Authority, insists: bool) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(clients.der.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = if insists { verifier } else { verifier.allow_unauthenticated() };
    let (certificate, key) = leaf(server, &["shown.example", "other.example"]);
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap()
}

/// Hands each connection to `serve` once its handshake is over.
async fn serving<F, S>(config: ServerConfig, serve: F) -> SocketAddr
where
    F: Fn(TlsStream<TcpStream>) -> S + Send + Sync + 'static,
    S: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
            tokio::spawn(async move { serve(acceptor.accept(stream).await?).await });
        }
    });
    address
}

/// How many certificates came.
fn shown(tls: &TlsStream<TcpStream>) -> usize {
    tls.get_ref().1.peer_certificates().map_or(0, <[_]>::len)
}

/// A server that asks for certificates of `clients`, insists on one if told so, and answers with how many it got.
async fn asking_server(server: &Authority, clients: &Authority, insists: bool) -> SocketAddr {
    serving(asking(server, clients, insists), |tls| answer_once(tls, |tls| shown(tls).to_string())).await
}

/// Answers one request and ends.
async fn answer_once(
    mut tls: TlsStream<TcpStream>,
    text: impl Fn(&TlsStream<TcpStream>) -> String,
) -> std::io::Result<()> {
    read_until(&mut tls, b"\r\n\r\n").await;
    let text = text(&tls);
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", text.len());
    tls.write_all((head + &text).as_bytes()).await?;
    tls.shutdown().await
}

/// Answers over HTTP/2 with how many certificates it got, however many requests come.
async fn answer_over_http2(tls: TlsStream<TcpStream>) -> std::io::Result<()> {
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(H2));
    let count = shown(&tls);
    let answer = service_fn(move |_| async move {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(count.to_string()))))
    });
    let served = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tls), answer);
    served.await.map_err(std::io::Error::other)
}

fn host(name: &str) -> Host {
    Host::parse(name).unwrap()
}

async fn get(proxy: &Proxy, target: &str) -> Answer {
    get_path(proxy, target, "/").await
}

/// After `CONNECT`.
async fn enter(proxy: &Proxy, target: &str) -> DuplexStream {
    let (mut stream, far) = tokio::io::duplex(64 * 1024);
    let served = proxy.clone();
    tokio::spawn(async move { served.serve(far).await });
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    assert_eq!(ask(&mut stream, &head).await.status, 200);
    stream
}

async fn get_path(proxy: &Proxy, target: &str, path: &str) -> Answer {
    let stream = enter(proxy, target).await;
    let name = target.split(':').next().unwrap();
    let mut tls = tls_trusting(proxy.ca_certificate_pem(), stream, name).await.unwrap();
    ask(&mut tls, &format!("GET {path} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await
}

#[tokio::test]
async fn a_certificate_is_shown_to_its_host_and_to_no_other() {
    let (server, clients) = (authority(), authority());
    let asks = asking_server(&server, &clients, false).await.port();
    let insists = asking_server(&server, &clients, true).await.port();
    let (certificate, key) = leaf(&clients, &["agent"]);
    let names =
        || Names::default().with("shown.example", &[&["127.0.0.1"]]).with("other.example", &[&["127.0.0.1"]]);
    let builder = || Proxy::builder().authorize(Any).resolve(names()).extra_roots_pem(&server.pem);
    let with = builder()
        .client_certificate(host("shown.example"), &certificate.pem(), &key.serialize_pem())
        .build()
        .unwrap();
    let without = builder().build().unwrap();
    for (proxy, target, status, text) in [
        (&with, format!("shown.example:{asks}"), 200, "1"),
        (&with, format!("shown.example:{insists}"), 200, "1"),
        // Again, and after the other host was there.
        (&with, format!("other.example:{asks}"), 200, "0"),
        (&with, format!("shown.example:{asks}"), 200, "1"),
        (&with, format!("other.example:{insists}"), 502, ""),
        (&without, format!("shown.example:{asks}"), 200, "0"),
        (&without, format!("shown.example:{insists}"), 502, ""),
    ] {
        let answer = get(proxy, &target).await;
        assert_eq!(answer.status, status, "{target} {answer:?}");
        if status == 200 {
            assert_eq!(answer.text(), text, "{target}");
        }
    }
}

/// `Any`, and what it only records.
struct Rehearsing;

impl Authorize for Rehearsing {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        Any.connect(facts)
    }
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        if facts.path == "/refused" {
            return Allow::rehearsing(Deny::by("no", "not this")).into();
        }
        Any.request(facts)
    }
    fn dns_name(&self, name: &HostName) -> Verdict {
        Any.dns_name(name)
    }
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        Any.address(facts)
    }
}

/// A proxy under [`Rehearsing`], with a certificate of `clients` for `shown.example`.
fn rehearsing(server: &Authority, clients: &Authority) -> Proxy {
    let (certificate, key) = leaf(clients, &["agent"]);
    let names = Names::default().with("shown.example", &[&["127.0.0.1"]]);
    Proxy::builder()
        .authorize(Rehearsing)
        .resolve(names.with("other.example", &[&["127.0.0.1"]]))
        .extra_roots_pem(&server.pem)
        .client_certificate(host("shown.example"), &certificate.pem(), &key.serialize_pem())
        .build()
        .unwrap()
}

/// What is asked, and how many certificates go with it.
const SHOWN: [(&str, &str); 5] =
    [("/", "1"), ("/refused", "0"), ("/refused", "0"), ("/", "1"), ("/refused", "0")];

#[tokio::test]
async fn what_is_only_recorded_as_refused_goes_without_it() {
    let (server, clients) = (authority(), authority());
    let target = format!("shown.example:{}", asking_server(&server, &clients, false).await.port());
    let proxy = rehearsing(&server, &clients);
    for (path, text) in SHOWN {
        assert_eq!(get_path(&proxy, &target, path).await.text(), text, "{path}");
    }
}

/// Where many requests share one connection, those do not share that in our name.
#[tokio::test]
async fn what_is_only_recorded_as_refused_goes_without_it_over_http2_too() {
    let (server, clients) = (authority(), authority());
    let mut config = asking(&server, &clients, false);
    config.alpn_protocols = vec![H2.to_vec()];
    let target = format!("shown.example:{}", serving(config, answer_over_http2).await.port());
    let proxy = rehearsing(&server, &clients);
    let offer: (&str, &[&[u8]]) = ("shown.example", &[H2]);
    let stream = enter(&proxy, &target).await;
    let mut client = h2::over(tls_offering(proxy.ca_certificate_pem(), stream, offer).await.unwrap()).await;
    for (path, text) in SHOWN {
        assert_eq!(h2::get(&mut client, &target, path).await.text(), text, "{path}");
    }
}

/// The certificate of a resumed session is the one of its first handshake, whatever is to be shown now.
#[tokio::test]
async fn a_session_with_a_certificate_is_not_resumed() {
    let (server, clients) = (authority(), authority());
    let kind = |tls: &TlsStream<TcpStream>| format!("{:?}", tls.get_ref().1.handshake_kind().unwrap());
    let config = asking(&server, &clients, false);
    let port = serving(config, move |tls| answer_once(tls, kind)).await.port();
    let proxy = rehearsing(&server, &clients);
    for (host, path, kinds) in [
        ("shown.example", "/", ["Full", "Full"]),
        // Without one they are, which shows that the server would.
        ("other.example", "/", ["Full", "Resumed"]),
    ] {
        for kind in kinds {
            let answer = get_path(&proxy, &format!("{host}:{port}"), path).await;
            assert_eq!(answer.text(), kind, "{host}");
        }
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_an_error_that_says_so() {
    let clients = authority();
    let (certificate, key) = leaf(&clients, &["agent"]);
    let other_key = KeyPair::generate().unwrap();
    let (pem, key_pem) = (certificate.pem(), key.serialize_pem());
    for (chain, key, text) in [
        ("", key_pem.as_str(), "is not PEM; give a file with BEGIN CERTIFICATE"),
        (&key_pem, &key_pem, "is not PEM; give a file with BEGIN CERTIFICATE"),
        (&pem, "", "give a file with an unencrypted PRIVATE KEY"),
        (&pem, &pem, "give a file with an unencrypted PRIVATE KEY"),
        (&pem, &other_key.serialize_pem(), "cannot be used"),
    ] {
        let built = Proxy::builder().client_certificate(host("a.example"), chain, key).build();
        match built.err() {
            Some(error @ BuildError::ClientCertificate(_)) => {
                let error = error.to_string();
                assert!(error.contains(text) && error.contains("a.example"), "{error}");
                assert!(!error.contains("BEGIN PRIVATE"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}
