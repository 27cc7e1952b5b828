//! A policy that still allows a place, but not what was opened to it: unread, or at that address.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netproxy::HostName;
use netproxy::hooks::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::client::*;
use crate::doors::{DoorRules, Way, raw_server};
use crate::hooks::{Names, PLACEHOLDER, Rules};
use crate::websocket::handshake;
use crate::world::World;

/// What becomes of it when the switch is on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    /// TLS is to be inspected everywhere.
    Inspected,
    /// No address of this machine may be dialled any more.
    Closed,
    /// By way of an upstream proxy.
    Detour,
    /// With another credential.
    OtherKey,
    /// Refused, which is only recorded; which key a request gets is for the vault to say.
    Rehearsed,
}

struct Tightening(DoorRules, Change, Arc<AtomicBool>);

impl Tightening {
    fn changes(&self, change: Change) -> bool {
        self.1 == change && self.2.load(Ordering::SeqCst)
    }

    fn led(&self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Allow(mut allow) if self.changes(Change::Detour) => {
                allow.upstream = Some("corp".into());
                allow.into()
            }
            Verdict::Allow(allow) if self.changes(Change::OtherKey) => allow.with_credential("other").into(),
            Verdict::Allow(_) if self.changes(Change::Rehearsed) => {
                Allow::rehearsing(Deny::by("no", "not any more")).into()
            }
            Verdict::Allow(mut allow) if self.1 == Change::Rehearsed => {
                allow.credential = None;
                allow.into()
            }
            verdict => verdict,
        }
    }
}

impl Authorize for Tightening {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        match self.0.connect(facts) {
            Verdict::Allow(mut allow) if self.changes(Change::Inspected) => {
                allow.tls = TlsMode::Inspect;
                allow.into()
            }
            verdict => self.led(verdict),
        }
    }
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        self.led(self.0.request(facts))
    }
    fn tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
        self.led(self.0.tcp(facts))
    }
    fn dns_name(&self, name: &HostName) -> Verdict {
        self.0.dns_name(name)
    }
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        !self.changes(Change::Closed) && self.0.address(facts)
    }
}

async fn world(change: Change) -> (Arc<World>, Arc<AtomicBool>) {
    let switch = Arc::new(AtomicBool::new(false));
    let rules = |ports| Tightening(DoorRules(Rules { ports }), change, Arc::clone(&switch));
    let names = |names: Names| names.with("raw.example", &[&["127.0.0.1"]]);
    (World::build_ruled(names, rules, |builder| builder).await, switch)
}

#[tokio::test]
async fn what_was_opened_otherwise_ends_and_is_recorded() {
    for (change, ended) in
        [(Change::Inspected, 1), (Change::Closed, 4), (Change::Detour, 4), (Change::OtherKey, 4)]
    {
        let (world, switch) = world(change).await;
        let (ok, opaque) = (world.at("ok.example"), world.at("opaque.example"));
        let raw = format!("raw.example:{}", raw_server(true).await.port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = format!("raw.example:{}", listener.local_addr().unwrap().port());
        let stream = connect(&world, &opaque).await;
        let mut tunnel = tls_trusting(&world.tls.root_pem, stream, "opaque.example").await.unwrap();
        let get = format!("GET / HTTP/1.1\r\nHost: {opaque}\r\n\r\n");
        assert_eq!(ask(&mut tunnel, &get).await.status, 200);
        let mut socket = https(&world, &ok).await;
        socket.write_all(handshake("/ws", &ok, "").as_bytes()).await.unwrap();
        assert!(read_until(&mut socket, b"789.").await.ends_with(b"789."));
        let mut greeted = Way::Socks.open(&world, &raw).await;
        assert_eq!(read_until(&mut greeted, b"\n").await, b"220 hello\r\n");
        let mut quiet = Way::Socks.open(&world, &silent).await;
        // It is dialled, as nobody says anything.
        let _held = listener.accept().await.unwrap();
        assert!(world.records.0.lock().unwrap().is_empty());
        switch.store(true, Ordering::SeqCst);
        world.proxy.reauthorize();
        let records = world.records(ended).await;
        for record in &records {
            assert_eq!(record["error"], "policy_changed", "{change:?}: {record}");
        }
        assert!(is_at_end(&mut tunnel).await);
        if ended == 4 {
            for stream in [&mut greeted, &mut quiet] {
                assert!(is_at_end(stream).await, "{change:?}");
            }
            assert!(is_at_end(&mut socket).await);
        } else {
            greeted.write_all(b"still\r\n").await.unwrap();
            assert_eq!(read_until(&mut greeted, b"\n").await, b"STILL\r\n");
            assert_eq!(world.records.0.lock().unwrap().len(), 1);
        }
    }
}

/// Bytes that wait when the policy changes.
#[tokio::test]
async fn not_a_byte_passes_after_the_change() {
    let (world, switch) = world(Change::Closed).await;
    let raw = format!("raw.example:{}", raw_server(true).await.port());
    for count in 1..=12 {
        switch.store(false, Ordering::SeqCst);
        let mut stream = Way::Socks.open(&world, &raw).await;
        assert_eq!(read_until(&mut stream, b"\n").await, b"220 hello\r\n");
        // Both are there when the tunnel has its next turn.
        switch.store(true, Ordering::SeqCst);
        world.proxy.reauthorize();
        stream.write_all(b"late\r\n").await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        let record = world.records(count).await.pop().unwrap();
        assert_eq!((&record["bytes_up"], rest.len()), (&0.into(), 0), "{record}");
    }
}

/// A request that is only recorded as refused is sent no key: nor is one used any longer that was sent before.
#[tokio::test]
async fn a_session_with_a_key_ends_where_its_request_would_be_refused() {
    for (key, ends) in [(format!("Authorization: {PLACEHOLDER}\r\n"), true), (String::new(), false)] {
        let (world, switch) = world(Change::Rehearsed).await;
        let ok = world.at("ok.example");
        let mut socket = https(&world, &ok).await;
        socket.write_all(handshake("/ws", &ok, &key).as_bytes()).await.unwrap();
        assert!(read_until(&mut socket, b"789.").await.ends_with(b"789."));
        switch.store(true, Ordering::SeqCst);
        world.proxy.reauthorize();
        if !ends {
            socket.shutdown().await.unwrap();
        }
        let close = timeout(Duration::from_secs(20), read_until(&mut socket, b"\x88\x02\x03\xe8"));
        let close = close.await.expect("it stays open");
        assert_eq!(close.is_empty(), ends, "{close:?}");
        let record = world.records(1).await.pop().unwrap();
        let error = if ends { "policy_changed".into() } else { serde_json::Value::Null };
        assert_eq!(record["error"], error, "{record}");
    }
}
