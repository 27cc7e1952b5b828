//! An encoded answer is decoded, searched and passed on decoded, over either protocol, or ends in an error.

use std::sync::Arc;

use http_body_util::BodyExt;
use netproxy::coding::Coding;
use netproxy::limits::CODING_BYTES_MAX;

use crate::client::*;
use crate::coded;
use crate::hooks::{PLACEHOLDER, Rules, SECRET, Scrubber};
use crate::http2::client::{self as h2, no_body};
use crate::http2::{H2, HTTP1};
use crate::upstream::header;
use crate::world::{NAMES, World};

async fn world(alpn: &[&[u8]]) -> Arc<World> {
    let tls = coded::start(NAMES, alpn).await;
    World::build_over(tls, |names| names, |ports| Rules { ports }, |builder| builder.redact(Scrubber)).await
}

fn request(target: &str, path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {target}\r\nAuthorization: {PLACEHOLDER}\r\nAccept-Encoding: gzip, br, zstd, deflate, compress\r\n{more}\r\n"
    )
}

async fn get(world: &World, path: &str) -> Answer {
    let target = world.at("ok.example");
    ask(&mut https(world, &target).await, &request(&target, path, "")).await
}

const CODED: [&str; 7] = ["gzip", "deflate", "br", "zstd", "gzip,br", "zstd,gzip", "br,zstd"];

#[tokio::test]
async fn a_secret_in_an_encoded_answer_comes_back_as_its_placeholder() {
    let world = world(&[HTTP1]).await;
    for (n, coding) in CODED.iter().enumerate() {
        let answer = get(&world, &format!("/echo/{coding}")).await;
        let text = answer.text();
        assert!(
            text.starts_with(&format!("it is {PLACEHOLDER}, and again: {PLACEHOLDER}filler")),
            "{coding}: {text}"
        );
        assert!(!text.contains(SECRET) && text.ends_with("filler "));
        for (name, expected) in [
            ("content-encoding", None),
            ("content-length", None),
            ("content-md5", None),
            ("x-amz-checksum-crc32", None),
            ("x-goog-hash", None),
            ("accept-ranges", Some("none")),
            ("etag", Some("W/\"v1\"")),
            ("vary", Some("accept-encoding")),
        ] {
            assert_eq!(answer.header(name).as_deref(), expected, "{name}");
        }
        let record = &world.records(n + 1).await[n];
        assert!(record["redactions"].as_u64().unwrap() >= 2 && record["verdict"] == "allow", "{record}");
        assert_eq!(record["bytes_down"], text.len());
    }
    let seen = world.tls.seen.lock().unwrap().clone();
    assert!(
        seen.iter().all(|head| head.contains(r#""accept-encoding": "gzip, br, zstd, deflate""#)),
        "{seen:?}"
    );
}

#[tokio::test]
async fn the_same_over_http2_with_trailers() {
    for alpn in [H2, HTTP1] {
        let world = world(&[alpn]).await;
        let target = world.at("ok.example");
        let mut client = h2::open(&world, &target).await;
        for coding in CODED {
            let asked = h2::request("GET", &target, &format!("/echo/{coding}"))
                .header("authorization", PLACEHOLDER)
                .header("accept-encoding", "gzip, br")
                .header("te", "trailers");
            let answer = h2::ask(&mut client, asked.body(no_body()).unwrap()).await;
            assert!(answer.text().starts_with(&format!("it is {PLACEHOLDER}, and")), "{coding}");
            assert!(!answer.text().contains(SECRET) && answer.text().ends_with("filler "));
            assert_eq!(answer.headers.get("content-encoding"), None);
            let trailers = answer.trailers.unwrap();
            assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &PLACEHOLDER.parse().unwrap()));
        }
    }
}

#[tokio::test]
async fn an_event_in_an_encoded_stream_is_passed_on_before_the_next_one_is_sent() {
    for alpn in [H2, HTTP1] {
        let world = world(&[alpn]).await;
        let target = world.at("ok.example");
        let mut client = h2::open(&world, &target).await;
        for coding in Coding::ALL {
            let asked = h2::request("GET", &target, &format!("/events/{coding}"))
                .header("authorization", PLACEHOLDER);
            let response = client.send_request(asked.body(no_body()).unwrap()).await.unwrap();
            let mut body = response.into_body();
            for n in 0..3 {
                let event = format!("data: {n} {PLACEHOLDER}\n\n");
                let mut got = Vec::new();
                while got.len() < event.len() {
                    got.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
                }
                assert_eq!(String::from_utf8(got).unwrap(), event, "{coding}");
                world.tls.next_event.notify_one();
            }
            assert!(body.collect().await.unwrap().to_bytes().is_empty());
        }
    }
}

#[tokio::test]
async fn a_broken_or_exploding_body_does_not_end_as_if_it_were_whole() {
    for (n, (path, error)) in [
        ("/cut/gzip", "response_encoding_broken"),
        ("/cut/deflate", "response_encoding_broken"),
        ("/cut/br", "response_encoding_broken"),
        ("/cut/zstd", "response_encoding_broken"),
        ("/cut/gzip,br", "response_encoding_broken"),
        ("/bomb/br", "response_encoding_excessive"),
        ("/bomb/zstd", "response_encoding_excessive"),
        ("/bomb/gzip,gzip", "response_encoding_excessive"),
    ]
    .into_iter()
    .enumerate()
    {
        let world = world(&[HTTP1]).await;
        let target = world.at("ok.example");
        let mut tls = https(&world, &target).await;
        let head = request(&target, path, "");
        tokio::io::AsyncWriteExt::write_all(&mut tls, head.as_bytes()).await.unwrap();
        let head = String::from_utf8(read_until(&mut tls, b"\r\n\r\n").await).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut rest = Vec::new();
        let end = tokio::io::AsyncReadExt::read_to_end(&mut tls, &mut rest).await;
        assert!(!rest.ends_with(b"\r\n0\r\n\r\n"), "{path} ended well: {end:?}");
        let record = &world.records(1).await[0];
        assert_eq!((&record["verdict"], &record["error"]), (&"error".into(), &error.into()), "{path} {n}");
        assert!(record["reason"].as_str().unwrap().contains("body"), "{record}");

        let mut client = h2::open(&world, &target).await;
        let asked = h2::request("GET", &target, path).header("authorization", PLACEHOLDER);
        let response = client.send_request(asked.body(no_body()).unwrap()).await.unwrap();
        assert!(response.into_body().collect().await.is_err(), "{path} ended well over HTTP/2");
    }
}

#[tokio::test]
async fn what_has_no_body_is_left_as_it_is() {
    let world = world(&[HTTP1]).await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let head = request(&target, "/empty/gzip", "").replacen("GET", "HEAD", 1);
    let answer = ask(&mut tls, &head).await;
    assert_eq!(answer.header("content-encoding").as_deref(), Some("gzip"));
    assert_eq!(answer.header("etag").as_deref(), Some("\"v1\""));
    // Chunked and without a chunk: encoded or not, that is nothing.
    let answer = ask(&mut tls, &request(&target, "/empty/gzip", "")).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[tokio::test]
async fn a_part_or_an_unknown_coding_is_refused() {
    let world = world(&[HTTP1]).await;
    for path in
        ["/part/gzip", "/part/identity", "/echo/compress", "/echo/gzip,gzip,gzip", "/echo/gzip,compress"]
    {
        let answer = get(&world, path).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (502, &"response_not_redactable".into()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn encoded_answers_beyond_the_memory_for_them_are_asked_for_plain_and_refused_if_they_are_not() {
    let world = world(&[HTTP1]).await;
    let target = world.at("ok.example");
    let client = h2::open(&world, &target).await;
    let most = CODING_BYTES_MAX / Coding::Brotli.bytes_max();
    let mut open = Vec::new();
    let mut refused = 0;
    // The window of these is 4 MiB, known from the first byte on: more of them than in the worst case fit.
    for _ in 0..4 * most {
        let mut client = client.clone();
        let asked = h2::request("GET", &target, "/events/br")
            .header("authorization", PLACEHOLDER)
            .header("accept-encoding", "br;q=0.9");
        let mut response = client.send_request(asked.body(no_body()).unwrap()).await.unwrap();
        if response.status() == 200 {
            response.body_mut().frame().await.unwrap().unwrap();
            open.push(response);
            continue;
        }
        let answer = h2::Answer::of(response).await;
        assert_eq!((answer.status, &answer.json()["error"]), (502, &"response_decoding_limit".into()));
        refused += 1;
    }
    assert!(open.len() >= most && refused > 0, "{} open, {refused} refused", open.len());
    let seen = world.tls.seen.lock().unwrap().clone();
    let asked_in = |what: &str| {
        seen.iter().filter(|head| head.contains(&format!(r#""accept-encoding": "{what}""#))).count()
    };
    assert_eq!((asked_in("br;q=0.9"), asked_in("identity")), (open.len(), refused));
    // Closed ones make room.
    drop(open);
    world.records(4 * most).await;
    let answer = get(&world, "/echo/br").await;
    assert!(answer.text().contains(PLACEHOLDER) && header(&answer.head, "content-encoding").is_none());
}
