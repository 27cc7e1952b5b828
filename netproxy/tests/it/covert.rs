//! Names below a wildcard that say too much, at the doors that resolve them for a connection.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use netproxy::hooks::*;
use netproxy::limits::Limits;
use netproxy::{Authority, HostName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Answer, read_answer, tls};
use crate::doors::{WAYS, Way};
use crate::world::World;

/// Anything at or below `wild.example`, by a wildcard; everything at the name of its own.
struct Wild;

fn verdict(host: &str) -> Verdict {
    match host {
        "own.example" => Allow::by("own").into(),
        below if below.ends_with(".wild.example") => Allow::by("wild").with_wildcard(true).into(),
        _ => Deny::unmatched("no rule allows this name").into(),
    }
}

fn at(authority: &Authority) -> Verdict {
    verdict(&authority.host().to_string())
}

impl Authorize for Wild {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        at(facts.authority)
    }
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        at(facts.authority)
    }
    fn tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
        at(facts.authority)
    }
    fn dns_name(&self, name: &HostName) -> Verdict {
        verdict(name.as_str())
    }
}

/// Knows no name, and remembers what it was asked.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Resolve for Asked {
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        self.0.lock().unwrap().push(name.to_string());
        Box::pin(std::future::ready(Err(ResolveError::NotFound)))
    }
}

async fn world(new_names: u32) -> (Arc<World>, Asked) {
    let asked = Asked::default();
    let mut limits = Limits::default();
    limits.dns_new_names_per_minute = new_names;
    let more = |builder: netproxy::Builder| builder.resolve(asked.clone()).limits(limits);
    (World::build_ruled(|names| names, |_| Wild, more).await, asked)
}

/// A request in the clear to `host`: as a URL, or inside a connection through another door.
async fn get(world: &World, way: Option<Way>, host: &str) -> Answer {
    let (mut stream, target) = match way {
        None => (world.connect(), format!("http://{host}/")),
        Some(way) => (way.open(world, &format!("{host}:80")).await, "/".to_owned()),
    };
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
    read_answer(&mut stream, "GET").await
}

async fn lookup(world: &World, host: &str) -> ResponseCode {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(format!("{host}.")).unwrap(), RecordType::A));
    let answer = world.proxy.answer_dns(&query.to_vec().unwrap()).await.unwrap();
    Message::from_vec(&answer).unwrap().metadata.response_code
}

const DATA: &str = "mzxw6ytboi4dk3thqr2vpjn5wlxes7c3gabfouyd.wild.example";
const WORDS: &str = "a label looks like data and not like a name; name the host in a rule of its own";

#[tokio::test]
async fn data_in_labels_does_not_get_out_by_any_door() {
    let (world, asked) = world(60).await;
    for way in [None, Some(Way::Connect), Some(Way::Socks), Some(Way::Transparent)] {
        let answer = get(&world, way, DATA).await;
        let json = answer.json();
        assert_eq!((answer.status, &json["error"]), (403, &"blocked_by_policy".into()), "{way:?}: {json}");
        assert_eq!((&json["rule"], &json["layer"]), (&"wild".into(), &"dns".into()), "{way:?}: {json}");
        assert!(json["detail"].as_str().unwrap().contains(WORDS), "{way:?}: {json}");
    }
    // Inside TLS, and as bytes that nobody understands.
    let stream = Way::Connect.open(&world, &format!("{DATA}:443")).await;
    let mut inside = tls(&world, stream, DATA).await;
    inside.write_all(format!("GET / HTTP/1.1\r\nHost: {DATA}\r\n\r\n").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut inside, "GET").await.json()["error"], "blocked_by_policy");
    for way in WAYS {
        let mut stream = way.open(&world, &format!("{DATA}:5432")).await;
        stream.write_all(b"\x00hello\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    }
    let records = world.records(8).await;
    assert_eq!(records.len(), 8);
    for record in records {
        assert_eq!((&record["verdict"], &record["reason"]), (&"deny".into(), &WORDS.into()), "{record}");
    }
    assert_eq!(lookup(&world, DATA).await, ResponseCode::NXDomain);
    assert!(asked.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn all_doors_together_have_so_many_new_names_a_minute() {
    let (world, asked) = world(4).await;
    let ways = [None, Some(Way::Connect), Some(Way::Socks), Some(Way::Transparent)];
    // One name each, which takes up what there is.
    for (n, way) in ways.into_iter().enumerate() {
        assert_eq!(get(&world, way, &format!("n{n}.wild.example")).await.json()["error"], "name_not_found");
    }
    for (n, way) in ways.into_iter().enumerate() {
        let json = get(&world, way, &format!("m{n}.wild.example")).await.json();
        assert_eq!((&json["error"], &json["rule"]), (&"too_many_new_names".into(), &"wild".into()), "{json}");
        assert!(json["detail"].as_str().unwrap().contains("too many different names"), "{json}");
        // It passes, and says so: no word of a policy that forbids.
        let (title, fix) = (json["title"].as_str().unwrap(), json["how_to_fix"].as_str().unwrap());
        assert!(fix.starts_with("Wait a minute") && !title.contains("Blocked"), "{json}");
        // Known names, and names of their own, are free.
        for free in [&format!("n{n}.wild.example"), "own.example"] {
            assert_eq!(get(&world, way, free).await.json()["error"], "name_not_found", "{way:?} {free}");
        }
    }
    // The name was resolved for a connection: the guest learns of it by DNS that there is none, and of no other.
    assert_eq!(lookup(&world, "n0.wild.example").await, ResponseCode::NXDomain);
    assert_eq!(lookup(&world, "m0.wild.example").await, ResponseCode::NXDomain);
    assert!(asked.0.lock().unwrap().iter().all(|name| !name.starts_with('m')));
}
