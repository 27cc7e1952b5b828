//! What an upstream gives back is searched, or refused.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use netproxy::hooks::*;
use netproxy::{Builder, HostName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::client::*;
use crate::hooks::{PLACEHOLDER, Rules, SECRET, Scrubber};
use crate::http2::HTTP1;
use crate::http2::upstream::listen;
use crate::upstream::header;
use crate::world::{NAMES, World};

async fn get(world: &World, path: &str) -> Answer {
    let target = world.at("ok.example");
    let mut tls = https(world, &target).await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {target}\r\nAuthorization: {PLACEHOLDER}\r\nAccept-Encoding: gzip, br\r\nRange: bytes=0-1\r\n\r\n"
    );
    ask(&mut tls, &request).await
}

#[tokio::test]
async fn an_echoed_secret_comes_back_as_its_placeholder() {
    let world = World::redacting().await;
    let answer = get(&world, "/echo").await;
    let text = answer.text();
    assert!(text.contains(&format!("authorization: {PLACEHOLDER}")), "{text}");
    assert!(!text.contains(SECRET));
    // Asked for in a way that can be searched.
    assert_eq!(header(&text, "accept-encoding").as_deref(), Some("gzip, br"));
    assert_eq!(header(&text, "range"), None);
    assert_eq!(world.records(1).await[0]["redactions"], 1);
    let answer = get(&world, "/echo-header").await;
    assert_eq!(answer.header("x-got").as_deref(), Some(PLACEHOLDER));
}

#[tokio::test]
async fn a_header_named_after_a_secret_is_left_out() {
    let world = World::redacting().await;
    let answer = get(&world, "/echo-name").await;
    assert_eq!(answer.header("x-other").as_deref(), Some("2"));
    assert_eq!(answer.header(&format!("x-{SECRET}")), None);
    // Not even announced.
    assert_eq!(answer.header("trailer").as_deref(), Some("x-sum"));
    assert_eq!(world.records(1).await[0]["redactions"], 3);
}

#[tokio::test]
async fn an_encoded_answer_that_cannot_be_searched_is_refused() {
    let world = World::redacting().await;
    let answer = get(&world, "/compress").await;
    assert_eq!((answer.status, &answer.json()["error"]), (502, &"response_not_redactable".into()));
    // The upstream has it, however it answers; and it has answered.
    let record = world.records(1).await.remove(0);
    assert_eq!(record["credential"], "api-key");
    for name in ["ms_dns", "ms_connect", "ms_tls", "ms_first_byte"] {
        assert!(record[name].is_number(), "{name}: {record}");
    }
    assert!(answer.header("proxy-status").unwrap().contains("error=http_response_transform_error"));
}

/// Says what becomes of what cannot be searched.
struct Passing(Rules, OnOpaque);
impl Authorize for Passing {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        self.0.connect(facts)
    }
    fn request(&self, _: &RequestFacts<'_>) -> Verdict {
        Allow::by("opaque-ok").with_on_opaque(self.1).into()
    }
    fn dns_name(&self, name: &HostName) -> Verdict {
        self.0.dns_name(name)
    }
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        self.0.address(facts)
    }
}

#[tokio::test]
async fn an_encoded_answer_passes_where_the_rule_says_so_and_its_headers_are_searched() {
    let rules = |ports| Passing(Rules { ports }, OnOpaque::Pass);
    let world = World::build_ruled(|names| names, rules, |builder| builder.redact(Scrubber)).await;
    let answer = get(&world, "/compress-echo").await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"\x1f\x9dnot really".as_slice()));
    assert_eq!(answer.header("x-got").as_deref(), Some(PLACEHOLDER));
    let record = &world.records(1).await[0];
    assert_eq!((&record["verdict"], &record["redactions"]), (&"allow".into(), &1.into()));
    assert!(record["reason"].as_str().unwrap().contains("could not be searched"));
}

/// A scrubber for hosts that are never sent what it looks for.
struct ByParts;

impl Redact for ByParts {
    fn filter(&self, decided: &Decided<'_>) -> Option<Box<dyn ResponseFilter>> {
        Scrubber.filter(decided)
    }
    fn allows_parts(&self, _: &Decided<'_>) -> bool {
        true
    }
}

/// Who lets parts be asked for.
enum By {
    Hook,
    Rule,
    Nobody,
}

/// What an upstream that answers as it is told is asked, and the answer; `fields` are the request's.
async fn of_a_part(by: By, answer: &str, fields: &str) -> (String, Answer) {
    let (tell, mut told) = mpsc::unbounded_channel();
    let answer = answer.to_owned();
    let upstream = listen(NAMES, &[HTTP1], move |mut stream, _| {
        let (tell, answer) = (tell.clone(), answer.clone());
        async move {
            let asked = read_until(&mut stream, b"\r\n\r\n").await;
            tell.send(String::from_utf8(asked).unwrap().to_ascii_lowercase()).unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.read_u8().await;
        }
    })
    .await;
    let on_opaque = if let By::Rule = by { OnOpaque::Pass } else { OnOpaque::Refuse };
    let rules = |ports| Passing(Rules { ports }, on_opaque);
    let more = |builder: Builder| match by {
        By::Hook => builder.redact(ByParts),
        By::Rule | By::Nobody => builder.redact(Scrubber),
    };
    let world = World::build_over(upstream, |names| names, rules, more).await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let answer = ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n")).await;
    (told.recv().await.unwrap(), answer)
}

const RANGE: &str = "Range: bytes=0-4\r\nIf-Range: \"e\"\r\nAccept-Encoding: gzip\r\n";

#[tokio::test]
async fn parts_pass_where_that_is_allowed_and_are_searched() {
    let body = format!("hello {SECRET}");
    let head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-16/99\r\nAccept-Ranges: bytes\r\n";
    let part = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    for by in [By::Hook, By::Rule] {
        let (asked, answer) = of_a_part(by, &part, RANGE).await;
        // What is encoded can be decoded only whole.
        for field in ["range: bytes=0-4\r\n", "if-range: \"e\"\r\n", "accept-encoding: identity\r\n"] {
            assert!(asked.contains(field), "{asked}");
        }
        assert_eq!((answer.status, answer.text()), (206, format!("hello {PLACEHOLDER}")));
        assert_eq!(answer.header("content-range").as_deref(), Some("bytes 0-16/99"));
        assert_eq!(answer.header("accept-ranges").as_deref(), Some("bytes"));
    }
    let none = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */3\r\nContent-Length: 0\r\n\r\n";
    let (_, answer) = of_a_part(By::Hook, none, RANGE).await;
    assert_eq!((answer.status, answer.header("content-range").as_deref()), (416, Some("bytes */3")));
    // Stored encoded: without the beginning nobody can decode it.
    let encoded = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/99\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello";
    let (_, answer) = of_a_part(By::Hook, encoded, RANGE).await;
    assert_eq!((answer.status, &answer.json()["error"]), (502, &"response_not_redactable".into()));
    let (_, answer) = of_a_part(By::Rule, encoded, RANGE).await;
    assert_eq!((answer.status, &*answer.text()), (206, "hello"));
}

#[tokio::test]
async fn elsewhere_all_is_asked_for_and_that_is_said() {
    let whole = "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: 5\r\n\r\nwhole";
    let (asked, answer) = of_a_part(By::Nobody, whole, RANGE).await;
    assert!(!asked.contains("range:"), "{asked}");
    assert_eq!((answer.status, &*answer.text()), (200, "whole"));
    assert_eq!(answer.header("accept-ranges").as_deref(), Some("none"));
}

/// An upstream that waits for the client's answer to what it has said, which ends as a secret begins.
#[tokio::test]
async fn what_is_held_back_goes_when_the_upstream_is_quiet() {
    let upstream = listen(NAMES, &[HTTP1], move |mut stream, _| async move {
        read_until(&mut stream, b"\r\n\r\n").await;
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}1\r\n{}\r\n", &SECRET[..1]).as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        read_until(&mut stream, b"x").await;
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
    })
    .await;
    let world =
        World::build_over(upstream, |names| names, |ports| Rules { ports }, |b| b.redact(Releasing)).await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let head = format!("POST / HTTP/1.1\r\nHost: {target}\r\nContent-Length: 1\r\n\r\n");
    tls.write_all(head.as_bytes()).await.unwrap();
    tls.flush().await.unwrap();
    read_until(&mut tls, b"\r\n\r\n").await;
    let held = timeout(Duration::from_secs(60), read_chunk(&mut tls)).await.expect("it is held for ever");
    assert_eq!(held.as_deref(), Some(&SECRET.as_bytes()[..1]));
    tls.write_all(b"x").await.unwrap();
    tls.flush().await.unwrap();
    assert_eq!(read_chunk(&mut tls).await, None);
    assert_eq!(world.records(1).await[0]["bytes_down"], 1);
}

/// Gives all that it holds when it is quiet.
struct Releasing;

struct Release(Box<dyn ResponseFilter>);

impl Redact for Releasing {
    fn filter(&self, decided: &Decided<'_>) -> Option<Box<dyn ResponseFilter>> {
        Some(Box::new(Release(Scrubber.filter(decided)?)))
    }
}

impl ResponseFilter for Release {
    fn header(&mut self, name: &HeaderName, value: &HeaderValue) -> HeaderFate {
        self.0.header(name, value)
    }
    fn body(&mut self, chunk: Bytes) -> Bytes {
        self.0.body(chunk)
    }
    fn quiet(&mut self) -> Bytes {
        self.0.finish()
    }
    fn finish(&mut self) -> Bytes {
        self.0.finish()
    }
    fn redactions(&self) -> u64 {
        self.0.redactions()
    }
}

#[tokio::test]
async fn a_forged_proxy_status_is_removed() {
    let world = World::start().await;
    assert_eq!(get(&world, "/forged").await.header("proxy-status").as_deref(), Some("cdn"));
}

/// What a client may ask for, and an answer that is so encoded.
#[tokio::test]
async fn what_is_encoded_message_by_message_is_not_asked_for_and_refused() {
    for (asks, says) in [
        ("grpc-accept-encoding: gzip", "grpc-encoding: gzip"),
        ("connect-accept-encoding: gzip", "connect-content-encoding: gzip"),
        ("a-im: vcdiff", "im: vcdiff"),
        ("accept-charset: utf-32", "content-type: text/plain; charset=\"UTF-32BE\""),
        ("accept-charset: cp037", "content-type: application/json;charset=cp037"),
    ] {
        let answer = |says: &str| format!("HTTP/1.1 200 OK\r\n{says}\r\nContent-Length: 5\r\n\r\nhello");
        let fields = format!("{asks}\r\n");
        let (asked, refused) = of_a_part(By::Nobody, &answer(says), &fields).await;
        assert!(!asked.contains(asks), "{asked}");
        assert_eq!((refused.status, &refused.json()["error"]), (502, &"response_not_redactable".into()));
        let (_, passed) = of_a_part(By::Rule, &answer(says), &fields).await;
        assert_eq!((passed.status, &*passed.text()), (200, "hello"));
        let harmless = match says.split_once(": ").unwrap() {
            ("content-type", _) => "content-type: text/html; charset=utf-8".to_owned(),
            (name, _) => format!("{name}: identity"),
        };
        let (_, passed) = of_a_part(By::Nobody, &answer(&harmless), &fields).await;
        assert_eq!((passed.status, &*passed.text()), (200, "hello"));
    }
}
