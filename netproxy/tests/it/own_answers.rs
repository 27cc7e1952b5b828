//! Answers that a hook gives in the upstream's place: like any other to the client, and got to their end without it.

use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use netproxy::hooks::*;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use crate::client::*;
use crate::hooks::{PLACEHOLDER, SECRET, Scrubber};
use crate::http2::{HTTP1, client as h2, world_with};
use crate::world::World;

/// Answers `/v1` itself, when it is let.
#[derive(Clone)]
struct Answers {
    asked: Arc<Notify>,
    go_on: Arc<Semaphore>,
    finished: Arc<AtomicUsize>,
    body: Arc<Mutex<Option<Bytes>>>,
}

impl Answers {
    fn new() -> Self {
        let (asked, go_on) = (Arc::default(), Arc::new(Semaphore::new(0)));
        Self { asked, go_on, finished: Arc::default(), body: Arc::default() }
    }

    async fn answer(self) -> Response<Bytes> {
        self.asked.notify_one();
        self.go_on.acquire().await.unwrap().forget();
        self.finished.fetch_add(1, Ordering::SeqCst);
        let response = Response::builder().status(201);
        let response = response.header("x-note", SECRET).header("connection", "x-gone").header("x-gone", "1");
        let response =
            response.header("content-length", "7").header("proxy-status", "agent-sandbox; error=forged");
        response.body(format!("it is {SECRET}").into()).unwrap()
    }
}

impl Inject for Answers {
    fn reads_body(&self, decided: &Decided<'_>, _: &RequestHead) -> bool {
        decided.request.path == "/v1"
    }

    fn inject<'a>(
        &'a self,
        decided: &'a Decided<'a>,
        head: &'a mut RequestHead,
    ) -> BoxFuture<'a, Result<Injected, InjectError>> {
        if decided.request.path == "/v1" {
            *self.body.lock().unwrap() = head.body.take();
            head.answer = Some(Box::pin(self.clone().answer()));
        } else if decided.request.path == "/broken" {
            head.answer = Some(Box::pin(async { panic!("on purpose") }));
        } else if decided.request.path == "/interim" {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            head.answer = Some(Box::pin(ready(response)));
        }
        Box::pin(ready(Ok(Injected::credential("login"))))
    }
}

async fn world(answers: &Answers) -> Arc<World> {
    world_with(&[HTTP1], |builder| builder.inject(answers.clone()).redact(Scrubber)).await
}

fn post(target: &str) -> String {
    format!("POST /v1 HTTP/1.1\r\nHost: {target}\r\nContent-Length: 3\r\n\r\nabc")
}

#[tokio::test]
async fn a_hooks_answer_is_redacted_recorded_and_the_only_one() {
    let answers = Answers::new();
    let world = world(&answers).await;
    answers.go_on.add_permits(2);
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let answer = ask(&mut tls, &post(&target)).await;
    assert_eq!((answer.status, answer.text()), (201, format!("it is {PLACEHOLDER}")));
    assert_eq!(answer.header("x-note").as_deref(), Some(PLACEHOLDER));
    assert_eq!((answer.header("x-gone"), answer.header("proxy-status")), (None, None));
    let mut client = h2::open(&world, &target).await;
    let request = h2::request("POST", &target, "/v1").body(h2::whole(b"abc")).unwrap();
    let answer = h2::ask(&mut client, request).await;
    assert_eq!((answer.status, answer.text()), (201, format!("it is {PLACEHOLDER}").as_str()));
    assert_eq!(answer.headers["x-note"], PLACEHOLDER);
    assert_eq!(answers.body.lock().unwrap().as_deref(), Some(&b"abc"[..]));
    for record in world.records(2).await {
        assert_eq!((&record["verdict"], &record["status"]), (&"allow".into(), &201.into()));
        assert_eq!((&record["credential"], &record["redactions"]), (&"login".into(), &2.into()));
        let length = format!("it is {PLACEHOLDER}").len();
        assert_eq!((&record["bytes_up"], &record["bytes_down"]), (&3.into(), &length.into()));
    }
    assert_eq!(world.tls.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_hooks_answer_is_got_to_its_end_after_the_client_has_gone() {
    for whole_connection in [false, true] {
        let answers = Answers::new();
        let world = world(&answers).await;
        let target = world.at("ok.example");
        let mut client = h2::open(&world, &target).await;
        let request = h2::request("POST", &target, "/v1").body(h2::whole(b"abc")).unwrap();
        let asking = tokio::spawn(client.send_request(request));
        answers.asked.notified().await;
        asking.abort();
        if whole_connection {
            drop(client);
        }
        // The exchange is over for the client, and not for the hook.
        let record = world.records(1).await[0].clone();
        assert_eq!((&record["error"], &record["credential"]), (&"client_went_away".into(), &"login".into()));
        answers.go_on.add_permits(1);
        let finished = async {
            while answers.finished.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), finished).await.expect("it goes on");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error_of_its_own() {
    let answers = Answers::new();
    let world = world(&answers).await;
    let target = world.at("ok.example");
    for path in ["/broken", "/interim"] {
        let mut tls = https(&world, &target).await;
        let answer = ask(&mut tls, &format!("GET {path} HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (502, Some("upstream_protocol")));
    }
    assert_eq!(world.records(2).await.len(), 2);
}
