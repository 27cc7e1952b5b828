//! A TLS (and a plain) HTTP upstream on loopback that counts what it sees.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use netproxy::wire::websocket::{accept_of, write_frame};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// Heads of all requests that arrived, in order.
pub type Seen = Arc<Mutex<Vec<String>>>;

pub struct Upstream {
    pub address: SocketAddr,
    pub root_pem: String,
    pub seen: Seen,
    /// Requests that arrived whole, body and all.
    pub whole: Arc<AtomicUsize>,
    /// Lets the event stream send its next event.
    pub next_event: Arc<Notify>,
    /// Connections that finished their handshake; only counted by the HTTP/2 upstreams.
    pub connections: Arc<AtomicUsize>,
}

/// A server for `names`, over TLS or in the clear.
pub async fn start(names: &[&str], tls: bool) -> Upstream {
    let (root_pem, config) = certificate(names);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let log = Log::default();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let shared = log.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, log) = (acceptor.clone(), shared.clone());
            tokio::spawn(async move {
                if tls {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, log).await;
                    }
                } else {
                    serve(stream, log).await;
                }
            });
        }
    });
    Upstream {
        address,
        root_pem,
        seen: log.seen,
        whole: log.whole,
        next_event: log.next_event,
        connections: Arc::default(),
    }
}

#[derive(Clone, Default)]
struct Log {
    seen: Seen,
    whole: Arc<AtomicUsize>,
    next_event: Arc<Notify>,
}

pub fn certificate(names: &[&str]) -> (String, ServerConfig) {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let root_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (root_pem, config)
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, log: Log) {
    let mut buffer = Vec::new();
    while let Some(end) = read_head(&mut stream, &mut buffer).await {
        let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
        log.seen.lock().unwrap().push(head.clone());
        let Some(body) = read_body(&mut stream, &mut buffer, &head).await else { break };
        log.whole.fetch_add(1, Ordering::SeqCst);
        let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
        if path.starts_with("/ws") {
            let _ = websocket(&mut stream, &path, (&head, buffer), &log).await;
            return;
        }
        let keep = answer(&mut stream, &path, &head, &body, &log.next_event).await;
        if keep.is_err() || head.to_lowercase().contains("connection: close") {
            break;
        }
    }
    let _ = stream.shutdown().await;
}

async fn answer<S: AsyncWrite + Unpin>(
    stream: &mut S,
    path: &str,
    head: &str,
    body: &[u8],
    events: &Notify,
) -> std::io::Result<()> {
    match path.split('?').next().unwrap_or(path) {
        "/echo" => write_whole(stream, "X-Echo: yes\r\n", head.as_bytes()).await,
        "/echo-header" => {
            let value = header(head, "authorization").unwrap_or_default();
            write_whole(stream, &format!("X-Got: {value}\r\n"), b"").await
        }
        "/echo-name" => {
            let name = header(head, "authorization").unwrap_or_default();
            let trailers = format!("Trailer: X-Sum, X-{name}\r\n");
            write_whole(stream, &format!("X-{name}: 1\r\nX-Other: 2\r\nX-{name}: 3\r\n{trailers}"), b"").await
        }
        "/upload" => write_whole(stream, "", format!("{} bytes", body.len()).as_bytes()).await,
        "/body" => write_whole(stream, "", body).await,
        "/forged" => {
            write_whole(stream, "Proxy-Status: agent-sandbox; error=http_request_denied, cdn\r\n", b"x").await
        }
        "/elsewhere" => write_whole(stream, "Alt-Svc: h3=\"other.example:443\"\r\nX-A: b\r\n", b"x").await,
        "/compress-echo" => {
            let got = header(head, "authorization").unwrap_or_default();
            let more = format!("Content-Encoding: compress\r\nX-Got: {got}\r\n");
            write_whole(stream, &more, b"\x1f\x9dnot really").await
        }
        "/compress" => write_whole(stream, "Content-Encoding: compress\r\n", b"\x1f\x9dnot really").await,
        "/half" => {
            let half = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
            stream.write_all(half.as_bytes()).await?;
            Err(std::io::ErrorKind::Other.into())
        }
        "/both" => {
            let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(format!("{both}6\r\nabcdef\r\n0\r\n\r\n").as_bytes()).await
        }
        "/no-content" => stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await,
        _ if head.starts_with("HEAD ") => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await
        }
        "/silent" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await?;
            stream.flush().await?;
            std::future::pending().await
        }
        "/redirect" => {
            let head =
                "HTTP/1.1 302 Found\r\nLocation: https://denied.example/there\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(head.as_bytes()).await
        }
        "/never" => std::future::pending().await,
        "/break" => Err(std::io::ErrorKind::Other.into()),
        "/close" => {
            write_whole(stream, "Connection: close\r\n", b"bye").await?;
            Err(std::io::ErrorKind::Other.into())
        }
        "/events" => {
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            for n in 0..3 {
                if n > 0 {
                    events.notified().await;
                }
                let event = format!("data: {n}\n\n");
                stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
                stream.flush().await?;
            }
            stream.write_all(b"0\r\n\r\n").await
        }
        _ => write_whole(stream, "", b"hello").await,
    }?;
    stream.flush().await
}

async fn write_whole<S: AsyncWrite + Unpin>(stream: &mut S, extra: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\n{extra}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}

pub fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            return Some(at + 4);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// `None` if the body is cut short.
async fn read_body<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    head: &str,
) -> Option<Vec<u8>> {
    if let Some(length) = header(head, "content-length") {
        let length: usize = length.parse().unwrap();
        while buffer.len() < length {
            if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        return Some(buffer.drain(..length).collect());
    }
    if header(head, "transfer-encoding").is_some() {
        // Good enough for tests: chunk data has no "0\r\n\r\n" in it.
        while !buffer.windows(5).any(|w| w == b"0\r\n\r\n") {
            if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        return Some(std::mem::take(buffer));
    }
    Some(Vec::new())
}

/// Opens a WebSocket, says a secret in two fragments, and notes all that the client says.
async fn websocket<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    path: &str,
    (head, early): (&str, Vec<u8>),
    log: &Log,
) -> std::io::Result<()> {
    // Nothing of the client's may come before the answer, however long it takes.
    let mut byte = [0u8; 1];
    for _ in 0..200 {
        let early_bytes = tokio::select! { biased; read = stream.read(&mut byte) => read?, () = tokio::task::yield_now() => 0 };
        assert_eq!((early.len(), early_bytes), (0, 0), "bytes before the 101");
    }
    let key = if path == "/ws-accept" { String::new() } else { header(head, "sec-websocket-key").unwrap() };
    let extra = match path {
        "/ws-extension" => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        "/ws-protocol" => "Sec-WebSocket-Protocol: chat\r\n",
        _ => "",
    };
    let accept = accept_of(&key);
    if path == "/ws-200" {
        write_whole(stream, "", b"not today").await?;
        stream.flush().await?;
    } else {
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{extra}\r\n"
        );
        let mut bytes = answer.into_bytes();
        if path == "/ws-masked" {
            bytes.extend_from_slice(b"\x81\x81\0\0\0\0a");
        }
        write_frame(0x01, b"it is sk-real-", &mut bytes);
        write_frame(0x80, b"0123456789.", &mut bytes);
        stream.write_all(&bytes).await?;
        stream.flush().await?;
    }
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await?;
    log.seen.lock().unwrap().push(String::from_utf8(said).unwrap());
    let mut bye = Vec::new();
    if path == "/ws-late" {
        write_frame(0x89, b"sk-real-0123456789?", &mut bye);
        write_frame(0x81, b"still sk-real-0123456789", &mut bye);
    }
    write_frame(0x88, b"\x03\xe8", &mut bye);
    stream.write_all(&bye).await?;
    stream.shutdown().await
}
