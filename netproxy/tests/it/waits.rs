//! Whoever is waited for is given up in time: clients, upstreams and resolvers that never go on. On a paused clock, or with
//! tiny limits, so that nothing waits; what has no end of its own is ended, and fails.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use netproxy::hooks::{BoxFuture, Resolve, ResolveError};
use netproxy::limits::{LINGER_BYTES_MAX, Limits};
use netproxy::{Builder, HostName, Proxy};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::client::*;
use crate::hooks::{Any, Names, Records};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Of no clock of the test's: far above the tiny limits.
const FAR_TOO_LONG: Duration = Duration::from_secs(10);

/// A client whose stream holds so many bytes each way, and what serves it.
fn open(proxy: &Proxy, room: usize) -> (DuplexStream, JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(room);
    let proxy = proxy.clone();
    (near, tokio::spawn(async move { proxy.serve(far).await }))
}

/// How long a client is served that says this, reads nothing, and stays.
async fn served_for(proxy: &Proxy, room: usize, said: &[u8]) -> Duration {
    let started = Instant::now();
    let (mut near, served) = open(proxy, room);
    near.write_all(said).await.unwrap();
    timeout(DAY, served).await.expect("served for a day").unwrap();
    started.elapsed()
}

/// To the tick of the clock.
fn is_about(took: Duration, limit: Duration) -> bool {
    took >= limit && took < limit + Duration::from_millis(100)
}

fn deny_all() -> Proxy {
    Proxy::builder().build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_say_what_it_speaks_is_given_up() {
    for begun in ["", "T", "TCP1"] {
        let took = served_for(&deny_all(), 1024, begun.as_bytes()).await;
        assert!(is_about(took, Limits::default().header_timeout), "{begun}: {took:?}");
    }
}

/// Whether it is let in, or is to be told inside that it is not.
#[tokio::test(start_paused = true)]
async fn a_client_that_stops_after_its_hello_is_given_up() {
    let connect = b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
    let said = [&connect[..], &client_hello("a.example")].concat();
    let records = Records::default();
    let let_in = Proxy::builder().authorize(Any).audit(records.clone()).build().unwrap();
    for proxy in [let_in, deny_all()] {
        let took = served_for(&proxy, 64 * 1024, &said).await;
        assert!(is_about(took, Limits::default().client_tls_timeout), "{took:?}");
    }
    let errors: Vec<_> = records.0.lock().unwrap().iter().map(|record| record.error).collect();
    assert_eq!(errors, [Some("client_tls_failed")]);
}

/// Less room than a refusal has: no HTTP library is behind it, that would have a limit of its own.
#[tokio::test(start_paused = true)]
async fn a_refused_client_that_takes_nothing_is_given_up() {
    let took = served_for(&deny_all(), 16, b"GET\r\n\r\n").await;
    assert!(is_about(took, Limits::default().header_timeout), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_that_stays_is_given_up() {
    let took = served_for(&deny_all(), 64 * 1024, b"GET\r\n\r\n").await;
    assert!(is_about(took, Limits::default().linger_timeout), "{took:?}");
}

/// As fast as it can: no time passes.
#[tokio::test(start_paused = true)]
async fn a_refused_client_that_uploads_for_ever_is_given_up() {
    const ROOM: usize = 64 * 1024;
    let (mut near, served) = open(&deny_all(), ROOM);
    near.write_all(b"GET\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut near, "GET").await.status, 400);
    let (piece, mut taken) = ([b'x'; ROOM], 0);
    while near.write_all(&piece).await.is_ok() {
        taken += ROOM;
        assert!(taken <= 2 * LINGER_BYTES_MAX, "there is no end to what is read");
    }
    served.await.unwrap();
    assert!(taken >= LINGER_BYTES_MAX - ROOM, "{taken}");
}

/// Knows every name, and never says so.
struct Never;

impl Resolve for Never {
    fn resolve<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_never_answers_is_given_up_by_connections() {
    let proxy = Proxy::builder().authorize(Any).resolve(Never).build().unwrap();
    let (mut near, _served) = open(&proxy, 64 * 1024);
    let started = Instant::now();
    let get = ask(&mut near, "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let answer = timeout(DAY, get).await.expect("it is waited for");
    assert_eq!((answer.status, &answer.json()["error"]), (504, &"name_timeout".into()));
    let took = started.elapsed();
    assert!(is_about(took, Limits::default().resolve_timeout), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_never_answers_is_given_up_by_dns_questions() {
    let records = Records::default();
    let proxy = Proxy::builder().authorize(Any).resolve(Never).audit(records.clone()).build().unwrap();
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii("a.example.").unwrap(), RecordType::A));
    let started = Instant::now();
    let query = query.to_vec().unwrap();
    let answer = timeout(DAY, proxy.answer_dns(&query)).await.expect("it is waited for").unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    let took = started.elapsed();
    assert!(is_about(took, Limits::default().resolve_timeout), "{took:?}");
    assert_eq!(records.0.lock().unwrap()[0].error, Some("name_timeout"));
}

/// A proxy that knows `a.example` on loopback, and waits for it a moment.
fn impatient() -> Builder {
    let mut limits = Limits::default();
    limits.connect_timeout = Duration::from_millis(200);
    let names = Names::default().with("a.example", &[&["127.0.0.1"]]);
    Proxy::builder().authorize(Any).resolve(names).limits(limits)
}

/// Its system accepts the connection, and nobody says a word over it.
#[tokio::test]
async fn an_upstream_that_never_finishes_its_handshake_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("a.example:{}", silent.local_addr().unwrap().port());
    let proxy = impatient().build().unwrap();
    let (mut near, _served) = open(&proxy, 64 * 1024);
    ask(&mut near, &format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
    let mut tls = tls_trusting(proxy.ca_certificate_pem(), near, "a.example").await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let get = ask(&mut tls, &request);
    let answer = timeout(FAR_TOO_LONG, get).await.expect("it is waited for");
    assert_eq!((answer.status, &answer.json()["error"]), (504, &"upstream_timeout".into()));
    assert_eq!(answer.json()["detail"], "the upstream's TLS handshake takes too long");
}

/// Its system has no room for more connections, and drops what asks for one.
#[tokio::test]
async fn an_upstream_that_never_accepts_is_given_up() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    // Two of them are more than it has room for; the others ask again and again.
    let mut waiting = JoinSet::new();
    for _ in 0..10 {
        waiting.spawn(TcpSocket::new_v4().unwrap().connect(address));
    }
    let _kept = [waiting.join_next().await, waiting.join_next().await];
    let proxy = impatient().build().unwrap();
    let (mut near, _served) = open(&proxy, 64 * 1024);
    let place = format!("a.example:{}", address.port());
    let request = format!("GET http://{place}/ HTTP/1.1\r\nHost: {place}\r\n\r\n");
    let get = ask(&mut near, &request);
    let answer = timeout(FAR_TOO_LONG, get).await.expect("it is waited for");
    assert_eq!((answer.status, &answer.json()["error"]), (504, &"upstream_timeout".into()));
    assert_eq!(answer.json()["detail"], "the upstream does not accept the connection in time");
}
