//! What is allowed arrives over either protocol, as it was judged, and comes back whole.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use hyper::body::Frame;
use tokio::io::AsyncWriteExt;

use super::client::*;
use super::frames::*;
use super::{H2, HTTP1, world, world_with};
use crate::hooks::{PLACEHOLDER, SECRET, Scrubber};
use crate::upstream::header;

#[tokio::test]
async fn streams_of_one_connection_share_one_upstream_connection() {
    let world = world(&[H2, HTTP1]).await;
    let target = world.at("ok.example");
    let client = open(&world, &target).await;
    let asked = (0..50).map(|n| {
        let (mut client, target) = (client.clone(), target.clone());
        tokio::spawn(async move { get(&mut client, &target, &format!("/n{n}")).await })
    });
    for answer in asked.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, "hello"));
    }
    assert_eq!(world.tls.connections.load(Ordering::SeqCst), 1);
    let seen = world.tls.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 50);
    assert!(
        seen.iter().all(|head| head.contains(&format!("https://{target}/n")) && head.contains("HTTP/2.0"))
    );
    assert!(seen.iter().all(|head| header(head, "host").is_none()));
    let records = world.records(50).await;
    assert_eq!(records.iter().filter(|record| record["ms_connect"].is_number()).count(), 1);
    assert!(records.iter().all(|record| record["verdict"] == "allow" && record["bytes_down"] == 5));
}

/// What was judged is sent: the library takes a target without a path, and reads one into it.
#[tokio::test]
async fn a_target_without_a_path_gets_the_one_it_was_judged_by() {
    for alpn in [H2, HTTP1] {
        for (asked, sent) in [("?x", "/?x"), ("/?x", "/?x"), ("/", "/")] {
            let world = world(&[alpn]).await;
            let target = world.at("ok.example");
            let head = [(":method", "GET"), (":scheme", "https"), (":authority", &*target), (":path", asked)];
            let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&head));
            let mut tls = tls(&world, &target).await;
            tls.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &request].concat()).await.unwrap();
            assert_eq!(verdict(&mut tls).await.unwrap().status(), 200, "{asked}");
            let seen = world.tls.seen.lock().unwrap()[0].clone();
            assert_eq!(header(&seen, "as-sent").as_deref(), Some(sent), "{asked}");
        }
    }
}

#[tokio::test]
async fn an_upstream_without_http2_gets_a_connection_per_stream_and_keeps_them() {
    for alpn in [&[HTTP1][..], &[]] {
        let world = world(alpn).await;
        let target = world.at("ok.example");
        let mut client = open(&world, &target).await;
        for _ in 0..3 {
            let asked = (0..10).map(|_| {
                let (mut client, target) = (client.clone(), target.clone());
                tokio::spawn(async move { get(&mut client, &target, "/").await })
            });
            for answer in asked.collect::<Vec<_>>() {
                assert_eq!(answer.await.unwrap().text(), "hello");
            }
        }
        assert!(world.tls.connections.load(Ordering::SeqCst) <= 10);
        let (sender, body) = pieces();
        let asked = client.send_request(request("POST", &target, "/echo-body").body(body).unwrap());
        for piece in ["a", "b", "c"] {
            sender.send(Frame::data(Bytes::from(piece))).unwrap();
        }
        drop(sender);
        assert_eq!(Answer::of(asked.await.unwrap()).await.text(), "abc");
        let seen = world.tls.seen.lock().unwrap().last().unwrap().clone();
        assert_eq!(header(&seen, "transfer-encoding").as_deref(), Some("chunked"));
        assert_eq!(header(&seen, "host"), Some(target));
    }
}

/// hyper would take a GET without a length for one without a body.
#[tokio::test]
async fn a_get_with_a_body_keeps_it_over_either_protocol() {
    for alpn in [H2, HTTP1] {
        let world = world(&[alpn]).await;
        let target = world.at("ok.example");
        let mut client = open(&world, &target).await;
        let get = request("GET", &target, "/echo-body").body(whole(b"body of a GET")).unwrap();
        assert_eq!(ask(&mut client, get).await.text(), "body of a GET");
    }
}

#[tokio::test]
async fn a_client_of_http1_keeps_an_upstream_of_http1() {
    let world = world(&[H2, HTTP1]).await;
    let target = world.at("ok.example");
    let mut tls = crate::client::https(&world, &target).await;
    let answer = crate::client::ask(&mut tls, &format!("GET /echo HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
    assert!(answer.text().starts_with("GET /echo HTTP/1.1\r\n"), "{}", answer.text());
}

#[tokio::test]
async fn a_credential_is_put_in_and_taken_out_again() {
    for alpn in [H2, HTTP1] {
        let world = world_with(&[alpn], |builder| builder.redact(Scrubber)).await;
        let target = world.at("ok.example");
        let mut client = open(&world, &target).await;
        let asked =
            request("GET", &target, "/echo-header").header("authorization", format!("Bearer {PLACEHOLDER}"));
        let answer = ask(&mut client, asked.body(no_body()).unwrap()).await;
        assert_eq!(answer.headers["x-got"], format!("Bearer {PLACEHOLDER}"));
        let seen = world.tls.seen.lock().unwrap()[0].clone();
        assert_eq!(header(&seen, "authorization"), Some(format!("Bearer {SECRET}")));
        assert_eq!(header(&seen, "accept-encoding").as_deref(), Some("identity"));
        let record = &world.records(1).await[0];
        assert_eq!((&record["credential"], &record["redactions"]), (&"api-key".into(), &1.into()));
    }
}

#[tokio::test]
async fn crumbs_of_a_cookie_arrive_as_one_field() {
    for alpn in [H2, HTTP1] {
        let world = world(&[alpn]).await;
        let target = world.at("ok.example");
        let mut client = open(&world, &target).await;
        let asked = request("GET", &target, "/").header("cookie", "a=1").header("cookie", "b=2");
        assert_eq!(ask(&mut client, asked.body(no_body()).unwrap()).await.status, 200);
        let seen = world.tls.seen.lock().unwrap()[0].clone();
        assert_eq!(seen.matches("cookie:").count(), 1);
        assert_eq!(header(&seen, "cookie").as_deref(), Some("a=1; b=2"));
    }
}

/// gRPC: a status after the body, and fields that have no business there.
#[tokio::test]
async fn trailers_pass_back_searched_and_without_what_steers() {
    for (alpn, redact) in [(H2, false), (H2, true), (HTTP1, true)] {
        let world = world_with(&[alpn], |b| if redact { b.redact(Scrubber) } else { b }).await;
        let target = world.at("ok.example");
        let mut client = open(&world, &target).await;
        let asked =
            request("POST", &target, "/grpc").header("te", "trailers").body(whole(b"message")).unwrap();
        let answer = ask(&mut client, asked).await;
        assert_eq!(answer.text(), "hello");
        let trailers = answer.trailers.unwrap_or_else(|| panic!("no trailers over {alpn:?}"));
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers["x-secret"], if redact { PLACEHOLDER } else { SECRET });
        assert_eq!(trailers.len(), 2, "{trailers:?}");
        assert_eq!(answer.headers["trailer"], "grpc-status, x-secret");
        let seen = world.tls.seen.lock().unwrap()[0].clone();
        assert_eq!(header(&seen, "te").as_deref(), Some("trailers"));
    }
}

#[tokio::test]
async fn trailers_of_a_request_pass_up_without_what_steers() {
    for alpn in [H2, HTTP1] {
        let world = world(&[alpn]).await;
        let target = world.at("ok.example");
        let mut client = open(&world, &target).await;
        let (sender, body) = pieces();
        let mut trailers = HeaderMap::new();
        for name in ["x-checksum", "authorization", "content-type"] {
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        sender.send(Frame::data(Bytes::from_static(b"x"))).unwrap();
        sender.send(Frame::trailers(trailers)).unwrap();
        drop(sender);
        let asked = request("POST", &target, "/echo-trailers").header("trailer", "x-checksum");
        let answer = ask(&mut client, asked.body(body).unwrap()).await;
        assert_eq!(answer.text(), r#"{"x-checksum": "1"}"#);
    }
}

#[tokio::test]
async fn a_stream_that_the_client_gives_up_is_recorded_and_others_go_on() {
    let world = world(&[H2]).await;
    let target = world.at("ok.example");
    let mut client = open(&world, &target).await;
    let (sender, body) = pieces();
    let asked = client.send_request(request("POST", &target, "/upload").body(body).unwrap());
    let asked = tokio::spawn(asked);
    sender.send(Frame::data(Bytes::from_static(b"half"))).unwrap();
    while world.tls.seen.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    asked.abort();
    assert_eq!(world.records(1).await[0]["error"], "client_went_away");
    assert_eq!(get(&mut client, &target, "/").await.text(), "hello");
}

/// The upstream answers while the client is still sending, and the two bodies pass each other piece by piece.
#[tokio::test]
async fn pieces_pass_both_ways_as_they_come() {
    for alpn in [H2, HTTP1] {
        let world = world(&[alpn]).await;
        let target = world.at("ok.example");
        let mut client = open(&world, &target).await;
        let (sender, body) = pieces();
        let asked = client.send_request(request("POST", &target, "/mirror").body(body).unwrap());
        sender.send(Frame::data(Bytes::from_static(b"0"))).unwrap();
        let mut answer = asked.await.unwrap().into_body();
        for n in 0..5 {
            let piece = http_body_util::BodyExt::frame(&mut answer).await.unwrap().unwrap();
            assert_eq!(piece.into_data().unwrap(), n.to_string());
            // Sent only now: nothing on the way waits for more.
            sender.send(Frame::data(Bytes::from((n + 1).to_string()))).unwrap();
        }
    }
}
