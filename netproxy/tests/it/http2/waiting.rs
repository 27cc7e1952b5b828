//! Clients that wait: for leave to send, and without reading what they asked for.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use netproxy::Proxy;
use netproxy::limits::Limits;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::client::tls;
use super::frames::*;
use super::{H2, world, world_with};
use crate::client::{read_answer, tls_offering};
use crate::hooks::Any;
use crate::world::World;

async fn open(world: &World, target: &str) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(tls(world, target).await).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

async fn interim(response: &mut ResponseFuture) -> Option<u16> {
    let got = poll_fn(|cx| response.poll_informational(cx)).await;
    got.map(|response| response.unwrap().status().as_u16())
}

/// RFC 9110 §10.1.1.
#[tokio::test]
async fn a_client_that_waits_is_told_to_go_on_where_its_request_is_allowed() {
    let world = world(&[H2]).await;
    for (path, allowed) in [("/echo-body", true), ("/private", false)] {
        let target = world.at("ok.example");
        let mut client = open(&world, &target).await;
        let request = http::Request::post(format!("https://{target}{path}")).header("expect", "100-continue");
        let (mut response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
        assert_eq!(interim(&mut response).await, allowed.then_some(100), "{path}");
        if !allowed {
            assert_eq!(response.await.unwrap().status(), 403);
            continue;
        }
        body.send_data(Bytes::from_static(b"late"), true).unwrap();
        let mut answer = response.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.body_mut().data().await.unwrap().unwrap(), "late");
    }
}

#[tokio::test]
async fn a_stream_whose_answer_nobody_reads_ends_and_is_recorded() {
    let mut limits = Limits::default();
    limits.idle_timeout = Duration::from_millis(50);
    let world = world_with(&[H2], |builder| builder.limits(limits)).await;
    let target = world.at("ok.example");
    let mut client = open(&world, &target).await;
    let request = http::Request::get(format!("https://{target}/big")).body(()).unwrap();
    let mut answer = client.send_request(request, true).unwrap().0.await.unwrap();
    let records = world.records(1).await;
    assert_eq!(
        (&records[0]["verdict"], &records[0]["error"]),
        (&json!("error"), &json!("client_took_nothing"))
    );
    // What had been sent is followed by the end of the stream.
    let cut = loop {
        match answer.body_mut().data().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the answer looks whole"),
        }
    };
    assert_eq!(cut.reason(), Some(h2::Reason::CANCEL));
}

/// It grants all the room that streams could want, and there is less on the way than one answer takes: no stream waits, and the
/// connection does.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_any_more_loses_its_connection() {
    let mut limits = Limits::default();
    limits.idle_timeout = Duration::from_secs(10);
    let proxy = Proxy::builder().authorize(Any).limits(limits.clone()).build().unwrap();
    let (mut near, far) = tokio::io::duplex(256);
    let serving = proxy.clone();
    let served = tokio::spawn(async move { serving.serve(far).await });
    near.write_all(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n").await.unwrap();
    read_answer(&mut near, "CONNECT").await;
    let offer = ("a.example", &[H2][..]);
    let mut tls = tls_offering(proxy.ca_certificate_pem(), near, offer).await.unwrap();
    let head = [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")];
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&head));
    tls.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &request].concat()).await.unwrap();
    tls.flush().await.unwrap();
    let started = Instant::now();
    tokio::time::timeout(Duration::from_secs(24 * 3600), served).await.expect("held for a day").unwrap();
    let took = started.elapsed();
    assert!(took >= limits.idle_timeout && took < limits.idle_timeout * 2, "{took:?}");
}
