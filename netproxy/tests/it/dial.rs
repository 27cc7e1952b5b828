//! From a name to a connection, against real sockets: a DNS server that changes its answers, addresses of which
//! only some accept.
#![cfg(feature = "hickory")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record, RecordType};
use netproxy::{Proxy, SystemResolve};
use tokio::net::UdpSocket;

use crate::client::*;
use crate::hooks::{Any, Names};
use crate::upstream;

type Counts = Arc<Mutex<HashMap<String, usize>>>;

/// Answers the n-th query for the addresses of a name with the n-th of `turns`, for ever with the last; no TTL.
async fn changing_server(turns: &'static [&'static [&'static str]]) -> (SocketAddr, Counts) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let counts = Counts::default();
    let counting = Arc::clone(&counts);
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
            let asked = query.queries[0].clone();
            if asked.query_type() == RecordType::A {
                let turn = {
                    let mut counts = counting.lock().unwrap();
                    let count = counts.entry(asked.name().to_ascii()).or_insert(0);
                    *count += 1;
                    (*count - 1).min(turns.len() - 1)
                };
                for ip in turns[turn] {
                    let data = RData::A(ip.parse().unwrap());
                    answer.add_answer(Record::from_rdata(asked.name().clone(), 0, data));
                }
            }
            answer.add_query(asked);
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    (address, counts)
}

async fn get(proxy: &Proxy, place: &str) -> Answer {
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let proxy = proxy.clone();
    tokio::spawn(async move { proxy.serve(far).await });
    ask(&mut near, &format!("GET http://{place}/ HTTP/1.1\r\nHost: {place}\r\n\r\n")).await
}

#[tokio::test]
async fn a_dns_server_that_changes_its_answers_changes_nothing_between_check_and_dial() {
    let plain = upstream::start(&["plain.example"], false).await;
    let port = plain.address.port();
    const CASES: [(&[&[&str]], u16); 3] = [
        // Good when judged, bad for whoever would ask again.
        (&[&["127.0.0.1"], &["169.254.169.254"]], 200),
        // Bad when judged: refused, and not asked for again until it is good.
        (&[&["169.254.169.254"], &["127.0.0.1"]], 403),
        (&[&["127.0.0.1", "10.0.0.1"], &["127.0.0.1"]], 403),
    ];
    for (turns, status) in CASES {
        let (server, counts) = changing_server(turns).await;
        let resolve = SystemResolve::with_servers(&[server]).unwrap();
        let proxy = Proxy::builder().authorize(Any).resolve(resolve).build().unwrap();
        for n in 0..5 {
            let answer = get(&proxy, &format!("h{n}.rebind.example:{port}")).await;
            assert_eq!(answer.status, status, "{answer:?}");
        }
        let counts = counts.lock().unwrap();
        assert_eq!(counts.len(), 5);
        assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    }
    assert_eq!(plain.seen.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn an_address_that_refuses_does_not_hide_the_one_that_accepts() {
    let plain = upstream::start(&["plain.example"], false).await;
    let port = plain.address.port();
    // Nobody listens on these at this port.
    let names = Names::default().with("some.example", &[&["127.0.0.3", "::1", "127.0.0.1", "127.0.0.2"]]);
    let proxy = Proxy::builder().authorize(Any).resolve(names).build().unwrap();
    assert_eq!(get(&proxy, &format!("some.example:{port}")).await.text(), "hello");
}
