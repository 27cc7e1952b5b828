//! hudsucker with a handler that does nothing, and TCP_NODELAY on every leg.
//!
//! `hudsucker_peer LISTEN OPAQUE_PORT,… CA.pem CA.key UPSTREAM_ROOT.pem`: a CONNECT to an opaque port is passed
//! on unread, every other one is intercepted.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use hudsucker::certificate_authority::RcgenAuthority;
use hudsucker::hyper::Request;
use hudsucker::rcgen::{Issuer, KeyPair};
use hudsucker::rustls::crypto::aws_lc_rs;
use hudsucker::{Body, HttpContext, HttpHandler, Proxy};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

#[derive(Clone)]
struct Noop {
    opaque_ports: Vec<u16>,
}

impl HttpHandler for Noop {
    async fn should_intercept_connect(&mut self, _: &HttpContext, request: &Request<Body>) -> bool {
        request.uri().port_u16().is_none_or(|port| !self.opaque_ports.contains(&port))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [listen, opaque_ports, certificate, key, root] = words.as_slice() else {
        return Err("usage: hudsucker_peer LISTEN OPAQUE_PORT,… CA.pem CA.key ROOT.pem".into());
    };
    let key = KeyPair::from_pem(&std::fs::read_to_string(key)?)?;
    let issuer = Issuer::from_ca_cert_pem(&std::fs::read_to_string(certificate)?, key)?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root)?)?;
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = hyper_util::client::legacy::connect::HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    let listener = tokio::net::TcpListener::bind(listen.parse::<SocketAddr>()?).await?;
    // Accepted sockets inherit it.
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    println!("ready");
    Proxy::builder()
        .with_listener(listener)
        .with_ca(RcgenAuthority::new(issuer, 1_000, aws_lc_rs::default_provider()))
        .with_http_connector(connector)
        .with_http_handler(Noop {
            opaque_ports: opaque_ports.split(',').map(str::parse).collect::<Result<_, _>>()?,
        })
        .build()?
        .start()
        .await?;
    Ok(())
}
