//! Upstream proxies: chosen by rule, asked with or without credentials, by address or by name; their refusals.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use netproxy::hooks::*;
use netproxy::{Authority, HostName, Proxy, ProxyCredentials, UpstreamProxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::client::*;
use crate::doors::raw_server;
use crate::hooks::{Names, Records};
use crate::upstream::{self, Upstream};

/// Everything by the proxy that the host is called after: `NAME.example` goes via `NAME`.
struct ByHost;

impl ByHost {
    fn allow(authority: &Authority) -> Allow {
        let host = authority.host().to_string();
        match host.split('.').next() {
            Some("direct") | None => Allow::by("direct"),
            // A literal address, by a proxy that is sent names.
            Some("10") => Allow::by("proxied").via("remote"),
            Some(name) => Allow::by("proxied").via(name),
        }
    }
}

impl Authorize for ByHost {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        let opaque = facts.authority.host().to_string().starts_with("opaque");
        let tls = if opaque { TlsMode::Opaque } else { TlsMode::Inspect };
        Self::allow(facts.authority).with_tls(tls).into()
    }
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        Self::allow(facts.authority).into()
    }
    fn tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
        Self::allow(facts.authority).into()
    }
    fn dns_name(&self, _: &HostName) -> Verdict {
        Deny::unmatched("no DNS here").into()
    }
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        !facts.special || facts.address.is_loopback()
    }
}

type Seen = Arc<Mutex<Vec<String>>>;

/// Where a target that a proxy is asked for leads here, if it is allowed there.
fn leads_to(target: &str) -> Option<String> {
    let (host, port) = target.rsplit_once(':')?;
    (!host.starts_with("forbidden")).then(|| format!("127.0.0.1:{port}"))
}

/// Answers `CONNECT` for whoever gives `authorization`, and writes down what it was asked.
async fn http_proxy(authorization: Option<&'static str>) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let head = String::from_utf8(read_until(&mut stream, b"\r\n\r\n").await).unwrap();
                log.lock().unwrap().push(head.clone());
                let target = head.split(' ').nth(1).unwrap_or("").to_owned();
                let given = upstream::header(&head, "proxy-authorization");
                if given.as_deref() != authorization {
                    let refusal = "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
                    return stream.write_all(refusal.as_bytes()).await;
                }
                let Some(place) = leads_to(&target) else {
                    return stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").await;
                };
                let mut to = tokio::net::TcpSocket::new_v4()?.connect(place.parse().unwrap()).await?;
                // An interim answer, and the destination's first bytes in the same segment as the last one.
                let mut first = vec![0; 11];
                if target.starts_with("greets.") {
                    to.read_exact(&mut first).await?;
                } else {
                    first.clear();
                }
                let answer =
                    [&b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nVia: x\r\n\r\n"[..], &first].concat();
                stream.write_all(&answer).await?;
                copy_bidirectional(&mut stream, &mut to).await.map(drop)
            });
        }
    });
    (address, seen)
}

/// Answers SOCKS5 for whoever gives this user and password, and writes down where to.
async fn socks_proxy(login: Option<(&'static str, &'static str)>) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_socks(stream, login, Arc::clone(&log)));
        }
    });
    (address, seen)
}

async fn serve_socks(
    mut stream: TcpStream,
    login: Option<(&'static str, &'static str)>,
    log: Seen,
) -> std::io::Result<()> {
    let counted = async |stream: &mut TcpStream| {
        let mut text = vec![0; usize::from(stream.read_u8().await?)];
        stream.read_exact(&mut text).await?;
        std::io::Result::Ok(String::from_utf8(text).unwrap())
    };
    assert_eq!(stream.read_u8().await?, 5);
    let methods = counted(&mut stream).await?;
    let wanted = if login.is_some() { 2 } else { 0 };
    if !methods.as_bytes().contains(&wanted) {
        return stream.write_all(&[5, 0xff]).await;
    }
    stream.write_all(&[5, wanted]).await?;
    if let Some((user, password)) = login {
        assert_eq!(stream.read_u8().await?, 1);
        let given = (counted(&mut stream).await?, counted(&mut stream).await?);
        let good = (given.0.as_str(), given.1.as_str()) == (user, password);
        stream.write_all(&[1, u8::from(!good)]).await?;
        if !good {
            return Ok(());
        }
    }
    let mut start = [0; 4];
    stream.read_exact(&mut start).await?;
    assert_eq!(start[..3], [5, 1, 0]);
    let host = match start[3] {
        1 => std::net::Ipv4Addr::from(stream.read_u32().await?).to_string(),
        3 => counted(&mut stream).await?,
        other => panic!("address type {other}"),
    };
    let target = format!("{host}:{}", stream.read_u16().await?);
    log.lock().unwrap().push(target.clone());
    let Some(place) = leads_to(&target) else {
        return stream.write_all(&[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    };
    let mut to = tokio::net::TcpSocket::new_v4()?.connect(place.parse().unwrap()).await?;
    stream.write_all(&[5, 0, 0, 3, 2, b'h', b'i', 0, 0]).await?;
    copy_bidirectional(&mut stream, &mut to).await.map(drop)
}

fn place(address: SocketAddr) -> Authority {
    Authority::parse(&address.to_string(), None).unwrap()
}

fn credentials(user: &str, password: &str) -> Option<ProxyCredentials> {
    Some(ProxyCredentials::new(user, password).unwrap())
}

struct Net {
    proxy: Proxy,
    records: Records,
    tls: Upstream,
    plain: Upstream,
    http: Seen,
    http_login: Seen,
    socks: Seen,
    socks_login: Seen,
}

const NAMES: [&str; 10] = [
    "direct.example",
    "http.example",
    "login.example",
    "wrong.example",
    "socks.example",
    "sockslogin.example",
    "sockswrong.example",
    "opaque.example",
    "missing.example",
    "down.example",
];

async fn net() -> Net {
    let tls = upstream::start(&[&NAMES[..], &["remote.example", "socksremote.example"]].concat(), true).await;
    let plain = upstream::start(&["plain.example"], false).await;
    let (http_at, http) = http_proxy(None).await;
    // RFC 7617 §2's own example.
    let (login_at, http_login) = http_proxy(Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")).await;
    let (socks_at, socks) = socks_proxy(None).await;
    let (socks_login_at, socks_login) = socks_proxy(Some(("user", "pass"))).await;
    let babble = raw_server(true).await;
    let records = Records::default();
    let names = NAMES.iter().fold(Names::default(), |names, name| names.with(name, &[&["127.0.0.1"]]));
    // By name: it is resolved like any host, and may be private.
    let named = Authority::parse(&format!("corp.proxy.example:{}", http_at.port()), None).unwrap();
    let names = names.with("corp.proxy.example", &[&["127.0.0.1"]]).with("private.example", &[&["10.0.0.1"]]);
    let proxy = Proxy::builder()
        .authorize(ByHost)
        .audit(records.clone())
        .resolve(names)
        .extra_roots_pem(&tls.root_pem)
        .upstream_proxy("http", UpstreamProxy::http_connect(named, None))
        .upstream_proxy("opaque", UpstreamProxy::http_connect(place(http_at), None))
        .upstream_proxy("remote", UpstreamProxy::http_connect(place(http_at), None).with_remote_names())
        .upstream_proxy("forbidden", UpstreamProxy::http_connect(place(http_at), None).with_remote_names())
        .upstream_proxy(
            "login",
            UpstreamProxy::http_connect(place(login_at), credentials("Aladdin", "open sesame")),
        )
        .upstream_proxy("wrong", UpstreamProxy::http_connect(place(login_at), credentials("Aladdin", "?")))
        .upstream_proxy("socks", UpstreamProxy::socks5(place(socks_at), credentials("not", "needed")))
        .upstream_proxy("socksremote", UpstreamProxy::socks5(place(socks_at), None).with_remote_names())
        .upstream_proxy("forbidden-socks", UpstreamProxy::socks5(place(socks_at), None).with_remote_names())
        .upstream_proxy(
            "sockslogin",
            UpstreamProxy::socks5(place(socks_login_at), credentials("user", "pass")),
        )
        .upstream_proxy("sockswrong", UpstreamProxy::socks5(place(socks_login_at), credentials("user", "?")))
        .upstream_proxy("private", UpstreamProxy::http_connect(place(http_at), None))
        .upstream_proxy(
            "down",
            UpstreamProxy::http_connect(Authority::parse("127.0.0.1:1", None).unwrap(), None),
        )
        .upstream_proxy("greets", UpstreamProxy::http_connect(place(http_at), None).with_remote_names())
        .upstream_proxy("babble", UpstreamProxy::socks5(place(babble), None).with_remote_names())
        .upstream_proxy("babble-http", UpstreamProxy::http_connect(place(babble), None).with_remote_names())
        .build()
        .unwrap();
    Net { proxy, records, tls, plain, http, http_login, socks, socks_login }
}

impl Net {
    async fn connect(&self, target: &str) -> tokio::io::DuplexStream {
        let (mut stream, far) = tokio::io::duplex(64 * 1024);
        let proxy = self.proxy.clone();
        tokio::spawn(async move { proxy.serve(far).await });
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        assert_eq!(ask(&mut stream, &head).await.status, 200);
        stream
    }

    /// A request over TLS, trusting `root`.
    async fn get(&self, host: &str, root: &str) -> Answer {
        let target = format!("{host}:{}", self.tls.address.port());
        let stream = self.connect(&target).await;
        let mut tls = tls_trusting(root, stream, host).await.unwrap();
        ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await
    }
}

#[tokio::test]
async fn the_rule_chooses_the_proxy_and_what_it_is_told() {
    let net = net().await;
    let port = net.tls.address.port();
    let ca = net.proxy.ca_certificate_pem();
    for (host, asked, target) in [
        ("direct.example", None, String::new()),
        ("http.example", Some(&net.http), format!("127.0.0.1:{port}")),
        ("remote.example", Some(&net.http), format!("remote.example:{port}")),
        ("login.example", Some(&net.http_login), format!("127.0.0.1:{port}")),
        ("socks.example", Some(&net.socks), format!("127.0.0.1:{port}")),
        ("socksremote.example", Some(&net.socks), format!("socksremote.example:{port}")),
        ("sockslogin.example", Some(&net.socks_login), format!("127.0.0.1:{port}")),
    ] {
        let all = || {
            [&net.http, &net.http_login, &net.socks, &net.socks_login].map(|seen| seen.lock().unwrap().len())
        };
        let before: usize = all().iter().sum();
        let answer = net.get(host, ca).await;
        assert_eq!(answer.text(), "hello", "{host}");
        match asked {
            None => assert_eq!(all().iter().sum::<usize>(), before),
            Some(seen) => {
                let last = seen.lock().unwrap().last().unwrap().clone();
                let place =
                    if last.starts_with("CONNECT ") { last.split(' ').nth(1).unwrap() } else { &last };
                assert_eq!(place, target, "{host}");
                assert_eq!(all().iter().sum::<usize>(), before + 1, "{host}");
            }
        }
    }
    // Whose credentials they are, nobody else hears.
    assert!(
        net.http.lock().unwrap().iter().all(|head| upstream::header(head, "proxy-authorization").is_none())
    );
    assert!(net.tls.seen.lock().unwrap().iter().all(|head| !head.to_lowercase().contains("proxy-auth")));
}

#[tokio::test]
async fn plain_http_opaque_tls_and_raw_bytes_go_by_the_proxy_too() {
    let net = net().await;
    let host = format!("http.example:{}", net.plain.address.port());
    let (mut stream, far) = tokio::io::duplex(64 * 1024);
    let proxy = net.proxy.clone();
    tokio::spawn(async move { proxy.serve(far).await });
    let answer = ask(&mut stream, &format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    assert_eq!(answer.text(), "hello");
    assert_eq!(net.http.lock().unwrap().len(), 1);
    assert_eq!(net.get("opaque.example", &net.tls.root_pem).await.text(), "hello");
    assert_eq!(net.http.lock().unwrap().len(), 2);
    // The server's greeting may come in one segment with the proxy's answer, and must not be lost.
    let raw = raw_server(true).await;
    for host in ["socks.example", "greets.example"] {
        let mut stream = net.connect(&format!("{host}:{}", raw.port())).await;
        assert_eq!(read_until(&mut stream, b"\n").await, b"220 hello\r\n");
        stream.write_all(b"bye\n").await.unwrap();
        assert_eq!(read_until(&mut stream, b"\n").await, b"BYE\n");
    }
}

#[tokio::test]
async fn a_refusal_of_the_proxy_is_told_apart_from_one_of_the_upstream() {
    let net = net().await;
    let ca = net.proxy.ca_certificate_pem();
    for (host, error, text) in [
        ("wrong.example", "upstream_proxy", "upstream proxy wrong: it does not accept our credentials"),
        (
            "sockswrong.example",
            "upstream_proxy",
            "upstream proxy sockswrong: it does not accept our credentials",
        ),
        (
            "forbidden.example",
            "upstream_proxy",
            "upstream proxy forbidden: its rules do not allow this destination",
        ),
        (
            "forbidden-socks.example",
            "upstream_proxy",
            "upstream proxy forbidden-socks: its rules do not allow this destination",
        ),
        ("missing.example", "upstream_proxy", "upstream proxy missing: it is not set up on the host"),
        ("down.example", "upstream_proxy", "upstream proxy down: the upstream refuses the connection"),
        ("babble.example", "upstream_proxy", "upstream proxy babble: it does not answer in SOCKS5"),
        (
            "babble-http.example",
            "upstream_proxy",
            "upstream proxy babble-http: it does not answer in HTTP/1.1",
        ),
    ] {
        let before = net.records.0.lock().unwrap().len();
        let answer = net.get(host, ca).await;
        let json = answer.json();
        assert_eq!((answer.status, &json["error"]), (502, &error.into()), "{host} {answer:?}");
        assert!(json["detail"].as_str().unwrap().starts_with(text), "{host}: {}", json["detail"]);
        assert_eq!(answer.header("x-should-retry").as_deref(), Some("false"));
        let records = net.records.0.lock().unwrap();
        assert_eq!(records.len(), before + 1, "{host}");
        let line = netproxy::audit_json_line(&records[before]);
        assert!(!line.contains("sesame") && !line.contains("QWxhZGRpb"), "{line}");
    }
    assert!(net.tls.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_proxy_is_no_way_to_a_private_address() {
    let net = net().await;
    // A name that is judged here, and a literal address even for a proxy that is sent names.
    for host in ["private.example:80", "10.0.0.1:80"] {
        let (mut stream, far) = tokio::io::duplex(64 * 1024);
        let proxy = net.proxy.clone();
        tokio::spawn(async move { proxy.serve(far).await });
        let answer = ask(&mut stream, &format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!((answer.status, &answer.json()["error"]), (403, &"address_prohibited".into()), "{host}");
    }
    assert!(net.http.lock().unwrap().is_empty());
}

/// Else what goes up would come in again, as a request of some other client.
#[tokio::test]
async fn a_listener_of_our_own_is_no_upstream_proxy() {
    let (own, asked) = http_proxy(None).await;
    let named = Authority::parse(&format!("corp.proxy.example:{}", own.port()), None).unwrap();
    let proxy = Proxy::builder()
        .authorize(ByHost)
        .resolve(Names::default().with("corp.proxy.example", &[&["127.0.0.1"]]))
        .own_listener(own)
        .upstream_proxy("literal", UpstreamProxy::http_connect(place(own), None).with_remote_names())
        .upstream_proxy("named", UpstreamProxy::http_connect(named, None).with_remote_names())
        .build()
        .unwrap();
    for name in ["literal", "named"] {
        let (mut stream, far) = tokio::io::duplex(64 * 1024);
        let proxy = proxy.clone();
        tokio::spawn(async move { proxy.serve(far).await });
        let host = format!("{name}.example");
        let answer = ask(&mut stream, &format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let detail = format!("upstream proxy {name}: {own} is a listener of the proxy itself");
        assert_eq!((answer.status, &answer.json()["detail"]), (502, &detail.into()));
    }
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_by_one_proxy_is_not_used_for_another() {
    // The rules change between two requests to the same place.
    struct Turns(std::sync::atomic::AtomicUsize);
    impl Authorize for Turns {
        fn connect(&self, _: &ConnectFacts<'_>) -> Verdict {
            Allow::by("all").into()
        }
        fn request(&self, _: &RequestFacts<'_>) -> Verdict {
            let turn = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            match turn % 3 {
                0 => Allow::by("all").via("one"),
                1 => Allow::by("all").via("two"),
                _ => Allow::by("all"),
            }
            .into()
        }
        fn dns_name(&self, _: &HostName) -> Verdict {
            Allow::by("all").into()
        }
        fn address(&self, _: &AddressFacts<'_>) -> bool {
            true
        }
    }
    let plain = upstream::start(&["plain.example"], false).await;
    let ((one_at, one), (two_at, two)) = (http_proxy(None).await, http_proxy(None).await);
    let proxy = Proxy::builder()
        .authorize(Turns(0.into()))
        .resolve(Names::default().with("plain.example", &[&["127.0.0.1"]]))
        .upstream_proxy("one", UpstreamProxy::http_connect(place(one_at), None))
        .upstream_proxy("two", UpstreamProxy::http_connect(place(two_at), None))
        .build()
        .unwrap();
    let (mut stream, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move { proxy.serve(far).await });
    let host = format!("plain.example:{}", plain.address.port());
    for turn in 0..6 {
        let answer = ask(&mut stream, &format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer.text(), "hello");
        // Each is asked at its first turn; after that its connection is kept for its own turns.
        let asked = (one.lock().unwrap().len(), two.lock().unwrap().len());
        assert_eq!(asked, (1, usize::from(turn > 0)), "turn {turn}");
    }
}

#[tokio::test]
async fn a_proxy_that_never_answers_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut limits = netproxy::limits::Limits::default();
    limits.connect_timeout = std::time::Duration::from_millis(200);
    let mut proxy = Proxy::builder().authorize(ByHost).limits(limits);
    for (name, kind) in [("http", 0), ("socks", 1)] {
        let place = place(silent.local_addr().unwrap());
        let upstream = if kind == 0 {
            UpstreamProxy::http_connect(place, None)
        } else {
            UpstreamProxy::socks5(place, None)
        };
        proxy = proxy.upstream_proxy(name, upstream.with_remote_names());
    }
    let proxy = proxy.build().unwrap();
    for name in ["http", "socks"] {
        let (mut stream, far) = tokio::io::duplex(64 * 1024);
        let proxy = proxy.clone();
        tokio::spawn(async move { proxy.serve(far).await });
        let host = format!("{name}.example");
        let answer = ask(&mut stream, &format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let detail = format!("upstream proxy {name}: it does not answer in time");
        assert_eq!((answer.status, &answer.json()["detail"]), (502, &detail.into()));
    }
}

/// `UPSTREAM_PROXY_INTERIM_MAX`, as a number: a proxy that sends more may send them for ever.
#[tokio::test]
async fn a_proxy_may_send_three_interim_answers_and_no_more() {
    for (hints, status) in [(3, 200), (4, 502)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = place(listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_until(&mut stream, b"\r\n\r\n").await;
            let answers = ["HTTP/1.1 103 Hints\r\n\r\n".repeat(hints), "HTTP/1.1 200 OK\r\n\r\n".to_owned()];
            stream.write_all(answers.concat().as_bytes()).await.unwrap();
            read_until(&mut stream, b"\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await
        });
        let via = UpstreamProxy::http_connect(place, None).with_remote_names();
        let proxy = Proxy::builder().authorize(ByHost).upstream_proxy("http", via).build().unwrap();
        let (mut stream, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move { proxy.serve(far).await });
        let answer =
            ask(&mut stream, "GET http://http.example/ HTTP/1.1\r\nHost: http.example\r\n\r\n").await;
        assert_eq!(answer.status, status, "{hints}: {answer:?}");
        if status == 502 {
            assert_eq!(answer.json()["error"], "upstream_proxy", "{answer:?}");
        }
    }
}
