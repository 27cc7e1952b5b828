//! Where an answer ends on the wire, and when it counts as sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use netproxy::Builder;
use netproxy::limits::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::client::{self, tls};
use super::frames::*;
use super::{H2, HTTP1, upstream};
use crate::hooks::{Rules, SECRET, Scrubber};
use crate::world::{NAMES, World};

/// A world whose upstream gives this answer over HTTP/1.1, and where to ask for it.
async fn world(answer: String, more: impl FnOnce(Builder) -> Builder) -> (Arc<World>, String) {
    let upstream = upstream::listen(NAMES, &[HTTP1], move |mut stream, _| {
        let answer = answer.clone();
        async move {
            let mut asked = [0; 1024];
            while stream.read(&mut asked).await.is_ok_and(|count| count > 0) {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let world = World::build_over(upstream, |names| names, |ports| Rules { ports }, more).await;
    let target = world.at("ok.example");
    (world, target)
}

fn get(target: &str) -> Vec<u8> {
    let head = [(":method", "GET"), (":scheme", "https"), (":authority", target), (":path", "/")];
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&head))
}

/// Refused by us or answered by the upstream: a body would break the stream.
#[tokio::test]
async fn an_answer_to_head_ends_with_its_head() {
    let (world, target) = world("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_owned(), |b| b).await;
    for (path, status) in [("/private", 403), ("/", 200)] {
        let mut client = tls(&world, &target).await;
        let head = [(":method", "HEAD"), (":scheme", "https"), (":authority", &target), (":path", path)];
        let asked = frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&head));
        client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &asked].concat()).await.unwrap();
        client.flush().await.unwrap();
        let answer = loop {
            let frame = read_frame(&mut client).await.expect("the connection ended before the answer");
            if frame.stream == 1 {
                break frame;
            }
        };
        assert_eq!((answer.kind, answer.flags & END_STREAM, answer.status()), (HEADERS, END_STREAM, status));
    }
}

/// RFC 9110 §8.6.
#[tokio::test]
async fn no_content_has_no_length() {
    let (world, target) =
        world("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n".to_owned(), |b| b).await;
    let mut asking = client::open(&world, &target).await;
    let answer = client::get(&mut asking, &target, "/").await;
    assert_eq!((answer.status, answer.headers.get("content-length")), (204, None));
}

/// With its last bytes, and what the search held back of them: a client takes two frames for it, not three.
#[tokio::test]
async fn a_searched_answer_ends_with_its_last_bytes() {
    // The last bytes begin like the secret.
    let body = format!("hello {}", &SECRET[..4]);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (world, target) = world(answer, |builder| builder.redact(Scrubber)).await;
    let mut client = tls(&world, &target).await;
    client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &get(&target)].concat()).await.unwrap();
    client.flush().await.unwrap();
    let mut answer = Vec::new();
    while answer.last().is_none_or(|frame: &Frame| frame.flags & END_STREAM == 0) {
        let frame = read_frame(&mut client).await.expect("the connection ended before the answer");
        if frame.stream == 1 {
            answer.push(frame);
        }
    }
    let kinds: Vec<u8> = answer.iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [HEADERS, DATA]);
    assert_eq!(answer[1].payload, body.as_bytes());
}

/// Trailers come after what the search held back, which comes once.
#[tokio::test]
async fn what_was_held_back_comes_before_the_trailers() {
    let body = format!("hello {}", &SECRET[..4]);
    let sent = Bytes::from(body.clone());
    let upstream = upstream::listen(NAMES, &[H2], move |stream, _| {
        let sent = sent.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(sent.clone(), false).unwrap();
                let trailer = (HeaderName::from_static("x-sum"), HeaderValue::from_static("done"));
                stream.send_trailers(HeaderMap::from_iter([trailer])).unwrap();
            }
        }
    })
    .await;
    let world = World::build_over(
        upstream,
        |names| names,
        |ports| Rules { ports },
        |builder| builder.redact(Scrubber),
    )
    .await;
    let target = world.at("ok.example");
    let answer = client::get(&mut client::open(&world, &target).await, &target, "/").await;
    assert_eq!(answer.text(), body);
    assert_eq!(answer.trailers.unwrap()["x-sum"], "done");
}

/// The end needs no room (RFC 9113 §6.9.1): a client whose window a body fills to the byte is not waited for.
#[tokio::test]
async fn the_end_needs_no_room() {
    let mut limits = Limits::default();
    limits.idle_timeout = Duration::from_millis(200);
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let (world, target) = world(answer.to_owned(), |builder| builder.limits(limits)).await;
    let mut client = tls(&world, &target).await;
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
    let just_enough = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 5]);
    client.write_all(&[PREFACE, &just_enough, &get(&target)].concat()).await.unwrap();
    client.flush().await.unwrap();
    let mut body = Vec::new();
    loop {
        let frame = read_frame(&mut client).await.expect("the connection ended before the answer");
        match (frame.stream, frame.kind) {
            (1, DATA) => body.extend(frame.payload),
            (1, RST_STREAM) => panic!("the client was waited for"),
            _ => {}
        }
        if frame.stream == 1 && frame.flags & END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(body, b"hello");
}

/// What a client does that has room for one byte of an answer of five.
#[derive(Clone, Copy, Debug)]
enum Then {
    SitsStill,
    Resets,
    Leaves,
}

/// What is recorded of the answer.
async fn without_room(redact: bool, then: Then) -> String {
    let mut limits = Limits::default();
    if let Then::SitsStill = then {
        limits.idle_timeout = Duration::from_millis(50);
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let more = |builder: Builder| {
        let builder = builder.limits(limits);
        if redact { builder.redact(Scrubber) } else { builder }
    };
    let (world, target) = world(answer.to_owned(), more).await;
    let mut client = tls(&world, &target).await;
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
    let little = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]);
    client.write_all(&[PREFACE, &little, &get(&target)].concat()).await.unwrap();
    client.flush().await.unwrap();
    while read_frame(&mut client).await.expect("no byte of the answer came").kind != DATA {}
    match then {
        Then::SitsStill => {}
        Then::Resets => {
            client.write_all(&frame(RST_STREAM, 0, 1, &8u32.to_be_bytes())).await.unwrap();
            client.flush().await.unwrap();
        }
        Then::Leaves => client.shutdown().await.unwrap(),
    }
    let records = world.records(1).await;
    records[0]["error"].as_str().unwrap_or("none").to_owned()
}

/// The whole answer is with the proxy, and the client takes a byte of it: the request is under way until it is given up.
#[tokio::test]
async fn what_a_client_gives_no_room_for_is_not_taken_for_sent() {
    for redact in [false, true] {
        for (then, error) in [
            (Then::SitsStill, "client_took_nothing"),
            (Then::Resets, "client_went_away"),
            (Then::Leaves, "client_went_away"),
        ] {
            assert_eq!(without_room(redact, then).await, error, "searched: {redact}, {then:?}");
        }
    }
}

/// A world whose upstream answers each stream over HTTP/2 by `answer`.
async fn answering<F>(
    answer: impl Fn(h2::server::SendResponse<Bytes>) -> F + Clone + Send + Sync + 'static,
) -> (Arc<World>, String)
where
    F: Future<Output = ()> + Send + 'static,
{
    let upstream = upstream::listen(NAMES, &[H2], move |stream, _| {
        let answer = answer.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_asked, respond))) = connection.accept().await {
                tokio::spawn(answer(respond));
            }
        }
    })
    .await;
    let world = World::build_over(upstream, |names| names, |ports| Rules { ports }, |builder| builder).await;
    let target = world.at("ok.example");
    (world, target)
}

/// The end of the stream comes in a frame of its own, and not before the client has its answer.
#[tokio::test]
async fn an_answer_to_head_is_whole_before_its_stream_has_ended() {
    let ended = Arc::new(Notify::new());
    let told = Arc::clone(&ended);
    let (world, target) = answering(move |mut respond| {
        let told = Arc::clone(&told);
        async move {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            told.notified().await;
            let _ = stream.send_data(Bytes::new(), true);
        }
    })
    .await;
    let mut client = client::open(&world, &target).await;
    let asked = client::request("HEAD", &target, "/").body(client::no_body()).unwrap();
    assert_eq!(client::ask(&mut client, asked).await.status, 200);
    let record = world.records(1).await.pop().unwrap();
    assert_eq!(
        (&record["verdict"], &record["error"]),
        (&"allow".into(), &serde_json::Value::Null),
        "{record}"
    );
    ended.notify_one();
}

/// RFC 9113 §8.1 lets a server reset with NO_ERROR after the end, not before.
#[tokio::test]
async fn an_answer_that_is_reset_has_broken_off_whatever_the_code() {
    let (world, target) = answering(|mut respond| async move {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        tokio::task::yield_now().await;
        stream.send_reset(h2::Reason::NO_ERROR);
    })
    .await;
    let mut client = client::open(&world, &target).await;
    let asked = client::request("GET", &target, "/").body(client::no_body()).unwrap();
    let answer = client.send_request(asked).await.unwrap();
    assert!(http_body_util::BodyExt::collect(answer.into_body()).await.is_err(), "it was taken for whole");
    assert_eq!(world.records(1).await[0]["error"], "upstream_broke_off");
}

/// It grants all the room there is, and reads nothing. What the proxy holds of it goes with the client.
#[tokio::test]
async fn a_connection_to_an_upstream_that_takes_nothing_goes_with_its_client() {
    let (hold, mut held) = mpsc::unbounded_channel();
    let upstream = upstream::listen(NAMES, &[H2], move |mut stream, _| {
        let hold = hold.clone();
        async move {
            let room = i32::MAX.to_be_bytes();
            let settings = frame(SETTINGS, 0, 0, &[&[0, 4], &room[..]].concat());
            let more = frame(WINDOW_UPDATE, 0, 0, &(i32::MAX - 65_535).to_be_bytes());
            stream.write_all(&[settings, more].concat()).await.unwrap();
            stream.flush().await.unwrap();
            hold.send(stream).unwrap();
        }
    })
    .await;
    let world = World::build_over(upstream, |names| names, |ports| Rules { ports }, |builder| builder).await;
    let target = world.at("ok.example");
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut client = client::open(&world, &target).await;
    let (sender, body) = client::pieces();
    let piece = Bytes::from_static(&[b'x'; 64 * 1024]);
    for _ in 0..1024 {
        sender.send(hyper::body::Frame::data(piece.clone())).unwrap();
    }
    let asked = client::request("POST", &target, "/").body(body).unwrap();
    let asked = tokio::spawn(client.send_request(asked));
    let _stream = held.recv().await.unwrap();
    // All buffers on the way are full.
    tokio::time::sleep(Duration::from_millis(300)).await;
    asked.abort();
    drop((client, sender));
    let gone = async {
        while tasks() > before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), gone).await.expect("something is held for ever");
}
