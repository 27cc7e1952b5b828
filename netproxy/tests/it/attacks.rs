//! Attacks that fit no other file: redirects, bodies that look like requests, handshakes that break off, certificates
//! that do not stand for the name, and what a record must not hold.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, GeneralSubtree};
use rcgen::{IsCa, Issuer, KeyPair, NameConstraints, date_time_ymd};
use rustls::ServerConfig;
use rustls::client::{EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
use rustls::crypto::hpke::Hpke;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::client::*;
use crate::hooks::{Names, PLACEHOLDER, Rules, SECRET};
use crate::world::World;

#[tokio::test]
async fn a_redirect_is_passed_back_and_its_place_is_judged_anew() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let request = format!("GET /redirect HTTP/1.1\r\nHost: {target}\r\nAuthorization: {PLACEHOLDER}\r\n\r\n");
    let answer = ask(&mut tls, &request).await;
    assert_eq!(answer.status, 302);
    // Nobody went there: the resolver of the tests panics for a name that no rule allows.
    let place = answer.header("location").unwrap();
    assert_eq!(world.tls.seen.lock().unwrap().len(), 1);
    let (host, path) = place.strip_prefix("https://").unwrap().split_once('/').unwrap();
    let mut tls = https(&world, &format!("{host}:443")).await;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {PLACEHOLDER}\r\n\r\n");
    let answer = ask(&mut tls, &request).await;
    assert_eq!((answer.status, &answer.json()["error"]), (403, &"blocked_by_policy".into()));
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_no_request() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let inner = format!("GET /inner HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let length = inner.len();
    for framed in [
        format!("Content-Length: {length}\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{inner}\r\n0\r\n\r\n"),
    ] {
        let mut tls = https(&world, &target).await;
        let request = format!("DELETE /outer HTTP/1.1\r\nHost: {target}\r\n{framed}{inner}");
        assert_eq!(ask(&mut tls, &request).await.status, 403);
        assert!(is_at_end(&mut tls).await, "a second answer");
    }
    assert!(world.tls.seen.lock().unwrap().is_empty());
}

/// On a paused clock nothing that still waits for the client would ever end, except by a limit.
#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_off_in_a_handshake_is_done_with() {
    let proxy = netproxy::Proxy::builder().build().unwrap();
    let connect = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
    let mut hello = rustls::ClientConnection::new(
        Arc::new(config_trusting(proxy.ca_certificate_pem(), None)),
        ServerName::try_from("a.example").unwrap(),
    )
    .unwrap();
    let mut bytes = Vec::new();
    hello.write_tls(&mut bytes).unwrap();
    // A whole hello, and an end or an alert instead of what should follow.
    let close_notify = [21, 3, 3, 0, 2, 1, 0];
    let whole = [bytes.as_slice(), &close_notify].concat();
    for sent in (0..bytes.len()).step_by(7).map(|cut| &bytes[..cut]).chain([bytes.as_slice(), &whole]) {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        near.write_all(connect).await.unwrap();
        near.write_all(sent).await.unwrap();
        near.shutdown().await.unwrap();
        let started = tokio::time::Instant::now();
        proxy.serve(far).await;
        assert!(started.elapsed() < Duration::from_secs(30), "{} bytes were waited for", sent.len());
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
    }
}

fn config_trusting(root_pem: &str, ech: Option<EchMode>) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root_pem.as_bytes()).unwrap()).unwrap();
    let builder =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = match ech {
        Some(mode) => builder.with_ech(mode).unwrap(),
        None => builder.with_safe_default_protocol_versions().unwrap(),
    };
    builder.with_root_certificates(roots).with_no_client_auth()
}

#[tokio::test]
async fn an_encrypted_hello_is_judged_by_its_outer_name() {
    let world = World::start().await;
    for (host, name, root, status) in [
        ("ok.example", "ok.example", world.proxy.ca_certificate_pem(), 200),
        ("opaque.example", "opaque.example", world.tls.root_pem.as_str(), 200),
        ("ok.example", "other.example", world.proxy.ca_certificate_pem(), 421),
        ("opaque.example", "other.example", world.proxy.ca_certificate_pem(), 421),
    ] {
        let target = world.at(host);
        let (key, _) = DH_KEM_X25519_HKDF_SHA256_AES_128.generate_key_pair().unwrap();
        let grease = EchMode::from(EchGreaseConfig::new(DH_KEM_X25519_HKDF_SHA256_AES_128, key));
        let connector = TlsConnector::from(Arc::new(config_trusting(root, Some(grease))));
        let stream = connect(&world, &target).await;
        let mut tls = connector.connect(ServerName::try_from(name).unwrap(), stream).await.unwrap();
        let answer = ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{host} {name}");
    }
    assert_eq!(world.tls.seen.lock().unwrap().len(), 2);
}

/// A certificate and who signed it.
struct Signed {
    name: &'static str,
    ca: fn(&mut CertificateParams),
    names: &'static [&'static str],
    leaf: fn(&mut CertificateParams),
    trusted: bool,
    status: u16,
}

fn subtrees(names: &[&str]) -> Vec<GeneralSubtree> {
    names.iter().map(|name| GeneralSubtree::DnsName((*name).to_owned())).collect()
}

fn signed() -> Vec<Signed> {
    let good = || Signed {
        name: "",
        ca: |_| (),
        names: &["api.bad.example"],
        leaf: |_| (),
        trusted: true,
        status: 502,
    };
    vec![
        Signed { name: "as it should be", status: 200, ..good() },
        Signed { name: "a star for one label", names: &["*.bad.example"], status: 200, ..good() },
        Signed { name: "another name", names: &["other.example"], ..good() },
        Signed { name: "a star for two labels", names: &["*.example"], ..good() },
        Signed { name: "a star for all", names: &["*"], ..good() },
        Signed { name: "a star in a label", names: &["a*.bad.example"], ..good() },
        Signed { name: "no name but the common one", names: &[], ..good() },
        Signed { name: "over", leaf: |leaf| leaf.not_after = date_time_ymd(2020, 1, 1), ..good() },
        Signed { name: "not begun", leaf: |leaf| leaf.not_before = date_time_ymd(2100, 1, 1), ..good() },
        Signed { name: "signed by a stranger", trusted: false, ..good() },
        Signed {
            name: "for clients only",
            leaf: |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            ..good()
        },
        Signed {
            name: "signed by one that is over",
            ca: |ca| ca.not_after = date_time_ymd(2020, 1, 1),
            ..chain()
        },
        Signed {
            name: "signed by one for other names",
            ca: |ca| {
                let permitted_subtrees = subtrees(&["other.example"]);
                ca.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
            },
            ..chain()
        },
        Signed {
            name: "signed by one for all names but this",
            ca: |ca| {
                let excluded_subtrees = subtrees(&["bad.example"]);
                ca.name_constraints = Some(NameConstraints { permitted_subtrees: vec![], excluded_subtrees });
            },
            ..chain()
        },
        Signed {
            name: "a star signed by one for all names but this",
            names: &["*.bad.example"],
            ca: |ca| {
                let excluded_subtrees = subtrees(&["bad.example"]);
                ca.name_constraints = Some(NameConstraints { permitted_subtrees: vec![], excluded_subtrees });
            },
            ..chain()
        },
        Signed {
            name: "signed by one that is no authority",
            ca: |ca| ca.is_ca = IsCa::ExplicitNoCa,
            ..chain()
        },
        Signed { name: "signed by one between", status: 200, ..chain() },
    ]
}

fn chain() -> Signed {
    Signed { name: "", ca: |_| (), names: &["api.bad.example"], leaf: |_| (), trusted: true, status: 502 }
}

/// Root, one between, leaf; the server sends the latter two. Gives the root.
fn server_config(signed: &Signed) -> (String, ServerConfig) {
    let authority = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params, KeyPair::generate().unwrap())
    };
    let (root, root_key) = authority();
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let root = Issuer::new(root, root_key);
    let (mut between, between_key) = authority();
    between.distinguished_name.push(rcgen::DnType::CommonName, "between");
    (signed.ca)(&mut between);
    let between_der = between.signed_by(&between_key, &root).unwrap().der().clone();
    let between = Issuer::new(between, between_key);
    let names: Vec<String> = signed.names.iter().map(ToString::to_string).collect();
    let mut leaf = CertificateParams::new(names).unwrap();
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "api.bad.example");
    (signed.leaf)(&mut leaf);
    let key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&key, &between).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone(), between_der],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    (root_pem, config)
}

#[tokio::test]
async fn a_certificate_that_does_not_stand_for_the_name_is_refused() {
    for signed in signed() {
        let (root_pem, config) = server_config(&signed);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut tls) = acceptor.accept(stream).await else { continue };
                read_until(&mut tls, b"\r\n\r\n").await;
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                let _ = tls.flush().await;
            }
        });
        let names = |names: Names| names.with("api.bad.example", &[&["127.0.0.1"]]);
        let rules = move |_| AnyOf(Rules { ports: vec![port] });
        let more = |builder: netproxy::Builder| match signed.trusted {
            true => builder.extra_roots_pem(root_pem),
            false => builder,
        };
        let world = World::build_ruled(names, rules, more).await;
        let target = format!("api.bad.example:{port}");
        let mut tls = https(&world, &target).await;
        let answer = ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!(
            answer.status,
            signed.status,
            "{}: {}",
            signed.name,
            String::from_utf8_lossy(&answer.body)
        );
        if signed.status != 200 {
            assert_eq!(answer.json()["error"], "upstream_certificate", "{}", signed.name);
        }
    }
}

/// [`Rules`], and any host.
struct AnyOf(Rules);

impl netproxy::hooks::Authorize for AnyOf {
    fn connect(&self, _: &netproxy::hooks::ConnectFacts<'_>) -> netproxy::hooks::Verdict {
        netproxy::hooks::Allow::by("any").into()
    }
    fn request(&self, facts: &netproxy::hooks::RequestFacts<'_>) -> netproxy::hooks::Verdict {
        self.0.request(facts)
    }
    fn dns_name(&self, name: &netproxy::HostName) -> netproxy::hooks::Verdict {
        self.0.dns_name(name)
    }
    fn address(&self, facts: &netproxy::hooks::AddressFacts<'_>) -> bool {
        self.0.address(facts)
    }
}

#[tokio::test]
async fn neither_a_key_nor_a_query_is_in_a_record() {
    let world = World::redacting().await;
    let target = world.at("ok.example");
    let head = format!("Host: {target}\r\nAuthorization: {PLACEHOLDER}\r\nX-Other: header-value\r\n\r\n");
    for (method, path) in
        [("GET", "/echo?q=query-value"), ("DELETE", "/x?q=query-value"), ("GET", "/gzip?q=query-value")]
    {
        let mut tls = https(&world, &target).await;
        ask(&mut tls, &format!("{method} {path} HTTP/1.1\r\n{head}")).await;
    }
    let mut stream = world.connect();
    ask(&mut stream, &format!("GET http://denied.example/?q=query-value HTTP/1.1\r\n{head}")).await;
    let records = world.records(4).await;
    for record in records {
        let text = record.to_string();
        for never in [SECRET, PLACEHOLDER, "query-value", "header-value"] {
            assert!(!text.contains(never), "{never} is in {text}");
        }
    }
}
