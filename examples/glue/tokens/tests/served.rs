//! Renewals through a whole proxy, with a token server over TLS whose refresh tokens are good for one use.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex as Locked;
use std::sync::atomic::AtomicUsize;

use credvault::AgeFileStore;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use netproxy::UpstreamProxy;
use netproxy::hooks::{Audit, Record};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::inject::VaultInject;
use crate::redact::VaultRedact;

/// The token server and the service.
#[derive(Clone)]
struct Server {
    /// Requests for a token, with what the server made of them.
    asked: Arc<Locked<Vec<(String, u16)>>>,
    heads: Arc<Locked<Vec<http::HeaderMap>>>,
    /// Of answers with a token.
    status: Arc<Locked<u16>>,
    arrived: Arc<Notify>,
    /// One for each answer of the token server's.
    may_answer: Arc<Semaphore>,
    /// Fields of such answers.
    more: Arc<Locked<Vec<(&'static str, String)>>>,
}

impl Server {
    fn new() -> Self {
        let may_answer = Arc::new(Semaphore::new(0));
        let status = Arc::new(Locked::new(200));
        let (asked, heads) = Default::default();
        Self { asked, heads, status, arrived: Arc::default(), may_answer, more: Arc::default() }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
        if request.uri().path() != "/oauth/token" {
            let token = request.headers().get("authorization").map(|value| value.as_bytes().to_vec());
            return Ok(Response::new(token.unwrap_or_default().into()));
        }
        self.heads.lock().unwrap().push(request.headers().clone());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let number = {
            let mut asked = self.asked.lock().unwrap();
            let given = asked.iter().filter(|(_, status)| *status == 200).count();
            let is_good = body.split('&').any(|pair| pair == format!("refresh_token=refresh-token-{given}"));
            asked.push((body, if is_good { 200 } else { 400 }));
            is_good.then_some(given + 1)
        };
        self.arrived.notify_one();
        self.may_answer.acquire().await.unwrap().forget();
        let Some(number) = number else {
            let refused = r#"{"error":"invalid_grant"}"#.into();
            return Ok(Response::builder().status(400).body(refused).unwrap());
        };
        let mut response = Response::builder().header("set-cookie", format!("login=access-token-{number}"));
        response = response.status(*self.status.lock().unwrap());
        for (name, value) in self.more.lock().unwrap().iter() {
            response = response.header(*name, value);
        }
        Ok(response.body(answer(number).into()).unwrap())
    }

    /// Under the name `api.example`; where, and its root.
    async fn start(&self) -> (SocketAddr, String) {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new(["api.example".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (place, server) = (listener.local_addr().unwrap(), self.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let answer = service_fn(|request| server.clone().answer(request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        (place, issuer.pem())
    }

    fn statuses(&self) -> Vec<u16> {
        self.asked.lock().unwrap().iter().map(|(_, status)| *status).collect()
    }
}

/// An upstream proxy that leads to one place, and how often it was used.
async fn corp(place: SocketAddr) -> (UpstreamProxy, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = UpstreamProxy::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let used = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&used);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(near.read_u8().await.unwrap());
            }
            count.fetch_add(1, Ordering::SeqCst);
            near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let mut far = TcpStream::connect(place).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    (proxy, used)
}

/// Counts the clients that did not wait for their answer.
struct Gone(Arc<AtomicUsize>);

impl Audit for Gone {
    fn record(&self, record: Record) {
        if record.error == Some("client_went_away") {
            assert_eq!(record.credential.as_deref(), Some("mock.refresh"));
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Returns when it is so; what never is fails.
async fn until(mut is_so: impl FnMut() -> bool) {
    let all = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), all).await.expect("it never is so");
}

/// A proxy before that server; the first refresh token is in an age file.
struct Sandbox {
    server: Server,
    proxy: Proxy,
    renewals: Arc<Renewals>,
    store: AgeFileStore,
    authority: String,
    /// Connections through the upstream proxy `corp`.
    through_corp: Arc<AtomicUsize>,
    gone: Arc<AtomicUsize>,
    /// What the user is told.
    told: Arc<Locked<Vec<String>>>,
}

impl Sandbox {
    async fn start(folder: &Path, rule: &str) -> Self {
        let server = Server::new();
        let (place, root) = server.start().await;
        let authority = format!("api.example:{}", place.port());
        let services = folder.join("services.toml");
        let table = SERVICES.replace("https://api.example", &format!("https://{authority}"));
        let table =
            table.replace("hosts = ", &format!("port = {}\npaths = [\"/api/**\"]\nhosts = ", place.port()));
        fs::write(&services, table).unwrap();
        let chosen = choose(&["mock".parse().unwrap()], Some(&services)).unwrap();
        let (store, sources) = stored(folder);
        let mut builder = Vault::builder();
        let tokens = bind(&mut builder, &chosen, |spec| sources.value(spec)).unwrap();
        let vault = Arc::new(builder.build());
        let policy = format!(
            "version = 1\n[[allow]]\nid = \"open\"\nhost = \"api.example\"\ncidr = \"127.0.0.1/32\"\nports = [{}]\n{rule}\n",
            place.port()
        );
        let rules = move || policy::Ruleset::parse(&policy, "policy.toml").map_err(|error| error.to_string());
        let policy = LivePolicy::start(move || Loaded { rules: rules(), files: Vec::new() }).unwrap();
        let policy = Arc::new(policy);
        let resolver = || crate::resolve::resolver(&["api.example:127.0.0.1".parse().unwrap()]).unwrap();
        let (corp, through_corp) = corp(place).await;
        let own = Proxy::builder().resolve(resolver()).extra_roots_pem(&root).upstream_proxy("corp", corp);
        let servers: Vec<_> = tokens.iter().map(|(_, source)| source.endpoint().clone()).collect();
        let fetch = Fetch::new(own, &servers, policy.clone()).unwrap();
        let told: Arc<Locked<Vec<String>>> = Arc::default();
        let tell = Arc::clone(&told);
        let report: Report = Arc::new(move |text| tell.lock().unwrap().push(text));
        let keep = keep_in_store(&sources, &chosen, report.clone());
        let renewals = Arc::new(Renewals::new(vault.clone(), tokens, fetch, (keep, report)));
        let gone = Arc::default();
        let proxy = Proxy::builder()
            .audit(Gone(Arc::clone(&gone)))
            .authorize(policy)
            .resolve(resolver())
            .extra_roots_pem(&root)
            .inject(RenewingInject::new(VaultInject(vault.clone()), renewals.clone()))
            .redact(VaultRedact(vault))
            .build()
            .unwrap();
        Self { server, proxy, renewals, store, authority, through_corp, gone, told }
    }

    /// `CONNECT`, then TLS.
    async fn connect(&self, alpn: &[&[u8]]) -> TlsStream<DuplexStream> {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let proxy = self.proxy.clone();
        tokio::spawn(async move { proxy.serve(far).await });
        let head = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", self.authority);
        near.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(near.read_u8().await.unwrap());
        }
        let mut roots = RootCertStore::empty();
        let root = self.proxy.ca_certificate_pem().as_bytes();
        roots.add(CertificateDer::from_pem_slice(root).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from("api.example").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, near).await.unwrap()
    }

    /// Sends a request after which nothing follows.
    async fn send(&self, head: &str, body: &str) -> TlsStream<DuplexStream> {
        self.send_with(head, "", body).await
    }

    /// `fields` end in line ends.
    async fn send_with(&self, head: &str, fields: &str, body: &str) -> TlsStream<DuplexStream> {
        let mut stream = self.connect(&[]).await;
        let (authority, length) = (&self.authority, body.len());
        let request = format!(
            "{head} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// What a tool of the guest's sends to renew.
    fn form(&self) -> String {
        format!("grant_type=refresh_token&refresh_token={}", self.placeholder("mock.refresh"))
    }

    async fn renew(&self) -> TlsStream<DuplexStream> {
        self.send("POST /oauth/token", &self.form()).await
    }

    /// Resets the stream once the token server has the refresh token, and before it answers. (Over HTTP/1.1 the proxy
    /// sees only when it answers that nobody waits any more.)
    async fn renew_and_hang_up(&self) {
        let stream = TokioIo::new(self.connect(&[b"h2"]).await);
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post(format!("https://{}/oauth/token", self.authority));
        let request = request.body(Full::new(bytes::Bytes::from(self.form()))).unwrap();
        let asking = tokio::spawn(client.send_request(request));
        self.server.arrived.notified().await;
        asking.abort();
    }

    fn placeholder(&self, name: &str) -> &str {
        self.renewals.vault.placeholder(name).unwrap().as_str()
    }

    /// Half a minute goes by.
    fn rest(&self) {
        self.renewals.sources[0].pace().asked_s = None;
    }

    fn stored(&self) -> String {
        let (value, _) = self.store.fetch("mock").unwrap();
        String::from_utf8(value.expose().to_vec()).unwrap()
    }
}

async fn read(mut stream: TlsStream<DuplexStream>) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_guest_that_hangs_up_loses_no_login() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path(), "").await;
    for number in 1..=2 {
        sandbox.renew_and_hang_up().await;
        // Until the proxy has seen it, the exchange would end well anyhow.
        until(|| sandbox.gone.load(Ordering::SeqCst) == number).await;
        sandbox.server.may_answer.add_permits(1);
        let expected = format!("refresh-token-{number}");
        until(|| sandbox.stored() == expected).await;
        // The record could only say that the client went away.
        until(|| sandbox.told.lock().unwrap().len() == number).await;
        sandbox.rest();
    }
    assert!(sandbox.told.lock().unwrap().iter().all(|text| text.ends_with("it was renewed")));
    // Renewed once more with what nobody was told, and once by the host for a request.
    sandbox.server.may_answer.add_permits(2);
    let text = read(sandbox.renew().await).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.contains(sandbox.placeholder("mock")), "{text}");
    assert_eq!(sandbox.stored(), "refresh-token-3");
    let text = read(sandbox.send("GET /api/x", "").await).await;
    assert!(text.contains("200") && !text.contains("access-token-3"), "{text}");
    assert_eq!(sandbox.server.statuses(), [200, 200, 200]);
}

#[tokio::test]
async fn the_host_and_the_guest_do_not_renew_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path(), "").await;
    let guests = sandbox.renew().await;
    sandbox.server.arrived.notified().await;
    let mut streams = vec![guests, sandbox.send("GET /api/x", "").await];
    for _ in 0..3 {
        streams.push(sandbox.renew().await);
    }
    sandbox.server.may_answer.add_permits(streams.len());
    for stream in streams {
        let text = read(stream).await;
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
    // Nobody else had anything to ask for any more.
    assert_eq!(sandbox.server.statuses(), [200]);
}

#[tokio::test]
async fn a_guest_that_renews_again_and_again_is_given_the_token_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path(), "").await;
    sandbox.server.may_answer.add_permits(100);
    for _ in 0..20 {
        for _ in 0..2 {
            let text = read(sandbox.renew().await).await;
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200"), "{text}");
            let token: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(token["access_token"], sandbox.placeholder("mock"));
            assert_eq!(token["refresh_token"], sandbox.placeholder("mock.refresh"));
            assert!(
                token["expires_in"].as_u64().unwrap() > 3000 && !body.contains("access-token-"),
                "{text}"
            );
        }
        sandbox.rest();
    }
    assert_eq!(sandbox.server.statuses(), [200; 8]);
    // The first is good still, and still kept out of answers.
    assert!(sandbox.renewals.vault.scrub_value(b"access-token-1").is_some());
}

#[tokio::test]
async fn a_refusal_is_told_holds_no_token_and_is_not_asked_for_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path(), "").await;
    sandbox.server.may_answer.add_permits(2);
    // With tokens in its answer.
    *sandbox.server.status.lock().unwrap() = 500;
    for status in ["500", "503"] {
        let text = read(sandbox.renew().await).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")) && !text.contains("access_token"), "{text}");
    }
    assert_eq!((sandbox.server.statuses(), sandbox.stored().as_str()), (vec![200], "refresh-token-0"));
    let told = sandbox.told.lock().unwrap().concat();
    assert!(told.contains("`mock`") && told.contains("refused with status 500"), "{told}");
}

#[tokio::test]
async fn what_goes_up_for_a_guest_is_written_by_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path(), "").await;
    sandbox.server.may_answer.add_permits(2);
    let own = sandbox.placeholder("mock.refresh");
    let body = format!(
        r#"{{"grant_type":"refresh_token","refresh_token":"{own}",
             "x":"&grant_type=refresh_token&refresh_token=refresh-token-0&y="}}"#
    );
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let text = read(sandbox.send_with("POST /oauth/token", form, &body).await).await;
    assert!(text.starts_with("HTTP/1.1 403") && text.contains("own login"), "{text}");
    assert!(sandbox.server.heads.lock().unwrap().is_empty());
    let fields = "Content-Type: application/json; charset=utf-8\r\nUser-Agent: tool\r\nAnthropic-Beta: b\r\n\
                  Accept: text/html\r\nAccept-Charset: utf-16\r\nRange: bytes=0-1\r\nIf-Range: x\r\n\
                  A-IM: gzip\r\nX-Goog-Encode-Response-If-Executable: base64\r\nCookie: c\r\n";
    // To this server, every body is a form: there is no login in it.
    let text = read(sandbox.send_with("POST /oauth/token", fields, &body).await).await;
    assert!(text.starts_with("HTTP/1.1 400") && text.contains("invalid_grant"), "{text}");
    let heads = sandbox.server.heads.lock().unwrap();
    let mut names: Vec<_> = heads[0].keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    let expected = [
        "accept",
        "accept-encoding",
        "anthropic-beta",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    ];
    assert_eq!(names, expected);
    let [accept, kind] = ["accept", "content-type"].map(|name| heads[0][name].to_str().unwrap());
    assert_eq!((accept, kind), ("application/json", "application/json"));
}

#[tokio::test]
async fn the_token_server_is_asked_by_the_way_of_its_rule() {
    for (rule, times) in [("", 0), ("upstream = \"corp\"", 1)] {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::start(folder.path(), rule).await;
        sandbox.server.may_answer.add_permits(1);
        let text = read(sandbox.renew().await).await;
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert_eq!(sandbox.through_corp.load(Ordering::SeqCst), times);
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_decoded_passes_masked_or_not_at_all() {
    for coding in ["identity", "gzip", "unheard-of"] {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::start(folder.path(), "on_opaque = \"pass\"").await;
        sandbox.server.may_answer.add_permits(1);
        *sandbox.server.more.lock().unwrap() = vec![
            ("content-encoding", coding.to_owned()),
            ("x-access-token-1", "a field's name".to_owned()),
            ("x-token", "access-token-1".to_owned()),
        ];
        let text = read(sandbox.renew().await).await;
        assert!(!text.contains("access-token-1") && !text.contains("refresh-token-1"), "{coding}: {text}");
        // Nothing but what is ours stands in its head.
        assert!(!text.contains("set-cookie") && text.contains("content-type: application/json"), "{text}");
        assert_eq!(sandbox.server.statuses(), [200]);
    }
}
