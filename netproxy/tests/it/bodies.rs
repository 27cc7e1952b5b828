//! Bodies that the injecting hook has to do with: held whole within limits, or changed on their way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use netproxy::hooks::*;
use netproxy::limits::Limits;

use crate::client::*;
use crate::hooks::Rules;
use crate::world::World;

/// Wants the body of `/held…` and of `/body`, and says in the query what it got; `/upload` passes through a filter.
struct Hook;

impl Inject for Hook {
    fn reads_body(&self, decided: &Decided<'_>, _: &RequestHead) -> bool {
        decided.request.path == "/body"
    }

    fn inject<'a>(
        &'a self,
        decided: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        if decided.request.path == "/upload" {
            assert!(head.body.is_none());
            head.body_filter = Some(Box::new(UpperCase::default()));
        } else if decided.request.path == "/body" {
            let body = head.body.take().unwrap();
            if !body.is_empty() {
                head.body = Some([&body[..], &body[..]].concat().into());
            }
        }
        Box::pin(std::future::ready(Ok(Injected::default())))
    }
}

/// Holds everything back until the end, and refuses an exclamation mark.
#[derive(Default)]
struct UpperCase(Vec<u8>);

impl BodyFilter for UpperCase {
    fn push(&mut self, chunk: Bytes) -> Result<Bytes, BodyRefused> {
        self.0.extend(chunk.to_ascii_uppercase());
        if chunk.contains(&b'!') {
            Err(BodyRefused { reason: "too loud".to_owned() })
        } else {
            Ok(Bytes::new())
        }
    }
    fn finish(&mut self) -> Result<Bytes, BodyRefused> {
        Ok(std::mem::take(&mut self.0).into())
    }
    fn held_bytes(&self) -> usize {
        self.0.len()
    }
}

async fn world(change: impl FnOnce(&mut Limits)) -> Arc<World> {
    let mut limits = Limits::default();
    change(&mut limits);
    World::build_ruled(|names| names, |ports| Rules { ports }, |b| b.limits(limits).inject(Hook)).await
}

async fn post(world: &World, path: &str, framing: impl std::fmt::Display) -> Answer {
    let target = world.at("ok.example");
    let mut tls = https(world, &target).await;
    ask(&mut tls, &format!("POST {path} HTTP/1.1\r\nHost: {target}\r\n{framing}")).await
}

#[tokio::test]
async fn a_body_in_hand_is_sent_with_its_own_length() {
    let world = world(|_| ()).await;
    for (framing, body) in [
        ("Content-Length: 3\r\n\r\nabc", "abcabc"),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abcabc"),
        ("Content-Length: 0\r\n\r\n", ""),
        ("\r\n", ""),
    ] {
        let answer = post(&world, "/body", framing).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, body), "{framing}");
    }
    let seen = world.tls.seen.lock().unwrap();
    let lengths: Vec<_> = seen.iter().map(|head| crate::upstream::header(head, "content-length")).collect();
    assert_eq!(lengths, [Some("6".to_owned()), Some("6".to_owned()), Some("0".to_owned()), None]);
    assert!(seen.iter().all(|head| !head.to_lowercase().contains("transfer-encoding")));
}

#[tokio::test]
async fn what_is_held_has_limits_and_nothing_above_them_is_sent() {
    let small = world(|l| l.held_body_bytes_max = 3).await;
    let few = world(|l| l.held_bytes_max = 3).await;
    let ruled = world(|l| l.request_body_bytes_max = Some(3)).await;
    let chunked =
        |bytes: &str| format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{bytes}\r\n0\r\n\r\n", bytes.len());
    let length = |bytes: &str| format!("Content-Length: {}\r\n\r\n{bytes}", bytes.len());
    for (world, path, status, error) in [
        (&small, "/body", 413, "request_body_too_large"),
        (&ruled, "/body", 413, "request_body_too_large"),
        (&few, "/body", 503, "too_many_held_bodies"),
        (&few, "/upload", 503, "too_many_held_bodies"),
    ] {
        for framing in [chunked("abc"), length("abc")] {
            assert_eq!(post(world, path, &framing).await.status, 200, "{path} {framing}");
        }
        let whole = world.tls.whole.load(Ordering::SeqCst);
        for framing in [chunked("abcd"), length("abcd")] {
            let answer = post(world, path, &framing).await;
            assert_eq!((answer.status, &answer.json()["error"]), (status, &error.into()), "{path} {framing}");
        }
        assert_eq!(world.tls.whole.load(Ordering::SeqCst), whole);
    }
    // What was held is free again.
    assert_eq!(post(&few, "/body", &length("abc")).await.status, 200);
}

/// Nor is the client told to go on (RFC 9110 §10.1.1).
#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_refused_before_any_of_it_is_held() {
    let world = world(|l| l.held_body_bytes_max = 3).await;
    let waits =
        |length| post(&world, "/body", format!("Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"));
    let answer = waits(4).await;
    assert_eq!((answer.status, &answer.json()["error"]), (413, &"request_body_too_large".into()));
    assert_eq!(waits(3).await.status, 100);
}

#[tokio::test]
async fn a_filter_changes_a_body_on_its_way_or_breaks_it_off() {
    let world = world(|_| ()).await;
    for framing in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ] {
        let answer = post(&world, "/upload", framing).await;
        assert_eq!(answer.status, 200, "{framing}");
    }
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    // The connection upstream is whole again afterwards: the next request takes it.
    for _ in 0..2 {
        let head = format!("POST /upload HTTP/1.1\r\nHost: {target}\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(ask(&mut tls, &head).await.text(), "5 bytes");
    }
    let whole = world.tls.whole.load(Ordering::SeqCst);
    let answer = post(&world, "/upload", "Content-Length: 6\r\n\r\nhello!").await;
    let json = answer.json();
    assert_eq!((answer.status, &json["error"]), (400, &"request_body_refused".into()));
    assert!(json.to_string().contains("too loud"), "{json}");
    assert_eq!(world.tls.whole.load(Ordering::SeqCst), whole);
    let refused = world.records(5).await.pop().unwrap();
    assert_eq!((&refused["error"], &refused["verdict"]), (&"request_body_refused".into(), &"deny".into()));
}
