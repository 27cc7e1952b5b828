//! Floods of frames, from a client and from an upstream: each ends, and the process does not grow.
//!
//! CVE-2023-44487 (rapid reset), RUSTSEC-2024-0332 (CONTINUATION), RUSTSEC-2026-0258 (empty DATA), CVE-2019-9512
//! and -9515 (PING and SETTINGS without reading the answers), CVE-2019-9516 and oversized header lists.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::client::{self, *};
use super::frames::*;
use super::memory::{Growth, alone, scene};
use super::upstream::{BIG_BYTES, listen};
use super::{H2, HTTP1, world};
use crate::hooks::Rules;
use crate::world::{NAMES, World};

const ENHANCE_YOUR_CALM: u32 = 11;

fn head(target: &str) -> Vec<u8> {
    fields(&[(":method", "POST"), (":scheme", "https"), (":authority", target), (":path", "/discard")])
}

/// Writes as much as is taken. A reader that has stopped reading has to stop taking: then it returns.
async fn shove<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> bool {
    let (mut rest, mut patience) = (bytes, 0);
    while !rest.is_empty() {
        let wrote = poll_fn(|cx| match Pin::new(&mut *stream).poll_write(cx, rest) {
            Poll::Pending => Poll::Ready(None),
            Poll::Ready(wrote) => Poll::Ready(Some(wrote)),
        });
        match wrote.await {
            Some(Ok(count)) if count > 0 => (rest, patience) = (&rest[count..], 0),
            Some(_) => return false,
            None if patience < 5000 => {
                patience += 1;
                tokio::task::yield_now().await;
            }
            None => return false,
        }
    }
    true
}

/// One round of the flood; `n` counts rounds.
fn wave(kind: &str, target: &str, n: u32) -> Vec<u8> {
    match kind {
        "rapid reset" => {
            let stream = 3 + n * 2;
            let open = frame(HEADERS, END_HEADERS, stream, &head(target));
            [open, frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
        }
        "continuation" if n == 0 => frame(HEADERS, 0, 3, &head(target)),
        "continuation" => frame(CONTINUATION, 0, 3, &fields(&[("x-a", &"v".repeat(15_000))])),
        "small continuation" if n == 0 => frame(HEADERS, 0, 3, &head(target)),
        "small continuation" => frame(CONTINUATION, 0, 3, &[]),
        "empty data" => frame(DATA, 0, 1, &[]),
        "tiny data" => frame(DATA, 0, 1, b"x"),
        "settings" => frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]),
        "ping" => frame(PING, 0, 0, b"12345678"),
        "streams" => frame(HEADERS, END_HEADERS, 3 + n * 2, &head(target)),
        "informational" => {
            frame(HEADERS, END_HEADERS, 1, &fields(&[(":status", "103"), ("link", &"l".repeat(1000))]))
        }
        other => panic!("no flood {other}"),
    }
}

const WAVES: u32 = 40_000;
const CLIENT_FLOODS: [&str; 8] = [
    "rapid reset",
    "continuation",
    "small continuation",
    "empty data",
    "tiny data",
    "settings",
    "ping",
    "streams",
];
const UPSTREAM_FLOODS: [&str; 6] =
    ["continuation", "small continuation", "empty data", "settings", "ping", "informational"];

#[test]
fn a_client_cannot_make_the_proxy_grow() {
    match scene() {
        None => {
            for kind in CLIENT_FLOODS {
                for reads in ["reads", "does not read"] {
                    alone("http2::floods::a_client_cannot_make_the_proxy_grow", &format!("{kind}/{reads}"));
                }
            }
        }
        Some(scene) => run(flood_by_client(scene)),
    }
}

pub fn run(scene: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(scene);
}

async fn flood_by_client(scene: String) {
    let (kind, reads) = scene.split_once('/').unwrap();
    let world = world(&[H2]).await;
    let target = world.at("ok.example");
    let tls = client::tls(&world, &target).await;
    let (mut reader, mut writer) = tokio::io::split(tls);
    let growth = Growth::start();
    let first = frame(HEADERS, END_HEADERS, 1, &head(&target));
    writer.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &first].concat()).await.unwrap();
    let reading = (reads == "reads").then(|| {
        tokio::spawn(async move {
            let mut ends = Vec::new();
            while let Some(frame) = read_frame(&mut reader).await {
                if matches!(frame.kind, GOAWAY | RST_STREAM) && ends.len() < 1000 {
                    ends.push((frame.kind, frame.code()));
                }
            }
            ends
        })
    });
    let mut all = true;
    for n in 0..WAVES {
        all = shove(&mut writer, &wave(kind, &target, n)).await;
        if !all {
            break;
        }
    }
    growth.print();
    let Some(reading) = reading else {
        return assert!(!all || matches!(kind, "tiny data" | "empty data"), "the proxy read without end");
    };
    if kind == "streams" {
        // The connection may be gone already.
        let _ = writer.shutdown().await;
        let ends = reading.await.unwrap();
        // REFUSED_STREAM, until that is too much of it.
        assert!(ends.iter().any(|(kind, code)| (*kind, *code) == (RST_STREAM, 7)), "{ends:.10?}");
    } else if !all {
        let ends = reading.await.unwrap();
        assert_eq!(ends.last(), Some(&(GOAWAY, ENHANCE_YOUR_CALM)), "{kind}");
    } else {
        // Answered, one for one: that is no harm.
        assert!(matches!(kind, "settings" | "ping" | "tiny data" | "empty data"), "{kind} has no end");
    }
}

#[test]
fn an_upstream_cannot_make_the_proxy_grow() {
    match scene() {
        None => {
            for kind in UPSTREAM_FLOODS {
                alone("http2::floods::an_upstream_cannot_make_the_proxy_grow", kind);
            }
        }
        Some(kind) => run(flood_by_upstream(kind)),
    }
}

async fn flood_by_upstream(kind: String) {
    let named = kind.clone();
    let upstream = listen(NAMES, &[H2], move |stream, _| hostile(stream, named.clone())).await;
    let world = World::build_over(upstream, |names| names, |ports| Rules { ports }, |builder| builder).await;
    let target = world.at("ok.example");
    let mut client = open(&world, &target).await;
    let growth = Growth::start();
    let asked = request("GET", &target, "/").body(no_body()).unwrap();
    if let Ok(response) = client.send_request(asked).await {
        let status = response.status();
        // Either it never became an answer, or its body breaks off.
        assert!(
            status == 502 || http_body_util::BodyExt::collect(response.into_body()).await.is_err(),
            "{status}"
        );
    }
    growth.print();
}

async fn hostile(mut stream: TlsStream<TcpStream>, kind: String) {
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let mut preface = vec![0; PREFACE.len()];
    stream.read_exact(&mut preface).await.unwrap();
    while read_frame(&mut stream).await.is_some_and(|frame| frame.kind != HEADERS) {}
    if kind == "empty data" {
        stream.write_all(&frame(HEADERS, END_HEADERS, 1, &fields(&[(":status", "200")]))).await.unwrap();
    }
    for n in 0..WAVES {
        let wave = match (kind.as_str(), n) {
            ("continuation" | "small continuation", 0) => {
                frame(HEADERS, 0, 1, &fields(&[(":status", "200")]))
            }
            ("continuation", _) => frame(CONTINUATION, 0, 1, &fields(&[("x-a", &"v".repeat(15_000))])),
            ("small continuation", _) => frame(CONTINUATION, 0, 1, &[]),
            _ => wave(&kind, "", n),
        };
        if stream.write_all(&wave).await.is_err() {
            break;
        }
    }
    // What is left of the answer never comes.
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn a_header_list_too_large_is_431_and_far_too_large_ends_the_connection() {
    let world = world(&[H2]).await;
    let target = world.at("ok.example");
    for (fields_count, status) in [(70, Some(431)), (2000, None)] {
        let (mut reader, mut writer) = tokio::io::split(client::tls(&world, &target).await);
        let mut block = head(&target);
        for n in 0..fields_count {
            block.extend(fields(&[(&format!("x-{n}"), &"v".repeat(1000))]));
        }
        let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        let pieces: Vec<&[u8]> = block.chunks(16_000).collect();
        for (n, piece) in pieces.iter().enumerate() {
            let kind = if n == 0 { HEADERS } else { CONTINUATION };
            let flags = if n + 1 == pieces.len() { END_HEADERS } else { 0 };
            bytes.extend(frame(kind, flags, 1, piece));
        }
        // The far too large one may be given up before it is read whole.
        let writing = async {
            let _ = writer.write_all(&bytes).await;
            let _ = writer.flush().await;
        };
        let (end, ()) = tokio::join!(verdict(&mut reader), writing);
        let end = end.unwrap();
        match status {
            Some(status) => assert_eq!((end.kind, end.status()), (HEADERS, status)),
            None => assert_eq!((end.kind, end.code()), (GOAWAY, ENHANCE_YOUR_CALM)),
        }
    }
    assert!(world.tls.seen.lock().unwrap().is_empty());
}

/// A client that grants all the room there is and reads nothing, and an upstream that sends byte by byte: what is kept for a
/// frame is more than its byte.
#[test]
fn small_pieces_that_nobody_takes_are_few() {
    match scene() {
        None => {
            for scene in ["bytes", "kibibytes"] {
                alone("http2::floods::small_pieces_that_nobody_takes_are_few", scene);
            }
        }
        Some(scene) => run(small_pieces(scene)),
    }
}

async fn small_pieces(scene: String) {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    // Each of the larger ones comes alone, so that nothing else is read with it.
    let (streams, pieces, together) = match &*scene {
        "bytes" => (20, "1\r\na\r\n".repeat(1 << 20), usize::MAX),
        _ => (100, format!("400\r\n{}\r\n", "a".repeat(1024)).repeat(80), 1024 + 7),
    };
    let pieces = Arc::new(pieces);
    let (tell, mut told) = mpsc::unbounded_channel();
    let upstream = listen(NAMES, &[HTTP1], move |mut stream, _| {
        let (pieces, tell) = (Arc::clone(&pieces), tell.clone());
        async move {
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            // All of it, or until nothing is taken any more.
            let send = async {
                for piece in pieces.as_bytes().chunks(together) {
                    stream.write_all(piece).await.unwrap();
                    stream.flush().await.unwrap();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let _ = timeout(Duration::from_secs(2), send).await;
            tell.send(stream).unwrap();
        }
    })
    .await;
    let world = World::build_over(upstream, |names| names, |ports| Rules { ports }, |builder| builder).await;
    let target = world.at("ok.example");
    let mut tls = client::tls(&world, &target).await;
    let growth = Growth::start();
    // SETTINGS_INITIAL_WINDOW_SIZE, and the window of the connection.
    let windows = [
        frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        frame(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()),
    ]
    .concat();
    tls.write_all(&[PREFACE, &windows].concat()).await.unwrap();
    let asked = fields(&[(":method", "GET"), (":scheme", "https"), (":authority", &target), (":path", "/")]);
    for n in 0..streams {
        tls.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &asked)).await.unwrap();
    }
    tls.flush().await.unwrap();
    let mut kept = Vec::new();
    for _ in 0..streams {
        kept.push(told.recv().await.unwrap());
    }
    growth.print();
}

/// 256 MiB up and down, over both protocols.
#[test]
fn bodies_of_any_size_take_constant_memory() {
    match scene() {
        None => {
            for scene in ["up/h2", "down/h2", "up/http1", "down/http1"] {
                alone("http2::floods::bodies_of_any_size_take_constant_memory", scene);
            }
        }
        Some(scene) => run(big_body(scene)),
    }
}

async fn big_body(scene: String) {
    let (way, protocol) = scene.split_once('/').unwrap();
    let alpn: &[&[u8]] = if protocol == "h2" { &[H2] } else { &[HTTP1] };
    let world: Arc<World> = world(alpn).await;
    let target = world.at("ok.example");
    let mut client = open(&world, &target).await;
    let growth = Growth::start();
    if way == "down" {
        let response =
            client.send_request(request("GET", &target, "/big").body(no_body()).unwrap()).await.unwrap();
        let (mut body, mut count) = (response.into_body(), 0);
        while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
            count += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(count, BIG_BYTES);
    } else {
        let asked = request("POST", &target, "/discard").body(repeated(BIG_BYTES)).unwrap();
        assert_eq!(ask(&mut client, asked).await.text(), format!("{BIG_BYTES} bytes"));
    }
    growth.print();
}
