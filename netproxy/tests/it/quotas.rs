//! How much a sandbox and a rule may do: at the limit it is done, one above it is refused in words of its own.

use std::future::ready;
use std::time::Duration;

use netproxy::HostName;
use netproxy::hooks::*;
use netproxy::limits::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::client::*;
use crate::hooks::{Any, Records, Rules};
use crate::world::World;

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// The usual rules, with limits.
struct Limited(Rules, RuleLimits);

impl Authorize for Limited {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        self.limit(self.0.connect(facts))
    }
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        self.limit(self.0.request(facts))
    }
    fn dns_name(&self, name: &HostName) -> Verdict {
        self.0.dns_name(name)
    }
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        self.0.address(facts)
    }
}

impl Limited {
    fn limit(&self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Allow(allow) => allow.with_limits(self.1).into(),
            deny => deny,
        }
    }
}

async fn ruled(change: impl FnOnce(&mut RuleLimits)) -> std::sync::Arc<World> {
    let mut limits = RuleLimits::default();
    change(&mut limits);
    World::build_ruled(|names| names, |ports| Limited(Rules { ports }, limits), |builder| builder).await
}

fn get(target: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

#[tokio::test]
async fn a_client_above_the_limit_is_told_so_in_its_language() {
    let world = World::limited(limits(|l| l.client_connections_max = 2)).await;
    let target = world.at("ok.example");
    let mut first = https(&world, &target).await;
    let second = https(&world, &target).await;
    for (bytes, start) in [
        (format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").into_bytes(), "HTTP/1.1 503 "),
        (b"\x05\x01\x00".to_vec(), "\x05\u{ff}"),
        (format!("TCP1 {target}\n").into_bytes(), "TCP1 NO too_many_connections "),
    ] {
        let mut third = world.connect();
        third.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        third.read_to_end(&mut answer).await.unwrap();
        // Byte for byte: a SOCKS reply is no UTF-8.
        let start: Vec<u8> = start.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        assert!(answer.starts_with(&start), "{}", String::from_utf8_lossy(&answer));
    }
    for record in world.records(3).await {
        assert_eq!((&record["error"], &record["verdict"]), (&"too_many_connections".into(), &"error".into()));
    }
    // Those that are in are served, and make room when they go.
    assert_eq!(ask(&mut first, &get(&target)).await.status, 200);
    drop(second);
    loop {
        let mut next = world.connect();
        let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        next.write_all(head.as_bytes()).await.unwrap();
        if read_answer(&mut next, "CONNECT").await.status == 200 {
            break;
        }
        tokio::task::yield_now().await;
    }
}

/// `TURNED_AWAY_MAX`, as a number: each of more would cost memory. They say nothing, so that each takes up its room for as
/// long as it may.
#[tokio::test(start_paused = true)]
async fn so_many_clients_above_the_limit_are_heard_at_once_and_no_more() {
    let records = Records::default();
    let limits = limits(|l| l.client_connections_max = 0);
    let proxy = netproxy::Proxy::builder().limits(limits.clone()).audit(records.clone()).build().unwrap();
    let open = || {
        let (near, far) = tokio::io::duplex(1024);
        let proxy = proxy.clone();
        tokio::spawn(async move { proxy.serve(far).await });
        near
    };
    let started = Instant::now();
    let mut silent: Vec<_> = (0..64).map(|_| open()).collect();
    assert!(is_at_end(&mut open()).await);
    assert_eq!((started.elapsed(), records.0.lock().unwrap().len()), (Duration::ZERO, 1));
    // Whoever goes makes room.
    let request = b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let mut first = silent.swap_remove(0);
    first.write_all(request).await.unwrap();
    assert_eq!(read_answer(&mut first, "GET").await.status, 503);
    drop(first);
    let mut next = loop {
        let mut next = open();
        next.write_all(request).await.unwrap();
        if next.read_u8().await.is_ok() {
            break next;
        }
    };
    assert_eq!(started.elapsed(), Duration::ZERO);
    for stream in silent.iter_mut().chain([&mut next]) {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let took = started.elapsed();
    assert!(took >= limits.linger_timeout && took < limits.linger_timeout * 2, "{took:?}");
}

#[tokio::test]
async fn too_many_requests_in_a_second_are_refused_once_and_for_good() {
    let sandbox = World::limited(limits(|l| l.requests_per_s = Some(0))).await;
    let rule = ruled(|l| l.requests_per_s = Some(0)).await;
    for (world, named) in [(sandbox, serde_json::Value::Null), (rule, "ok".into())] {
        let target = world.at("ok.example");
        let mut tls = https(&world, &target).await;
        let answer = ask(&mut tls, &get(&target)).await;
        assert_eq!((answer.status, answer.header("x-should-retry").as_deref()), (403, Some("false")));
        let json = answer.json();
        assert_eq!((&json["error"], &json["rule"]), (&"rate_limited".into(), &named));
        assert_eq!(world.records(1).await[0]["error"], "rate_limited");
        assert!(world.tls.seen.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn connections_of_a_rule_are_limited() {
    let world = ruled(|l| l.connections = Some(1)).await;
    let target = world.at("ok.example");
    let mut first = https(&world, &target).await;
    assert_eq!(ask(&mut first, &get(&target)).await.status, 200);
    let mut second = https(&world, &target).await;
    let answer = ask(&mut second, &get(&target)).await;
    assert_eq!(answer.status, 503);
    let json = answer.json();
    assert_eq!((&json["error"], &json["rule"]), (&"too_many_connections".into(), &"ok".into()));
    assert_eq!(ask(&mut first, &get(&target)).await.status, 200);
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_and_never_whole() {
    let sandbox = World::limited(limits(|l| l.request_body_bytes_max = Some(10))).await;
    // The smaller one counts.
    let rule = ruled(|l| l.request_body_bytes = Some(10)).await;
    for world in [sandbox, rule] {
        let target = world.at("ok.example");
        for (framing, status) in [
            ("Content-Length: 10\r\n\r\n0123456789", 200),
            ("Content-Length: 11\r\n\r\n0123456789a", 413),
            ("Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n", 200),
            ("Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n1\r\na\r\n0\r\n\r\n", 413),
        ] {
            let whole = world.tls.whole.load(std::sync::atomic::Ordering::SeqCst);
            let mut tls = https(&world, &target).await;
            let head = format!("POST /upload HTTP/1.1\r\nHost: {target}\r\n{framing}");
            let answer = ask(&mut tls, &head).await;
            assert_eq!(answer.status, status, "{framing}: {answer:?}");
            if status == 413 {
                assert_eq!(answer.json()["error"], "request_body_too_large");
                assert_eq!(world.tls.whole.load(std::sync::atomic::Ordering::SeqCst), whole, "{framing}");
                // What goes up before the limit is found counts, and no more.
                let up = if framing.starts_with('T') { 10 } else { 0 };
                let record = world.records.0.lock().unwrap().last().unwrap().clone();
                assert!(record.bytes_up <= up, "{framing}: {record:?}");
            }
        }
    }
}

/// Nobody listens on that port: what is dialled is another error.
#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_refused_before_anything_is_dialled() {
    let world = World::limited(limits(|l| l.request_body_bytes_max = Some(10))).await;
    for (length, answered) in [(10, (502, "upstream_unreachable")), (11, (413, "request_body_too_large"))] {
        let mut tls = https(&world, "ok.example:1").await;
        let head = format!(
            "POST /upload HTTP/1.1\r\nHost: ok.example:1\r\nContent-Length: {length}\r\n\r\n0123456789a"
        );
        let answer = ask(&mut tls, &head).await;
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert_eq!((answer.status, &*error), answered, "{length}");
    }
}

/// On a paused clock: a body of 100,000 bytes that a refusing proxy reads to its end.
#[tokio::test(start_paused = true)]
async fn bytes_are_slowed_down_and_not_lost() {
    let mut limits = limits(|l| l.bytes_per_s = Some(10_000));
    limits.linger_timeout = Duration::from_secs(60);
    let proxy = netproxy::Proxy::builder().limits(limits).build().unwrap();
    let (mut client, far) = tokio::io::duplex(1024);
    let started = tokio::time::Instant::now();
    let served = tokio::spawn(async move { proxy.serve(far).await });
    client
        .write_all(b"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_answer(&mut client, "POST").await.status, 403);
    client.write_all(&[b'x'; 100_000]).await.unwrap();
    client.shutdown().await.unwrap();
    served.await.unwrap();
    let took = started.elapsed().as_secs_f64();
    assert!((9.5..=11.0).contains(&took), "{took}");
}

/// Answers every request itself, so that all that takes time is the client's own connection.
struct Answers(usize);

impl Inject for Answers {
    fn inject<'a>(
        &'a self,
        _: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        head.answer = Some(Box::pin(ready(http::Response::new(vec![b'x'; self.0].into()))));
        Box::pin(ready(Ok(Injected::default())))
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_of_answers_are_slowed_down_too() {
    let limits = limits(|l| l.bytes_per_s = Some(10_000));
    let builder = netproxy::Proxy::builder().authorize(Any).inject(Answers(100_000));
    let proxy = builder.limits(limits).build().unwrap();
    let (mut client, far) = tokio::io::duplex(1024);
    tokio::spawn(async move { proxy.serve(far).await });
    let started = Instant::now();
    let answer = ask(&mut client, "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    assert_eq!((answer.status, answer.body.len()), (200, 100_000));
    let took = started.elapsed().as_secs_f64();
    assert!((9.5..=11.0).contains(&took), "{took}");
}
