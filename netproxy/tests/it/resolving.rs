//! The shipped resolver against a real DNS server on loopback.
#![cfg(feature = "hickory")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use netproxy::hooks::{Resolve, ResolveError, StaticResolve};
use netproxy::{Host, HostName, SystemResolve};
use tokio::net::UdpSocket;

/// Knows `two.example` (A and AAAA) and `v4.example` (A); counts queries.
async fn server() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let queries = Arc::clone(&count);
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            queries.fetch_add(1, Ordering::SeqCst);
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
            let asked = query.queries[0].clone();
            let data = match (asked.name().to_ascii().as_str(), asked.query_type()) {
                ("two.example.", RecordType::AAAA) => Some(RData::AAAA("2001:db8::1".parse().unwrap())),
                ("two.example." | "v4.example.", RecordType::A) => {
                    Some(RData::A("192.0.2.1".parse().unwrap()))
                }
                ("v4.example.", _) => None,
                _ => {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                    None
                }
            };
            if let Some(data) = data {
                answer.add_answer(Record::from_rdata(asked.name().clone(), 60, data));
            }
            answer.add_query(asked);
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    (address, count)
}

fn name(text: &str) -> HostName {
    match Host::parse(text) {
        Ok(Host::Name(name)) => name,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn all_addresses_of_a_name_are_found_and_a_missing_name_is_told_apart() {
    let (address, _) = server().await;
    let resolver = SystemResolve::with_servers(&[address]).unwrap();
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut two = resolver.resolve(&name("two.example")).await.unwrap();
    two.sort();
    assert_eq!(two, [ip("192.0.2.1"), ip("2001:db8::1")]);
    assert_eq!(resolver.resolve(&name("v4.example")).await, Ok(vec![ip("192.0.2.1")]));
    assert_eq!(resolver.resolve(&name("gone.example")).await, Err(ResolveError::NotFound));
}

#[tokio::test]
async fn fixed_answers_come_first_and_are_asked_of_nobody() {
    let (address, count) = server().await;
    let fixed: IpAddr = "192.0.2.9".parse().unwrap();
    let resolver = StaticResolve::over(Arc::new(SystemResolve::with_servers(&[address]).unwrap()))
        .with(name("two.example"), fixed);
    assert_eq!(resolver.resolve(&name("two.example")).await, Ok(vec![fixed]));
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert!(resolver.resolve(&name("v4.example")).await.is_ok());
    assert!(count.load(Ordering::SeqCst) > 0);
}
