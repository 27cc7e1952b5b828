//! DNS over streams: so many at once, none for long, and no client that keeps others waiting.

use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use netproxy::Proxy;
use netproxy::limits::{DNS_QUERIES_MAX, DNS_STREAM_IDLE, DNS_STREAMS_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::client::is_at_end;
use crate::hooks::Records;
use crate::world::as_json;

/// A client whose stream holds so many bytes each way, and what serves it.
fn open(proxy: &Proxy, room: usize) -> (DuplexStream, JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(room);
    let proxy = proxy.clone();
    (near, tokio::spawn(async move { proxy.serve_dns(far).await }))
}

/// Refuses every name, and says so.
fn proxy(records: &Records) -> Proxy {
    Proxy::builder().audit(records.clone()).build().unwrap()
}

fn framed_query() -> Vec<u8> {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii("a.example.").unwrap(), RecordType::A));
    let query = query.to_vec().unwrap();
    [&u16::try_from(query.len()).unwrap().to_be_bytes(), query.as_slice()].concat()
}

async fn ask(stream: &mut DuplexStream) {
    stream.write_all(&framed_query()).await.unwrap();
    let length = stream.read_u16().await.unwrap();
    stream.read_exact(&mut vec![0; usize::from(length)]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn so_many_streams_may_be_open_and_none_is_idle_for_long() {
    let records = Records::default();
    let proxy = proxy(&records);
    let started = Instant::now();
    let mut streams: Vec<_> = (0..DNS_STREAMS_MAX).map(|_| open(&proxy, 1024)).collect();
    ask(&mut streams[DNS_STREAMS_MAX - 1].0).await;
    let (mut above, _) = open(&proxy, 1024);
    assert!(is_at_end(&mut above).await);
    let last = as_json(records.0.lock().unwrap().last().unwrap());
    assert_eq!((&last["layer"], &last["error"]), (&"dns".into(), &"too_many_connections".into()), "{last}");

    let (gone, served) = streams.swap_remove(0);
    drop(gone);
    served.await.unwrap();
    let (mut next, _) = open(&proxy, 1024);
    ask(&mut next).await;
    assert_eq!(started.elapsed(), Duration::ZERO);

    for (mut stream, served) in streams {
        assert!(is_at_end(&mut stream).await);
        served.await.unwrap();
    }
    assert!(is_at_end(&mut next).await);
    let took = started.elapsed();
    assert!(took >= DNS_STREAM_IDLE && took < DNS_STREAM_IDLE * 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn clients_that_read_no_answer_keep_nobody_waiting_and_are_given_up() {
    let records = Records::default();
    let proxy = proxy(&records);
    let started = Instant::now();
    let mut stuck = Vec::new();
    for _ in 0..DNS_QUERIES_MAX {
        // No answer fits.
        let (mut near, served) = open(&proxy, 8);
        near.write_all(&framed_query()).await.unwrap();
        stuck.push((near, served));
    }
    while records.0.lock().unwrap().len() < DNS_QUERIES_MAX {
        tokio::task::yield_now().await;
    }
    let (mut another, _) = open(&proxy, 1024);
    let answered = timeout(DNS_STREAM_IDLE * 100, ask(&mut another)).await;
    assert!(answered.is_ok(), "a client waits for others to read");
    assert_eq!(started.elapsed(), Duration::ZERO);
    for (_near, served) in stuck {
        let given_up = timeout(DNS_STREAM_IDLE * 100, served).await;
        assert!(given_up.is_ok(), "a client that reads nothing is served for ever");
    }
    let took = started.elapsed();
    assert!(took >= DNS_STREAM_IDLE && took < DNS_STREAM_IDLE * 2, "{took:?}");
}
