//! Connections to upstreams that were dialled under an older policy: they serve no later request, and do not stay open.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::client::*;
use crate::hooks::Rules;
use crate::http2::upstream::listen;
use crate::http2::{H2, HTTP1, client as h2, world_with};
use crate::world::{NAMES, World};

/// Which of the requests so far were sent over a connection of their own.
async fn dialled(world: &World, requests: usize) -> Vec<bool> {
    world.records(requests).await.iter().map(|record| record["ms_connect"].is_number()).collect()
}

#[tokio::test]
async fn after_a_change_of_the_policy_a_request_dials_anew() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let get = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let mut tls = https(&world, &target).await;
    let mut multiplexed = h2::open(&world, &target).await;
    for change in [false, false, true, false] {
        if change {
            world.proxy.reauthorize();
        }
        assert_eq!(ask(&mut tls, &get).await.status, 200);
    }
    assert_eq!(dialled(&world, 4).await, [true, false, true, false]);
    // Over HTTP/2 to an upstream that has only HTTP/1.1: they have these connections in common.
    for change in [false, true] {
        if change {
            world.proxy.reauthorize();
        }
        assert_eq!(h2::get(&mut multiplexed, &target, "/").await.status, 200);
    }
    assert_eq!(dialled(&world, 6).await[5..], [true]);
}

/// The requests that are on the old one go on there.
#[tokio::test]
async fn after_a_change_of_the_policy_a_request_dials_anew_over_http2_too() {
    let world = world_with(&[H2], |builder| builder).await;
    let target = world.at("ok.example");
    let mut client = h2::open(&world, &target).await;
    let (sender, body) = h2::pieces();
    let streaming = client.send_request(h2::request("POST", &target, "/mirror").body(body).unwrap());
    let mut streaming = streaming.await.unwrap().into_body();
    let connections = || world.tls.connections.load(std::sync::atomic::Ordering::SeqCst);
    for (change, count) in [(false, 1), (true, 2), (false, 2), (true, 3)] {
        if change {
            world.proxy.reauthorize();
        }
        assert_eq!(h2::get(&mut client, &target, "/").await.status, 200);
        assert_eq!(connections(), count);
        sender.send(Frame::data("still".into())).unwrap();
        assert_eq!(streaming.frame().await.unwrap().unwrap().into_data().unwrap(), "still");
    }
    assert_eq!(dialled(&world, 4).await, [false, true, false, true]);
}

/// As those are that rest when the policy changes.
#[tokio::test]
async fn one_that_was_in_use_meanwhile_is_closed_when_it_is_free() {
    let (goes_on, (tell, mut told)) = (Arc::new(Notify::new()), mpsc::unbounded_channel());
    let upstream = listen(NAMES, &[HTTP1], {
        let goes_on = Arc::clone(&goes_on);
        move |mut stream, _| {
            let (goes_on, tell) = (Arc::clone(&goes_on), tell.clone());
            async move {
                read_until(&mut stream, b"\r\n\r\n").await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await.unwrap();
                stream.flush().await.unwrap();
                goes_on.notified().await;
                stream.write_all(b"k").await.unwrap();
                stream.flush().await.unwrap();
                assert!(is_at_end(&mut stream).await);
                tell.send(()).unwrap();
            }
        }
    })
    .await;
    let world = World::build_over(upstream, |names| names, |ports| Rules { ports }, |builder| builder).await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    tls.write_all(format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
    read_until(&mut tls, b"\r\n\r\no").await;
    world.proxy.reauthorize();
    goes_on.notify_one();
    assert_eq!(read_until(&mut tls, b"k").await, b"k");
    timeout(Duration::from_secs(10), told.recv()).await.expect("it stays open").unwrap();
}
