//! A client that writes bytes and reads answers.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::World;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        crate::upstream::header(&self.head, name)
    }
}

/// Sends `CONNECT target` and expects 200.
pub async fn connect(world: &World, target: &str) -> DuplexStream {
    let mut stream = world.connect();
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut stream, "CONNECT").await.status, 200);
    stream
}

/// TLS over `stream`, trusting the sandbox's authority only.
pub async fn tls<S: AsyncRead + AsyncWrite + Unpin>(world: &World, stream: S, sni: &str) -> TlsStream<S> {
    tls_trusting(world.proxy.ca_certificate_pem(), stream, sni).await.unwrap()
}

pub async fn tls_trusting<S: AsyncRead + AsyncWrite + Unpin>(
    root_pem: &str,
    stream: S,
    sni: &str,
) -> std::io::Result<TlsStream<S>> {
    tls_offering(root_pem, stream, (sni, &[])).await
}

fn config(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The first message of a handshake.
pub fn client_hello(sni: &str) -> Vec<u8> {
    let config = Arc::new(config(RootCertStore::empty()));
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(config, name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

/// Offers protocols by ALPN.
pub async fn tls_offering<S: AsyncRead + AsyncWrite + Unpin>(
    root_pem: &str,
    stream: S,
    (sni, alpn): (&str, &[&[u8]]),
) -> std::io::Result<TlsStream<S>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root_pem.as_bytes()).unwrap()).unwrap();
    let mut config = config(roots);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// `CONNECT`, TLS, ready for requests.
pub async fn https(world: &World, target: &str) -> TlsStream<DuplexStream> {
    let host = target.rsplit_once(':').unwrap().0.trim_matches(['[', ']']);
    tls(world, connect(world, target).await, host).await
}

/// Writes a request and reads its answer.
pub async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    read_answer(stream, request.split(' ').next().unwrap()).await
}

/// Reads one answer with a Content-Length or chunks; nothing of the next.
pub async fn read_answer<S: AsyncRead + Unpin>(stream: &mut S, method: &str) -> Answer {
    let head = read_until(stream, b"\r\n\r\n").await;
    let head = String::from_utf8(head).unwrap();
    let status: u16 =
        head.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {head:?}")).parse().unwrap();
    let mut body = Vec::new();
    if method == "HEAD" || method == "CONNECT" && status == 200 {
    } else if let Some(length) = crate::upstream::header(&head, "content-length") {
        body.resize(length.parse().unwrap(), 0);
        stream.read_exact(&mut body).await.unwrap();
    } else if crate::upstream::header(&head, "transfer-encoding").is_some() {
        while let Some(chunk) = read_chunk(stream).await {
            body.extend(chunk);
        }
    }
    Answer { status, head, body }
}

pub async fn read_chunk<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Vec<u8>> {
    let line = String::from_utf8(read_until(stream, b"\r\n").await).unwrap();
    let size = usize::from_str_radix(line.trim(), 16).unwrap();
    let mut data = vec![0; size + 2];
    stream.read_exact(&mut data).await.unwrap();
    data.truncate(size);
    (size > 0).then_some(data)
}

pub async fn read_until<S: AsyncRead + Unpin>(stream: &mut S, end: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => break,
        }
    }
    bytes
}

/// Whether the stream is at its end: exactly one answer was given.
pub async fn is_at_end<S: AsyncRead + Unpin>(stream: &mut S) -> bool {
    !matches!(stream.read(&mut [0u8; 1]).await, Ok(1))
}
