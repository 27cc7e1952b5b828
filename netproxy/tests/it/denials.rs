//! Refusals: given once, inside TLS where there is TLS, each kind with its own code.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use netproxy::limits::Limits;
use tokio::io::AsyncWriteExt;

use crate::client::*;
use crate::doors;
use crate::hooks::Rules;
use crate::upstream;
use crate::world::{NAMES, World};

async fn inside(world: &World, target: &str, request: &str) -> Answer {
    let mut tls = https(world, target).await;
    let answer = ask(&mut tls, request).await;
    assert!(is_at_end(&mut tls).await, "more than one answer");
    answer
}

#[tokio::test]
async fn each_denial_is_answered_once_inside_tls() {
    let world = World::start().await;
    let ok = world.at("ok.example");
    let other_port = "ok.example:8443".to_owned();
    for (target, method, path, rule, layer) in [
        (world.at("unknown.example"), "GET", "/a", None, "connect"),
        (world.at("denied.example"), "POST", "/b", Some("no-denied"), "connect"),
        (other_port, "GET", "/c", None, "connect"),
        (ok.clone(), "DELETE", "/d", Some("no-delete"), "http"),
        (ok.clone(), "GET", "/private/e", None, "http"),
    ] {
        let before = world.records.0.lock().unwrap().len();
        let request = format!("{method} {path}?q=1 HTTP/1.1\r\nHost: {target}\r\n\r\n");
        let answer = inside(&world, &target, &request).await;
        assert_eq!(answer.status, 403, "{target} {answer:?}");
        assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"));
        assert_eq!(answer.header("x-should-retry").as_deref(), Some("false"));
        assert_eq!(answer.header("connection").as_deref(), Some("close"));
        assert!(
            answer.header("proxy-status").unwrap().starts_with("agent-sandbox; error=http_request_denied;")
        );
        let json = answer.json();
        let (host, port) = target.split_once(':').unwrap();
        assert_eq!(json["error"], "blocked_by_policy");
        assert_eq!(json["retryable"], false);
        assert_eq!(json["rule"].as_str(), rule);
        assert_eq!(json["layer"], layer);
        assert_eq!(json["host"], host);
        assert_eq!(json["port"], port.parse::<u16>().unwrap());
        assert_eq!((&json["method"], &json["path"]), (&method.into(), &path.into()));
        assert!(json["how_to_fix"].as_str().unwrap().len() > 5);
        let records = world.records(before + 1).await;
        assert_eq!(records.len(), before + 1);
        let record = records.last().unwrap();
        assert_eq!(record["decision_id"], json["decision_id"]);
        assert_eq!((&record["verdict"], &record["status"]), (&"deny".into(), &403.into()));
    }
    assert!(world.tls.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_later_request_of_an_allowed_connection_is_decided_anew() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    // Pipelined: the denied one was on its way before the first was answered.
    let allowed = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let denied = format!("DELETE / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let first = ask(&mut tls, &format!("{allowed}{denied}{allowed}")).await;
    assert_eq!(first.status, 200);
    assert_eq!(read_answer(&mut tls, "DELETE").await.status, 403);
    assert!(is_at_end(&mut tls).await);
    assert_eq!(world.tls.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn head_gets_a_refusal_without_a_body() {
    let world = World::start().await;
    let target = world.at("denied.example");
    let answer = inside(&world, &target, &format!("HEAD / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn plain_requests_are_denied_the_same_way() {
    let world = World::start().await;
    let port = world.plain.address.port();
    for (url, status, error) in [
        (format!("http://denied.example:{port}/"), 403, "blocked_by_policy"),
        (format!("http://plain.example:{port}/private"), 403, "blocked_by_policy"),
        ("http://plain.example:81/".to_owned(), 403, "blocked_by_policy"),
        (format!("https://ok.example:{port}/"), 400, "malformed_request"),
        ("/".to_owned(), 400, "malformed_request"),
        (format!("http://plain.example:{port}/locked"), 403, "credential_locked"),
    ] {
        let host = url.split('/').nth(2).unwrap_or("gateway.sandbox.internal").to_owned();
        let mut stream = world.connect();
        let answer = ask(&mut stream, &format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!((answer.status, &answer.json()["error"]), (status, &error.into()), "{url}");
        assert!(is_at_end(&mut stream).await);
    }
    assert!(world.plain.seen.lock().unwrap().is_empty());
}

/// Targets that the HTTP library does not take for one, and would answer itself without telling anybody.
#[tokio::test]
async fn a_target_that_is_none_is_refused_and_recorded() {
    let world = World::start().await;
    let (place, inner) = (world.plain.address.port(), world.at("ok.example"));
    let plain = |target: String| (None, target, format!("plain.example:{place}"));
    for (count, (connect_to, target, host)) in [
        plain(format!("http://plain.example:{place}/a`b")),
        plain("http://plain^.example/".to_owned()),
        plain("http://plain%2eexample/".to_owned()),
        plain("http:///x".to_owned()),
        (Some(&inner), "/a`b".to_owned(), inner.clone()),
        (Some(&inner), "/a<b>".to_owned(), inner.clone()),
    ]
    .into_iter()
    .enumerate()
    {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = match connect_to {
            Some(place) => inside(&world, place, &request).await,
            None => ask(&mut world.connect(), &request).await,
        };
        assert_eq!((answer.status, &answer.json()["error"]), (400, &"malformed_request".into()), "{target}");
        let records = world.records(count + 1).await;
        assert_eq!(records.len(), count + 1, "{records:?}");
        let told = (&records[count]["layer"], &records[count]["error"], &records[count]["decision_id"]);
        let asked = (&"http".into(), &"malformed_request".into(), &answer.json()["decision_id"]);
        assert_eq!(told, asked, "{target}");
    }
}

#[tokio::test]
async fn connect_sni_and_host_must_agree() {
    let world = World::start().await;
    let target = world.at("ok.example");
    // SNI ≠ CONNECT.
    for connect_to in ["ok.example", "opaque.example"] {
        let stream = connect(&world, &world.at(connect_to)).await;
        let mut tls = tls(&world, stream, "other.example").await;
        let answer = ask(&mut tls, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
        assert_eq!((answer.status, &answer.json()["error"]), (421, &"authority_mismatch".into()));
    }
    // Host ≠ CONNECT, in name or port.
    for host in ["other.example", "ok.example:1", "ok.example"] {
        let answer = inside(&world, &target, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer.status, 421, "{host}");
    }
    // Host of CONNECT ≠ target.
    let mut stream = world.connect();
    let answer = ask(&mut stream, &format!("CONNECT {target} HTTP/1.1\r\nHost: other.example\r\n\r\n")).await;
    assert_eq!(answer.status, 421);
    assert!(world.tls.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn only_tls_and_http_are_allowed_inside_connect() {
    let world = World::start().await;
    for (host, bytes, status, error) in [
        ("ok.example", "SSH-2.0-x y\r\n", 403, "not_tls"),
        ("opaque.example", "SSH-2.0-x y\r\n", 403, "not_tls"),
        ("denied.example", "SSH-2.0-x y\r\n", 403, "blocked_by_policy"),
        ("denied.example", "GET / HTTP/1.1\r\nHost: denied.example\r\n\r\n", 403, "blocked_by_policy"),
        // Each request is judged, and must name where the connection leads.
        ("ok.example", "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", 421, "authority_mismatch"),
        ("ok.example", "DELETE / HTTP/1.1\r\nHost: ok.example:PORT\r\n\r\n", 403, "blocked_by_policy"),
    ] {
        let mut stream = connect(&world, &world.at(host)).await;
        let bytes = bytes.replace("PORT", &world.tls.address.port().to_string());
        let answer = ask(&mut stream, &bytes).await;
        assert_eq!((answer.status, &answer.json()["error"]), (status, &error.into()), "{host} {bytes}");
        assert!(is_at_end(&mut stream).await);
    }
    assert_eq!(world.records(6).await.len(), 6);
}

#[tokio::test]
async fn connect_inside_an_intercepted_connection_is_refused() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let answer =
        inside(&world, &target, &format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn upstream_failures_have_answers_of_their_own() {
    let world = World::with(
        |names| {
            names
                .with("down.example", &[&["127.0.0.1"]])
                // Loopback, and no rule allows it for this name.
                .with("rebind.example", &[&["127.0.0.1"]])
                .with("mixed.example", &[&["93.184.215.14", "10.0.0.1"]])
        },
        false,
    )
    .await;
    let down = "down.example:1".to_owned();
    // With how far the connection came: name, dial, TLS.
    for (count, (target, path, status, error, proxy_error, times)) in [
        (down, "/", 502, "upstream_unreachable", "destination_unavailable", 2),
        (world.at("badcert.example"), "/", 502, "upstream_certificate", "tls_certificate_error", 3),
        (world.at("rebind.example"), "/", 403, "address_prohibited", "destination_ip_prohibited", 1),
        (world.at("mixed.example"), "/", 403, "address_prohibited", "destination_ip_prohibited", 1),
        (world.at("ok.example"), "/break", 502, "upstream_protocol", "http_protocol_error", 3),
        (world.at("ok.example"), "/locked", 403, "credential_locked", "http_request_denied", 0),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = inside(&world, &target, &format!("GET {path} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!((answer.status, &answer.json()["error"]), (status, &error.into()), "{target}");
        let proxy_status = answer.header("proxy-status").unwrap();
        assert!(proxy_status.contains(&format!("error={proxy_error};")), "{proxy_status}");
        assert_eq!(answer.json()["rule"], "ok");
        let record = world.records(count + 1).await.pop().unwrap();
        let timed = ["ms_dns", "ms_connect", "ms_tls", "ms_first_byte"].map(|name| record[name].is_number());
        assert_eq!(timed, [times > 0, times > 1, times > 2, false], "{record}");
    }
    // To two of them there was a connection.
    assert!(world.proxy.metrics_text().contains("upstream_connections_total 2\n"));
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_authority_is_recorded() {
    let world = World::start().await;
    for host in ["ok.example", "denied.example"] {
        let stream = connect(&world, &world.at(host)).await;
        assert!(tls_trusting(&world.tls.root_pem, stream, host).await.is_err());
    }
    let records = world.records(2).await;
    assert_eq!((&records[0]["error"], &records[0]["layer"]), (&"client_tls_failed".into(), &"tls".into()));
    assert_eq!(
        (&records[1]["error"], &records[1]["status"]),
        (&"blocked_by_policy".into(), &serde_json::Value::Null)
    );
}

/// What it cannot read inside it is told in the clear: once for each alert, so that others are not kept out.
#[tokio::test]
async fn a_client_that_does_not_trust_the_authority_is_told_at_its_next_connect() {
    let world = World::start().await;
    for (host, error) in [("ok.example", "authority_not_trusted"), ("denied.example", "blocked_by_policy")] {
        let target = world.at(host);
        for _ in 0..2 {
            let stream = connect(&world, &target).await;
            assert!(tls_trusting(&world.tls.root_pem, stream, host).await.is_err());
            // Other hosts have nothing to do with it.
            drop(connect(&world, &world.at("opaque.example")).await);
            let answer = refused_connect(&world, &target).await;
            assert_eq!((answer.status, &answer.json()["error"]), (403, &error.into()), "{host}");
            assert_eq!(answer.json()["retryable"], false);
            // The next one is let in, and reads its answer if it trusts.
            let mut tls = https(&world, &target).await;
            let answer = ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
            assert_eq!(answer.status, if host == "ok.example" { 200 } else { 403 });
        }
    }
}

/// A `CONNECT` that is answered at once, once the alert before it was read.
async fn refused_connect(world: &World, target: &str) -> Answer {
    for _ in 0..1000 {
        let mut stream = world.connect();
        let answer = ask(&mut stream, &format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        if answer.status != 200 {
            assert!(is_at_end(&mut stream).await);
            return answer;
        }
        tokio::task::yield_now().await;
    }
    panic!("{target} is let in each time");
}

#[tokio::test]
async fn a_client_that_leaves_early_is_recorded_once() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    tls.write_all(format!("GET /events HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
    read_until(&mut tls, b"\r\n\r\n").await;
    read_chunk(&mut tls).await;
    drop(tls);
    world.tls.next_event.notify_one();
    assert_eq!(world.records(1).await[0]["error"], "client_went_away");
}

/// Whoever was refused and did not stay to hear it has tried all the same.
#[tokio::test]
async fn a_client_that_is_gone_before_it_is_let_in_is_recorded() {
    let world = World::start().await;
    let allowed = world.at("ok.example");
    for (target, verdict) in [("denied.example:443", "deny"), (&allowed, "error")] {
        for (layer, head) in [
            ("connect", format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")),
            ("transparent", format!("TCP1 {target}\n")),
        ] {
            let (mut near, far) = tokio::io::duplex(1024);
            near.write_all(head.as_bytes()).await.unwrap();
            drop(near);
            match layer {
                "connect" => world.proxy.serve(far).await,
                _ => world.proxy.serve_transparent(far).await,
            }
            let record = world.records(1).await.pop().unwrap();
            world.records.0.lock().unwrap().clear();
            assert_eq!((&record["layer"], &record["verdict"]), (&layer.into(), &verdict.into()), "{record}");
        }
    }
}

/// Silent, and with bytes that nobody understands.
#[tokio::test]
async fn a_client_of_a_server_that_is_not_there_is_recorded_once() {
    let world = doors::world().await;
    for way in doors::WAYS {
        for begun in ["", "EHLO\r\n"] {
            let mut stream = way.open(&world, "raw.example:1").await;
            stream.write_all(begun.as_bytes()).await.unwrap();
            while !is_at_end(&mut stream).await {}
            drop(stream);
            let records = std::mem::take(&mut *world.records.0.lock().unwrap());
            let errors: Vec<_> = records.iter().map(|record| record.error.unwrap_or_default()).collect();
            assert_eq!(errors, ["upstream_unreachable"], "{way:?} {begun:?}");
        }
    }
}

#[tokio::test]
async fn a_name_that_changes_its_answer_is_dialled_where_it_was_judged() {
    // Loopback (allowed here) at the first look; a private address, then a metadata service afterwards.
    let answers: &[&[&str]] = &[&["127.0.0.1"], &["10.0.0.1"], &["127.0.0.1", "169.254.169.254"]];
    let world = World::with(|names| names.with("turns.example", answers), false).await;
    let target = world.at("turns.example");
    let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    // The upstream's certificate is for other names: getting as far as that proves where was dialled.
    assert_eq!(inside(&world, &target, &request).await.json()["error"], "upstream_certificate");
    for _ in 0..2 {
        let answer = inside(&world, &target, &request).await;
        assert_eq!((answer.status, &answer.json()["error"]), (403, &"address_prohibited".into()));
    }
}

#[tokio::test]
async fn a_denied_upload_is_read_to_its_end_so_that_the_answer_is_not_lost() {
    let world = World::start().await;
    let target = world.at("denied.example");
    let mut tls = https(&world, &target).await;
    let head = format!("POST / HTTP/1.1\r\nHost: {target}\r\nContent-Length: 5000000\r\n\r\n");
    tls.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..50 {
        tls.write_all(&[b'x'; 100_000]).await.unwrap();
    }
    assert_eq!(read_answer(&mut tls, "POST").await.status, 403);
}

#[tokio::test]
async fn nothing_is_forwarded_while_the_audit_log_cannot_be_written() {
    let world = World::start().await;
    world.records.1.store(true, SeqCst);
    for host in ["ok.example", "opaque.example"] {
        let target = world.at(host);
        let answer = inside(&world, &target, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!((answer.status, &answer.json()["error"]), (503, &"audit_unavailable".into()));
    }
    assert!(world.tls.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn where_it_may_wait_for_the_audit_log_it_does_and_goes_on() {
    for host in ["ok.example", "opaque.example"] {
        let mut limits = Limits::default();
        limits.audit_wait = Duration::from_secs(600);
        let world = World::limited(limits).await;
        world.records.1.store(true, SeqCst);
        let target = world.at(host);
        let get = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
        let stream = connect(&world, &target).await;
        let root = match host {
            "opaque.example" => world.tls.root_pem.as_str(),
            _ => world.proxy.ca_certificate_pem(),
        };
        let answered = async {
            let mut tls = tls_trusting(root, stream, host).await.unwrap();
            ask(&mut tls, &get).await
        };
        let freed = async {
            // It looked, and waits.
            while world.records.2.load(SeqCst) < 2 {
                tokio::task::yield_now().await;
            }
            assert!(world.tls.seen.lock().unwrap().is_empty());
            world.records.1.store(false, SeqCst);
        };
        let (answer, ()) = tokio::join!(answered, freed);
        assert_eq!(answer.status, 200, "{host}");
    }
}

#[tokio::test]
async fn the_wait_for_the_audit_log_has_an_end() {
    let mut limits = Limits::default();
    limits.audit_wait = Duration::from_millis(30);
    let world = World::limited(limits).await;
    world.records.1.store(true, SeqCst);
    let target = world.at("ok.example");
    let answer = inside(&world, &target, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
    assert_eq!((answer.status, &answer.json()["error"]), (503, &"audit_unavailable".into()));
    assert!(world.records.2.load(SeqCst) > 1);
}

/// And where it is for a user of this machine to mend, and where it is not.
#[tokio::test]
async fn what_is_wrong_with_the_certificate_of_an_upstream_is_said() {
    let mut tls = upstream::start(NAMES, true).await;
    let mut authority = rcgen::CertificateParams::default();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "another authority");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let another = authority.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let trusted = std::mem::replace(&mut tls.root_pem, another);
    let rules = |ports| Rules { ports };
    let world = World::build_over(tls, |names| names, rules, |builder| builder).await;
    let more = |builder: netproxy::Builder| builder.extra_roots_pem(&trusted);
    let tls = upstream::start(NAMES, true).await;
    let trusting = World::build_over(tls, |names| names, rules, more).await;
    for (world, host, detail, hint) in [
        (&world, "ok.example", "is not signed by an authority that this machine trusts", "`--upstream-ca`"),
        (&trusting, "badcert.example", "is for another name", "Whoever runs the upstream"),
    ] {
        let target = world.at(host);
        let answer = inside(world, &target, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        let json = answer.json();
        assert_eq!((answer.status, &json["error"]), (502, &"upstream_certificate".into()), "{json}");
        assert_eq!(json["detail"], format!("the upstream's certificate {detail}"));
        assert!(json["how_to_fix"].as_str().unwrap().contains(hint), "{json}");
    }
}

/// Frameworks act on these: the request would be another than the one that was judged.
#[tokio::test]
async fn fields_that_ask_for_another_method_or_path_are_refused() {
    let world = World::start().await;
    let target = world.at("ok.example");
    for field in [
        "X-HTTP-Method-Override: DELETE",
        "x-http-method: PUT",
        "X-Original-URL: /private",
        "x-rewrite-url: /p",
        "X_HTTP_Method_Override: DELETE",
    ] {
        let get = format!("GET / HTTP/1.1\r\nHost: {target}\r\n{field}\r\n\r\n");
        let answer = inside(&world, &target, &get).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &"malformed_request".into()), "{field}");
    }
    assert!(world.tls.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_proxys_own_listener_is_no_upstream() {
    let world = World::start().await;
    let own = world.proxy_with_listener();
    let target = world.at("ok.example");
    let mut stream = world.connect_to(&own);
    stream
        .write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert_eq!(read_answer(&mut stream, "CONNECT").await.status, 200);
    let mut tls = tls_trusting(own.ca_certificate_pem(), stream, "ok.example").await.unwrap();
    let answer = ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
    assert_eq!((answer.status, &answer.json()["error"]), (403, &"address_prohibited".into()));
}

#[tokio::test]
async fn a_malformed_head_inside_a_known_connection_is_recorded_with_its_place() {
    let world = World::start().await;
    for (n, host) in ["ok.example", "denied.example"].into_iter().enumerate() {
        let target = world.at(host);
        let mut stream = https(&world, &target).await;
        let answer = ask(&mut stream, "GET / HTTP/1.1\r\nHost : a\r\n\r\n").await;
        assert_eq!(answer.status, 400, "{host}");
        let record = world.records(n + 1).await.pop().unwrap();
        assert_eq!(record["error"], "malformed_request", "{record}");
        assert_eq!((&record["scheme"], &record["host"]), (&"https".into(), &host.into()), "{record}");
        assert_eq!(record["port"], world.tls.address.port(), "{record}");
    }
}
