//! Answers of an upstream: the same however they are cut, and hyper's client, which reads all that we read, agrees on what
//! is taken.

#![no_main]

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use fuzz::{Input, chunks};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use netproxy::wire::answer::{Answer, Heads, Piece};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HEAD_BYTES_MAX: usize = 512;

/// Names and values, in their order.
type Fields = Vec<(String, Vec<u8>)>;

/// What became of a stream that ends after these bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    head: Option<(u16, Fields)>,
    body: Vec<u8>,
    trailers: Fields,
    /// The body ended as it should.
    whole: bool,
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let method = input.one(&[Method::GET, Method::HEAD, Method::POST].each_ref()).clone();
    let cuts = input.piece();
    let whole = ours(&[input.0], &method);
    assert_eq!(ours(&chunks(input.0, cuts), &method), whole);
    let single: Vec<&[u8]> = input.0.chunks(1).collect();
    assert_eq!(ours(&single, &method), whole);
    if whole.head.is_some() {
        let theirs = RUNTIME.block_on(hypers(input.0, &method));
        assert_eq!(theirs.head, whole.head);
        // What breaks off, breaks off where it does.
        if whole.whole {
            assert_eq!(theirs, whole);
        }
    }
});

fn ours(chunks: &[&[u8]], method: &Method) -> Outcome {
    let (mut buffer, mut heads) = (BytesMut::new(), Heads::new(HEAD_BYTES_MAX));
    let (mut outcome, mut answer) = (Outcome::default(), None::<Answer>);
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        if answer.is_none() {
            match heads.take(&mut buffer, method) {
                Ok(Some(head)) => {
                    outcome.head = Some((head.status.as_u16(), fields(&head.headers)));
                    answer = Some(head);
                }
                Ok(None) => continue,
                Err(_) => return outcome,
            }
        }
        let Some(answer) = &mut answer else { continue };
        loop {
            let left = answer.body.left();
            match answer.body.take(&mut buffer) {
                Ok(Piece::Need) => break,
                Ok(Piece::Data(data)) => {
                    assert!(!data.is_empty() && left.is_none_or(|left| left >= data.len() as u64));
                    outcome.body.extend_from_slice(&data);
                }
                Ok(Piece::Trailers(trailers)) => outcome.trailers = fields(&trailers),
                Ok(Piece::End) => {
                    assert!(answer.body.is_over());
                    outcome.whole = true;
                    return outcome;
                }
                Err(_) => return outcome,
            }
        }
    }
    outcome.whole = answer.is_some_and(|mut answer| answer.body.end());
    outcome
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
});

/// The same by hyper.
async fn hypers(bytes: &[u8], method: &Method) -> Outcome {
    let (near, mut far) = tokio::io::duplex(bytes.len() + 1024);
    let (mut sender, connection) = Builder::new()
        // As for heads, so for trailers, of which we bear more.
        .max_header_size(64 * 1024)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(near))
        .await
        .unwrap();
    let connection = tokio::spawn(connection.with_upgrades());
    let request = Request::builder().method(method).uri("/").header("host", "a").body(Empty::new()).unwrap();
    let answer = sender.send_request(request);
    let far = async {
        let _ = far.read(&mut [0; 1024]).await;
        let _ = far.write_all(bytes).await;
        let _ = far.shutdown().await;
    };
    let (answer, ()) = tokio::join!(answer, far);
    let mut outcome = Outcome::default();
    if let Ok(answer) = answer {
        outcome.head = Some((answer.status().as_u16(), fields(answer.headers())));
        collect(answer, &mut outcome).await;
    }
    connection.abort();
    outcome
}

async fn collect(answer: Response<Incoming>, outcome: &mut Outcome) {
    let mut body = answer.into_body();
    loop {
        match body.frame().await {
            None => {
                outcome.whole = true;
                return;
            }
            Some(Err(_)) => return,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => outcome.body.extend_from_slice(&data),
                Err(frame) => outcome.trailers = frame.trailers_ref().map(fields).unwrap_or_default(),
            },
        }
    }
}

/// Sorted by name, but the length: of several that are the same we make one.
fn fields(headers: &HeaderMap) -> Fields {
    let all = headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let mut all: Vec<_> = all.filter(|(name, _)| name != "content-length").collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}
