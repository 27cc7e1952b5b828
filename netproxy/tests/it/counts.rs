//! Metrics that no audit record tells.

use crate::client::*;
use crate::http2::{HTTP1, world_with};
use crate::world::World;

#[tokio::test]
async fn tunnels_leaves_and_connections_used_again_are_counted() {
    let world = world_with(&[HTTP1], |builder| builder).await;
    let has = |line: &str| {
        let text = world.proxy.metrics_text();
        assert!(text.contains(&format!("\nagent_sandbox_proxy_{line}\n")), "{line} in {text}");
    };
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    for _ in 0..3 {
        assert_eq!(ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await.status, 200);
    }
    let _second = https(&world, &target).await;
    has("leaf_certificates_total 1");
    has("upstream_connections_total 1");
    has("upstream_reused_total 2");
    has("tunnels 0");
    let target = world.at("opaque.example");
    let stream = connect(&world, &target).await;
    let mut opaque = tls_trusting(&world.tls.root_pem, stream, "opaque.example").await.unwrap();
    assert_eq!(ask(&mut opaque, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await.status, 200);
    has("tunnels 1");
    drop(opaque);
    world.records(4).await;
    has("tunnels 0");
}

/// Each request takes the only kept connection, so that the pool is empty, and gives it back.
#[tokio::test]
async fn requests_over_one_connection_leave_no_task_each() {
    let world = World::start().await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let get = format!("GET /v1 HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for _ in 0..2 {
        assert_eq!(ask(&mut tls, &get).await.status, 200);
    }
    let before = tasks();
    for _ in 0..20 {
        assert_eq!(ask(&mut tls, &get).await.status, 200);
    }
    assert_eq!(tasks(), before);
}
