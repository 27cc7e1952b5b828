//! Requests under way at once, over connections and doors.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use netproxy::HostName;
use netproxy::hooks::{BoxFuture, Resolve, ResolveError};
use netproxy::limits::{HTTP2_STREAMS_MAX, Limits};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::client::{Answer, Client, Pieces, no_body, open, request};
use super::memory::{Growth, alone, scene};
use super::{HTTP1, world_with};
use crate::client::read_answer;
use crate::doors::Way;
use crate::world::World;

/// Keeps everybody waiting until the test lets one go; then there is no such name.
#[derive(Clone)]
struct Waiting {
    arrived: Arc<Semaphore>,
    leave: Arc<Semaphore>,
}

impl Waiting {
    fn new() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), leave: Arc::new(Semaphore::new(0)) }
    }

    async fn arrivals(&self, count: u32) {
        self.arrived.acquire_many(count).await.unwrap().forget();
    }
}

impl Resolve for Waiting {
    fn resolve<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async move {
            self.arrived.add_permits(1);
            self.leave.acquire().await.unwrap().forget();
            Err(ResolveError::NotFound)
        })
    }
}

async fn world(most: usize, resolve: &Waiting) -> Arc<World> {
    let mut limits = Limits::default();
    limits.requests_at_once_max = most;
    limits.resolve_timeout = std::time::Duration::from_secs(3600);
    world_with(&[HTTP1], |builder| builder.limits(limits).resolve(resolve.clone())).await
}

type Sent = hyper::Result<Response<Incoming>>;

fn send(client: &mut Client, request: Request<Pieces>, waiting: &mut JoinSet<Sent>) {
    waiting.spawn(client.send_request(request));
}

fn get(target: &str) -> Request<Pieces> {
    request("GET", target, "/").body(no_body()).unwrap()
}

#[tokio::test]
async fn requests_at_once_have_one_limit_over_all_connections_and_doors() {
    let resolve = Waiting::new();
    let world = world(5, &resolve).await;
    let (target, plain) = (world.at("ok.example"), format!("plain.example:{}", world.plain.address.port()));
    // Each of a connection of its own: others to the same place would wait for the first to open one.
    let (mut clients, mut waiting) = (Vec::new(), JoinSet::new());
    for _ in 0..4 {
        let mut client = open(&world, &target).await;
        send(&mut client, get(&target), &mut waiting);
        clients.push(client);
    }
    // The fifth is one over HTTP/1.1, and it goes in the end, with its place.
    let head = format!("GET http://{plain}/ HTTP/1.1\r\nHost: {plain}\r\n\r\n");
    let mut fifth = world.connect();
    fifth.write_all(head.as_bytes()).await.unwrap();
    resolve.arrivals(5).await;
    for client in &mut clients {
        let answer = Answer::of(client.send_request(get(&target)).await.unwrap()).await;
        assert_eq!((answer.status, &answer.json()["error"]), (503, &json!("too_many_connections")));
        assert!(answer.json()["detail"].as_str().unwrap().contains("5 requests"), "{answer:?}");
    }
    let mut sixth = world.connect();
    sixth.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut sixth, "GET").await.json()["error"], "too_many_connections");
    let mut inside = Way::Connect.open(&world, &target).await;
    inside.write_all(format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
    let answer = read_answer(&mut inside, "GET").await;
    assert_eq!((answer.status, &answer.json()["error"]), (503, &json!("too_many_connections")));
    let records = world.records(6).await;
    assert!(records.iter().all(|record| record["verdict"] == "error" && record["host"] != json!(null)));

    // All five go on, and their places are free again, each as its answer is sent.
    resolve.leave.add_permits(5);
    assert_eq!(read_answer(&mut fifth, "GET").await.json()["error"], "name_not_found");
    while let Some(sent) = waiting.join_next().await {
        assert_eq!(Answer::of(sent.unwrap().unwrap()).await.json()["error"], "name_not_found");
    }
    resolve.leave.add_permits(1 << 20);
    while Answer::of(clients[0].send_request(get(&target)).await.unwrap()).await.status != 502 {}
    for _ in 0..20 {
        assert_eq!(Answer::of(clients[1].send_request(get(&target)).await.unwrap()).await.status, 502);
    }
}

#[test]
fn streams_on_many_connections_take_no_more_memory_than_the_limit_allows() {
    match scene() {
        None => alone(
            "http2::crowd::streams_on_many_connections_take_no_more_memory_than_the_limit_allows",
            "heads of 60 KiB on 400 streams",
        ),
        Some(_) => super::floods::run(large_heads()),
    }
}

async fn large_heads() {
    const MOST: usize = 50;
    const CONNECTIONS: usize = 4;
    let resolve = Waiting::new();
    let world = world(MOST, &resolve).await;
    let (target, large) = (world.at("ok.example"), "x".repeat(60 * 1024));
    let (mut waiting, mut clients) = (JoinSet::new(), Vec::new());
    let growth = Growth::start();
    let mut refused = 0;
    for _ in 0..CONNECTIONS {
        let mut client = open(&world, &target).await;
        for _ in 0..HTTP2_STREAMS_MAX {
            let request = request("GET", &target, "/").header("x-large", &large);
            send(&mut client, request.body(no_body()).unwrap(), &mut waiting);
            // What is above is answered before more is sent: our own side keeps little.
            while waiting.len() > MOST {
                let answer = Answer::of(waiting.join_next().await.unwrap().unwrap().unwrap()).await;
                assert_eq!(answer.json()["error"], "too_many_connections");
                refused += 1;
            }
        }
        clients.push(client);
    }
    assert_eq!(refused, CONNECTIONS * usize::try_from(HTTP2_STREAMS_MAX).unwrap() - MOST);
    growth.print();
}
