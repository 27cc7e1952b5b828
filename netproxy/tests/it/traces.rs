//! What a subscriber of `tracing` is told: decisions, and nothing secret, however an exchange ends.

use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::client::*;
use crate::hooks::{Names, PLACEHOLDER, Rules, SECRET, Scrubber};
use crate::http2::client as h2;
use crate::http2::{H2, HTTP1, upstream};
use crate::world::{NAMES, World};

/// Keeps all that any crate says at any level.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>, Arc<AtomicU64>);

impl Everything {
    fn say(&self, what: &str, target: &str, fields: impl Fn(&mut Fields)) {
        let mut said = Fields(format!("{target} {what}:"));
        fields(&mut said);
        let mut all = self.0.lock().unwrap();
        all.push_str(&said.0);
        all.push('\n');
    }

    fn all(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let meta = span.metadata();
        self.say(&format!("span {}", meta.name()), meta.target(), |fields| span.record(fields));
        Id::from_u64(self.1.fetch_add(1, Ordering::Relaxed) + 1)
    }
    fn record(&self, span: &Id, values: &Record<'_>) {
        self.say(&format!("in {}", span.into_u64()), "span", |fields| values.record(fields));
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        self.say("event", event.metadata().target(), |fields| event.record(fields));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

const QUERY: &str = "query-value-4711";

/// In a process of its own: whether anybody listens is kept for the whole process, and other tests do not.
#[test]
fn a_subscriber_hears_of_decisions_and_never_of_a_secret() {
    const ALONE: &str = "NETPROXY_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(listen_to_everything());
    }
    let test = "traces::a_subscriber_hears_of_decisions_and_never_of_a_secret";
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && text.contains("1 passed"), "{text}{said}");
}

async fn listen_to_everything() {
    let everything = Everything::default();
    // For this thread, on which all of this test runs.
    let _guard = tracing::subscriber::set_default(everything.clone());
    let build = |alpn: &'static [&'static [u8]]| async move {
        let tls = upstream::start(NAMES, alpn).await;
        let rules = |ports| Rules { ports };
        let names = |names: Names| names.with("down.example", &[&["127.0.0.1"]]);
        World::build_over(tls, names, rules, |builder| builder.redact(Scrubber)).await
    };
    let world = build(&[HTTP1]).await;
    let target = world.at("ok.example");
    // Injected, denied, without a credential, cut short, malformed; and the answer echoes the secret.
    for (path, status) in [("/echo", 200), ("/echo-header", 200), ("/private", 403), ("/locked", 403)] {
        let mut tls = https(&world, &target).await;
        let head =
            format!("GET {path}?{QUERY} HTTP/1.1\r\nHost: {target}\r\nAuthorization: {PLACEHOLDER}\r\n\r\n");
        assert_eq!(ask(&mut tls, &head).await.status, status, "{path}");
    }
    let mut bad = world.connect();
    let head = format!("GET http://x/?{QUERY} HTTP/1.1\r\nHost: y\r\nAuthorization: {PLACEHOLDER}\r\n\r\n");
    assert_eq!(ask(&mut bad, &head).await.status, 421);
    let down = ask(
        &mut https(&world, "down.example:1").await,
        &format!("GET /?{QUERY} HTTP/1.1\r\nHost: down.example:1\r\nAuthorization: {PLACEHOLDER}\r\n\r\n"),
    )
    .await;
    assert_eq!(down.status, 502);
    let world2 = build(&[H2]).await;
    let target = world2.at("ok.example");
    let mut client = h2::open(&world2, &target).await;
    for path in ["/echo", "/grpc", "/private"] {
        let asked =
            h2::request("GET", &target, &format!("{path}?{QUERY}")).header("authorization", PLACEHOLDER);
        h2::ask(&mut client, asked.body(h2::no_body()).unwrap()).await;
    }
    let mut ids = Vec::new();
    for (world, count) in [(&world, 6), (&world2, 3)] {
        ids.extend(
            world
                .records(count)
                .await
                .iter()
                .map(|record| record["decision_id"].as_str().unwrap().to_owned()),
        );
    }
    let all = everything.all();
    let ours: Vec<&str> =
        all.lines().filter(|line| line.starts_with("netproxy") || line.starts_with("span ")).collect();
    for id in &ids {
        assert!(ours.iter().any(|line| line.contains("span decision") && line.contains(id.as_str())), "{id}");
    }
    for expected in [
        "span connection: sandbox=\"test\"",
        "verdict=\"deny\"",
        "host=\"ok.example\"",
        "status=403",
        "decided and done",
    ] {
        assert!(ours.iter().any(|line| line.contains(expected)), "{expected} in {ours:#?}");
    }
    for secret in [SECRET, PLACEHOLDER, QUERY, "/echo", "/private"] {
        let leak = ours.iter().find(|line| line.contains(secret));
        assert_eq!(leak, None, "{secret}");
    }
    // The libraries below us, on the proxy's side: the client and the upstream of this test are theirs too.
    let leak = all.lines().find(|line| line.contains(SECRET));
    assert_eq!(leak, None);
}
