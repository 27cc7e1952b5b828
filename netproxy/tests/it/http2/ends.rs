//! Where an answer ends on the wire.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::tls;
use super::frames::*;
use super::{HTTP1, upstream};
use crate::hooks::{Rules, SECRET, Scrubber};
use crate::world::{NAMES, World};

/// With its last bytes, and what the search held back of them: a client takes two frames for it, not three.
#[tokio::test]
async fn a_searched_answer_ends_with_its_last_bytes() {
    // The last bytes begin like the secret.
    let body = format!("hello {}", &SECRET[..4]);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let tls_upstream = upstream::listen(NAMES, &[HTTP1], move |mut stream, _| {
        let answer = answer.clone();
        async move {
            let mut asked = [0; 1024];
            while stream.read(&mut asked).await.is_ok_and(|count| count > 0) {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let rules = |ports| Rules { ports };
    let world =
        World::build_over(tls_upstream, |names| names, rules, |builder| builder.redact(Scrubber)).await;
    let target = world.at("ok.example");
    let mut client = tls(&world, &target).await;
    let head = [(":method", "GET"), (":scheme", "https"), (":authority", &target), (":path", "/")];
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&head));
    client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &request].concat()).await.unwrap();
    client.flush().await.unwrap();
    let mut answer = Vec::new();
    while answer.last().is_none_or(|frame: &Frame| frame.flags & END_STREAM == 0) {
        let frame = read_frame(&mut client).await.expect("the connection ended before the answer");
        if frame.stream == 1 {
            answer.push(frame);
        }
    }
    let kinds: Vec<u8> = answer.iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [HEADERS, DATA]);
    assert_eq!(answer[1].payload, body.as_bytes());
}
