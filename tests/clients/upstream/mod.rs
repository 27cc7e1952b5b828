//! A TLS server on loopback with all that clients want from one: files, an echo, a git repository, model APIs.

mod http;
mod models;
mod routes;
mod sigv4;
mod websocket;

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As in `Host`, port included.
    pub host: String,
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
    pub api_key: Option<String>,
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
    shared: Arc<Shared>,
}

impl Upstream {
    /// Serves under these names; its authority is in `upstream-ca.pem`, git repositories in `git/`.
    pub fn start(folder: &Path, names: &[&str]) -> Self {
        let config = Arc::new(tls(folder, names));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
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
        let all = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, shared) = (config.clone(), all.clone());
                std::thread::spawn(move || {
                    let connection = rustls::ServerConnection::new(config).unwrap();
                    // A client that goes away is part of several tests.
                    let _ = http::serve(rustls::StreamOwned::new(connection, stream), &shared);
                });
            }
        });
        Self { port, shared }
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

fn tls(folder: &Path, names: &[&str]) -> rustls::ServerConfig {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("upstream-ca.pem"), issuer.pem()).unwrap();
    rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap()
}
