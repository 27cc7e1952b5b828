//! Requests whose body never comes to its end, and what is recorded of them: who is at fault differs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netproxy::limits::Limits;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::client::{Answer, https, read_answer};
use crate::hooks::Holds;
use crate::http2::frames::*;
use crate::http2::{H2, HTTP1, client, world_with};
use crate::world::World;

/// How it goes on after two bytes of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    SitsStill,
    /// It ends only what it sends: HTTP/1.1 only.
    EndsItsSide,
    Leaves,
    /// HTTP/2 only, with this code (RFC 9113 §7).
    Resets(u32),
    /// It sends what cannot follow.
    BreaksTheProtocol,
    /// It still sends when everything ends.
    Waits,
}

async fn world(alpn: &[u8], holds: bool, then: Then) -> (Arc<World>, Arc<AtomicBool>) {
    let mut limits = Limits::default();
    if then == Then::SitsStill {
        limits.idle_timeout = Duration::from_millis(300);
    }
    let asked = Arc::new(AtomicBool::new(false));
    let world = world_with(&[alpn], |builder| {
        let builder = builder.limits(limits);
        if holds { builder.inject(Holds(Arc::clone(&asked))) } else { builder }
    })
    .await;
    (world, asked)
}

/// The `error` of the one record, once the proxy has one.
async fn error(world: &World) -> String {
    let records = timeout(Duration::from_secs(60), world.records(1)).await.expect("nothing is recorded");
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["path"], "/discard");
    records[0]["error"].as_str().unwrap_or_default().to_owned()
}

/// The request is on its way, or waits for the rest of its body.
async fn under_way((world, asked): &(Arc<World>, Arc<AtomicBool>)) {
    let is_under_way = || asked.load(Ordering::Relaxed) || !world.tls.seen.lock().unwrap().is_empty();
    while !is_under_way() {
        tokio::task::yield_now().await;
    }
}

async fn over_http1(holds: bool, then: Then) -> (Option<Answer>, String) {
    let started = world(HTTP1, holds, then).await;
    let world = &started.0;
    let target = world.at("ok.example");
    let mut tls = https(world, &target).await;
    let head = format!("POST /discard HTTP/1.1\r\nHost: {target}\r\nTransfer-Encoding: chunked\r\n\r\n");
    tls.write_all(&[head.as_bytes(), b"2\r\nab\r\n"].concat()).await.unwrap();
    tls.flush().await.unwrap();
    under_way(&started).await;
    let answer = match then {
        Then::BreaksTheProtocol => {
            tls.write_all(b"+2\r\ncd\r\n").await.unwrap();
            tls.flush().await.unwrap();
            Some(read_answer(&mut tls, "POST").await)
        }
        Then::EndsItsSide => {
            tls.shutdown().await.unwrap();
            Some(read_answer(&mut tls, "POST").await)
        }
        Then::SitsStill => Some(read_answer(&mut tls, "POST").await),
        Then::Leaves | Then::Resets(_) => {
            drop(tls);
            None
        }
        Then::Waits => {
            world.proxy.end().await;
            None
        }
    };
    (answer, error(world).await)
}

async fn over_http2(alpn: &[u8], holds: bool, then: Then) -> String {
    let started = world(alpn, holds, then).await;
    let world = &started.0;
    let target = world.at("ok.example");
    let mut tls = client::tls(world, &target).await;
    let head = fields(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", &target),
        (":path", "/discard"),
        ("content-length", "4"),
    ]);
    let asked = [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, 0, 1, b"ab")].concat();
    tls.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &asked].concat()).await.unwrap();
    tls.flush().await.unwrap();
    under_way(&started).await;
    let next = match then {
        Then::BreaksTheProtocol => frame(DATA, END_STREAM, 1, b"cde"),
        Then::Resets(code) => frame(RST_STREAM, 0, 1, &code.to_be_bytes()),
        _ => Vec::new(),
    };
    tls.write_all(&next).await.unwrap();
    tls.flush().await.unwrap();
    match then {
        Then::Leaves => drop(tls),
        Then::Waits => world.proxy.end().await,
        _ => return error(world).await,
    }
    error(world).await
}

#[tokio::test]
async fn over_http1_it_is_refused_while_somebody_may_hear_it() {
    for holds in [false, true] {
        for (then, code) in [
            (Then::SitsStill, "request_body_too_quiet"),
            (Then::BreaksTheProtocol, "malformed_request"),
            (Then::EndsItsSide, "request_body_broke_off"),
            (Then::Leaves, "client_went_away"),
            (Then::Waits, "proxy_ended"),
        ] {
            let (answer, error) = over_http1(holds, then).await;
            assert_eq!(error, code, "held: {holds}, {then:?}");
            if let Some(answer) = answer {
                assert_eq!((answer.status, &answer.json()["error"]), (400, &code.into()), "{then:?}");
            }
        }
    }
}

#[tokio::test]
async fn over_http2_nobody_is_left_to_be_refused_but_who_sits_still() {
    for alpn in [HTTP1, H2] {
        for holds in [false, true] {
            for (then, code) in [
                (Then::SitsStill, "request_body_too_quiet"),
                // The library ends the stream.
                (Then::BreaksTheProtocol, "client_went_away"),
                (Then::Leaves, "client_went_away"),
                (Then::Resets(8), "client_went_away"),
                // NO_ERROR: it has not ended what it sends all the same.
                (Then::Resets(0), "client_went_away"),
                (Then::Waits, "proxy_ended"),
            ] {
                assert_eq!(over_http2(alpn, holds, then).await, code, "held: {holds}, {then:?}");
            }
        }
    }
}
