//! A TLS server on loopback with all that clients want from one: files, an echo, a git repository, model APIs.

mod http;
mod http2;
mod models;
mod routes;
mod sigv4;
mod websocket;

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As in `Host`, port included.
    pub host: String,
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
    pub api_key: Option<String>,
    pub over: Over,
}

/// What a request came over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Over {
    Plain,
    Tls,
    /// TLS, and the client has shown its certificate.
    KnownTls,
    /// TLS, in HTTP/2.
    Http2,
}

/// What the server does beyond the usual.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub enum Kind {
    #[default]
    Usual,
    /// Asks for a certificate and takes none as well; one that it trusts is in `client.pem`.
    Asks,
    /// Speaks HTTP/2 alone.
    Http2,
}

/// What all connections share.
pub struct Shared {
    seen: Mutex<Vec<Seen>>,
    files: Mutex<HashMap<String, (String, Vec<u8>)>>,
    /// How many access tokens.
    tokens_given: Mutex<u32>,
    /// Whether the token server keeps its answers for itself just now.
    tokens_held: (Mutex<bool>, Condvar),
    /// Whole requests for tokens.
    asked: Mutex<Vec<Arc<http::Request>>>,
    /// Those that AWS would have to check.
    signed: Mutex<Vec<Arc<http::Request>>>,
    /// Where bare git repositories are.
    repositories: PathBuf,
}

/// The server; its threads end with the test process.
pub struct Upstream {
    pub port: u16,
    /// The same over plain HTTP.
    pub plain_port: u16,
    shared: Arc<Shared>,
}

impl Upstream {
    /// Serves under these names; its authority is in `upstream-ca.pem`, git repositories in `git/`.
    pub fn start(folder: &Path, names: &[&str], kind: Kind) -> Self {
        let config = Arc::new(tls(folder, names, kind));
        let repositories = folder.join("git");
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            files: Mutex::default(),
            asked: Mutex::default(),
            signed: Mutex::default(),
            tokens_given: Mutex::default(),
            tokens_held: Default::default(),
            repositories,
        });
        // A client that goes away is part of several tests.
        let all = shared.clone();
        let port = listen(move |stream| {
            let _ = match kind {
                Kind::Http2 => http2::serve(stream, config.clone(), &all),
                Kind::Usual | Kind::Asks => serve_tls(stream, config.clone(), &all),
            };
        });
        let all = shared.clone();
        let plain_port = listen(move |stream| {
            let _ = http::serve(stream, &all, Over::Plain);
        });
        Self { port, plain_port, shared }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Requests for a token that is made with a key, whole.
    pub fn asked(&self) -> Vec<Arc<http::Request>> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Requests with an AWS signature, whole.
    pub fn signed(&self) -> Vec<Arc<http::Request>> {
        self.shared.signed.lock().unwrap().clone()
    }

    pub fn check_signature(&self, request: &http::Request, id: &str, secret: &str) -> Result<(), String> {
        sigv4::check(request, id, secret)
    }

    /// Whether the token server answers, or lets its clients wait.
    pub fn hold_tokens(&self, held: bool) {
        *self.shared.tokens_held.0.lock().unwrap() = held;
        self.shared.tokens_held.1.notify_all();
    }

    /// Serves `content` under `path`.
    pub fn put(&self, path: &str, content_type: &str, content: impl Into<Vec<u8>>) {
        self.shared.files.lock().unwrap().insert(path.to_owned(), (content_type.to_owned(), content.into()));
    }
}

/// Serves each connection of a free port in a thread of its own.
fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    port
}

fn serve_tls(stream: TcpStream, config: Arc<ServerConfig>, shared: &Shared) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.conn.complete_io(&mut stream.sock)?;
    let over = stream.conn.peer_certificates().map_or(Over::Tls, |_| Over::KnownTls);
    http::serve(stream, shared, over)
}

fn tls(folder: &Path, names: &[&str], kind: Kind) -> ServerConfig {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("upstream-ca.pem"), issuer.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = if kind == Kind::Asks {
        let key = KeyPair::generate().unwrap();
        let client =
            CertificateParams::new(["client.test".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        std::fs::write(folder.join("client.pem"), client.pem() + &key.serialize_pem()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = builder.with_single_cert(vec![leaf.der().clone()], key).unwrap();
    if kind == Kind::Http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    config
}
