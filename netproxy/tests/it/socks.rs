//! The SOCKS5 door, and what all three doors share.

use std::io::Write as _;
use std::process::Stdio;

use netproxy::wire::socks5;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::client::*;
use crate::doors::*;
use crate::hooks::{PLACEHOLDER, SECRET};

#[tokio::test]
async fn tls_is_intercepted_and_injected_through_every_door() {
    let world = world().await;
    let target = world.at("ok.example");
    for way in WAYS {
        let stream = way.open(&world, &target).await;
        let mut tls = tls(&world, stream, "ok.example").await;
        let request = format!("GET /echo HTTP/1.1\r\nHost: {target}\r\nAuthorization: {PLACEHOLDER}\r\n\r\n");
        let answer = ask(&mut tls, &request).await;
        assert_eq!(answer.status, 200, "{way:?}");
        assert!(answer.text().contains(SECRET), "{way:?}");
        let answer = ask(&mut tls, &format!("DELETE / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!((answer.status, &answer.json()["rule"]), (403, &"no-delete".into()), "{way:?}");
    }
    assert_eq!(world.tls.seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn plain_http_is_judged_request_by_request_through_every_door() {
    let world = world().await;
    let target = format!("plain.example:{}", world.plain.address.port());
    for way in WAYS {
        let mut stream = way.open(&world, &target).await;
        let answer = ask(&mut stream, &format!("GET /a HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{way:?}");
        let absolute = format!("GET http://{target}/b HTTP/1.1\r\nHost: {target}\r\n\r\n");
        assert_eq!(ask(&mut stream, &absolute).await.status, 200);
        let answer = ask(&mut stream, &format!("GET /private HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!((answer.status, &answer.json()["layer"]), (403, &"http".into()), "{way:?}");
        assert!(is_at_end(&mut stream).await);
        for other in ["Host: other.example", "Host: plain.example"] {
            let mut stream = way.open(&world, &target).await;
            let answer = ask(&mut stream, &format!("GET / HTTP/1.1\r\n{other}\r\n\r\n")).await;
            assert_eq!(answer.status, 421, "{way:?} {other}");
        }
    }
    assert_eq!(world.plain.seen.lock().unwrap().len(), 6);
}

#[tokio::test]
async fn an_opaque_host_is_passed_on_unread_through_every_door() {
    let world = world().await;
    let target = world.at("opaque.example");
    for (n, way) in WAYS.into_iter().enumerate() {
        let stream = way.open(&world, &target).await;
        let mut tls = tls_trusting(&world.tls.root_pem, stream, "opaque.example").await.unwrap();
        let answer = ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!(answer.text(), "hello");
        drop(tls);
        let record = world.records(n + 1).await[n].clone();
        assert_eq!((&record["layer"], &record["rule"]), (&way.layer().into(), &"opaque".into()));
        assert!(record["bytes_up"].as_u64().unwrap() > 300 && record["bytes_down"].as_u64().unwrap() > 300);
    }
}

#[tokio::test]
async fn a_server_name_of_another_host_is_refused_through_every_door() {
    let world = world().await;
    for way in WAYS {
        for host in ["ok.example", "opaque.example"] {
            let stream = way.open(&world, &world.at(host)).await;
            let mut tls = tls(&world, stream, "other.example").await;
            let answer = ask(&mut tls, "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
            assert_eq!((answer.status, &answer.json()["error"]), (421, &"authority_mismatch".into()));
        }
    }
    assert!(world.tls.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn raw_bytes_pass_only_where_a_rule_names_them() {
    let world = world().await;
    let server = raw_server(false).await;
    let target = format!("raw.example:{}", server.port());
    let mut count = 0;
    for way in WAYS {
        let mut stream = way.open(&world, &target).await;
        stream.write_all(b"ping\r\n").await.unwrap();
        assert_eq!(read_until(&mut stream, b"\n").await, b"PING\r\n");
        // Half-close goes through: the server answers its own end.
        stream.shutdown().await.unwrap();
        assert!(is_at_end(&mut stream).await);
        count += 1;
        let record = world.records(count).await.pop().unwrap();
        assert_eq!((&record["layer"], &record["rule"]), (&"tcp".into(), &"raw".into()), "{way:?}");
        assert_eq!((&record["bytes_up"], &record["bytes_down"]), (&6.into(), &6.into()));

        let mut stream = way.open(&world, &world.at("ok.example")).await;
        stream.write_all(b"ping\r\n").await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest.starts_with(b"HTTP/1.1 403 "), way == Way::Connect, "{way:?}");
        count += 1;
        let record = world.records(count).await.pop().unwrap();
        assert_eq!((&record["error"], &record["rule"]), (&"not_tls".into(), &"no-raw".into()), "{way:?}");
        assert_eq!((&record["layer"], &record["generation"]), (&"tcp".into(), &5.into()), "{way:?}");
    }
    assert!(world.tls.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_may_speak_first_where_a_rule_allows_raw_bytes() {
    let world = world().await;
    let server = raw_server(true).await;
    for way in WAYS {
        let mut stream = way.open(&world, &format!("raw.example:{}", server.port())).await;
        assert_eq!(read_until(&mut stream, b"\n").await, b"220 hello\r\n");
        stream.write_all(b"ehlo\r\n").await.unwrap();
        assert_eq!(read_until(&mut stream, b"\n").await, b"EHLO\r\n");
    }
}

#[tokio::test]
async fn silence_is_no_way_around_inspection() {
    let world = world().await;
    // Raw bytes to it are allowed; it waits for the client, who waits too, and then speaks TLS or HTTP.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("raw.example:{}", listener.local_addr().unwrap().port());
    for way in WAYS {
        let mut stream = way.open(&world, &target).await;
        let (mut far, _) = listener.accept().await.unwrap();
        let answer = ask(&mut stream, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!((answer.status, &answer.json()["error"]), (403, &"blocked_by_policy".into()));
        assert!(is_at_end(&mut far).await, "the server saw a byte");

        let stream = way.open(&world, &target).await;
        let (mut far, _) = listener.accept().await.unwrap();
        let mut tls = tls(&world, stream, "raw.example").await;
        let answer = ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!(answer.status, 403);
        assert!(is_at_end(&mut far).await, "the server saw a byte");
    }
}

#[tokio::test]
async fn a_refused_connection_is_told_inside_where_the_web_is_and_by_reply_elsewhere() {
    let world = world().await;
    for (host, rule) in [("denied.example", None), ("unknown.example", None)] {
        let mut stream = serve_socks(&world.proxy);
        assert_eq!(socks_reply(&mut stream, &socks_request(&format!("{host}:443"))).await, 0);
        let mut tls = tls(&world, stream, host).await;
        let answer = ask(&mut tls, &format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!((answer.status, answer.json()["rule"].as_str()), (403, rule));
        assert_eq!((&answer.json()["layer"], &answer.json()["path"]), (&"socks".into(), &"/x".into()));
        let mut stream = serve_socks(&world.proxy);
        assert_eq!(socks_reply(&mut stream, &socks_request(&format!("{host}:80"))).await, 0);
        let answer = ask(&mut stream, &format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!((answer.status, &answer.json()["layer"]), (403, &"socks".into()));
        let mut stream = serve_socks(&world.proxy);
        assert_eq!(socks_reply(&mut stream, &socks_request(&format!("{host}:22"))).await, 2);
        assert!(is_at_end(&mut stream).await);
    }
    let records = world.records(6).await;
    assert_eq!(records.len(), 6);
    assert!(records.iter().all(|record| record["layer"] == "socks" && record["verdict"] == "deny"));
    assert_eq!((&records[2]["port"], &records[2]["error"]), (&22.into(), &"blocked_by_policy".into()));
}

#[derive(Deserialize)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    message: String,
    bytes: String,
    authority: Option<String>,
    error: Option<String>,
    reply: Option<u8>,
}

fn cases() -> Vec<(Case, Vec<u8>)> {
    let table: Table = toml::from_str(include_str!("../../../testdata/socks5.toml")).unwrap();
    table.case.into_iter().map(|case| (crate::tables::hex(&case.bytes), case)).map(|(b, c)| (c, b)).collect()
}

#[test]
fn messages_are_understood_however_they_arrive_or_refused() {
    for (case, bytes) in cases() {
        let parse = |bytes: &[u8]| match case.message.as_str() {
            "greeting" => socks5::greeting(bytes)
                .map(|parsed| parsed.map(|(m, n)| (format!("none={} password={}", m.none, m.password), n))),
            "user" => socks5::user_name(bytes)
                .map(|parsed| parsed.map(|(name, n)| (String::from_utf8_lossy(name.0).into_owned(), n))),
            _ => socks5::request(bytes).map(|parsed| parsed.map(|(to, n)| (to.to_string(), n))),
        };
        let whole = parse(&bytes);
        match (&case.authority, &case.error) {
            (Some(expected), _) => {
                assert_eq!(whole, Ok(Some((expected.clone(), bytes.len()))), "{}", case.name);
                for cut in 0..bytes.len() {
                    assert_eq!(parse(&bytes[..cut]), Ok(None), "{} cut at {cut}", case.name);
                }
                let longer = [bytes.as_slice(), b"more"].concat();
                assert_eq!(parse(&longer), whole, "{}", case.name);
            }
            (None, Some(error)) => {
                let got = whole.unwrap_err();
                assert_eq!(format!("{got:?}"), *error, "{}", case.name);
                assert_eq!(case.reply, Some(got.reply() as u8), "{}", case.name);
            }
            (None, None) => assert_eq!(whole, Ok(None), "{}", case.name),
        }
    }
}

#[tokio::test]
async fn a_bad_request_gets_its_reply_and_reaches_nobody() {
    let world = world().await;
    let mut count = 0;
    for (case, bytes) in cases() {
        let Some(reply) = case.reply.filter(|_| case.message == "request") else { continue };
        let mut stream = serve_socks(&world.proxy);
        assert_eq!(socks_reply(&mut stream, &bytes).await, reply, "{}", case.name);
        assert!(is_at_end(&mut stream).await);
        count += 1;
        let record = world.records(count).await.pop().unwrap();
        assert_eq!(
            (&record["layer"], &record["error"]),
            (&"socks".into(), &"malformed_request".into()),
            "{}",
            case.name
        );
    }
    assert!(count > 8);
}

#[tokio::test]
async fn a_token_is_asked_for_where_one_is_set() {
    let world = world_with(|builder| builder.socks_token("t0ken")).await;
    for (methods, user, expected) in [
        (&[5u8, 2, 0, 2][..], "t0ken", Ok(())),
        (&[5, 1, 2], "t0ken", Ok(())),
        (&[5, 1, 2], "t0keN", Err(1)),
        (&[5, 1, 2], "t0ke", Err(1)),
        (&[5, 1, 2], "t0kenn", Err(1)),
        (&[5, 1, 0], "", Err(0xff)),
        (&[5, 1, 1], "", Err(0xff)),
    ] {
        let mut stream = world.connect();
        stream.write_all(methods).await.unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.unwrap();
        if answer[1] == 2 {
            let length = u8::try_from(user.len()).unwrap();
            stream.write_all(&[&[1, length][..], user.as_bytes(), &[0]].concat()).await.unwrap();
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer[0], 1);
        }
        let got = if answer[1] == 0 { Ok(()) } else { Err(answer[1]) };
        assert_eq!(got, expected, "{user}");
        if got.is_err() {
            assert!(is_at_end(&mut stream).await);
        }
    }
    // Without a token, a client that insists on a password cannot be served.
    let open = crate::doors::world().await;
    let mut stream = open.connect();
    stream.write_all(&[5, 1, 2]).await.unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [5, 0xff]);
}

#[tokio::test]
async fn curl_goes_through_by_name_and_shows_a_refusal() {
    let world = world().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = world.proxy.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let proxy = proxy.clone();
            tokio::spawn(async move { proxy.serve_socks(stream).await });
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, world.proxy.ca_certificate_pem()).unwrap();
    let curl = |url: String| {
        let mut command = tokio::process::Command::new("curl");
        command.args(["-sS", "-m", "20", "--socks5-hostname", &address.to_string(), "--cacert"]).arg(&ca);
        command.arg(url).stdin(Stdio::null()).env_clear();
        async move { command.output().await }
    };
    let Ok(output) = curl(format!("https://{}/a", world.at("ok.example"))).await else {
        let _ = writeln!(std::io::stdout(), "\nSKIPPED: this machine has no curl");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello", "{output:?}");
    let output = curl(format!("http://plain.example:{}/a", world.plain.address.port())).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello", "{output:?}");
    let output = curl("https://denied.example/a".to_owned()).await.unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("denied.example"), "{output:?}");
    let output = curl("https://denied.example:22/a".to_owned()).await.unwrap();
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("(2)"),
        "{output:?}"
    );
    assert_eq!(world.records(4).await.len(), 4);
}
