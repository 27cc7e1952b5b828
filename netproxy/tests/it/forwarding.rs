//! What is allowed arrives, as it was judged, and comes back as it was sent.

use tokio::io::AsyncWriteExt;

use crate::client::*;
use crate::hooks::{PLACEHOLDER, SECRET};
use crate::http2::client as h2;
use crate::upstream::header;
use crate::world::World;

#[tokio::test]
async fn an_intercepted_request_is_forwarded_and_recorded() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let request = format!(
        "GET /v1/%7Ex?key=1 HTTP/1.1\r\nHost: {target}\r\nX-A: b\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n"
    );
    let answer = ask(&mut tls, &request).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    let seen = world.tls.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].starts_with("GET /v1/~x?key=1 HTTP/1.1\r\n"), "{}", seen[0]);
    assert_eq!(header(&seen[0], "host"), Some(target.clone()));
    assert_eq!(header(&seen[0], "x-a").as_deref(), Some("b"));
    assert_eq!(header(&seen[0], "x-hop"), None);

    let record = &world.records(1).await[0];
    assert_eq!(record["layer"], "http");
    assert_eq!(record["verdict"], "allow");
    assert_eq!(record["rule"], "ok");
    assert_eq!(record["path"], "/v1/~x");
    assert_eq!(record["status"], 200);
    assert_eq!(record["bytes_down"], 5);
    assert!(record["ms_connect"].is_number() && record["ms_first_byte"].is_number());
    assert_eq!(record["decision_id"].as_str().unwrap().len(), 26);
}

#[tokio::test]
async fn a_credential_is_put_in_and_named_in_the_record() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\nAuthorization: Bearer {PLACEHOLDER}\r\n\r\n");
    assert_eq!(ask(&mut tls, &request).await.status, 200);
    let seen = world.tls.seen.lock().unwrap()[0].clone();
    assert_eq!(header(&seen, "authorization"), Some(format!("Bearer {SECRET}")));
    let record = &world.records(1).await[0];
    assert_eq!(record["credential"], "api-key");
    assert!(!record.to_string().contains(SECRET));
}

#[tokio::test]
async fn requests_of_one_connection_share_one_upstream_connection_until_it_closes() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    for path in ["/", "/close", "/", "/"] {
        let answer = ask(&mut tls, &format!("GET {path} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!(answer.status, 200);
    }
    let records = world.records(4).await;
    let fresh: Vec<bool> = records.iter().map(|record| record["ms_connect"].is_number()).collect();
    assert_eq!(fresh, [true, false, true, false]);
}

#[tokio::test]
async fn another_client_connection_gets_the_upstream_connection_that_is_free() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    for forget in [false, false, true] {
        if forget {
            world.proxy.close_idle_upstreams();
        }
        let mut tls = https(&world, &target).await;
        assert_eq!(ask(&mut tls, &request).await.status, 200);
    }
    // One that is still busy is nobody else's.
    let mut busy = https(&world, &target).await;
    busy.write_all(format!("GET /events HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
    read_until(&mut busy, b"\r\n\r\n").await;
    let mut tls = https(&world, &target).await;
    assert_eq!(ask(&mut tls, &request).await.status, 200);
    // And one that was busy while all were to be closed is nobody's afterwards.
    world.proxy.close_idle_upstreams();
    for _ in 0..3 {
        read_chunk(&mut busy).await.unwrap();
        world.tls.next_event.notify_one();
    }
    assert_eq!(read_chunk(&mut busy).await, None);
    let mut tls = https(&world, &target).await;
    assert_eq!(ask(&mut tls, &request).await.status, 200);
    let records = world.records(6).await;
    let fresh: Vec<bool> = records.iter().map(|record| record["ms_connect"].is_number()).collect();
    // The fifth is that of the busy one, which had a kept connection.
    assert_eq!(fresh, [true, false, true, true, false, true]);
}

#[tokio::test]
async fn a_plain_request_is_forwarded_in_origin_form() {
    let world = World::start().await;
    let place = format!("plain.example:{}", world.plain.address.port());
    let mut stream = world.connect();
    let request =
        format!("GET http://{place}/a?b HTTP/1.1\r\nHost: {place}\r\nProxy-Connection: keep-alive\r\n\r\n");
    for _ in 0..2 {
        assert_eq!(ask(&mut stream, &request).await.text(), "hello");
    }
    let seen = world.plain.seen.lock().unwrap()[1].clone();
    assert!(seen.starts_with("GET /a?b HTTP/1.1\r\n"), "{seen}");
    assert_eq!(header(&seen, "proxy-connection"), None);
    assert_eq!(world.records(2).await[0]["scheme"], "http");
}

/// Above all the password that a client has for its proxy.
#[tokio::test]
async fn what_is_meant_for_the_proxy_does_not_reach_the_upstream() {
    const FIELDS: [(&str, &str); 6] = [
        ("Proxy-Authorization", "Basic dXNlcjpwYXNzd29yZA=="),
        ("Proxy-Authenticate", "Basic"),
        ("Proxy-Connection", "keep-alive"),
        ("Keep-Alive", "timeout=5"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
        ("Upgrade", "h2c"),
    ];
    let world = World::start().await;
    let fields: String = FIELDS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (place, target) = (format!("plain.example:{}", world.plain.address.port()), world.at("ok.example"));
    let plain = format!("GET http://{place}/ HTTP/1.1\r\nHost: {place}\r\nX-A: b\r\n{fields}\r\n");
    assert_eq!(ask(&mut world.connect(), &plain).await.status, 200);
    let inside = format!("GET / HTTP/1.1\r\nHost: {target}\r\nX-A: b\r\n{fields}\r\n");
    assert_eq!(ask(&mut https(&world, &target).await, &inside).await.status, 200);
    for upstream in [&world.plain, &world.tls] {
        let seen = upstream.seen.lock().unwrap()[0].clone();
        assert_eq!(header(&seen, "x-a").as_deref(), Some("b"));
        for (name, _) in FIELDS {
            assert_eq!(header(&seen, name), None, "{name}");
        }
    }
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    for world in [World::start().await, World::redacting().await] {
        let target = world.at("ok.example");
        let mut tls = https(&world, &target).await;
        tls.write_all(format!("GET /events HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
        let head = String::from_utf8(read_until(&mut tls, b"\r\n\r\n").await).unwrap();
        assert_eq!(header(&head, "content-type").as_deref(), Some("text/event-stream"));
        for n in 0..3 {
            // The upstream sends event n+1 only when event n has come through.
            assert_eq!(read_chunk(&mut tls).await.unwrap(), format!("data: {n}\n\n").as_bytes());
            world.tls.next_event.notify_one();
        }
        assert_eq!(read_chunk(&mut tls).await, None);
    }
}

#[tokio::test]
async fn bodies_are_streamed_up_in_both_framings() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let body = "x".repeat(300_000);
    let sized = format!("POST /upload HTTP/1.1\r\nHost: {target}\r\nContent-Length: 300000\r\n\r\n{body}");
    assert_eq!(ask(&mut tls, &sized).await.text(), "300000 bytes");
    let chunked = format!(
        "POST /upload HTTP/1.1\r\nHost: {target}\r\nTransfer-Encoding: chunked\r\n\r\n3;e=1\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n"
    );
    assert_eq!(ask(&mut tls, &chunked).await.status, 200);
    let records = world.records(2).await;
    assert_eq!((&records[0]["bytes_up"], &records[1]["bytes_up"]), (&300_000.into(), &5.into()));
}

#[tokio::test]
async fn expect_continue_is_answered_after_the_decision() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let head = format!(
        "POST /upload HTTP/1.1\r\nHost: {target}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    );
    tls.write_all(head.as_bytes()).await.unwrap();
    assert!(read_until(&mut tls, b"\r\n\r\n").await.starts_with(b"HTTP/1.1 100 "));
    assert_eq!(ask(&mut tls, "ab").await.text(), "2 bytes");
    // It is answered, and nobody else is to answer it.
    assert_eq!(header(&world.tls.seen.lock().unwrap()[0], "expect"), None);
}

/// Some read a number with a zero before it as octal: the body would end elsewhere for them.
#[tokio::test]
async fn a_length_goes_up_without_the_zeros_before_it() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let head = format!("POST /upload HTTP/1.1\r\nHost: {target}\r\nContent-Length: 0012\r\n\r\n");
    assert_eq!(ask(&mut tls, &(head + "twelve bytes")).await.text(), "12 bytes");
    let seen = world.tls.seen.lock().unwrap()[0].clone();
    assert_eq!(header(&seen, "content-length").as_deref(), Some("12"));
}

/// Which a client would follow to where this request would be refused.
#[tokio::test]
async fn an_upstream_cannot_lead_clients_to_another_service() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let answer = ask(&mut tls, &format!("GET /elsewhere HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
    assert_eq!((answer.header("alt-svc"), answer.header("x-a").as_deref()), (None, Some("b")));
    let mut multiplexed = h2::open(&world, &target).await;
    let answer = h2::get(&mut multiplexed, &target, "/elsewhere").await;
    assert!(!answer.headers.contains_key("alt-svc") && answer.headers["x-a"] == "b");
}

#[tokio::test]
async fn an_opaque_tunnel_ends_at_the_upstream_itself() {
    let world = World::start().await;
    let target = world.at("opaque.example");
    let stream = connect(&world, &target).await;
    let mut tls = tls_trusting(&world.tls.root_pem, stream, "opaque.example").await.unwrap();
    let answer =
        ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n")).await;
    assert_eq!(answer.text(), "hello");
    drop(tls);
    let record = &world.records(1).await[0];
    assert_eq!((&record["layer"], &record["rule"]), (&"connect".into(), &"opaque".into()));
    assert!(record["bytes_up"].as_u64().unwrap() > 100 && record["bytes_down"].as_u64().unwrap() > 100);
}

#[tokio::test]
async fn an_address_literal_has_its_own_certificate() {
    let world = World::start().await;
    let target = world.at("127.0.0.1");
    let mut tls = https(&world, &target).await;
    let answer = ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
    assert_eq!(answer.text(), "hello");
}

#[tokio::test]
async fn connect_may_follow_plain_requests_on_one_connection() {
    let world = World::start().await;
    let place = format!("plain.example:{}", world.plain.address.port());
    let mut stream = world.connect();
    assert_eq!(
        ask(&mut stream, &format!("GET http://{place}/ HTTP/1.1\r\nHost: {place}\r\n\r\n")).await.status,
        200
    );
    let target = world.at("ok.example");
    stream
        .write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert_eq!(read_answer(&mut stream, "CONNECT").await.status, 200);
    let mut tls = tls(&world, stream, "ok.example").await;
    assert_eq!(ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await.text(), "hello");
}

#[tokio::test]
async fn a_hook_can_break_neither_host_nor_framing() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let request = format!("POST /tampered HTTP/1.1\r\nHost: {target}\r\nContent-Length: 2\r\n\r\nab");
    assert_eq!(ask(&mut tls, &request).await.status, 200);
    let seen = world.tls.seen.lock().unwrap()[0].clone();
    assert!(seen.starts_with("POST /tampered?added=1 HTTP/1.1\r\n"));
    assert_eq!(header(&seen, "host"), Some(target));
    assert_eq!(header(&seen, "content-length").as_deref(), Some("2"));
    assert_eq!(header(&seen, "transfer-encoding"), None);
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_made_whole() {
    for world in [World::start().await, World::redacting().await] {
        let target = world.at("ok.example");
        let mut tls = https(&world, &target).await;
        tls.write_all(format!("GET /half HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
        let all = read_until(&mut tls, b"\r\n0\r\n\r\n").await;
        assert!(all.ends_with(b"abc\r\n"), "{}", String::from_utf8_lossy(&all));
        assert_eq!(world.records(1).await[0]["error"], "upstream_broke_off");
    }
}

#[tokio::test]
async fn an_http10_client_is_served_and_the_connection_closed() {
    for world in [World::start().await, World::redacting().await] {
        let place = format!("plain.example:{}", world.plain.address.port());
        let mut stream = world.connect();
        stream.write_all(format!("GET http://{place}/ HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
        assert_eq!(header(&answer, "transfer-encoding"), None);
    }
}

#[tokio::test]
async fn another_protocol_on_the_proxy_port_is_refused_at_once() {
    let world = World::start().await;
    for bytes in [b"\x16\x03\x01\x02\0\x01".as_slice(), b"\x04\x01\0\x50"] {
        let mut stream = world.connect();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(read_answer(&mut stream, "GET").await.status, 400);
    }
}

#[tokio::test]
async fn a_response_framed_twice_is_passed_on_framed_once() {
    for world in [World::start().await, World::redacting().await] {
        let target = world.at("ok.example");
        let mut tls = https(&world, &target).await;
        let both = ask(&mut tls, &format!("GET /both HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!((both.text().as_str(), both.header("content-length")), ("abcdef", None));
        // Nothing of it is left over in front of the next answer.
        let next = ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!(next.text(), "hello");
    }
}

#[tokio::test]
async fn an_answer_without_a_body_is_recorded_as_done() {
    for world in [World::start().await, World::redacting().await] {
        let target = world.at("ok.example");
        let mut tls = https(&world, &target).await;
        for (n, path) in ["/", "/no-content"].into_iter().enumerate() {
            let method = if path == "/" { "HEAD" } else { "GET" };
            let answer = ask(&mut tls, &format!("{method} {path} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
            assert!(answer.body.is_empty());
            let record = &world.records(n + 1).await[n];
            assert_eq!((&record["verdict"], &record["error"]), (&"allow".into(), &serde_json::Value::Null));
        }
    }
}
