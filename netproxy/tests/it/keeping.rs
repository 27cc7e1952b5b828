//! Connections to upstreams between two exchanges. Nobody reads or writes them then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use netproxy::Proxy;
use netproxy::limits::{Limits, UPSTREAM_IDLE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::client::{ask, https, read_until};
use crate::hooks::{Any, Names, Rules};
use crate::http2::upstream::listen;
use crate::http2::{H2, HTTP1, client as h2, world_with};
use crate::world::{NAMES, World};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// To a request that was not made.
const ANOTHER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno";

/// An upstream that answers a request for `/last` by closing its connection after the answer, without having said so,
/// and those for `/twice` and `/again` with one answer too many, at once or a little later; it tells how each connection
/// ended.
async fn world() -> (Arc<World>, mpsc::UnboundedReceiver<&'static str>) {
    let (tell, told) = mpsc::unbounded_channel();
    let upstream = listen(NAMES, &[HTTP1], move |mut stream, _| {
        let tell = tell.clone();
        async move {
            let mut head = Vec::new();
            loop {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    // Without `close_notify` rustls says that the end came unexpectedly.
                    Err(_) if head.is_empty() => {
                        let announced = matches!(stream.read(&mut [0]).await, Ok(0));
                        return tell.send(if announced { "announced" } else { "broken" }).unwrap();
                    }
                    Err(_) => return tell.send("broken").unwrap(),
                }
                if head.ends_with(b"\r\n\r\n") {
                    let twice = head.starts_with(b"GET /twice ");
                    stream.write_all(&[ANSWER, if twice { ANOTHER } else { b"" }].concat()).await.unwrap();
                    stream.flush().await.unwrap();
                    if head.starts_with(b"GET /again ") {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        stream.write_all(ANOTHER).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                    if head.starts_with(b"GET /last ") {
                        stream.shutdown().await.unwrap();
                        return tell.send("closed").unwrap();
                    }
                    head.clear();
                }
            }
        }
    })
    .await;
    let world = World::build_over(upstream, |names| names, |ports| Rules { ports }, |builder| builder).await;
    (world, told)
}

#[tokio::test]
async fn one_that_the_upstream_has_closed_meanwhile_is_replaced() {
    let (world, mut told) = world().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    for path in ["/last", "/last", "/"] {
        assert_eq!(
            ask(&mut tls, &format!("GET {path} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await.text(),
            "ok"
        );
        if path == "/last" {
            assert_eq!(told.recv().await, Some("closed"));
            // Its end is on its way.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let records = world.records(3).await;
    assert!(records.iter().all(|record| record["ms_connect"].is_number()), "{records:?}");
}

/// Else whoever comes next would get an answer to a request that it has not made, and so on.
#[tokio::test]
async fn one_over_which_more_came_than_was_asked_for_is_replaced() {
    let (world, _told) = world().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    for path in ["/twice", "/again", "/", "/"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        assert_eq!(ask(&mut tls, &request).await.text(), "ok", "{path}");
        if path == "/again" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let anew =
        world.records(4).await.iter().map(|record| record["ms_connect"].is_number()).collect::<Vec<_>>();
    assert_eq!(anew, [true, true, true, false]);
}

/// As TLS wants it (RFC 8446 §6.1), and also where the client that it served is gone.
#[tokio::test]
async fn its_end_is_announced_to_the_upstream() {
    let (world, mut told) = world().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    assert_eq!(ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await.text(), "ok");
    drop(tls);
    world.records(1).await;
    world.proxy.close_idle_upstreams();
    let end = timeout(Duration::from_secs(30), told.recv()).await;
    assert_eq!(end.expect("it stays open"), Some("announced"));
}

/// It would be held until it is too old.
#[tokio::test]
async fn it_ends_when_the_proxy_drains() {
    let (world, mut told) = world().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    assert_eq!(ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await.text(), "ok");
    drop(tls);
    assert!(world.proxy.drain(Duration::from_secs(60)).await);
    let end = timeout(UPSTREAM_IDLE / 3, told.recv()).await;
    assert_eq!(end.expect("it stays open"), Some("announced"));
}

/// Lets time pass, at once and for everybody. Not a paused clock, which would run on while something is on its way over a
/// socket.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_that_nobody_uses_for_long_is_ended() {
    let (world, mut told) = world().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    assert_eq!(ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await.text(), "ok");
    // Looked for that often, in the middle of it at worst.
    for _ in 0..2 {
        pass(UPSTREAM_IDLE).await;
    }
    let end = timeout(UPSTREAM_IDLE / 3, told.recv()).await;
    assert_eq!(end.expect("it stays open"), Some("announced"));
}

/// Between two looks for those: it is found when it would be used.
#[tokio::test]
async fn one_that_was_kept_for_too_long_is_replaced() {
    let (world, _told) = world().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let third = UPSTREAM_IDLE / 3;
    for waits in [&[][..], &[third * 2], &[third * 3 / 2, third * 2]] {
        for wait in waits {
            pass(*wait).await;
        }
        assert_eq!(ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await.text(), "ok");
    }
    let anew =
        world.records(3).await.iter().map(|record| record["ms_connect"].is_number()).collect::<Vec<_>>();
    assert_eq!(anew, [true, false, true]);
}

/// `UPSTREAMS_IDLE_MAX`, as a number: each is a socket of the host.
#[tokio::test]
async fn sixty_four_are_kept_and_the_one_kept_longest_goes_first() {
    const KEPT: usize = 64;
    let (tell, mut told) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let tell = tell.clone();
            tokio::spawn(async move {
                while !read_until(&mut stream, b"\r\n\r\n").await.is_empty() {
                    stream.write_all(ANSWER).await.unwrap();
                }
                let _ = tell.send(number);
            });
        }
    });
    let names = (0..=KEPT).map(|n| format!("h{n}.example"));
    let known = names.clone().fold(Names::default(), |known, name| known.with(&name, &[&["127.0.0.1"]]));
    let proxy = Proxy::builder().authorize(Any).resolve(known).build().unwrap();
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let serving = proxy.clone();
    tokio::spawn(async move { serving.serve(far).await });
    for name in names {
        assert!(told.try_recv().is_err(), "one fewer is kept, before {name}");
        let get = format!("GET http://{name}:{port}/ HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n");
        assert_eq!(ask(&mut near, &get).await.text(), "ok");
    }
    let first = timeout(UPSTREAM_IDLE / 3, told.recv()).await.expect("one more is kept");
    assert_eq!(first, Some(0));
    proxy.close_idle_upstreams();
    for _ in 0..KEPT {
        assert!(timeout(UPSTREAM_IDLE / 3, told.recv()).await.expect("it stays open").is_some());
    }
}

#[tokio::test]
async fn one_of_http2_that_nobody_has_used_for_long_is_replaced() {
    let mut limits = Limits::default();
    // The client may take as long as it wants.
    limits.header_timeout = UPSTREAM_IDLE * 100;
    let world = world_with(&[H2], |builder| builder.limits(limits)).await;
    let target = world.at("ok.example");
    let mut client = h2::open(&world, &target).await;
    for (wait, connections) in [(Duration::ZERO, 1), (UPSTREAM_IDLE * 2 / 3, 1), (UPSTREAM_IDLE, 2)] {
        pass(wait).await;
        assert_eq!(h2::get(&mut client, &target, "/").await.status, 200);
        assert_eq!(world.tls.connections.load(Ordering::SeqCst), connections, "after {wait:?}");
    }
}
