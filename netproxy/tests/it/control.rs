//! Draining, and a policy that changes while connections are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netproxy::HostName;
use netproxy::hooks::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::client::*;
use crate::hooks::{Records, Rules};
use crate::http2::client as h2;
use crate::world::World;

/// The rules, until the switch is on: then nothing is allowed.
pub struct Switch(pub Rules, pub Arc<AtomicBool>);

impl Switch {
    fn or(&self, verdict: Verdict) -> Verdict {
        if self.1.load(Ordering::SeqCst) {
            Deny::by("closed", "the policy has changed").into()
        } else {
            verdict
        }
    }
}

impl Authorize for Switch {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        self.or(self.0.connect(facts))
    }
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        self.or(self.0.request(facts))
    }
    fn dns_name(&self, name: &HostName) -> Verdict {
        self.or(self.0.dns_name(name))
    }
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        self.0.address(facts)
    }
}

async fn world() -> (Arc<World>, Arc<AtomicBool>) {
    let closed = Arc::new(AtomicBool::new(false));
    let rules = |ports| Switch(Rules { ports }, Arc::clone(&closed));
    let world = World::build_ruled(|names| names, rules, |builder| builder).await;
    (world, closed)
}

#[tokio::test]
async fn what_the_new_policy_forbids_ends_and_is_recorded() {
    let (world, closed) = world().await;
    let target = world.at("ok.example");
    let get = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let mut idle = https(&world, &target).await;
    assert_eq!(ask(&mut idle, &get).await.status, 200);
    let mut multiplexed = h2::open(&world, &target).await;
    assert_eq!(h2::get(&mut multiplexed, &target, "/").await.status, 200);
    let opaque = world.at("opaque.example");
    let stream = connect(&world, &opaque).await;
    let mut tunnel = tls_trusting(&world.tls.root_pem, stream, "opaque.example").await.unwrap();
    assert_eq!(ask(&mut tunnel, &get).await.status, 200);
    let mut socket = https(&world, &target).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    socket
        .write_all(format!("GET /ws HTTP/1.1\r\nHost: {target}\r\n{upgrade}\r\n").as_bytes())
        .await
        .unwrap();
    assert!(read_until(&mut socket, b"789.").await.ends_with(b"789."));

    // A change that changes nothing for them.
    world.proxy.reauthorize();
    assert_eq!(ask(&mut idle, &get).await.status, 200);
    assert_eq!(ask(&mut tunnel, &get).await.status, 200);
    assert_eq!(h2::get(&mut multiplexed, &target, "/").await.status, 200);

    let before = world.records.0.lock().unwrap().len();
    closed.store(true, Ordering::SeqCst);
    world.proxy.reauthorize();
    for stream in [&mut idle, &mut tunnel, &mut socket] {
        assert!(is_at_end(stream).await);
    }
    while !multiplexed.is_closed() {
        tokio::task::yield_now().await;
    }
    let records = world.records(before + 4).await;
    let count = |key: &str, value: &str| records[before..].iter().filter(|r| r[key] == value).count();
    assert_eq!(count("error", "policy_changed"), 2);
    assert_eq!((count("error", "blocked_by_policy"), count("rule", "closed")), (2, 2));
}

/// Nor is who has only said hello left open, or who says it after the change.
#[tokio::test]
async fn who_has_asked_for_nothing_yet_is_asked_about_too() {
    let (world, closed) = world().await;
    let target = world.at("ok.example");
    let mut greeted = https(&world, &target).await;
    let let_in = connect(&world, &target).await;
    let multiplexed = connect(&world, &target).await;
    let trusted = world.proxy.ca_certificate_pem();
    let mut multiplexed = tls_offering(trusted, multiplexed, ("ok.example", &[b"h2"])).await.unwrap();
    closed.store(true, Ordering::SeqCst);
    world.proxy.reauthorize();
    let at_once = Duration::from_secs(20);
    assert!(timeout(at_once, is_at_end(&mut greeted)).await.expect("it stays open"));
    // Its settings have come.
    let rest = &mut Vec::new();
    let _ = timeout(at_once, multiplexed.read_to_end(rest)).await.expect("it stays open");
    let mut late = tls(&world, let_in, "ok.example").await;
    assert!(timeout(at_once, is_at_end(&mut late)).await.expect("it stays open"));
    drop((greeted, multiplexed, late));
    let records = world.records(6).await;
    let refused: Vec<_> = records.iter().filter(|record| record["verdict"] == "deny").collect();
    assert_eq!(refused.len(), 3, "{records:?}");
    refused.iter().for_each(|record| assert_eq!(record["rule"], "closed"));
}

/// However often the policy changes while its last request is under way.
#[tokio::test]
async fn a_connection_that_goes_is_recorded_once() {
    let (world, closed) = world().await;
    let target = world.at("ok.example");
    let mut busy = https(&world, &target).await;
    busy.write_all(format!("GET /events HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
    assert!(read_until(&mut busy, b"\r\n\r\n").await.starts_with(b"HTTP/1.1 200"));
    closed.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        world.proxy.reauthorize();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    while read_chunk(&mut busy).await.is_some() {
        world.tls.next_event.notify_one();
    }
    assert!(is_at_end(&mut busy).await);
    let records = world.records(2).await;
    let told: Vec<_> = records.iter().map(|record| (&record["layer"], &record["verdict"])).collect();
    assert_eq!(told, [(&"connect".into(), &"deny".into()), (&"http".into(), &"allow".into())]);
}

#[tokio::test]
async fn a_policy_that_was_replaced_or_was_to_be_is_in_the_log_and_the_metrics() {
    let (world, closed) = world().await;
    let target = world.at("ok.example");
    let mut idle = https(&world, &target).await;
    let get = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    assert_eq!(ask(&mut idle, &get).await.status, 200);
    closed.store(true, Ordering::SeqCst);
    world.proxy.policy_not_loaded("policy.toml:2: no");
    assert!(world.proxy.metrics_text().contains("policy_generation 0\n"));
    world.proxy.policy_replaced(7);
    assert!(is_at_end(&mut idle).await, "the connection that the new policy refuses stays open");
    assert!(world.proxy.metrics_text().contains("policy_generation 7\n"));
    let records = world.records(4).await;
    let policy: Vec<_> = records.iter().filter(|record| record["layer"] == "policy").collect();
    assert_eq!(policy.len(), 2);
    assert_eq!((&policy[0]["verdict"], &policy[0]["error"]), (&"error".into(), &"policy_not_loaded".into()));
    assert_eq!(policy[0]["reason"], "policy.toml:2: no");
    assert_eq!((&policy[1]["verdict"], &policy[1]["error"]), (&"allow".into(), &serde_json::Value::Null));
    assert_eq!(policy[1]["reason"], "policy generation 7 is in force");
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_takes_nothing_new() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let events = format!("GET /events HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let mut idle = https(&world, &target).await;
    assert_eq!(ask(&mut idle, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await.status, 200);
    let mut multiplexed = h2::open(&world, &target).await;
    assert_eq!(h2::get(&mut multiplexed, &target, "/").await.status, 200);
    let mut busy = https(&world, &target).await;
    busy.write_all(events.as_bytes()).await.unwrap();
    let head = read_until(&mut busy, b"\r\n\r\n").await;
    assert!(head.starts_with(b"HTTP/1.1 200"));
    assert_eq!(read_chunk(&mut busy).await.unwrap(), b"data: 0\n\n");

    let proxy = world.proxy.clone();
    let drain = tokio::spawn(async move { proxy.drain(Duration::from_secs(60)).await });
    assert!(is_at_end(&mut idle).await);
    while !multiplexed.is_closed() {
        tokio::task::yield_now().await;
    }
    assert!(is_at_end(&mut world.connect()).await);
    assert!(!drain.is_finished());
    for n in 1..3 {
        world.tls.next_event.notify_one();
        assert_eq!(read_chunk(&mut busy).await.unwrap(), format!("data: {n}\n\n").as_bytes());
    }
    assert_eq!(read_chunk(&mut busy).await, None);
    let mut rest = Vec::new();
    busy.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    drop((idle, multiplexed, busy));
    assert!(drain.await.unwrap());
}

/// Let in, and silent; refused, which it is told inside, and silent; and in the middle of its handshake.
#[tokio::test]
async fn a_drain_does_not_wait_for_who_was_let_in_and_says_nothing() {
    let (world, _) = world().await;
    let target = world.at("ok.example");
    let mut silent = connect(&world, &target).await;
    let mut refused = connect(&world, "denied.example:443").await;
    let mut begun = connect(&world, &target).await;
    begun.write_all(&client_hello("ok.example")).await.unwrap();
    let mut quiet = https(&world, &target).await;
    let stream = connect(&world, &target).await;
    let trusted = world.proxy.ca_certificate_pem();
    let mut no_preface = tls_offering(trusted, stream, ("ok.example", &[b"h2"])).await.unwrap();
    // Its answer has begun: a handshake message.
    assert_eq!(begun.read_u8().await.unwrap(), 22);
    let proxy = world.proxy.clone();
    let drain = tokio::spawn(async move { proxy.drain(Duration::from_secs(50)).await });
    for stream in [&mut silent, &mut refused] {
        assert!(is_at_end(stream).await);
    }
    for stream in [&mut quiet, &mut no_preface] {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    drop((quiet, no_preface));
    assert!(drain.await.unwrap());
    let records = world.records.0.lock().unwrap().clone();
    let mut told: Vec<_> = records.iter().map(|record| (record.layer.as_str(), record.error)).collect();
    told.sort_unstable();
    let denied = ("connect", Some("blocked_by_policy"));
    assert_eq!(
        told,
        [
            denied,
            ("connect", Some("proxy_ended")),
            ("tls", None),
            ("tls", None),
            ("tls", Some("proxy_ended"))
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_drain_has_an_end() {
    let proxy = netproxy::Proxy::builder().build().unwrap();
    let (mut near, far) = tokio::io::duplex(1024);
    near.write_all(b"GET / HT").await.unwrap();
    let serving = proxy.clone();
    tokio::spawn(async move { serving.serve(far).await });
    tokio::task::yield_now().await;
    assert!(!proxy.drain(Duration::from_millis(10)).await);
}

/// As when the time for a drain is over, or the sandbox has ended.
#[tokio::test]
async fn a_tunnel_that_is_dropped_is_recorded_with_what_went_through() {
    let (world, _) = world().await;
    let target = world.at("opaque.example");
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let proxy = world.proxy.clone();
    let serving = tokio::spawn(async move { proxy.serve(far).await });
    near.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut near, "CONNECT").await.status, 200);
    let mut tunnel = tls_trusting(&world.tls.root_pem, near, "opaque.example").await.unwrap();
    let get = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    assert_eq!(ask(&mut tunnel, &get).await.status, 200);
    serving.abort();
    let record = world.records(1).await.pop().unwrap();
    assert_eq!((&record["verdict"], &record["error"]), (&"error".into(), &"proxy_ended".into()), "{record}");
    let went = |key: &str| record[key].as_u64().unwrap();
    assert!(went("bytes_up") > 200 && went("bytes_down") > 500, "{record}");
}

/// A tunnel, a request over HTTP/1.1 and one over HTTP/2, an upload whose answer is there, and a connection that waits.
#[tokio::test]
async fn the_end_comes_at_once_and_all_that_was_open_is_recorded_when_it_is_over() {
    let (world, _) = world().await;
    let target = world.at("ok.example");
    let get = format!("GET /events HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let opaque = world.at("opaque.example");
    let stream = connect(&world, &opaque).await;
    let mut tunnel = tls_trusting(&world.tls.root_pem, stream, "opaque.example").await.unwrap();
    let whole = format!("GET / HTTP/1.1\r\nHost: {opaque}\r\n\r\n");
    assert_eq!(ask(&mut tunnel, &whole).await.status, 200);
    let mut events = https(&world, &target).await;
    events.write_all(get.as_bytes()).await.unwrap();
    read_chunk_after_head(&mut events).await;
    let mut multiplexed = h2::open(&world, &target).await;
    let (_sender, body) = h2::pieces();
    let asked = multiplexed.send_request(h2::request("POST", &target, "/upload").body(body).unwrap());
    let asked = tokio::spawn(asked);
    let mut idle = https(&world, &target).await;
    // The upload is under way.
    while world.tls.seen.lock().unwrap().len() < 3 {
        tokio::task::yield_now().await;
    }
    assert!(world.records.0.lock().unwrap().is_empty());
    world.proxy.end().await;
    let records = world.records.0.lock().unwrap().clone();
    let mut errors: Vec<_> = records.iter().map(|record| record.error.unwrap_or_default()).collect();
    errors.sort_unstable();
    // The last connection had no request.
    assert_eq!(errors, ["", "proxy_ended", "proxy_ended", "proxy_ended"], "{records:?}");
    for stream in [&mut tunnel, &mut events, &mut idle] {
        assert!(is_at_end(stream).await);
    }
    assert!(asked.await.unwrap().is_err());
    let (_near, far) = tokio::io::duplex(1024);
    serve_at(world.proxy.clone(), "any", far).await;
}

/// Who is refused and says no more is recorded before the end, too, and once: after `CONNECT`, inside TLS, in the middle of a
/// request, and by SOCKS; and who is let in and asks for nothing.
#[tokio::test]
async fn what_was_decided_and_not_heard_is_recorded_at_the_end() {
    let (world, _) = world().await;
    let target = world.at("ok.example");
    let mut kept = vec![connect(&world, "denied.example:443").await, connect(&world, &target).await];
    kept.push(connect(&world, "denied.example:80").await);
    kept.last_mut().unwrap().write_all(b"GET / HT").await.unwrap();
    let (mut near, far) = tokio::io::duplex(1024);
    let proxy = world.proxy.clone();
    tokio::spawn(async move { proxy.serve_socks(far).await });
    near.write_all(b"\x05\x01\x00\x05\x01\x00\x03\x0edenied.example\x01\xbb").await.unwrap();
    near.read_exact(&mut [0; 12]).await.unwrap();
    kept.push(near);
    let stream = connect(&world, "denied.example:443").await;
    let mut answered = tls(&world, stream, "denied.example").await;
    let get = "GET / HTTP/1.1\r\nHost: denied.example\r\n\r\n";
    assert_eq!(ask(&mut answered, get).await.status, 403);
    let stream = connect(&world, "denied.example:443").await;
    let _silent = tls(&world, stream, "denied.example").await;
    let stream = connect(&world, "denied.example:443").await;
    let _multiplexed =
        tls_offering(world.proxy.ca_certificate_pem(), stream, ("denied.example", &[b"h2"])).await;
    world.proxy.end().await;
    let records = world.records.0.lock().unwrap().clone();
    let mut told: Vec<_> =
        records.iter().map(|r| (r.host.as_deref().unwrap_or_default(), r.verdict.as_str())).collect();
    told.sort_unstable();
    let denied = ("denied.example", "deny");
    assert_eq!(
        told,
        [denied, denied, denied, denied, denied, denied, ("ok.example", "error")],
        "{records:?}"
    );
}

async fn read_chunk_after_head<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) {
    read_until(stream, b"\r\n\r\n").await;
    read_chunk(stream).await;
}

/// A door of the proxy.
async fn serve_at(proxy: netproxy::Proxy, door: &str, stream: tokio::io::DuplexStream) {
    match door {
        "any" => proxy.serve(stream).await,
        "socks" => proxy.serve_socks(stream).await,
        "transparent" => proxy.serve_transparent(stream).await,
        "dns" => proxy.serve_dns(stream).await,
        other => panic!("no door {other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_what_waits_at_each_door_and_lets_nobody_in() {
    for (door, begun) in
        [("any", &b""[..]), ("any", b"\x05"), ("socks", b"\x05"), ("transparent", b"TCP1 a."), ("dns", b"\0")]
    {
        let started = tokio::time::Instant::now();
        let proxy = netproxy::Proxy::builder().build().unwrap();
        let (mut near, far) = tokio::io::duplex(1024);
        near.write_all(begun).await.unwrap();
        let served = tokio::spawn(serve_at(proxy.clone(), door, far));
        tokio::task::yield_now().await;
        assert!(!served.is_finished());
        assert!(proxy.drain(Duration::from_secs(30)).await, "{door}");
        served.await.unwrap();
        let (_near, far) = tokio::io::duplex(1024);
        serve_at(proxy, door, far).await;
        assert_eq!(started.elapsed(), Duration::ZERO, "{door}");
    }
}

/// Whatever has come with it: each would be answered, were it only looked at.
#[tokio::test(start_paused = true)]
async fn who_comes_while_the_proxy_drains_is_not_heard() {
    let records = Records::default();
    let proxy = netproxy::Proxy::builder().audit(records.clone()).build().unwrap();
    assert!(proxy.drain(Duration::from_secs(30)).await);
    for (door, said) in [
        ("any", &b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n"[..]),
        ("any", b"CONNECT a.example:1 HTTP/1.1\r\nHost: a.example:1\r\n\r\n"),
        ("any", b"\x05\x01\x00"),
        ("any", b"TCP1 a.example:1\n"),
        ("socks", b"\x05\x01\x00"),
        ("transparent", b"TCP1 a.example:1\n"),
    ] {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        near.write_all(said).await.unwrap();
        serve_at(proxy.clone(), door, far).await;
        let mut heard = Vec::new();
        near.read_to_end(&mut heard).await.unwrap();
        assert!(heard.is_empty(), "{door}: {}", String::from_utf8_lossy(&heard));
    }
    assert!(records.0.lock().unwrap().is_empty());
}
