//! WebSocket: a grant of its own, a strict handshake, and nothing of the client's before the upstream agreed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use netproxy::wire::websocket::{accept_of, write_frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::client::*;
use crate::hooks::{PLACEHOLDER, SECRET};
use crate::upstream::header;
use crate::world::World;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub fn handshake(url: &str, host: &str, extra: &str) -> String {
    format!(
        "GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{extra}\r\n"
    )
}

/// What the upstream says, when it is passed on as it was sent.
fn greeting() -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(0x01, b"it is sk-real-", &mut bytes);
    write_frame(0x80, b"0123456789.", &mut bytes);
    bytes
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, url: &str, host: &str) {
    let auth =
        format!("Authorization: Bearer {PLACEHOLDER}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n");
    // The first frames are sent with the handshake, as impatient clients do.
    stream.write_all((handshake(url, host, &auth) + "early ").as_bytes()).await.unwrap();
    let head = String::from_utf8(read_until(stream, b"\r\n\r\n").await).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert_eq!(header(&head, "sec-websocket-accept"), Some(accept_of(KEY)));
    assert_eq!(header(&head, "upgrade").as_deref(), Some("websocket"));
    let mut said = vec![0; greeting().len()];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(said, greeting());
    stream.write_all(b"late").await.unwrap();
    // Half-close: the server can still answer.
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"\x88\x02\x03\xe8");
}

#[tokio::test]
async fn a_granted_websocket_is_injected_relayed_and_recorded() {
    for plain in [false, true] {
        let world = World::start().await;
        let seen = if plain {
            let place = format!("plain.example:{}", world.plain.address.port());
            talk(&mut world.connect(), &format!("http://{place}/ws"), &place).await;
            world.plain.seen.lock().unwrap().clone()
        } else {
            let target = world.at("ok.example");
            talk(&mut https(&world, &target).await, "/ws", &target).await;
            world.tls.seen.lock().unwrap().clone()
        };
        assert_eq!(header(&seen[0], "authorization"), Some(format!("Bearer {SECRET}")));
        assert_eq!(header(&seen[0], "sec-websocket-extensions").as_deref(), Some("permessage-deflate"));
        assert_eq!(seen[1], "early late");
        let record = &world.records(1).await[0];
        assert_eq!((&record["status"], &record["verdict"]), (&101.into(), &"allow".into()));
        assert_eq!(
            (&record["bytes_up"], &record["bytes_down"]),
            (&10.into(), &(greeting().len() + 4).into())
        );
        assert_eq!((&record["credential"], &record["websocket"]), (&"api-key".into(), &true.into()));
    }
}

#[tokio::test]
async fn what_both_ends_agree_on_passes_and_what_is_for_one_hop_does_not() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let more = "Sec-WebSocket-Protocol: superchat, chat\r\nTE: trailers\r\n";
    tls.write_all(handshake("/ws-protocol", &target, more).as_bytes()).await.unwrap();
    let head = String::from_utf8(read_until(&mut tls, b"\r\n\r\n").await).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(header(&head, "sec-websocket-protocol").as_deref(), Some("chat"));
    let seen = world.tls.seen.lock().unwrap()[0].clone();
    for (name, value) in
        [("sec-websocket-protocol", Some("superchat, chat")), ("connection", Some("Upgrade")), ("te", None)]
    {
        assert_eq!(header(&seen, name).as_deref(), value, "{name}");
    }
}

#[tokio::test]
async fn without_a_grant_it_is_refused_and_other_upgrades_are_dropped() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let answer = ask(&mut tls, &handshake("/", &target, "")).await;
    assert_eq!((answer.status, &answer.json()["rule"]), (403, &"no-websocket".into()));
    let record = &world.records(1).await[0];
    assert_eq!((&record["verdict"], &record["websocket"]), (&"deny".into(), &true.into()));
    assert!(world.tls.seen.lock().unwrap().is_empty());
    let mut tls = https(&world, &target).await;
    let other = format!("GET / HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    assert_eq!(ask(&mut tls, &other).await.text(), "hello");
    let seen = world.tls.seen.lock().unwrap()[0].clone();
    assert_eq!((header(&seen, "upgrade"), header(&seen, "connection")), (None, None));
}

#[tokio::test]
async fn a_malformed_handshake_goes_nowhere() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let good = handshake("/ws", &target, "");
    for (from, to) in [
        ("GET", "POST"),
        ("Version: 13", "Version: 8"),
        (KEY, "short"),
        ("Connection: Upgrade", "Connection: keep-alive"),
        ("Host:", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nHost:"),
        ("Host:", "Content-Length: 1\r\nHost:"),
    ] {
        let mut tls = https(&world, &target).await;
        let answer = ask(&mut tls, &good.replacen(from, to, 1)).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &"malformed_request".into()), "{to}");
    }
    assert!(world.tls.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_upstream_that_does_not_agree_gets_nothing_more() {
    let world = World::start().await;
    let target = world.at("ok.example");
    for (path, status) in [("/ws-accept", 502), ("/ws-extension", 502), ("/ws-200", 200)] {
        let before = world.tls.seen.lock().unwrap().len();
        let mut tls = https(&world, &target).await;
        tls.write_all((handshake(path, &target, "") + "\x01frame").as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut tls, "GET").await.status, status, "{path}");
        // What would have been frames is the next request, and none.
        let rest = read_until(&mut tls, b"\r\n\r\n").await;
        assert!(status == 502 || rest.starts_with(b"HTTP/1.1 400 "), "{path}");
        let seen = world.tls.seen.lock().unwrap()[before..].join("");
        assert!(!seen.contains("frame"), "{path}: {seen}");
    }
}

#[tokio::test]
async fn secrets_leave_the_messages_of_the_server() {
    let world = World::redacting().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    tls.write_all(handshake("/ws", &target, offer).as_bytes()).await.unwrap();
    read_until(&mut tls, b"\r\n\r\n").await;
    tls.shutdown().await.unwrap();
    let mut said = Vec::new();
    tls.read_to_end(&mut said).await.unwrap();
    let mut expected = Vec::new();
    write_frame(0x01, b"it is ", &mut expected);
    write_frame(0x80, format!("{PLACEHOLDER}.").as_bytes(), &mut expected);
    write_frame(0x88, b"\x03\xe8", &mut expected);
    assert_eq!(String::from_utf8_lossy(&said), String::from_utf8_lossy(&expected));
    assert_eq!(header(&world.tls.seen.lock().unwrap()[0], "sec-websocket-extensions"), None);
    assert_eq!(world.records(1).await[0]["redactions"], 1);
}

/// A session lasts longer than a secret that is renewed.
#[tokio::test]
async fn what_was_known_at_the_handshake_leaves_every_message_of_the_session() {
    let knows = Arc::new(AtomicBool::new(true));
    let world = World::knowing(Arc::clone(&knows)).await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    tls.write_all(handshake("/ws-late", &target, "").as_bytes()).await.unwrap();
    read_until(&mut tls, format!("{PLACEHOLDER}.").as_bytes()).await;
    knows.store(false, Ordering::SeqCst);
    tls.shutdown().await.unwrap();
    let mut said = Vec::new();
    tls.read_to_end(&mut said).await.unwrap();
    let mut expected = Vec::new();
    write_frame(0x89, format!("{PLACEHOLDER}?").as_bytes(), &mut expected);
    write_frame(0x81, format!("still {PLACEHOLDER}").as_bytes(), &mut expected);
    write_frame(0x88, b"\x03\xe8", &mut expected);
    assert_eq!(String::from_utf8_lossy(&said), String::from_utf8_lossy(&expected));
    assert_eq!(world.records(1).await[0]["redactions"], 3);
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_closed_where_it_would_be_searched() {
    let world = World::redacting().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    tls.write_all(handshake("/ws-masked", &target, "").as_bytes()).await.unwrap();
    read_until(&mut tls, b"\r\n\r\n").await;
    let mut said = [0u8; 4];
    tls.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"\x88\x02\x03\xea");
}
