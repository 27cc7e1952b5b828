//! Refusals that somebody is asked about while the request waits.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use netproxy::HostName;
use netproxy::hooks::*;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use crate::client::*;
use crate::doors::{DoorRules, raw_server};
use crate::hooks::{Names, Rules};
use crate::http2::client as h2;
use crate::websocket::handshake;
use crate::world::World;

/// Lets every refusal be asked about, and connections in.
struct Open(DoorRules, Arc<AtomicBool>);

fn ask_about(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Deny(deny) if deny.rule.is_none() => deny.unless_asked().into(),
        verdict => verdict,
    }
}

impl Authorize for Open {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        match self.0.connect(facts) {
            Verdict::Deny(deny) if deny.rule.is_none() => Allow::by("ask").into(),
            verdict => verdict,
        }
    }
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        match facts.websocket {
            true if self.1.load(SeqCst) => Deny::by("no-more", "forbidden meanwhile").into(),
            true => ask_about(Deny::unmatched("nobody said").into()),
            false => ask_about(self.0.request(facts)),
        }
    }
    fn tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
        match facts.authority.host().to_string().as_str() {
            "unknown.example" if self.1.load(SeqCst) => Deny::by("no-more", "forbidden meanwhile").into(),
            "unknown.example" => Deny::unmatched("nobody said").unless_asked().into(),
            _ => self.0.tcp(facts),
        }
    }
    fn dns_name(&self, name: &HostName) -> Verdict {
        ask_about(self.0.dns_name(name))
    }
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        self.0.address(facts)
    }
}

type Questions = mpsc::UnboundedReceiver<(String, oneshot::Sender<bool>)>;

/// Hands each question to the test, and waits.
struct Desk(Mutex<mpsc::UnboundedSender<(String, oneshot::Sender<bool>)>>);

impl Ask for Desk {
    fn ask<'a>(&'a self, miss: Miss<'a>, deny: Deny) -> BoxFuture<'a, Verdict> {
        let text = match miss {
            Miss::Request(facts) => format!("{} {}{}", facts.method, facts.authority.host(), facts.path),
            Miss::Tcp(facts) => format!("TCP {}", facts.authority.host()),
            Miss::Name(name) => format!("DNS {name}"),
            other => panic!("{other:?}"),
        };
        let (answer, answered) = oneshot::channel();
        self.0.lock().unwrap().send((text, answer)).unwrap();
        Box::pin(async move {
            match answered.await {
                Ok(true) => Allow::by("asked").into(),
                _ => Deny::unmatched(format!("{}; the user said no", deny.reason)).into(),
            }
        })
    }
}

async fn world() -> (Arc<World>, Questions) {
    let (world, questions, _) = world_to_forbid().await;
    (world, questions)
}

/// And what makes a deny rule forbid the WebSockets and raw bytes that were asked about.
async fn world_to_forbid() -> (Arc<World>, Questions, Arc<AtomicBool>) {
    let names = |names: Names| names.with("unknown.example", &[&["127.0.0.1"]]);
    let (send, questions) = mpsc::unbounded_channel();
    let desk = Desk(Mutex::new(send));
    let forbid = Arc::new(AtomicBool::new(false));
    let forbidden = Arc::clone(&forbid);
    let rules = |ports| Open(DoorRules(Rules { ports }), forbidden);
    (World::build_ruled(names, rules, |builder| builder.ask(desk)).await, questions, forbid)
}

#[tokio::test]
async fn a_request_waits_for_the_answer_and_nothing_is_sent_before() {
    let (world, mut questions) = world().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let get = format!("GET /private HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let (answer, ()) = tokio::join!(ask(&mut tls, &get), async {
        let (question, answer) = questions.recv().await.unwrap();
        assert_eq!(question, "GET ok.example/private");
        assert!(world.tls.seen.lock().unwrap().is_empty(), "something was sent before the answer");
        answer.send(true).unwrap();
    });
    assert_eq!(answer.status, 200);
    let (answer, ()) = tokio::join!(ask(&mut tls, &get), async {
        questions.recv().await.unwrap().1.send(false).unwrap();
    });
    assert_eq!((answer.status, answer.json()["error"].clone()), (403, json!("blocked_by_policy")));
    assert!(answer.json()["detail"].as_str().unwrap().ends_with("; the user said no"));
    let mut tls = https(&world, &target).await;
    let denied = format!("DELETE / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    assert_eq!(ask(&mut tls, &denied).await.status, 403, "a deny rule is nothing to ask about");
    let records = world.records(3).await;
    let told: Vec<_> = records.iter().map(|r| json!([r["layer"], r["verdict"], r["rule"]])).collect();
    let expected = [
        json!(["http", "allow", "asked"]),
        json!(["http", "deny", null]),
        json!(["http", "deny", "no-delete"]),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn whoever_does_not_wait_for_the_answer_is_recorded() {
    let (world, mut questions) = world().await;
    let target = world.at("ok.example");
    let mut client = h2::open(&world, &target).await;
    let asked = client.send_request(h2::request("GET", &target, "/private").body(h2::no_body()).unwrap());
    let (question, _answer) = tokio::select! {
        _ = asked => panic!("nobody was asked"),
        question = questions.recv() => question.unwrap(),
    };
    assert_eq!(question, "GET ok.example/private");
    let record = world.records(1).await.pop().unwrap();
    let told = json!([record["layer"], record["verdict"], record["error"], record["path"]]);
    assert_eq!(told, json!(["http", "error", "client_went_away", "/private"]));
}

#[tokio::test]
async fn what_was_answered_holds_as_long_as_the_websocket() {
    let (world, mut questions) = world().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    tls.write_all(handshake("/ws", &target, "").as_bytes()).await.unwrap();
    questions.recv().await.unwrap().1.send(true).unwrap();
    assert!(read_until(&mut tls, b"\r\n\r\n").await.starts_with(b"HTTP/1.1 101 "));
    // Rules are asked again, and none forbids it.
    world.proxy.reauthorize();
    tls.write_all(b"late").await.unwrap();
    tls.shutdown().await.unwrap();
    assert!(read_until(&mut tls, b"\x88\x02\x03\xe8").await.ends_with(b"\x88\x02\x03\xe8"));
    assert_eq!(world.records(1).await[0]["verdict"], "allow");
}

#[tokio::test]
async fn what_was_answered_ends_where_a_rule_forbids_it() {
    let (world, mut questions, forbid) = world_to_forbid().await;
    let raw = raw_server(true).await;
    let mut stream = connect(&world, &format!("unknown.example:{}", raw.port())).await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    tls.write_all(handshake("/ws", &target, "").as_bytes()).await.unwrap();
    for _ in 0..2 {
        questions.recv().await.unwrap().1.send(true).unwrap();
    }
    assert!(read_until(&mut stream, b"220 hello\r\n").await.ends_with(b"220 hello\r\n"));
    assert!(read_until(&mut tls, b"\r\n\r\n").await.starts_with(b"HTTP/1.1 101 "));
    forbid.store(true, SeqCst);
    world.proxy.reauthorize();
    assert!(is_at_end(&mut stream).await);
    let records = world.records(2).await;
    assert!(records.iter().all(|record| record["error"] == "policy_changed"), "{records:?}");
}

/// A slow client on a port of the web is a slow client. (Elsewhere the server may be meant to speak first.)
#[tokio::test]
async fn of_who_is_silent_on_a_port_of_the_web_nobody_is_asked() {
    let (world, mut questions) = world().await;
    let raw = raw_server(true).await;
    let on_the_web = connect(&world, "unknown.example:443").await;
    let _elsewhere = connect(&world, &format!("unknown.example:{}", raw.port())).await;
    assert_eq!(questions.recv().await.unwrap().0, "TCP unknown.example");
    // By now both were silent for long enough, or will be at once.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(questions.try_recv().is_err());
    // And it is still listened to.
    tls(&world, on_the_web, "unknown.example").await;
    assert!(questions.try_recv().is_err());
}

#[tokio::test]
async fn raw_bytes_and_names_are_asked_about_too() {
    let (world, mut questions) = world().await;
    let raw = raw_server(true).await;
    let mut stream = connect(&world, &format!("unknown.example:{}", raw.port())).await;
    let (greeting, ()) = tokio::join!(read_until(&mut stream, b"220 hello\r\n"), async {
        let (question, answer) = questions.recv().await.unwrap();
        assert_eq!(question, "TCP unknown.example");
        answer.send(true).unwrap();
    });
    assert!(greeting.ends_with(b"220 hello\r\n"));
    // Rules are asked again; what the user said holds, since none forbids it.
    world.proxy.reauthorize();
    stream.write_all(b"still there\r\n").await.unwrap();
    assert!(read_until(&mut stream, b"STILL THERE\r\n").await.ends_with(b"STILL THERE\r\n"));
    let (answer, ()) = tokio::join!(crate::dns::ask(&world, "unknown.example.", RecordType::A), async {
        let (question, answer) = questions.recv().await.unwrap();
        assert_eq!(question, "DNS unknown.example");
        answer.send(false).unwrap();
    });
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    drop(stream);
    let records = world.records(2).await;
    let by_layer = |layer: &str| records.iter().find(|record| record["layer"] == layer).unwrap();
    assert_eq!(by_layer("tcp")["rule"], "asked");
    assert_eq!((&by_layer("dns")["verdict"], &by_layer("dns")["rule"]), (&json!("deny"), &json!(null)));
}
