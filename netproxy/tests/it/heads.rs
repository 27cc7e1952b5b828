//! Heads as long as may be, on both sides.

use std::sync::Arc;

use netproxy::limits::Limits;
use tokio::io::AsyncWriteExt;

use crate::client::{ask, https, read_until};
use crate::hooks::Rules;
use crate::http2::HTTP1;
use crate::http2::upstream::listen;
use crate::world::{NAMES, World};

/// `beginning`, a field that makes it as long as that, and the end.
fn padded(beginning: &str, length: usize) -> String {
    let pad = "p".repeat(length - beginning.len() - "X: \r\n\r\n".len());
    format!("{beginning}X: {pad}\r\n\r\n")
}

fn limits(header_bytes_max: usize) -> Limits {
    let mut limits = Limits::default();
    limits.header_bytes_max = header_bytes_max;
    limits
}

#[tokio::test]
async fn a_request_may_have_a_head_of_just_the_limit() {
    for most in [8 * 1024, Limits::default().header_bytes_max, 300 * 1024] {
        let world = World::limited(limits(most)).await;
        let place = format!("plain.example:{}", world.plain.address.port());
        let beginning = format!("GET http://{place}/ HTTP/1.1\r\nHost: {place}\r\n");
        for (length, status) in [(most, 200), (most + 1, 431)] {
            let answer = ask(&mut world.connect(), &padded(&beginning, length)).await;
            assert_eq!(answer.status, status, "{length} of {most}");
        }
    }
}

/// A world whose upstream answers with a head of this length, a body, and an interim answer before both.
async fn world(length: usize, limits: Limits) -> Arc<World> {
    let head = padded("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n", length);
    let answer = format!("HTTP/1.1 103 Early Hints\r\n\r\n{head}hello");
    let upstream = listen(NAMES, &[HTTP1], move |mut stream, _| {
        let answer = answer.clone();
        async move {
            read_until(&mut stream, b"\r\n\r\n").await;
            // The proxy may have ended it before it has read all.
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    let rules = |ports| Rules { ports };
    World::build_over(upstream, |names| names, rules, |builder| builder.limits(limits)).await
}

#[tokio::test]
async fn an_answer_may_have_one_as_long_as_a_request_and_64_kib_in_any_case() {
    const KIB: usize = 1024;
    let long = limits(300 * KIB);
    for (length, limits, status) in [
        (64 * KIB, Limits::default(), 200),
        (64 * KIB + 1, Limits::default(), 502),
        (64 * KIB, limits(8 * KIB), 200),
        (300 * KIB, long.clone(), 200),
        (300 * KIB + 1, long, 502),
    ] {
        let world = world(length, limits).await;
        let target = world.at("ok.example");
        let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
        let answer = ask(&mut https(&world, &target).await, &request).await;
        assert_eq!(answer.status, status, "{length}");
        if status == 200 {
            assert_eq!(answer.body, b"hello");
        } else {
            assert!(answer.json()["detail"].as_str().unwrap().contains("is longer,"), "{answer:?}");
        }
    }
}
