//! Peers that break the protocol in ways that only cost their own streams, or that take their time over it: they may go on
//! for a while, and then lose their connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::client::{self, get};
use super::frames::*;
use super::upstream::listen;
use super::{H2, world};
use crate::hooks::Rules;
use crate::world::{NAMES, World};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const ENHANCE_YOUR_CALM: u32 = 11;

/// `HTTP2_LOCAL_RESETS_MAX`, as a number.
const RESETS: u32 = 100;

/// CVE-2025-8671: what it asks for is begun, and it never has to reset anything itself.
#[tokio::test]
async fn a_client_that_has_us_reset_streams_again_and_again_loses_its_connection() {
    let world = world(&[H2]).await;
    let target = world.at("ok.example");
    let head = [(":method", "POST"), (":scheme", "https"), (":authority", &target), (":path", "/upload")];
    let short = [&head[..], &[("content-length", "1")]].concat();
    let too_much = (WINDOW_UPDATE, 0x7fff_ffff_u32.to_be_bytes());
    for (head, (kind, wrong), code) in [
        // RFC 9113 §6.9.1.
        (&head[..], too_much, FLOW_CONTROL_ERROR),
        // RFC 9113 §8.1.1.
        (&short, (DATA, *b"long"), PROTOCOL_ERROR),
    ] {
        let mut tls = client::tls(&world, &target).await;
        tls.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        for n in 0..=RESETS {
            let stream = 2 * n + 1;
            let open = frame(HEADERS, END_HEADERS, stream, &fields(head));
            tls.write_all(&[open, frame(kind, 0, stream, &wrong)].concat()).await.unwrap();
            tls.flush().await.unwrap();
            let end = verdict(&mut tls).await.unwrap();
            let expected = if n < RESETS { (RST_STREAM, code) } else { (GOAWAY, ENHANCE_YOUR_CALM) };
            assert_eq!((end.kind, end.code()), expected, "{n}");
        }
    }
}

/// A world whose upstream answers each request with what `answer` makes of the number of its stream, and tells of SETTINGS and
/// GOAWAY.
async fn answering(
    answer: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static,
) -> (Arc<World>, mpsc::UnboundedReceiver<Frame>) {
    let (tell, told) = mpsc::unbounded_channel();
    let answer = Arc::new(answer);
    let upstream = listen(NAMES, &[H2], move |stream, _| {
        let (tell, answer) = (tell.clone(), Arc::clone(&answer));
        async move { answer_by_frames(stream, &*answer, &tell).await }
    })
    .await;
    let world = World::build_over(upstream, |names| names, |ports| Rules { ports }, |builder| builder).await;
    (world, told)
}

async fn answer_by_frames(
    mut stream: TlsStream<TcpStream>,
    answer: &(impl Fn(u32) -> Vec<u8> + Sync),
    tell: &mpsc::UnboundedSender<Frame>,
) {
    stream.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    while let Some(frame) = read_frame(&mut stream).await {
        match frame.kind {
            // It may be gone.
            HEADERS if stream.write_all(&answer(frame.stream)).await.is_err() => return,
            HEADERS if stream.flush().await.is_err() => return,
            SETTINGS | GOAWAY if frame.flags == 0 => drop(tell.send(frame)),
            _ => {}
        }
    }
}

async fn next(told: &mut mpsc::UnboundedReceiver<Frame>) -> Frame {
    timeout(Duration::from_secs(20), told.recv()).await.expect("the upstream hears nothing").unwrap()
}

fn status(stream: u32, flags: u8, status: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &fields(&[(":status", status)]))
}

#[tokio::test]
async fn an_upstream_that_has_us_reset_streams_again_and_again_loses_its_connection() {
    let (world, mut told) = answering(|stream| {
        let answer = [(":status", "200"), ("connection", "close")];
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields(&answer))
    })
    .await;
    let target = world.at("ok.example");
    let mut client = client::open(&world, &target).await;
    for n in 0..=RESETS + 1 {
        assert_eq!(get(&mut client, &target, "/").await.status, 502);
        let connections = if n <= RESETS { 1 } else { 2 };
        assert_eq!(world.tls.connections.load(Ordering::SeqCst), connections, "{n}");
    }
    assert_eq!(next(&mut told).await.kind, SETTINGS);
    let end = next(&mut told).await;
    assert_eq!((end.kind, end.code()), (GOAWAY, ENHANCE_YOUR_CALM));
}

/// SETTINGS_ENABLE_PUSH is 0 (RFC 9113 §6.6: then it is an error of the connection).
#[tokio::test]
async fn an_upstream_that_pushes_loses_its_connection() {
    const PUSH_PROMISE: u8 = 5;
    let (world, mut told) = answering(|stream| {
        let head =
            [(":method", "GET"), (":scheme", "https"), (":authority", "ok.example"), (":path", "/pushed")];
        let promised = [&2u32.to_be_bytes()[..], &fields(&head)].concat();
        [frame(PUSH_PROMISE, END_HEADERS, stream, &promised), status(stream, END_STREAM, "200")].concat()
    })
    .await;
    let target = world.at("ok.example");
    assert_eq!(get(&mut client::open(&world, &target).await, &target, "/").await.status, 502);
    let settings = next(&mut told).await;
    assert_eq!(settings.kind, SETTINGS);
    let push: Vec<_> = settings.payload.chunks(6).filter(|setting| setting[..2] == [0, 2]).collect();
    assert_eq!(push, [[0, 2, 0, 0, 0, 0]]);
    let end = next(&mut told).await;
    assert_eq!((end.kind, end.code()), (GOAWAY, PROTOCOL_ERROR));
}

/// `HTTP2_INTERIM_ANSWERS_MAX`, as a number: each is held until it is looked at.
#[tokio::test]
async fn an_upstream_may_send_sixteen_interim_answers_and_no_more() {
    for (hints, expected) in [(16, 200), (17, 502)] {
        let (world, _told) = answering(move |stream| {
            [status(stream, 0, "103").repeat(hints), status(stream, END_STREAM, "200")].concat()
        })
        .await;
        let target = world.at("ok.example");
        let answer = get(&mut client::open(&world, &target).await, &target, "/").await;
        assert_eq!(answer.status, expected, "{hints}");
    }
}
