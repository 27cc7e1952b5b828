//! The host's own requests for tokens. They go through a proxy of their own, in memory, so that they get the same strict
//! resolver, address guard, trust and limits as the guest's requests; no guest reaches that proxy, and it leads to the
//! token servers only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use credvault::{TokenEndpoint, TokenRequest};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use netproxy::hooks::{AddressFacts, Allow, Authorize, ConnectFacts, Deny, RequestFacts, Scheme, Verdict};
use netproxy::{Authority, Builder, HostName, Proxy};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

/// Longest for one request, from connecting to the last byte.
const FETCH_TIME: Duration = Duration::from_secs(30);
/// Longest answer of the in-memory proxy to `CONNECT`.
const CONNECT_BYTES_MAX: usize = 4096;
const BUFFER_BYTES: usize = 16 * 1024;

/// Sends requests for tokens.
pub struct Fetch {
    proxy: Proxy,
    tls: TlsConnector,
}

/// Leads to the token servers; which addresses are good is for the guest's own rules to say.
struct TokenServersOnly {
    servers: Vec<(String, u16)>,
    addresses: Arc<dyn Authorize>,
}

impl TokenServersOnly {
    fn verdict(&self, authority: &Authority) -> Verdict {
        let host = authority.host().to_string();
        match self.servers.iter().any(|(name, port)| *name == host && *port == authority.port()) {
            true => Allow::by("token-server").into(),
            false => Deny::unmatched("not a token server").into(),
        }
    }
}

impl Authorize for TokenServersOnly {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        self.verdict(facts.authority)
    }

    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        match facts.scheme {
            Scheme::Https => self.verdict(facts.authority),
            Scheme::Http => Deny::unmatched("tokens are asked for over https only").into(),
        }
    }

    fn dns_name(&self, _: &HostName) -> Verdict {
        Deny::unmatched("nobody asks for names here").into()
    }

    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        self.addresses.address(facts)
    }
}

impl Fetch {
    /// Leads to these servers only. `builder` has the resolver and the trusted roots; `addresses` says which special
    /// addresses may be dialled.
    ///
    /// # Errors
    /// What is wrong with the builder.
    pub fn new<'e>(
        builder: Builder,
        servers: impl IntoIterator<Item = &'e TokenEndpoint>,
        addresses: Arc<dyn Authorize>,
    ) -> Result<Self, String> {
        let servers = servers.into_iter().map(|endpoint| (endpoint.host.clone(), endpoint.port)).collect();
        let proxy = builder
            .authorize(TokenServersOnly { servers, addresses })
            .build()
            .map_err(|error| error.to_string())?;
        let mut roots = RootCertStore::empty();
        // Our own certificate, made just now.
        roots
            .add_parsable_certificates(CertificateDer::from_pem_slice(proxy.ca_certificate_pem().as_bytes()));
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { proxy, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Sends one request: status and body of the answer.
    ///
    /// # Errors
    /// One sentence without a secret.
    pub async fn send(&self, request: TokenRequest) -> Result<(u16, Zeroizing<Vec<u8>>), String> {
        match tokio::time::timeout(FETCH_TIME, self.exchange(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("the token server cannot be asked: {error}")),
            Err(_) => Err("the token server did not answer in time".to_owned()),
        }
    }

    async fn exchange(
        &self,
        request: TokenRequest,
    ) -> Result<(u16, Zeroizing<Vec<u8>>), Box<dyn std::error::Error + Send + Sync>> {
        let TokenEndpoint { host, port, path } = &request.endpoint;
        let stream =
            self.tls.connect(ServerName::try_from(host.clone())?, self.connect(host, *port).await?).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let authority = if *port == 443 { host.clone() } else { format!("{host}:{port}") };
        let mut head = http::Request::post(path.as_str()).header("host", authority);
        for (name, value) in &request.headers {
            let mut value = http::HeaderValue::from_str(value)?;
            value.set_sensitive(true);
            head = head.header(*name, value);
        }
        let body = Full::new(Bytes::copy_from_slice(&request.body));
        let response = sender.send_request(head.body(body)?).await?;
        let status = response.status().as_u16();
        let most = credvault::limits::TOKEN_ANSWER_BYTES_MAX;
        let body = Limited::new(response.into_body(), most).collect().await?.to_bytes();
        Ok((status, Zeroizing::new(body.into())))
    }

    /// A connection of the in-memory proxy's that leads to the server.
    async fn connect(&self, host: &str, port: u16) -> std::io::Result<DuplexStream> {
        let (mut near, far) = tokio::io::duplex(BUFFER_BYTES);
        let proxy = self.proxy.clone();
        tokio::spawn(async move { proxy.serve(far).await });
        near.write_all(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n").as_bytes())
            .await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") && answer.len() < CONNECT_BYTES_MAX {
            answer.push(near.read_u8().await?);
        }
        match answer.get(9..12) {
            Some(b"200") => Ok(near),
            _ => Err(std::io::Error::other("the connection was refused")),
        }
    }
}
