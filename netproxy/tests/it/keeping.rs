//! Connections to upstreams between two exchanges. Nobody reads or writes them then.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::client::{ask, https};
use crate::hooks::Rules;
use crate::http2::HTTP1;
use crate::http2::upstream::listen;
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
