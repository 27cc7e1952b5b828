//! Each limit at its value and one above; times on a paused clock, so that nothing waits.

use netproxy::Proxy;
use netproxy::limits::*;
use netproxy::wire::client_hello::{Peek, peek};
use netproxy::wire::framing::{Framer, Step};
use netproxy::wire::head::{self, HeadError};
use tokio::io::AsyncWriteExt;

use crate::client::*;
use crate::world::World;

fn fields(count: usize) -> String {
    let more: String = (1..count).map(|n| format!("X-{n}: v\r\n")).collect();
    format!("GET http://PLACE/ HTTP/1.1\r\nHost: PLACE\r\n{more}\r\n")
}

#[test]
fn parts_of_a_head_have_limits() {
    let method = |n: usize| format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(n));
    let target = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(n - 1));
    for (fits, above, error) in [
        (method(METHOD_BYTES_MAX), method(METHOD_BYTES_MAX + 1), HeadError::RequestLine),
        (target(TARGET_BYTES_MAX), target(TARGET_BYTES_MAX + 1), HeadError::TooLarge),
        (fields(HEADER_FIELDS_MAX), fields(HEADER_FIELDS_MAX + 1), HeadError::TooManyFields),
    ] {
        assert!(head::parse(fits.as_bytes()).is_ok(), "{error}");
        assert_eq!(head::parse(above.as_bytes()), Err(error));
    }
}

/// Steps a chunked body to its end.
fn chunked(body: &str) -> Result<(), HeadError> {
    let mut framer = Framer::new(1024);
    framer.accept_head(netproxy::wire::head::Framing::Chunked);
    let mut at = 0;
    while !framer.at_boundary() {
        match framer.step(&body.as_bytes()[at..])? {
            Step::Pass(count) => at += count,
            step => panic!("{step:?} at {at}"),
        }
    }
    Ok(())
}

#[test]
fn parts_of_a_chunked_body_have_limits() {
    let line = |n: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(n - 2));
    assert_eq!(chunked(&line(CHUNK_LINE_BYTES_MAX)), Ok(()));
    assert_eq!(chunked(&line(CHUNK_LINE_BYTES_MAX + 1)), Err(HeadError::Chunk));
    let trailer = |n: usize| format!("0\r\nT: {}\r\n\r\n", "t".repeat(n - 3));
    assert_eq!(chunked(&trailer(TRAILER_BYTES_MAX - 2)), Ok(()));
    assert_eq!(chunked(&trailer(TRAILER_BYTES_MAX + 1)), Err(HeadError::Trailer));
    let size = |n: u64| {
        let mut framer = Framer::new(1024);
        framer.accept_head(netproxy::wire::head::Framing::Chunked);
        framer.step(format!("{n:x}\r\n").as_bytes()).is_ok()
    };
    assert!(size(CHUNK_BYTES_MAX) && !size(CHUNK_BYTES_MAX + 1));
}

#[test]
fn a_client_hello_has_a_limit() {
    let hello = |n: usize| {
        let [_, a, b, c] = u32::try_from(n).unwrap().to_be_bytes();
        peek(&[22, 3, 1, 0, 4, 1, a, b, c])
    };
    assert_eq!(hello(CLIENT_HELLO_BYTES_MAX), Peek::Need);
    assert_eq!(hello(CLIENT_HELLO_BYTES_MAX + 1), Peek::Malformed);
}

#[tokio::test]
async fn the_library_behind_takes_what_our_limits_let_through() {
    let world = World::start().await;
    let place = format!("plain.example:{}", world.plain.address.port());
    for (count, status) in [(HEADER_FIELDS_MAX, 200), (HEADER_FIELDS_MAX + 1, 431)] {
        let mut stream = world.connect();
        let answer = ask(&mut stream, &fields(count).replace("PLACE", &place)).await;
        assert_eq!(answer.status, status, "{count} fields");
    }
    let long = "l".repeat(TARGET_BYTES_MAX - 200);
    let mut stream = world.connect();
    let answer =
        ask(&mut stream, &format!("GET http://{place}/{long} HTTP/1.1\r\nHost: {place}\r\n\r\n")).await;
    assert_eq!(answer.status, 200);
    let pad = "p".repeat(64 * 1024);
    let mut stream = world.connect();
    let answer =
        ask(&mut stream, &format!("GET http://{place}/ HTTP/1.1\r\nHost: {place}\r\nX: {pad}\r\n\r\n")).await;
    assert_eq!((answer.status, &answer.json()["error"]), (431, &"request_head_too_large".into()));
}

fn deny_all() -> Proxy {
    Proxy::builder().build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_given_up() {
    let proxy = deny_all();
    for beginning in ["", "GET / HT", "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"] {
        let (mut near, far) = tokio::io::duplex(1024);
        near.write_all(beginning.as_bytes()).await.unwrap();
        // Returns although the client stays: on the paused clock, as soon as nothing else can happen.
        proxy.serve(far).await;
        drop(near);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_dns_stream_is_given_up() {
    let (near, far) = tokio::io::duplex(1024);
    deny_all().serve_dns(far).await;
    drop(near);
}

#[tokio::test]
async fn a_silent_upstream_is_given_up() {
    let mut limits = Limits::default();
    limits.idle_timeout = std::time::Duration::from_millis(50);
    let world = World::limited(limits).await;
    for (host, error) in [("ok.example", "response_too_quiet"), ("opaque.example", "tunnel_too_quiet")] {
        let before = world.records.0.lock().unwrap().len();
        let target = world.at(host);
        let stream = connect(&world, &target).await;
        let root = if host == "ok.example" { world.proxy.ca_certificate_pem() } else { &world.tls.root_pem };
        let mut tls = tls_trusting(root, stream, host).await.unwrap();
        let request = format!("GET /silent HTTP/1.1\r\nHost: {target}\r\n\r\n");
        tls.write_all(request.as_bytes()).await.unwrap();
        let all = read_until(&mut tls, b"abc").await;
        assert!(all.ends_with(b"\r\n\r\nab"), "{}", String::from_utf8_lossy(&all));
        assert_eq!(world.records(before + 1).await[before]["error"], error);
    }
}

/// What a connection costs before anything is known of it. An array in one rare branch would be paid by all.
#[tokio::test]
async fn the_future_of_a_connection_is_small() {
    let world = World::start().await;
    let (_near, far) = tokio::io::duplex(1);
    let bytes = std::mem::size_of_val(&world.proxy.serve(far));
    assert!(bytes <= 2048, "{bytes}");
}

/// One wait, and not one after the other, for who was let in and asks for nothing.
#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_nothing_inside_tls_has_the_time_of_a_head() {
    let world = World::start().await;
    let mut tls = https(&world, &world.at("ok.example")).await;
    let since = tokio::time::Instant::now();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut tls, &mut Vec::new()).await;
    let limits = Limits::default();
    assert!(since.elapsed() <= limits.header_timeout + limits.linger_timeout, "{:?}", since.elapsed());
}
