//! A request goes out a second time only where the upstream says that it did nothing with the first.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::body::Frame as BodyFrame;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::H2;
use super::client::*;
use super::frames::{self, GOAWAY, RST_STREAM, SETTINGS, frame, read_frame};
use super::upstream::{listen, serve};
use crate::hooks::Rules;
use crate::upstream::Seen;
use crate::world::{NAMES, World};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum First {
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY that names this stream as the last one taken, then the end.
    GoAway(u32),
}

/// An upstream whose first connection answers the first request in a certain way, and later ones properly.
async fn world(first: First, always: bool) -> (Arc<World>, Seen) {
    let seen: Seen = Arc::default();
    let log = Arc::clone(&seen);
    let upstream = listen(NAMES, &[H2], move |stream, number| {
        let log = Arc::clone(&log);
        async move {
            if number == 0 || always {
                refuse(stream, first, &log).await;
            } else {
                serve(stream, log).await;
            }
        }
    })
    .await;
    let world = World::build_over(upstream, |names| names, |ports| Rules { ports }, |builder| builder).await;
    (world, seen)
}

async fn refuse(mut stream: TlsStream<TcpStream>, first: First, log: &Mutex<Vec<String>>) {
    let mut preface = vec![0; frames::PREFACE.len()];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut preface).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    while let Some(got) = read_frame(&mut stream).await {
        if got.kind != frames::HEADERS {
            continue;
        }
        log.lock().unwrap().push("refused".to_owned());
        let answer = match first {
            First::Reset(code) => frame(RST_STREAM, 0, got.stream, &code.to_be_bytes()),
            First::GoAway(last) => frame(GOAWAY, 0, 0, &[last.to_be_bytes(), 0u32.to_be_bytes()].concat()),
        };
        stream.write_all(&answer).await.unwrap();
        if let First::GoAway(_) = first {
            stream.shutdown().await.unwrap();
            return;
        }
    }
}

#[tokio::test]
async fn what_was_not_processed_goes_out_once_more() {
    const REFUSED_STREAM: u32 = 7;
    const CANCEL: u32 = 8;
    for (first, status) in [
        (First::Reset(REFUSED_STREAM), 200),
        (First::GoAway(0), 200),
        (First::Reset(CANCEL), 502),
        // The upstream took the stream, and what it did with it nobody knows.
        (First::GoAway(1), 502),
    ] {
        let (world, seen) = world(first, false).await;
        let target = world.at("ok.example");
        let mut client = open(&world, &target).await;
        let asked = request("POST", &target, "/upload").body(no_body()).unwrap();
        assert_eq!(ask(&mut client, asked).await.status, status, "{first:?}");
        assert_eq!(seen.lock().unwrap().len(), if status == 200 { 2 } else { 1 }, "{first:?}");
        assert_eq!(world.records(1).await.len(), 1);
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_for_ever_is_asked_twice() {
    let (world, seen) = world(First::Reset(7), true).await;
    let target = world.at("ok.example");
    let mut client = open(&world, &target).await;
    assert_eq!(get(&mut client, &target, "/").await.status, 502);
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_body_that_was_not_begun_goes_out_with_the_second() {
    let (world, _) = world(First::Reset(7), false).await;
    let target = world.at("ok.example");
    let mut client = open(&world, &target).await;
    let (sender, body) = pieces();
    let asked = client.send_request(request("POST", &target, "/echo-body").body(body).unwrap());
    while world.tls.connections.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    sender.send(BodyFrame::data(Bytes::from_static(b"late"))).unwrap();
    drop(sender);
    assert_eq!(Answer::of(asked.await.unwrap()).await.text(), "late");
}
