//! Transparent connections: one line that says where to, then the bytes.

use netproxy::Authority;
use netproxy::limits::PREFACE_BYTES_MAX;
use netproxy::wire::preface::{self, PrefaceError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::*;
use crate::doors::*;

#[test]
fn a_preface_is_read_however_it_arrives_or_refused() {
    let long = |n: usize| format!("TCP1 {}:1\n", "a".repeat(n - 8));
    for (line, expected) in [
        ("TCP1 ok.example:443\n", Ok("ok.example:443")),
        ("TCP1 OK.Example.:443\n", Ok("ok.example:443")),
        ("TCP1 192.0.2.1:22\n", Ok("192.0.2.1:22")),
        ("TCP1 [2001:db8::1]:22\n", Ok("[2001:db8::1]:22")),
        ("TCP1 [::ffff:192.0.2.1]:22\n", Ok("192.0.2.1:22")),
        ("TCP2 ok.example:443\n", Err("Start")),
        ("tcp1 ok.example:443\n", Err("Start")),
        ("GET / HTTP/1.1\r\n", Err("Start")),
        ("\n", Err("Start")),
        ("TCP1 \n", Err("Authority(Empty)")),
        ("TCP1 ok.example\n", Err("Authority(NoPort)")),
        ("TCP1 ok.example:443\r\n", Err("LineEnd")),
        ("TCP1 ok.example:0\n", Err("Authority(BadPort)")),
        ("TCP1 ok.example:443 x\n", Err("Authority(BadCharacter)")),
        ("TCP1  ok.example:443\n", Err("Authority(BadCharacter)")),
        ("TCP1 ok\0.example:443\n", Err("Authority(BadCharacter)")),
        ("TCP1 b\u{fc}cher.example:443\n", Err("Authority(BadCharacter)")),
        ("TCP1 127.1:443\n", Err("Authority(BadIpv4)")),
        (&long(PREFACE_BYTES_MAX), Err("Authority(TooLong)")),
        (&long(PREFACE_BYTES_MAX + 1), Err("TooLong")),
    ] {
        let got = preface::parse(line.as_bytes());
        match (got, expected) {
            (Ok(Some((to, used))), Ok(text)) => {
                assert_eq!((to.to_string().as_str(), used), (text, line.len()));
                let again = preface::write(&to);
                assert_eq!(preface::parse(again.as_bytes()), Ok(Some((to, again.len()))));
                for cut in 0..line.len() {
                    assert_eq!(preface::parse(&line.as_bytes()[..cut]), Ok(None), "{line:?} cut at {cut}");
                }
            }
            (Err(error), Err(name)) => assert_eq!(format!("{error:?}"), name, "{line:?}"),
            other => panic!("{line:?}: {other:?}"),
        }
    }
    assert_eq!(preface::parse(&[b'T'; 9]), Err(PrefaceError::Start));
    let longest = Authority::parse(&format!("{}:65535", ["a"; 127].join(".")), None).unwrap();
    assert!(preface::write(&longest).len() <= PREFACE_BYTES_MAX);
}

#[tokio::test]
async fn a_refused_connection_is_told_inside_where_the_web_is_and_by_a_line_elsewhere() {
    let world = world().await;
    let mut stream = serve_transparent(&world.proxy);
    stream.write_all(b"TCP1 denied.example:443\n").await.unwrap();
    assert_eq!(read_until(&mut stream, b"\n").await, b"TCP1 OK\n");
    let mut tls = tls(&world, stream, "denied.example").await;
    let answer = ask(&mut tls, "GET /x HTTP/1.1\r\nHost: denied.example\r\n\r\n").await;
    assert_eq!((answer.status, &answer.json()["layer"]), (403, &"transparent".into()));
    for (line, code) in [
        ("TCP1 denied.example:22\n", "blocked_by_policy"),
        ("TCP1 no host:22\n", "malformed_request"),
        ("HELLO\n", "malformed_request"),
    ] {
        let before = world.records.0.lock().unwrap().len();
        let mut stream = serve_transparent(&world.proxy);
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let record = world.records(before + 1).await.pop().unwrap();
        let id = record["decision_id"].as_str().unwrap();
        assert_eq!(answer, format!("TCP1 NO {code} {id}\n"));
        assert_eq!((&record["layer"], &record["error"]), (&"transparent".into(), &code.into()));
    }
}

#[tokio::test]
async fn bytes_may_follow_the_preface_at_once() {
    let world = world().await;
    let server = raw_server(false).await;
    let mut stream = world.connect();
    stream.write_all(format!("TCP1 raw.example:{}\nping\n", server.port()).as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut stream, b"PING\n").await, b"TCP1 OK\nPING\n");
    let target = format!("plain.example:{}", world.plain.address.port());
    let mut stream = serve_transparent(&world.proxy);
    let all = format!("TCP1 {target}\nGET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(all.as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut stream, b"\n").await, b"TCP1 OK\n");
    assert_eq!(read_answer(&mut stream, "GET").await.text(), "hello");
}

#[tokio::test(start_paused = true)]
async fn a_preface_or_a_negotiation_that_never_ends_is_given_up() {
    let proxy = netproxy::Proxy::builder().build().unwrap();
    for beginning in [&b"TCP1 a.ex"[..], b"", b"T"] {
        let (mut near, far) = tokio::io::duplex(1024);
        near.write_all(beginning).await.unwrap();
        proxy.serve_transparent(far).await;
        assert!(is_at_end(&mut near).await);
    }
    for beginning in [&b""[..], b"\x05", b"\x05\x01\0", b"\x05\x01\0\x05\x01\0\x03\x09a"] {
        let (mut near, far) = tokio::io::duplex(1024);
        near.write_all(beginning).await.unwrap();
        proxy.serve_socks(far).await;
        drop(near);
    }
}
