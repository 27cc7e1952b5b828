//! Clients that take their time: many at once, each with something begun and not ended. They cost little, and are
//! given up after the time for a head.

use std::time::Duration;

use netproxy::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::client::{read_answer, tls_offering};
use crate::http2::frames::*;
use crate::http2::memory::{Growth, alone, scene};

const NAME: &str = "slow::slow_clients_cost_little_and_are_given_up";

/// What they begin with, and how many there are: as many as the memory that each may take allows.
const SCENES: [(&str, usize); 7] = [
    ("nothing", 800),
    ("head", 800),
    ("long-head", 100),
    ("hello", 800),
    ("socks", 800),
    ("preface", 800),
    // Refused, and read on for a while, 16 KiB at a time.
    ("body", 400),
];

fn beginning(scene: &str) -> Vec<u8> {
    let text = |text: &str| text.as_bytes().to_vec();
    let connect = "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
    match scene {
        "nothing" => Vec::new(),
        "head" => text("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nX-A: "),
        // Almost what a head may have.
        "long-head" => text(&format!("GET http://a.example/ HTTP/1.1\r\nX-A: {}", "a".repeat(60 * 1024))),
        // A record of 512 bytes, of which some are there.
        "hello" => [connect.as_bytes(), &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]].concat(),
        "socks" => vec![5, 1, 0, 5, 1, 0, 3, 200, b'a'],
        "preface" => text("TCP1 a."),
        "body" => {
            text("POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n")
        }
        _ => panic!("no scene {scene}"),
    }
}

/// Each in a process of its own, so that only it is measured.
#[test]
fn slow_clients_cost_little_and_are_given_up() {
    match scene() {
        None => SCENES.iter().for_each(|(scene, _)| alone(NAME, scene)),
        Some(scene) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(play(&scene)),
    }
}

async fn play(scene: &str) {
    let proxy = Proxy::builder().build().unwrap();
    let (_, count) = SCENES.iter().find(|(name, _)| *name == scene).unwrap();
    let begun = beginning(scene);
    let growth = Growth::start();
    let started = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..*count {
        let (near, far) = tokio::io::duplex(512);
        let (proxy, begun) = (proxy.clone(), begun.clone());
        let served = tokio::spawn(async move { proxy.serve(far).await });
        let client = tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(near);
            let drip = async {
                writer.write_all(&begun).await?;
                loop {
                    // Of the paused clock: always something new, and never the end.
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    writer.write_all(b"a").await?;
                }
            };
            let hear = async { reader.read_to_end(&mut Vec::new()).await };
            let _: std::io::Result<()> = tokio::select! { end = drip => end, _ = hear => Ok(()) };
        });
        clients.push((served, client));
    }
    for (served, client) in clients {
        served.await.unwrap();
        client.await.unwrap();
    }
    growth.print();
    // The time for a head or a handshake, and the time for reading on after a refusal.
    let longest = Duration::from_secs(60 + 60 + 5 + 1);
    assert!(started.elapsed() <= longest, "{scene} was let go after {:?}", started.elapsed());
}

/// Takes nothing of what it is sent: with less room than one answer has, and with no room at all for HTTP/2.
#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up() {
    let proxy = Proxy::builder().build().unwrap();
    let day = Duration::from_secs(24 * 3600);
    let (mut near, far) = tokio::io::duplex(128);
    let proxy_of_task = proxy.clone();
    let served = tokio::spawn(async move { proxy_of_task.serve(far).await });
    near.write_all(b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
    tokio::time::timeout(day, served).await.expect("held for a day").unwrap();

    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let proxy_of_task = proxy.clone();
    let served = tokio::spawn(async move { proxy_of_task.serve(far).await });
    near.write_all(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n").await.unwrap();
    read_answer(&mut near, "CONNECT").await;
    let offer: (&str, &[&[u8]]) = ("a.example", &[b"h2"]);
    let mut tls = tls_offering(proxy.ca_certificate_pem(), near, offer).await.unwrap();
    // SETTINGS_INITIAL_WINDOW_SIZE of 0 (RFC 9113 §6.5.2), and a request whose answer has a body.
    let no_room = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let head = [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")];
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&head));
    tls.write_all(&[PREFACE, &no_room, &request].concat()).await.unwrap();
    tls.flush().await.unwrap();
    let hear = tokio::spawn(async move { while read_frame(&mut tls).await.is_some() {} });
    tokio::time::timeout(day, served).await.expect("held for a day").unwrap();
    hear.await.unwrap();
}
