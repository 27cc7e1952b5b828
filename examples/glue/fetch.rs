//! The host's requests for tokens, its own and those that it sends in the place of a tool of the guest's. They go through a proxy of their own, in memory, so that they get the same strict
//! resolver, address guard, trust and limits as the guest's requests; no guest reaches that proxy, and it leads to the
//! token servers only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use credvault::{TokenEndpoint, TokenRequest};
use http::StatusCode;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue};
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
pub(crate) const FETCH_TIME: Duration = Duration::from_secs(30);
/// Longest answer of the in-memory proxy to `CONNECT`.
const CONNECT_BYTES_MAX: usize = 4096;
const BUFFER_BYTES: usize = 16 * 1024;

/// Status and body.
pub type Answer = (StatusCode, Zeroizing<Vec<u8>>);

/// Sends requests for tokens.
pub struct Fetch {
    proxy: Proxy,
    tls: TlsConnector,
}

/// Leads to the token servers; which addresses are good, and which upstream proxy is on the way, is for the guest's own
/// rules to say.
struct TokenServersOnly {
    servers: Vec<(String, u16)>,
    rules: Arc<dyn Authorize>,
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
        if facts.scheme == Scheme::Http {
            return Deny::unmatched("tokens are asked for over https only").into();
        }
        match (self.verdict(facts.authority), self.rules.request(facts)) {
            (Verdict::Allow(allow), Verdict::Allow(Allow { upstream: Some(upstream), .. })) => {
                allow.via(upstream).into()
            }
            (verdict, _) => verdict,
        }
    }

    fn dns_name(&self, _: &HostName) -> Verdict {
        Deny::unmatched("nobody asks for names here").into()
    }

    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        self.rules.address(facts)
    }
}

impl Fetch {
    /// Leads to these servers only. `builder` has the resolver, the trusted roots and the upstream proxies; `rules` are the
    /// guest's.
    ///
    /// # Errors
    /// What is wrong with the builder.
    pub fn new<'e>(
        builder: Builder,
        servers: impl IntoIterator<Item = &'e TokenEndpoint>,
        rules: Arc<dyn Authorize>,
    ) -> Result<Self, String> {
        let servers = servers.into_iter().map(|endpoint| (endpoint.host.clone(), endpoint.port)).collect();
        let proxy = builder
            .authorize(TokenServersOnly { servers, rules })
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
    pub async fn send(&self, request: TokenRequest) -> Result<Answer, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("the {name} of a request for a token cannot be sent"))?;
            headers.insert(*name, value);
        }
        self.post(&request.endpoint, headers, Bytes::copy_from_slice(&request.body)).await
    }

    /// Sends `body` with these fields.
    ///
    /// # Errors
    /// One sentence without a secret.
    pub async fn post(
        &self,
        endpoint: &TokenEndpoint,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, String> {
        match tokio::time::timeout(FETCH_TIME, self.exchange(endpoint, headers, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("the token server cannot be asked: {error}")),
            Err(_) => Err("the token server did not answer in time".to_owned()),
        }
    }

    async fn exchange(
        &self,
        endpoint: &TokenEndpoint,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let TokenEndpoint { host, port, path } = endpoint;
        let stream =
            self.tls.connect(ServerName::try_from(host.clone())?, self.connect(host, *port).await?).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let authority = if *port == 443 { host.clone() } else { format!("{host}:{port}") };
        // Of the body that stood there before.
        headers.remove(CONTENT_LENGTH);
        headers.insert(HOST, HeaderValue::from_str(&authority)?);
        // Nothing here decodes, and what cannot be read is lost with the tokens in it.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.values_mut().for_each(|value| value.set_sensitive(true));
        let mut request = http::Request::post(path.as_str()).body(Full::new(body))?;
        *request.headers_mut() = headers;
        let response = sender.send_request(request).await?;
        let status = response.status();
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
