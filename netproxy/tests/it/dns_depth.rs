//! DNS as a way out: what a sandbox can tell the world by asking for names, and addresses that stand for names.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use netproxy::hooks::*;
use netproxy::limits::*;
use netproxy::{HostName, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

use crate::client::*;
use crate::doors::{DoorRules, Way, serve_socks, socks_request_bytes, world_with};
use crate::hooks::{Records, Rules};

/// Any name below `wild.example` by a wildcard, `ok.example` and `many.example` by their own names.
struct Wild;

impl Authorize for Wild {
    fn connect(&self, _: &ConnectFacts<'_>) -> Verdict {
        Deny::unmatched("only DNS is tested here").into()
    }
    fn request(&self, _: &RequestFacts<'_>) -> Verdict {
        Deny::unmatched("only DNS is tested here").into()
    }
    fn dns_name(&self, name: &HostName) -> Verdict {
        match name.as_str() {
            "ok.example" | "many.example" => Allow::by("own").into(),
            below if below.ends_with(".wild.example") => Allow::by("wild").with_wildcard(true).into(),
            _ => Deny::unmatched("no rule allows this name").into(),
        }
    }
}

/// Answers every name, once a permit is there, and remembers what it was asked. A long name has IPv6 addresses.
#[derive(Clone)]
struct Watching {
    asked: Arc<Mutex<Vec<String>>>,
    permits: Arc<Semaphore>,
    at_once: Arc<AtomicUsize>,
}

impl Watching {
    fn free() -> Self {
        Self { asked: Arc::default(), permits: Arc::new(Semaphore::new(1 << 20)), at_once: Arc::default() }
    }
}

impl Resolve for Watching {
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(name.to_string());
            self.at_once.fetch_add(1, Ordering::SeqCst);
            self.permits.acquire().await.unwrap().forget();
            let v4 = |n: u8| IpAddr::from([93, 184, 215, 10 + n]);
            let v6 = |n: u8| IpAddr::from([0x2606, 0x2800, 0, 0, 0, 0, 0, u16::from(n)]);
            Ok(match name.as_str() {
                "many.example" => (0..40).map(v4).collect(),
                long if long.len() > 80 => (0..40).map(v6).collect(),
                _ => vec![v4(0)],
            })
        })
    }
}

fn proxy(resolve: Watching, records: &Records) -> Proxy {
    Proxy::builder().authorize(Wild).resolve(resolve).audit(records.clone()).build().unwrap()
}

fn query(name: &str, kind: RecordType, edns: bool) -> Vec<u8> {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        query.set_edns(edns);
    }
    query.to_vec().unwrap()
}

async fn ask_bytes(proxy: &Proxy, name: &str) -> Message {
    Message::from_vec(&proxy.answer_dns(&query(name, RecordType::A, true)).await.unwrap()).unwrap()
}

/// A client and a proxy's UDP socket.
async fn udp(proxy: &Proxy) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let proxy = proxy.clone();
    tokio::spawn(async move { proxy.serve_dns_udp(socket).await });
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(address).await.unwrap();
    (client, address)
}

async fn receive(client: &UdpSocket) -> Message {
    let mut buffer = [0; 4096];
    let length = client.recv(&mut buffer).await.unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

#[tokio::test]
async fn over_udp_the_same_is_answered() {
    let (resolve, records) = (Watching::free(), Records::default());
    let (client, _) = udp(&proxy(resolve.clone(), &records)).await;
    use ResponseCode::{NXDomain, NoError};
    for (name, kind, code, answers) in [
        ("ok.example.", RecordType::A, NoError, 1),
        ("ok.example.", RecordType::AAAA, NoError, 0),
        ("ok.example.", RecordType::HTTPS, NoError, 0),
        ("ok.example.", RecordType::TXT, NoError, 0),
        ("ok.example.", RecordType::NULL, NoError, 0),
        ("ok.example.", RecordType::ANY, NoError, 0),
        ("denied.example.", RecordType::A, NXDomain, 0),
        ("denied.example.", RecordType::TXT, NXDomain, 0),
    ] {
        client.send(&query(name, kind, true)).await.unwrap();
        let answer = receive(&client).await;
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (code, answers), "{name} {kind}");
    }
    // One resolution: A and AAAA share it, the rest asks nobody.
    assert_eq!(*resolve.asked.lock().unwrap(), ["ok.example"]);
    // What is no query, or too long for one, is not answered, and does not stop the socket.
    client.send(b"nonsense").await.unwrap();
    client.send(&vec![0; DNS_QUERY_BYTES_MAX + 1]).await.unwrap();
    client.send(&query("ok.example.", RecordType::A, true)).await.unwrap();
    assert_eq!(receive(&client).await.answers.len(), 1);
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_is_given_over_tcp() {
    let proxy = proxy(Watching::free(), &Records::default());
    let (client, _) = udp(&proxy).await;
    let many = "many.example.".to_owned();
    let long = format!("{}.wild.example.", ["abcdefg"; 10].join("."));
    for (name, kind, edns, truncated, answers) in [
        (&many, RecordType::A, true, false, ADDRESSES_MAX),
        // 16 addresses and a short name fit into 512 bytes; of IPv6 with a long one they do not.
        (&many, RecordType::A, false, false, ADDRESSES_MAX),
        (&long, RecordType::AAAA, true, false, ADDRESSES_MAX),
        (&long, RecordType::AAAA, false, true, 0),
    ] {
        client.send(&query(name, kind, edns)).await.unwrap();
        let answer = receive(&client).await;
        assert_eq!((answer.metadata.truncation, answer.answers.len()), (truncated, answers), "{name} {edns}");
    }
    // Over a stream there is room for it.
    let (mut near, far) = tokio::io::duplex(4096);
    let served = proxy.clone();
    tokio::spawn(async move { served.serve_dns(far).await });
    let asked = query(&long, RecordType::AAAA, false);
    near.write_u16(u16::try_from(asked.len()).unwrap()).await.unwrap();
    near.write_all(&asked).await.unwrap();
    let mut answer = vec![0; usize::from(near.read_u16().await.unwrap())];
    assert!(answer.len() > usize::from(DNS_UDP_BYTES_MAX));
    near.read_exact(&mut answer).await.unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!((answer.metadata.truncation, answer.answers.len()), (false, ADDRESSES_MAX));
    let parsed = netproxy::dns::Query::parse(&query("many.example.", RecordType::A, false)).unwrap();
    assert_eq!(parsed.udp_bytes_max(), 512);
    let truncated = Message::from_vec(&parsed.truncated().unwrap()).unwrap();
    assert!(truncated.metadata.truncation && truncated.answers.is_empty());
}

#[tokio::test]
async fn a_query_is_read_however_its_frame_is_cut() {
    let proxy = proxy(Watching::free(), &Records::default());
    let one = query("ok.example.", RecordType::A, true);
    let framed = [&u16::try_from(one.len()).unwrap().to_be_bytes()[..], &one].concat();
    let both = [framed.as_slice(), &framed].concat();
    for size in [1, 2, 3, 7, framed.len() - 1, framed.len() + 1, both.len()] {
        // A pipe as small as the pieces: each is read by itself.
        let (mut near, far) = tokio::io::duplex(size);
        let proxy = proxy.clone();
        let served = tokio::spawn(async move { proxy.serve_dns(far).await });
        let (mut reader, mut writer) = tokio::io::split(&mut near);
        let write = async { writer.write_all(&both).await.unwrap() };
        let read = async {
            for _ in 0..2 {
                let length = reader.read_u16().await.unwrap();
                let mut answer = vec![0; usize::from(length)];
                reader.read_exact(&mut answer).await.unwrap();
                assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1);
            }
        };
        tokio::join!(write, read);
        drop(near);
        served.await.unwrap();
    }
}

#[tokio::test]
async fn a_frame_longer_than_a_query_ends_the_stream() {
    let proxy = proxy(Watching::free(), &Records::default());
    for (length, is_read) in [(DNS_QUERY_BYTES_MAX, true), (DNS_QUERY_BYTES_MAX + 1, false)] {
        let (mut near, far) = tokio::io::duplex(4096);
        near.write_u16(u16::try_from(length).unwrap()).await.unwrap();
        let mut padded = query("ok.example.", RecordType::A, false);
        padded.resize(length, 0);
        near.write_all(&padded).await.unwrap();
        near.shutdown().await.unwrap();
        proxy.serve_dns(far).await;
        assert_eq!(!is_at_end(&mut near).await, is_read, "{length}");
    }
}

#[tokio::test]
async fn data_in_labels_below_a_wildcard_does_not_get_out() {
    let (resolve, records) = (Watching::free(), Records::default());
    let proxy = proxy(resolve.clone(), &records);
    let long_label = "a".repeat(DNS_WILDCARD_LABEL_BYTES_MAX + 1);
    for label in [
        long_label.as_str(),
        // Base 32.
        "mzxw6ytboi4dk3thqr2vpjn5wlxes7c3gabfouyd",
        &["abcdefgh"; 10].join("."),
    ] {
        let answer = ask_bytes(&proxy, &format!("{label}.wild.example.")).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{label}");
    }
    assert!(resolve.asked.lock().unwrap().is_empty());
    let records = records.0.lock().unwrap();
    assert!(records.iter().all(|record| record.rule.as_deref() == Some("wild") && record.error.is_some()));
    assert_eq!(records.len(), 3);
}

#[tokio::test]
async fn a_wildcard_carries_only_so_many_names_a_minute() {
    let (resolve, records) = (Watching::free(), Records::default());
    let proxy = proxy(resolve.clone(), &records);
    // 64 KiB in pieces of 16 bytes, as hexadecimal labels: what each stays below is the limit on labels.
    let piece = |n: u64| format!("{:016x}{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n);
    let mut answered = 0;
    for n in 0..4096u64 {
        let answer = ask_bytes(&proxy, &format!("{}.wild.example.", piece(n))).await;
        answered += usize::from(answer.metadata.response_code == ResponseCode::NoError);
    }
    let budget = usize::try_from(Limits::default().dns_new_names_per_minute).unwrap();
    // The clock runs meanwhile: a few more than the budget, when the machine is slow.
    assert!((budget..budget * 2).contains(&answered), "{answered}");
    assert_eq!(resolve.asked.lock().unwrap().len(), answered);
    let carried: usize = resolve.asked.lock().unwrap().iter().map(|name| name.len()).sum();
    assert!(carried <= answered * DNS_WILDCARD_NAME_BYTES_MAX);
    // A name that was asked for before, and names of their own, still work.
    for name in [format!("{}.wild.example.", piece(0)), "ok.example.".to_owned()] {
        assert_eq!(ask_bytes(&proxy, &name).await.metadata.response_code, ResponseCode::NoError);
    }
}

#[tokio::test]
async fn only_so_many_queries_are_under_way_at_once() {
    let mut resolve = Watching::free();
    resolve.permits = Arc::new(Semaphore::new(0));
    let mut limits = Limits::default();
    limits.dns_new_names_per_minute = 1000;
    let proxy = Proxy::builder().authorize(Wild).resolve(resolve.clone()).limits(limits).build().unwrap();
    let (client, _) = udp(&proxy).await;
    for n in 0..DNS_QUERIES_MAX + 10 {
        client.send(&query(&format!("h{n}.wild.example."), RecordType::A, true)).await.unwrap();
    }
    while resolve.at_once.load(Ordering::SeqCst) < DNS_QUERIES_MAX {
        tokio::task::yield_now().await;
    }
    // All slots are taken: the others wait until one is free.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(resolve.at_once.load(Ordering::SeqCst), DNS_QUERIES_MAX);
    resolve.permits.add_permits(DNS_QUERIES_MAX + 10);
    for _ in 0..DNS_QUERIES_MAX + 10 {
        assert_eq!(receive(&client).await.answers.len(), 1);
    }
}

#[tokio::test]
async fn a_synthetic_address_stands_for_its_name_at_every_door() {
    // The resolver panics if a DNS query makes it resolve an unknown name; a connection resolves ok.example.
    let world = world_with(|builder| builder.synthetic_dns(true)).await;
    let ask_for = |name: &'static str, kind| {
        let proxy = world.proxy.clone();
        async move { Message::from_vec(&proxy.answer_dns(&query(name, kind, true)).await.unwrap()).unwrap() }
    };
    let answer = ask_for("private.example.", RecordType::A).await;
    assert_eq!(answer.answers[0].data.to_string(), "198.18.0.1", "not resolved, so not judged either");
    let answer = ask_for("OK.example.", RecordType::A).await;
    assert_eq!(answer.answers[0].data.to_string(), "198.18.0.2");
    let answer = ask_for("ok.example.", RecordType::AAAA).await;
    assert_eq!(answer.answers[0].data.to_string(), "fd73:616e:6462:6f78::2");
    let denied = ask_for("denied.example.", RecordType::A).await;
    assert_eq!((denied.metadata.response_code, denied.answers.len()), (ResponseCode::NXDomain, 0));
    let named = world.proxy.name_of("198.18.0.2".parse().unwrap()).unwrap();
    assert_eq!(named.as_str(), "ok.example");
    assert_eq!(world.proxy.name_of("198.18.0.3".parse().unwrap()), None);

    let target = world.at("ok.example");
    let port = world.tls.address.port();
    for (way, address) in [
        (Way::Connect, "198.18.0.2"),
        (Way::Transparent, "198.18.0.2"),
        (Way::Transparent, "[fd73:616e:6462:6f78::2]"),
        (Way::Socks, "198.18.0.2"),
    ] {
        let stream = way.open(&world, &format!("{address}:{port}")).await;
        let mut tls = tls(&world, stream, "ok.example").await;
        let answer = ask(&mut tls, &format!("GET / HTTP/1.1\r\nHost: {target}\r\n\r\n")).await;
        assert_eq!(answer.text(), "hello", "{way:?}");
    }
    // Another name under that address is refused, and an address that was never given out stands for nothing.
    let stream = Way::Transparent.open(&world, &format!("198.18.0.2:{port}")).await;
    let mut tls = tls(&world, stream, "opaque.example").await;
    assert_eq!(ask(&mut tls, "GET / HTTP/1.1\r\nHost: opaque.example\r\n\r\n").await.status, 421);
    let mut stream = serve_socks(&world.proxy);
    let reply = crate::doors::socks_reply(&mut stream, &socks_request_bytes(b"198.18.7.7", 443)).await;
    assert_eq!(reply, 4);
    let mut stream = world.connect();
    stream.write_all(b"TCP1 198.18.7.7:443\n").await.unwrap();
    let line = String::from_utf8(read_until(&mut stream, b"\n").await).unwrap();
    assert!(line.starts_with("TCP1 NO address_prohibited "), "{line}");
}

#[tokio::test]
async fn without_synthetic_names_that_range_is_special_as_ever() {
    let world = world_with(|builder| builder.authorize(DoorRules(Rules { ports: vec![443] }))).await;
    assert_eq!(world.proxy.name_of("198.18.0.1".parse().unwrap()), None);
    let mut stream = serve_socks(&world.proxy);
    assert_eq!(
        crate::doors::socks_reply(&mut stream, &socks_request_bytes(b"198.18.0.1", 22)).await,
        2,
        "no rule allows it"
    );
}
