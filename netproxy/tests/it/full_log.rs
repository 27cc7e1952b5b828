//! What waits until the audit log can take a record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netproxy::Proxy;
use netproxy::limits::Limits;
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use crate::client::*;
use crate::control::Switch;
use crate::hooks::{Any, Records, Rules};
use crate::world::World;

fn patient() -> Limits {
    let mut limits = Limits::default();
    limits.audit_wait = Duration::from_secs(600);
    limits
}

/// Until somebody waits for this log: it was looked at twice.
async fn waited_for(records: &Records) {
    while records.2.load(Ordering::SeqCst) < 2 {
        // Not a mere turn of the runtime: a clock that is paused goes on only when nobody has anything to do.
        sleep(Duration::from_millis(1)).await;
    }
}

/// It was allowed by a policy that is none any more when there is room for its record.
#[tokio::test]
async fn a_request_is_decided_again_after_it_has_waited() {
    let closed = Arc::new(AtomicBool::new(false));
    let rules = |ports| Switch(Rules { ports }, Arc::clone(&closed));
    let world = World::build_ruled(|names| names, rules, |builder| builder.limits(patient())).await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    world.records.1.store(true, Ordering::SeqCst);
    let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let changed = async {
        waited_for(&world.records).await;
        closed.store(true, Ordering::SeqCst);
        world.records.1.store(false, Ordering::SeqCst);
    };
    let (answer, ()) = tokio::join!(ask(&mut tls, &request), changed);
    assert_eq!((answer.status, &answer.json()["rule"]), (403, &"closed".into()), "{answer:?}");
    assert!(world.tls.seen.lock().unwrap().is_empty());
}

/// The same for TLS that passes unread: nothing of it goes up.
#[tokio::test]
async fn a_tunnel_is_decided_again_after_it_has_waited() {
    let closed = Arc::new(AtomicBool::new(false));
    let rules = |ports| Switch(Rules { ports }, Arc::clone(&closed));
    let world = World::build_ruled(|names| names, rules, |builder| builder.limits(patient())).await;
    world.records.1.store(true, Ordering::SeqCst);
    let mut stream = connect(&world, &world.at("opaque.example")).await;
    stream.write_all(&client_hello("opaque.example")).await.unwrap();
    waited_for(&world.records).await;
    closed.store(true, Ordering::SeqCst);
    world.proxy.reauthorize();
    world.records.1.store(false, Ordering::SeqCst);
    assert!(is_at_end(&mut stream).await);
    let record = world.records(1).await.pop().unwrap();
    assert_eq!((&record["error"], &record["bytes_up"]), (&"policy_changed".into(), &0.into()), "{record}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_it() {
    let records = Records::default();
    records.1.store(true, Ordering::SeqCst);
    let proxy = Proxy::builder().authorize(Any).audit(records.clone()).limits(patient()).build().unwrap();
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let served = proxy.clone();
    tokio::spawn(async move { served.serve(far).await });
    let get = b"GET http://plain.example/ HTTP/1.1\r\nHost: plain.example\r\n\r\n";
    near.write_all(get).await.unwrap();
    waited_for(&records).await;
    let drained = async {
        let answer = read_answer(&mut near, "GET").await;
        assert_eq!((answer.status, &answer.json()["error"]), (503, &"audit_unavailable".into()));
        drop(near);
    };
    let (in_time, ()) = tokio::join!(proxy.drain(Duration::from_secs(60)), drained);
    assert!(in_time, "it waits for the log");
}
