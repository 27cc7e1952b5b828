//! RFC 9113 §8: what is malformed is refused, by us or by the library, and never reaches the upstream.

use tokio::io::AsyncWriteExt;

use super::frames::*;
use super::{H2, client, world};

/// What becomes of it.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Status(u16),
    /// PROTOCOL_ERROR on the stream (RFC 9113 §8.1.1).
    Reset,
    /// The library takes it for a broken connection: stricter than the RFC asks.
    GoAway,
}

use Fate::{GoAway, Reset, Status};

type Field = (&'static str, &'static str);

fn cases() -> Vec<(&'static str, Vec<Field>, Fate)> {
    let head =
        |path| vec![(":method", "GET"), (":scheme", "https"), (":authority", "PLACE"), (":path", path)];
    let with = |fields: &[Field]| [head("/"), fields.to_vec()].concat();
    vec![
        ("as it should be", head("/"), Status(200)),
        ("te: trailers", with(&[("te", "trailers")]), Status(200)),
        ("te: gzip", with(&[("te", "gzip")]), Reset),
        ("connection", with(&[("connection", "close")]), Reset),
        ("keep-alive", with(&[("keep-alive", "1")]), Reset),
        ("proxy-connection", with(&[("proxy-connection", "close")]), Reset),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), Reset),
        ("upgrade", with(&[("upgrade", "websocket")]), Reset),
        ("upper case", with(&[("X-Upper", "1")]), GoAway),
        ("CR LF in a value", with(&[("x-a", "b\r\nx-c: d")]), GoAway),
        ("NUL in a value", with(&[("x-a", "b\0c")]), GoAway),
        ("LF in a value", with(&[("x-a", "b\nc")]), GoAway),
        ("space in a name", with(&[("x a", "b")]), GoAway),
        ("colon in a name", with(&[("x:a", "b")]), GoAway),
        ("empty name", with(&[("", "b")]), GoAway),
        ("space at the front of a value", with(&[("x-a", " b")]), Status(400)),
        ("pseudo after a field", [vec![("x-a", "b")], head("/")].concat(), Reset),
        ("pseudo twice", with(&[(":path", "/x")]), Reset),
        ("unknown pseudo", with(&[(":x", "/x")]), GoAway),
        (":status in a request", with(&[(":status", "200")]), Reset),
        (":protocol", with(&[(":protocol", "websocket")]), Reset),
        ("no path", head("/")[..3].to_vec(), Reset),
        ("no method", head("/")[1..].to_vec(), Reset),
        ("no scheme", [&head("/")[..1], &head("/")[2..]].concat(), Reset),
        ("no authority", [&head("/")[..2], &head("/")[3..]].concat(), Status(400)),
        ("empty path", head(""), Reset),
        ("asterisk", head("*"), Status(400)),
        ("path is a URL", head("https://evil.example/"), Reset),
        ("space in the path", head("/a b"), Reset),
        ("CR LF in the path", head("/a HTTP/1.1\r\nx-a: b"), Reset),
        ("dot dot", head("/a/../b"), Status(400)),
        (
            "user in the authority",
            vec![(":method", "GET"), (":scheme", "https"), (":authority", "u@PLACE"), (":path", "/")],
            Status(400),
        ),
        (
            "scheme http",
            vec![(":method", "GET"), (":scheme", "http"), (":authority", "PLACE"), (":path", "/")],
            Status(421),
        ),
        (
            "scheme ftp",
            vec![(":method", "GET"), (":scheme", "ftp"), (":authority", "PLACE"), (":path", "/")],
            Status(400),
        ),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "PLACE")], Status(400)),
        (
            "extended CONNECT",
            vec![
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":authority", "PLACE"),
                (":path", "/"),
            ],
            Reset,
        ),
        (
            "method with a space",
            vec![(":method", "GET /x"), (":scheme", "https"), (":authority", "PLACE"), (":path", "/")],
            GoAway,
        ),
        ("two hosts", with(&[("host", "PLACE"), ("host", "PLACE")]), Status(400)),
        ("another host", with(&[("host", "evil.example")]), Status(421)),
        ("signed length", with(&[("content-length", "+0")]), Reset),
        ("length without a body", with(&[("content-length", "3")]), Reset),
        ("content_length", with(&[("content_length", "3")]), Status(400)),
    ]
}

#[tokio::test]
async fn malformed_heads_never_reach_the_upstream() {
    // One upstream for each case would do; a world each keeps the case alone in it.
    for (name, head, expected) in cases() {
        let world = world(&[H2]).await;
        let target = world.at("ok.example");
        let head: Vec<(&str, String)> = head.iter().map(|(n, v)| (*n, v.replace("PLACE", &target))).collect();
        let head: Vec<(&str, &str)> = head.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let mut tls = client::tls(&world, &target).await;
        let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&head));
        tls.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &request].concat()).await.unwrap();
        let end = verdict(&mut tls).await.unwrap_or_else(|| panic!("{name}: no answer"));
        let got = match end.kind {
            HEADERS => Status(end.status()),
            RST_STREAM if end.code() == 1 => Reset,
            GOAWAY => GoAway,
            _ => panic!("{name}: {end:?}"),
        };
        assert_eq!(got, expected, "{name}");
        assert_eq!(world.tls.seen.lock().unwrap().len(), usize::from(got == Status(200)), "{name}");
        if got == GoAway {
            let record = &world.records(1).await[0];
            assert_eq!(
                (&record["verdict"], &record["error"]),
                (&"deny".into(), &"malformed_request".into()),
                "{name}"
            );
            assert!(record["reason"].as_str().unwrap().contains("HTTP/2"), "{name}: {record}");
            assert_eq!(record["host"], "ok.example", "{name}");
        }
    }
}
