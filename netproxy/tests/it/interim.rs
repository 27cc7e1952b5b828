//! Upstreams of HTTP/1.1 that send interim answers (1xx): a few are borne, a flood ends with its connection.

use std::sync::Arc;

use netproxy::limits::HTTP1_UNANSWERED_BYTES_MAX;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;

use crate::client::{ask, https, read_until};
use crate::hooks::Rules;
use crate::http2::HTTP1;
use crate::http2::memory::{Growth, alone, scene};
use crate::http2::upstream::listen;
use crate::world::{NAMES, World};

const HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\n\r\n";

/// A world whose upstream reads one head, does `then`, and tells when it saw the end of its connection.
async fn world<F>(
    then: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
) -> (Arc<World>, Arc<Notify>)
where
    F: Future<Output = TlsStream<TcpStream>> + Send + 'static,
{
    let ended = Arc::new(Notify::new());
    let (tell, then) = (Arc::clone(&ended), Arc::new(then));
    let upstream = listen(NAMES, &[HTTP1], move |mut stream, _| {
        let (tell, then) = (Arc::clone(&tell), Arc::clone(&then));
        async move {
            read_until(&mut stream, b"\r\n\r\n").await;
            let mut stream = then(stream).await;
            while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
            tell.notify_one();
        }
    })
    .await;
    let world = World::build_over(upstream, |names| names, |ports| Rules { ports }, |builder| builder).await;
    (world, ended)
}

fn get(target: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

#[tokio::test]
async fn interim_answers_up_to_the_limit_are_borne_and_more_are_not() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let most = usize::try_from(HTTP1_UNANSWERED_BYTES_MAX).unwrap();
    let borne = (most - 1 - ANSWER.len()) / HINTS.len();
    for (hints, status) in [(borne, 200), (most.div_ceil(HINTS.len()), 502)] {
        let (world, ended) = world(move |mut stream| async move {
            // In one piece, and the answer with them: what was read with the last one counts too.
            let mut all = HINTS.repeat(hints);
            if status == 200 {
                all.extend(ANSWER);
            }
            // The proxy may have ended it before it has read all.
            let _ = stream.write_all(&all).await;
            stream
        })
        .await;
        let target = world.at("ok.example");
        let answer = ask(&mut https(&world, &target).await, &get(&target)).await;
        assert_eq!(answer.status, status);
        ended.notified().await;
        if status == 502 {
            let record = world.records(1).await.pop().unwrap();
            assert_eq!(record["error"], "upstream_protocol", "{record}");
        }
    }
}

const FLOOD: &str = "interim::a_flood_of_them_ends_and_the_proxy_neither_grows_nor_stands_still";

#[test]
fn a_flood_of_them_ends_and_the_proxy_neither_grows_nor_stands_still() {
    match scene() {
        None => alone(FLOOD, "103"),
        Some(_) => {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(flood())
        }
    }
}

async fn flood() {
    let (world, ended) = world(|mut stream| async move {
        let wave = HINTS.repeat(1000);
        while stream.write_all(&wave).await.is_ok() {}
        stream
    })
    .await;
    let target = world.at("ok.example");
    let mut client = https(&world, &target).await;
    let growth = Growth::start();
    let answer = ask(&mut client, &get(&target)).await;
    assert_eq!(answer.status, 502);
    assert!(answer.json()["detail"].as_str().unwrap().contains("too many bytes"), "{answer:?}");
    ended.notified().await;
    growth.print();
}

#[tokio::test]
async fn an_upstream_connection_ends_with_the_client_that_waits_for_its_answer() {
    let asked = Arc::new(Notify::new());
    let tell = Arc::clone(&asked);
    let (world, ended) = world(move |stream| {
        tell.notify_one();
        async move { stream }
    })
    .await;
    let target = world.at("ok.example");
    let (near, far) = tokio::io::duplex(64 * 1024);
    let proxy = world.proxy.clone();
    let serving = tokio::spawn(async move { proxy.serve(far).await });
    let mut near = near;
    let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    near.write_all(connect.as_bytes()).await.unwrap();
    read_until(&mut near, b"\r\n\r\n").await;
    let mut client = crate::client::tls(&world, near, "ok.example").await;
    client.write_all(get(&target).as_bytes()).await.unwrap();
    client.flush().await.unwrap();
    asked.notified().await;
    serving.abort();
    ended.notified().await;
}
