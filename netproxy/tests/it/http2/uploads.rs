//! Requests that are still being sent when their answer comes, or for longer than an answer may take.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper::body::Frame;
use netproxy::limits::Limits;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::client::{self, Answer, pieces, request};
use super::{H2, HTTP1, upstream, world_with};
use crate::hooks::Rules;
use crate::world::{NAMES, World};

/// The wait for an answer begins when the request was sent.
#[tokio::test]
async fn an_upload_may_take_longer_than_an_answer() {
    for alpn in [H2, HTTP1] {
        let mut limits = Limits::default();
        limits.response_timeout = Duration::from_secs(1);
        let world = world_with(&[alpn], |builder| builder.limits(limits)).await;
        let target = world.at("ok.example");
        let mut client = client::open(&world, &target).await;
        let (sender, body) = pieces();
        let asked = client.send_request(request("POST", &target, "/discard").body(body).unwrap());
        let (answer, ()) = tokio::join!(asked, async {
            for _ in 0..4 {
                sender.send(Frame::data(Bytes::from_static(b"a"))).unwrap();
                sleep(Duration::from_millis(500)).await;
            }
            drop(sender);
        });
        let answer = Answer::of(answer.unwrap()).await;
        assert_eq!((answer.status, answer.text()), (200, "4 bytes"));
    }
}

/// An upstream that takes all of a request, and says nothing.
#[tokio::test]
async fn the_wait_for_an_answer_to_an_upload_has_an_end() {
    let upstream = upstream::listen(NAMES, &[H2], |stream, _| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut kept = Vec::new();
        while let Some(Ok(asked)) = connection.accept().await {
            kept.push(asked);
        }
    })
    .await;
    let mut limits = Limits::default();
    limits.response_timeout = Duration::from_millis(300);
    let world = build(upstream, limits).await;
    let target = world.at("ok.example");
    let mut client = client::open(&world, &target).await;
    let asked = request("POST", &target, "/").body(client::whole(b"all of it")).unwrap();
    let answer = timeout(Duration::from_secs(60), client::ask(&mut client, asked)).await.expect("no end");
    assert_eq!((answer.status, &answer.json()["error"]), (504, &"upstream_timeout".into()));
}

async fn build(upstream: crate::upstream::Upstream, limits: Limits) -> Arc<World> {
    World::build_over(upstream, |names| names, |ports| Rules { ports }, |builder| builder.limits(limits))
        .await
}

/// An upstream that answers at once, with all of its answer, and reads on.
#[tokio::test]
async fn what_is_left_of_a_request_is_sent_after_its_answer() {
    const BYTES: usize = 4 << 20;
    let (tell, mut told) = mpsc::unbounded_channel();
    let upstream = upstream::listen(NAMES, &[H2], move |stream, _| {
        let tell = tell.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((asked, mut respond))) = connection.accept().await {
                respond.send_response(Response::new(()), true).unwrap();
                let (mut body, tell) = (asked.into_body(), tell.clone());
                tokio::spawn(async move {
                    let mut count = 0;
                    while let Some(Ok(data)) = body.data().await {
                        count += data.len();
                        body.flow_control().release_capacity(data.len()).unwrap();
                    }
                    tell.send(count).unwrap();
                });
            }
        }
    })
    .await;
    let mut limits = Limits::default();
    // The connection is not idle meanwhile.
    limits.header_timeout = Duration::from_millis(200);
    limits.linger_timeout = Duration::from_millis(200);
    let world = build(upstream, limits).await;
    let target = world.at("ok.example");
    let mut client = client::open(&world, &target).await;
    let (sender, body) = pieces();
    sender.send(Frame::data(Bytes::from_static(b"begun"))).unwrap();
    let asked = request("POST", &target, "/").body(body).unwrap();
    assert_eq!(client.send_request(asked).await.unwrap().status(), 200);
    sleep(Duration::from_secs(1)).await;
    let piece = Bytes::from_static(&[b'x'; 64 * 1024]);
    for _ in 0..BYTES / piece.len() {
        sender.send(Frame::data(piece.clone())).unwrap();
    }
    drop(sender);
    let count = timeout(Duration::from_secs(60), told.recv()).await.expect("nobody sends the rest");
    assert_eq!(count, Some(BYTES + 5), "the rest was cut off");
    let record = world.records(1).await.pop().unwrap();
    assert_eq!((&record["bytes_up"], &record["verdict"]), (&(BYTES + 5).into(), &"allow".into()), "{record}");
}
