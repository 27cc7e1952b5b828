//! The other ways into `inject-proxy`: SOCKS5, DNS and the metrics on addresses of their own; and none of them is a way
//! back into the proxy.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::check::{HELLO, three_calls_in};
use crate::tools::{find, need};
use crate::world::{ALLOWED, DENIED, KEYED, More, OTHER, World, shown};

const DOORS: [&str; 6] = ["--socks", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
/// How long a datagram may take on a busy machine.
const WITHIN: Duration = Duration::from_secs(20);

#[test]
fn curl_by_the_door_of_socks() {
    let Some(_) = need("curl_by_the_door…", "curl", find("curl")) else { return };
    three_calls_in(World::with(&["--socks", "127.0.0.1:0"]), "(2)", |world, call| {
        let mut curl = world.client("curl".as_ref());
        curl.args(["-sS", "--fail-with-body", "--socks5-hostname", &world.door("socks").to_string()]);
        let header = call.authorization.iter().map(|value| format!("Authorization: {value}"));
        curl.args(header.flat_map(|header| ["-H".to_owned(), header])).arg(&call.url);
        curl
    });
}

#[test]
fn the_door_of_socks_speaks_nothing_else() {
    let Some(_) = need("the_door_of_socks…", "curl", find("curl")) else { return };
    let mut world = World::with(&DOORS);
    let mut curl = world.client("curl".as_ref());
    curl.args(["-sS", "--proxy", &format!("http://{}", world.door("socks")), &world.url(ALLOWED, "/hello")]);
    let output = curl.output().unwrap();
    assert!(!output.status.success(), "{}", shown(&output));
    assert!(world.stop().requests(ALLOWED).is_empty());
}

#[test]
fn dns_answers_allowed_names_over_udp_and_tcp() {
    let mut world = World::with(&DOORS);
    let dns = world.door("dns");
    for ask in [over_udp, over_tcp] {
        assert_eq!(ask(dns, ALLOWED), Ok(Ipv4Addr::LOCALHOST));
        // No such name.
        assert_eq!(ask(dns, DENIED), Err(3));
    }
    let log = world.stop();
    let denials = log.denials(DENIED);
    assert!(denials.len() == 2 && denials.iter().all(|line| line["layer"] == "dns"), "{denials:?}");
}

/// The answer stands for the name, and whoever connects to it by SOCKS5 reaches the host of that name.
#[test]
fn a_synthetic_answer_leads_to_its_name() {
    let Some(_) = need("a_synthetic_answer…", "curl", find("curl")) else { return };
    let mut world = World::with(&["--dns", "127.0.0.1:0", "--synthetic-dns"]);
    let dns = world.door("dns");
    let answers = [ALLOWED, KEYED].map(|host| over_udp(dns, host).unwrap());
    assert_ne!(answers[0], answers[1]);
    assert_eq!(over_udp(dns, DENIED), Err(3));
    for (host, address) in [ALLOWED, KEYED].iter().zip(answers) {
        assert!(address.octets()[0] == 198 && address.octets()[1] & 0xfe == 18, "{host} is {address}");
        let place = format!("{host}:{}:{address}", world.upstream.port);
        let mut curl = world.client("curl".as_ref());
        curl.args(["-sS", "--socks5", world.place(), "--resolve", &place, &world.url(host, "/hello")]);
        let output = curl.output().unwrap();
        assert!(shown(&output).contains(HELLO), "{}", shown(&output));
        assert_eq!(world.seen(host).len(), 1);
    }
    assert_eq!(world.stop().requests(KEYED).len(), 1);
}

#[test]
fn metrics_are_answered_and_count() {
    let Some(_) = need("metrics_are_answered…", "curl", find("curl")) else { return };
    let world = World::with(&DOORS);
    let get = |url: &str, options: &[&str]| {
        let output = world.client("curl".as_ref()).args(["-sS", url]).args(options).output().unwrap();
        shown(&output)
    };
    get(&world.url(ALLOWED, "/hello"), &[]);
    get(&world.url(DENIED, "/hello"), &[]);
    let at = format!("http://{}", world.door("metrics"));
    let text = get(&format!("{at}/metrics"), &["--noproxy", "*", "-w", "%{http_code} %{content_type}"]);
    assert!(text.ends_with("200 text/plain; version=0.0.4"), "{text}");
    for line in ["agent_sandbox_proxy_client_connections 0", "agent_sandbox_audit_lines_lost_total 0"] {
        assert!(text.lines().any(|other| other == line), "{line}: {text}");
    }
    let refused = |line: &str| line.starts_with("agent_sandbox_proxy_") && line.contains("blocked_by_policy");
    assert!(text.lines().any(|line| refused(line) && line.ends_with(" 1")), "{text}");
    let text = get(&format!("{at}/"), &["--noproxy", "*", "-w", "%{http_code}"]);
    assert_eq!(text, "404");
}

/// Whatever a rule allows: a guest that came round to the metrics would read them, and one that came round to the
/// proxy could make it call itself.
#[test]
fn no_door_is_an_upstream() {
    let Some(_) = need("no_door_is_an_upstream", "curl", find("curl")) else { return };
    let file = format!(
        "version = 1\n[[allow]]\nhost = \"{OTHER}\"\ncidr = \"127.0.0.1/32\"\nscheme = [\"http\", \"https\"]\n\
         ports = \"any\"\n"
    );
    let options = [&DOORS[..], &["--policy", "{file}"]].concat();
    let mut world = World::with_more(&More { options: &options, file: &file, ..More::default() });
    let get = |port: u16| {
        let mut curl = world.client("curl".as_ref());
        shown(&curl.args(["-sS", &format!("http://{OTHER}:{port}/hello")]).output().unwrap())
    };
    // The rule does allow any port.
    assert_eq!(get(world.upstream.plain_port), HELLO);
    let main: SocketAddr = world.place().parse().unwrap();
    let own =
        [main.port(), world.door("socks").port(), world.door("dns").port(), world.door("metrics").port()];
    for port in own {
        let text = get(port);
        assert!(text.contains("\"error\":\"address_prohibited\""), "{port}: {text}");
    }
    let log = world.stop();
    let refused: Vec<_> = log.denials(OTHER).iter().map(|line| line["port"].as_u64().unwrap()).collect();
    assert_eq!(refused, own.map(u64::from));
    let is_told = |reason: &str| reason.contains("is a listener of the proxy itself");
    assert!(
        log.denials(OTHER).iter().all(|line| is_told(line["reason"].as_str().unwrap())),
        "{:?}",
        log.lines
    );
}

/// The first address of the name, or the code of the refusal (RFC 1035 §4.1).
fn answer(query: &[u8], answer: &[u8]) -> Result<Ipv4Addr, u8> {
    assert_eq!(answer[..2], query[..2], "another query's answer");
    match answer[3] & 15 {
        0 => {}
        code => return Err(code),
    }
    assert_eq!(answer[6..8], [0, 1], "answers");
    // The question again, then: a pointer to its name, A, IN, the time to live, four bytes.
    let record = &answer[query.len()..];
    assert_eq!((&record[..6], &record[10..12]), (&[0xc0, 12, 0, 1, 0, 1][..], &[0, 4][..]));
    Ok(Ipv4Addr::new(record[12], record[13], record[14], record[15]))
}

fn query(name: &str) -> Vec<u8> {
    let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend(label.bytes());
    }
    query.extend(b"\0\0\x01\0\x01");
    query
}

fn over_udp(server: SocketAddr, name: &str) -> Result<Ipv4Addr, u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(WITHIN)).unwrap();
    let query = query(name);
    socket.send_to(&query, server).unwrap();
    let mut buffer = [0; 512];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, server);
    answer(&query, &buffer[..length])
}

fn over_tcp(server: SocketAddr, name: &str) -> Result<Ipv4Addr, u8> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    let query = query(name);
    stream.write_all(&u16::try_from(query.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&query).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).unwrap();
    answer(&query, &bytes)
}
