//! HTTP/1.1 on both sides: an upstream that answers while the body of the request is still being sent, and bodies
//! without end.

use std::sync::Arc;
use std::time::Duration;

use netproxy::Builder;
use netproxy::limits::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::client::{Answer, https, is_at_end, read_answer, read_until};
use crate::hooks::{Holds, Rules, Scrubber};
use crate::http2::memory::{Growth, alone, scene};
use crate::http2::upstream::{BIG_BYTES, listen};
use crate::http2::{HTTP1, world_with};
use crate::world::{NAMES, World};

/// A world whose upstream answers a head at once with `answer`, and then does `then`.
async fn world<F>(
    answer: &'static str,
    then: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
) -> Arc<World>
where
    F: Future<Output = ()> + Send + 'static,
{
    world_of(answer, then, |builder| builder).await
}

async fn world_of<F>(
    answer: &'static str,
    then: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
    change: impl FnOnce(Builder) -> Builder,
) -> Arc<World>
where
    F: Future<Output = ()> + Send + 'static,
{
    let then = Arc::new(then);
    let upstream = listen(NAMES, &[HTTP1], move |mut stream, _| {
        let then = Arc::clone(&then);
        async move {
            read_until(&mut stream, b"\r\n\r\n").await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            then(stream).await;
        }
    })
    .await;
    World::build_over(upstream, |names| names, |ports| Rules { ports }, change).await
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_does_not_cut_it_off() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let world = world("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly", move |mut stream| {
        let tell = tell.clone();
        async move {
            let mut body = vec![0; 10];
            stream.read_exact(&mut body).await.unwrap();
            tell.send(body).unwrap();
        }
    })
    .await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let head = format!("POST / HTTP/1.1\r\nHost: {target}\r\nContent-Length: 10\r\n\r\n01234");
    tls.write_all(head.as_bytes()).await.unwrap();
    tls.flush().await.unwrap();
    // Half of the body is not sent before the answer is here.
    let head = String::from_utf8(read_until(&mut tls, b"\r\n\r\n").await).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    tls.write_all(b"56789").await.unwrap();
    tls.flush().await.unwrap();
    assert_eq!(told.recv().await.unwrap(), b"0123456789");
    let mut body = [0; 5];
    tls.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"early");
    assert_eq!(world.records(1).await[0]["bytes_up"], 10);
}

/// More than all buffers on the way hold, both ways at once: the client reads nothing before it has sent all.
#[tokio::test]
async fn an_upload_goes_on_while_its_answer_waits_to_be_read() {
    const BYTES: usize = 8 << 20;
    let world = world("HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n", |stream| async move {
        let (mut read, mut write) = tokio::io::split(stream);
        let answer = async {
            write.write_all(&vec![b'a'; BYTES]).await.unwrap();
            write.flush().await.unwrap();
        };
        let body = async { read.read_exact(&mut vec![0; BYTES]).await.unwrap() };
        tokio::join!(answer, body);
    })
    .await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let whole = async {
        let head = format!("POST / HTTP/1.1\r\nHost: {target}\r\nContent-Length: {BYTES}\r\n\r\n");
        tls.write_all(head.as_bytes()).await.unwrap();
        tls.write_all(&vec![b'b'; BYTES]).await.unwrap();
        tls.flush().await.unwrap();
        read_answer(&mut tls, "POST").await
    };
    let Answer { status, body, .. } = timeout(Duration::from_secs(60), whole).await.expect("neither goes on");
    assert_eq!((status, body.len()), (200, BYTES));
}

/// The whole request was taken when the answer came, and much of it not sent: the upstream takes its time.
#[tokio::test]
async fn what_is_left_of_a_request_is_sent_after_its_answer() {
    const BYTES: usize = 16 << 20;
    let (tell, mut told) = mpsc::unbounded_channel();
    let answered = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let reads_late = move |mut stream: TlsStream<TcpStream>| {
        let tell = tell.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let all = stream.read_exact(&mut vec![0; BYTES]).await;
            tell.send(all.is_ok()).unwrap();
        }
    };
    let world = world_of(answered, reads_late, |builder| builder.inject(Holds::default())).await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let head = format!("POST / HTTP/1.1\r\nHost: {target}\r\nContent-Length: {BYTES}\r\n\r\n");
    tls.write_all(head.as_bytes()).await.unwrap();
    tls.write_all(&vec![b'b'; BYTES]).await.unwrap();
    tls.flush().await.unwrap();
    assert_eq!(read_answer(&mut tls, "POST").await.status, 200);
    let all = timeout(Duration::from_secs(60), told.recv()).await.expect("nobody sends the rest");
    assert_eq!(all, Some(true), "the rest was cut off");
    // Counted to its end, though the answer had none to wait for.
    let record = world.records(1).await.pop().unwrap();
    assert_eq!((&record["bytes_up"], &record["verdict"]), (&BYTES.into(), &"allow".into()), "{record}");
}

/// The client goes away, sends what cannot follow, or nothing more.
#[tokio::test]
async fn an_upload_that_breaks_off_after_its_answer_is_recorded_as_that() {
    for (rest, error) in [
        (None, "client_went_away"),
        (Some("+2\r\n"), "malformed_request"),
        (Some(""), "request_body_too_quiet"),
    ] {
        let answered = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
        let reads = |mut stream: TlsStream<TcpStream>| async move {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let mut limits = Limits::default();
        if error == "request_body_too_quiet" {
            limits.idle_timeout = Duration::from_secs(2);
        }
        let world = world_of(answered, reads, |builder| builder.limits(limits)).await;
        let target = world.at("ok.example");
        let mut tls = https(&world, &target).await;
        let head =
            format!("POST / HTTP/1.1\r\nHost: {target}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n");
        tls.write_all(head.as_bytes()).await.unwrap();
        tls.flush().await.unwrap();
        assert_eq!(read_answer(&mut tls, "POST").await.text(), "early");
        match rest {
            None => drop(tls),
            Some(rest) => {
                tls.write_all(rest.as_bytes()).await.unwrap();
                tls.flush().await.unwrap();
            }
        }
        let record = world.records(1).await.pop().unwrap();
        let told = (&record["bytes_up"], &record["verdict"], &record["error"]);
        assert_eq!(told, (&5.into(), &"error".into(), &error.into()), "{record}");
    }
}

/// Threads, since the record must not depend on which of the tasks has its turn first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_waits_for_the_record_of_an_upload_that_goes_on_after_its_answer() {
    for _ in 0..50 {
        let answered = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
        let reads = |mut stream: TlsStream<TcpStream>| async move {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let world = world(answered, reads).await;
        let target = world.at("ok.example");
        let mut tls = https(&world, &target).await;
        let head = format!("POST / HTTP/1.1\r\nHost: {target}\r\nContent-Length: 10\r\n\r\n01234");
        tls.write_all(head.as_bytes()).await.unwrap();
        tls.flush().await.unwrap();
        assert_eq!(read_answer(&mut tls, "POST").await.text(), "early");
        world.proxy.end().await;
        let records = world.records.0.lock().unwrap().clone();
        assert_eq!(records.iter().map(|record| record.error).collect::<Vec<_>>(), [Some("proxy_ended")]);
    }
}

/// The wait for an answer begins when the request was sent.
#[tokio::test]
async fn an_upload_may_take_longer_than_an_answer() {
    let mut limits = Limits::default();
    limits.response_timeout = Duration::from_secs(2);
    let world = world_with(&[HTTP1], |builder| builder.limits(limits)).await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let head = format!("POST /discard HTTP/1.1\r\nHost: {target}\r\nContent-Length: 6\r\n\r\n");
    tls.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..6 {
        tls.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        tls.write_all(b"a").await.unwrap();
    }
    tls.flush().await.unwrap();
    let answer = read_answer(&mut tls, "POST").await;
    assert_eq!((answer.status, &*answer.text()), (200, "6 bytes"));
}

/// The upstream has answered, and neither reads nor ends anything.
#[tokio::test]
async fn an_upload_of_which_nobody_takes_the_rest_is_given_up() {
    let answered = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (hold, held) = mpsc::unbounded_channel();
    let reads_nothing = move |stream| {
        let hold = hold.clone();
        async move { hold.send(stream).unwrap() }
    };
    let mut limits = Limits::default();
    limits.idle_timeout = Duration::from_millis(500);
    let world = world_of(answered, reads_nothing, |builder| builder.limits(limits)).await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let head = format!("POST / HTTP/1.1\r\nHost: {target}\r\nContent-Length: 1000000000\r\n\r\n");
    tls.write_all(head.as_bytes()).await.unwrap();
    // Until all buffers on the way are full, and on.
    let send = async { while tls.write_all(&[b'b'; 64 * 1024]).await.is_ok() {} };
    timeout(Duration::from_secs(60), send).await.expect("it is held for ever");
    drop(held);
}

/// A refusal of the upstream's, which reads no more: the client gets it whole, and its connection ends in order.
#[tokio::test]
async fn a_final_answer_before_the_body_reaches_a_client_that_is_still_sending() {
    const ANSWER: &str =
        "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 7\r\n\r\ntoo big";
    let world = world(ANSWER, |mut stream| async move {
        stream.shutdown().await.unwrap();
        while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {}
    })
    .await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let head = format!("POST / HTTP/1.1\r\nHost: {target}\r\nContent-Length: 1000000\r\n\r\n01234");
    tls.write_all(head.as_bytes()).await.unwrap();
    tls.flush().await.unwrap();
    let Answer { status, body, .. } = read_answer(&mut tls, "POST").await;
    assert_eq!((status, &*body), (413, &b"too big"[..]));
    // What the client goes on to send is no next request.
    let _ = tls.write_all(format!("GET /next HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await;
    assert!(is_at_end(&mut tls).await);
    let record = world.records(1).await.pop().unwrap();
    assert_eq!((&record["status"], &record["verdict"]), (&413.into(), &"allow".into()), "{record}");
}

const BIG: &str = "early::bodies_of_any_size_take_constant_memory_over_http1";

/// 256 MiB up and down for an HTTP/1.1 client, also where answers are searched.
#[test]
fn bodies_of_any_size_take_constant_memory_over_http1() {
    match scene() {
        None => ["up", "down", "searched"].iter().for_each(|scene| alone(BIG, scene)),
        Some(scene) => tokio::runtime::Runtime::new().unwrap().block_on(big_body(&scene)),
    }
}

async fn big_body(scene: &str) {
    let world = world_with(&[HTTP1], |b| if scene == "searched" { b.redact(Scrubber) } else { b }).await;
    let target = world.at("ok.example");
    let mut tls = https(&world, &target).await;
    let mut piece = vec![b'x'; 64 * 1024];
    let growth = Growth::start();
    if scene == "up" {
        let head = format!("POST /discard HTTP/1.1\r\nHost: {target}\r\nContent-Length: {BIG_BYTES}\r\n\r\n");
        tls.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..BIG_BYTES / piece.len() {
            tls.write_all(&piece).await.unwrap();
        }
        tls.flush().await.unwrap();
        assert_eq!(read_answer(&mut tls, "POST").await.text(), format!("{BIG_BYTES} bytes"));
    } else {
        let head = format!("GET /big HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
        tls.write_all(head.as_bytes()).await.unwrap();
        let head = String::from_utf8(read_until(&mut tls, b"\r\n\r\n").await).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut count = 0;
        while let Ok(read @ 1..) = tls.read(&mut piece).await {
            count += piece[..read].iter().filter(|byte| **byte == b'x').count();
        }
        assert_eq!(count, BIG_BYTES);
    }
    growth.print();
}
