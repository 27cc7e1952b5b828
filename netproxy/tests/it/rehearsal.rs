//! Refusals that are only recorded: what passes, what the record says, and what is refused all the same.

use std::sync::Arc;

use netproxy::HostName;
use netproxy::hooks::*;
use serde_json::{Value, json};

use crate::client::*;
use crate::doors::{DoorRules, raw_server};
use crate::hooks::{Names, PLACEHOLDER, Rules, SECRET};
use crate::http2::client as h2;
use crate::world::World;

/// Carries no refusal of the rules out.
struct Lenient(DoorRules);

fn rehearse(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Deny(deny) => Allow::rehearsing(deny.of_generation(3)).into(),
        allow => allow,
    }
}

impl Authorize for Lenient {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        rehearse(self.0.connect(facts))
    }
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        rehearse(self.0.request(facts))
    }
    fn tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
        rehearse(self.0.tcp(facts))
    }
    fn dns_name(&self, name: &HostName) -> Verdict {
        rehearse(self.0.dns_name(name))
    }
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        self.0.address(facts) && facts.host.to_string() != "private.example"
    }
}

async fn world() -> Arc<World> {
    let names = |names: Names| {
        names
            .with("denied.example", &[&["127.0.0.1"]])
            .with("unknown.example", &[&["127.0.0.1"]])
            .with("private.example", &[&["127.0.0.1"]])
    };
    World::build_ruled(names, |ports| Lenient(DoorRules(Rules { ports })), |builder| builder).await
}

fn told(record: &Value) -> Value {
    json!([record["layer"], record["verdict"], record["rule"], record["error"], record["generation"]])
}

#[tokio::test]
async fn requests_pass_and_are_recorded_with_the_rule_that_would_refuse_them() {
    let world = world().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let delete = format!("DELETE / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    assert_eq!(ask(&mut tls, &delete).await.status, 200);
    let private = format!("GET /private HTTP/1.1\r\nHost: {target}\r\n\r\n");
    assert_eq!(ask(&mut tls, &private).await.status, 200);
    let mut multiplexed = h2::open(&world, &target).await;
    assert_eq!(h2::get(&mut multiplexed, &target, "/private").await.status, 200);
    let records = world.records(3).await;
    assert_eq!(told(&records[0]), json!(["http", "would_deny", "no-delete", "blocked_by_policy", 3]));
    assert_eq!(records[0]["reason"], "DELETE is blocked");
    assert_eq!((&records[0]["status"], &records[0]["method"]), (&json!(200), &json!("DELETE")));
    for record in &records[1..] {
        assert_eq!(told(record), json!(["http", "would_deny", null, "blocked_by_policy", 3]));
        assert_eq!(record["reason"], "no rule allows this path or port");
    }
    assert!(world.proxy.metrics_text().contains("{layer=\"http\",verdict=\"would_deny\"} 3\n"));
}

#[tokio::test]
async fn a_place_that_would_be_refused_is_reached_through_every_door() {
    let world = world().await;
    let raw = raw_server(true).await;
    let target = format!("raw.example:{}", raw.port());
    assert!(world.proxy.clone().metrics_text().contains("would_deny"));
    let mut stream = connect(&world, &format!("unknown.example:{}", raw.port())).await;
    assert!(read_until(&mut stream, b"220 hello\r\n").await.ends_with(b"220 hello\r\n"));
    drop(stream);
    let records = world.records(1).await;
    assert_eq!(told(&records[0]), json!(["tcp", "would_deny", "no-raw", "blocked_by_policy", 3]), "{target}");
    // The certificate of the upstream is not for that name; TLS with the client and the decision came before.
    let denied = world.at("denied.example");
    let mut tls = https(&world, &denied).await;
    assert_eq!(ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {denied}\r\n\r\n")).await.status, 502);
    let records = world.records(2).await;
    assert_eq!(told(&records[1]), json!(["upstream", "would_deny", "no-denied", "upstream_certificate", 3]));
    assert!(
        records[1]["reason"].as_str().unwrap().starts_with("denied.example is blocked; "),
        "{}",
        records[1]
    );
    // An intercepted connection over which nothing comes.
    drop(https(&world, &denied).await);
    let records = world.records(3).await;
    // Whether its going breaks the handshake is a matter of who was quicker.
    let record = &records[2];
    assert_eq!(
        json!([record["layer"], record["verdict"], record["rule"]]),
        json!(["tls", "would_deny", "no-denied"])
    );
}

#[tokio::test]
async fn what_the_proxy_itself_refuses_stays_refused() {
    let world = world().await;
    let private = world.at("private.example");
    let mut tls = https(&world, &private).await;
    let answer = ask(&mut tls, &format!("DELETE / HTTP/1.1\r\nHost: {private}\r\n\r\n")).await;
    assert_eq!((answer.status, answer.json()["error"].clone()), (403, json!("address_prohibited")));
    let mut bad = https(&world, &world.at("ok.example")).await;
    assert_eq!(ask(&mut bad, "DELETE / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n").await.status, 400);
    let records = world.records(2).await;
    assert_eq!(records[0]["verdict"], "deny");
    assert_eq!((&records[1]["verdict"], &records[1]["error"]), (&json!("deny"), &json!("malformed_request")));
}

#[tokio::test]
async fn hooks_see_that_it_would_be_refused() {
    // The vault of these tests injects whatever it is asked to: `glue` is what must not.
    let allow = Allow::rehearsing(Deny::by("no", "because"));
    assert_eq!((allow.credential.clone(), allow.decided_by().as_deref()), (None, Some("no")));
    assert!(allow.would_deny.is_some() && Allow::by("yes").would_deny.is_none());
    assert_eq!(Allow::rehearsing(Deny::unmatched("x")).decided_by(), None);
    assert_ne!(SECRET, PLACEHOLDER);
}
