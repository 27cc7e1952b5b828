//! A refusal over HTTP/2 says the same as over HTTP/1.1, and ends its stream only.

use super::client::*;
use super::{H2, HTTP1, world};

#[tokio::test]
async fn a_refused_request_ends_its_stream_and_not_the_connection() {
    let world = world(&[H2]).await;
    let target = world.at("ok.example");
    let mut client = open(&world, &target).await;
    for _ in 0..3 {
        let denied = get(&mut client, &target, "/private/x?key=1").await;
        assert_eq!(denied.status, 403);
        assert_eq!(denied.headers["content-type"], "application/problem+json");
        assert_eq!(denied.headers["x-should-retry"], "false");
        assert!(denied.headers["proxy-status"].to_str().unwrap().starts_with("agent-sandbox; error="));
        assert!(!denied.headers.contains_key("connection"));
        assert_eq!(denied.json()["error"], "blocked_by_policy");
        assert_eq!(get(&mut client, &target, "/").await.text(), "hello");
    }
    let records = world.records(6).await;
    let denied = records.iter().find(|record| record["verdict"] == "deny").unwrap();
    assert_eq!((&denied["path"], &denied["status"]), (&"/private/x".into(), &403.into()));
    assert_eq!(world.tls.seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_refused_connection_is_answered_inside_and_told_to_go() {
    let world = world(&[H2]).await;
    let target = world.at("denied.example");
    let mut client = open(&world, &target).await;
    let denied = get(&mut client, &target, "/a").await;
    assert_eq!((denied.status, &denied.json()["rule"]), (403, &"no-denied".into()));
    assert_eq!((&denied.json()["layer"], &denied.json()["path"]), (&"connect".into(), &"/a".into()));
    while !client.is_closed() {
        tokio::task::yield_now().await;
    }
    let records = world.records(1).await;
    assert_eq!((records.len(), &records[0]["verdict"]), (1, &"deny".into()));
}

#[tokio::test]
async fn the_authority_of_each_stream_must_be_the_one_of_the_connection() {
    let world = world(&[H2]).await;
    let target = world.at("ok.example");
    let mut client = open(&world, &target).await;
    let other = world.at("denied.example");
    for (uri, host, status) in [
        (format!("https://{other}/"), None, 421),
        ("https://ok.example/".to_owned(), None, 421),
        (format!("http://{target}/"), None, 421),
        (format!("https://{target}/"), Some(&other), 421),
        (format!("https://{target}/"), Some(&target), 200),
        (format!("https://OK.example.:{}/", world.tls.address.port()), None, 200),
    ] {
        let mut asked = http::Request::builder().uri(&uri);
        if let Some(host) = host {
            asked = asked.header("host", host.as_str());
        }
        let answer = ask(&mut client, asked.body(no_body()).unwrap()).await;
        assert_eq!(answer.status, status, "{uri} {host:?}");
    }
    assert_eq!(world.tls.seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn faults_of_the_upstream_are_told_apart() {
    let world = world(&[H2, HTTP1]).await;
    for (host, port, status, error) in [
        ("badcert.example", world.tls.address.port(), 502, "upstream_certificate"),
        ("ok.example", 1, 502, "upstream_unreachable"),
    ] {
        let target = format!("{host}:{port}");
        let client = open(&world, &target).await;
        // All that wait for the one attempt hear of it.
        let asked = (0..5).map(|_| {
            let (mut client, target) = (client.clone(), target.clone());
            tokio::spawn(async move { get(&mut client, &target, "/").await })
        });
        for answer in asked.collect::<Vec<_>>() {
            let answer = answer.await.unwrap();
            assert_eq!((answer.status, &answer.json()["error"]), (status, &error.into()), "{target}");
        }
    }
}
