//! The doors of the table, and how a client knocks at each: what it is told, in whatever language.

use bytes::Bytes;
use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

use super::table::Cell;
use crate::client::{self, Answer, is_at_end, read_answer, tls, tls_offering};
use crate::doors::socks_request_bytes;
use crate::http2::client as h2;
use crate::world::World;

/// Where a client comes in, and what it speaks then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// HTTP/1.1, a URL to the proxy.
    Forward,
    /// HTTP/1.1 in TLS in CONNECT.
    Http1,
    /// HTTP/2 in TLS in CONNECT.
    Http2,
    /// Raw bytes in CONNECT, to a port that is none of the web's.
    ConnectRaw,
    /// HTTP/1.1 in TLS in SOCKS5.
    SocksTls,
    /// Raw bytes in SOCKS5.
    SocksRaw,
    /// HTTP/1.1 in TLS in a transparent connection.
    TransparentTls,
    /// Raw bytes in a transparent connection.
    TransparentRaw,
    /// A query for A.
    Dns,
}

pub const ALL: [Door; 9] = [
    Door::Forward,
    Door::Http1,
    Door::Http2,
    Door::ConnectRaw,
    Door::SocksTls,
    Door::SocksRaw,
    Door::TransparentTls,
    Door::TransparentRaw,
    Door::Dns,
];

/// What a client asks for. Where a field has no place at a door, it is not read.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub host: &'static str,
    /// 0: the upstream's.
    pub port: u16,
    pub path: &'static str,
    /// Another name in Host or `:authority`.
    pub names: Option<&'static str>,
    /// Another server name in the TLS handshake.
    pub server_name: Option<&'static str>,
    pub body: &'static str,
    pub rest: Rest,
    /// So many more fields in the head.
    pub fields: usize,
    /// Not what the language allows.
    pub malformed: bool,
}

impl Ask {
    pub const DEFAULT: Self = Self {
        host: "ok.example",
        port: 0,
        path: "/",
        names: None,
        server_name: None,
        body: "",
        rest: Rest::None,
        fields: 0,
        malformed: false,
    };

    /// As the head says.
    fn length(&self) -> usize {
        self.body.len() + usize::from(self.rest != Rest::None)
    }

    fn more_fields(&self) -> String {
        (0..self.fields).map(|n| format!("X-{n}: 1\r\n")).collect()
    }
}

/// What of a body is announced, and does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    None,
    /// The client waits.
    Missing,
    /// The client ends what it sends.
    Ended,
}

/// The language of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// A response with problem+json.
    Http,
    /// The reply of a SOCKS5 request, or the choice of a method.
    Socks(u8),
    /// `TCP1 NO` with the code.
    Line,
    /// Let in, and closed without a byte.
    Closed,
    /// A response code, and an extended error if there is one.
    Dns(u16, Option<u16>),
    /// It cannot happen at this door.
    NotHere,
}

#[derive(Debug)]
pub struct Seen {
    pub said: Said,
    pub status: u16,
    pub code: String,
    pub proxy_error: String,
    pub should_retry: Option<String>,
    pub decision_id: Option<String>,
}

impl Seen {
    fn only(said: Said) -> Self {
        let (code, proxy_error) = (String::new(), String::new());
        Self { said, status: 0, code, proxy_error, should_retry: None, decision_id: None }
    }

    fn http(status: u16, json: &serde_json::Value, header: impl Fn(&str) -> Option<String>) -> Self {
        let proxy_status = header("proxy-status").expect("Proxy-Status");
        let error = proxy_status.strip_prefix("agent-sandbox; error=").expect("our member, alone");
        assert_eq!(header("content-type").as_deref(), Some("application/problem+json"));
        // What is refused now may be allowed by the next policy.
        assert_eq!(header("cache-control").as_deref(), Some("no-store"));
        assert_eq!(json["status"], status);
        assert_eq!(json["retryable"], header("x-should-retry").is_none());
        Self {
            said: Said::Http,
            status,
            code: json["error"].as_str().unwrap().to_owned(),
            proxy_error: error.split(';').next().unwrap().to_owned(),
            should_retry: header("x-should-retry"),
            decision_id: json["decision_id"].as_str().map(str::to_owned),
        }
    }

    fn http1(answer: &Answer) -> Self {
        Self::http(answer.status, &answer.json(), |name| answer.header(name))
    }
}

pub async fn knock(world: &World, cell: &Cell<'_>) -> Seen {
    let ask = &cell.ask;
    match cell.door {
        Door::Forward => forward(world, ask).await,
        Door::Http1 | Door::Http2 => match enter_by_connect(world, ask, cell.door).await {
            Ok(stream) if cell.door == Door::Http1 => inside(world, stream, ask).await,
            Ok(stream) => inside_http2(world, stream, ask).await,
            Err(seen) => seen,
        },
        Door::ConnectRaw => match enter_by_connect(world, ask, cell.door).await {
            Ok(mut stream) => {
                let answer = client::ask(&mut stream, "SSH-2.0-x y\r\n").await;
                assert!(is_at_end(&mut stream).await);
                Seen::http1(&answer)
            }
            Err(seen) => seen,
        },
        Door::SocksTls | Door::SocksRaw => match enter_by_socks(world, ask, cell.door).await {
            Ok(stream) if cell.door == Door::SocksTls => inside(world, stream, ask).await,
            Ok(stream) => raw(stream).await,
            Err(reply) => Seen::only(Said::Socks(reply)),
        },
        Door::TransparentTls | Door::TransparentRaw => match enter_by_line(world, ask, cell.door).await {
            Ok(stream) if cell.door == Door::TransparentTls => inside(world, stream, ask).await,
            Ok(stream) => raw(stream).await,
            Err(seen) => seen,
        },
        Door::Dns => dns(world, ask).await,
    }
}

fn target(world: &World, ask: &Ask, door: Door) -> String {
    let upstream = if door == Door::Forward { &world.plain } else { &world.tls };
    let port = if ask.port == 0 { upstream.address.port() } else { ask.port };
    format!("{}:{port}", ask.host)
}

fn request(ask_for: &Ask, url: &str, target: &str) -> String {
    let host = ask_for.names.unwrap_or(target);
    let space = if ask_for.malformed { " " } else { "" };
    let length = ask_for.length();
    let method = if length > 0 { "POST" } else { "GET" };
    let framing = if length > 0 { format!("Content-Length: {length}\r\n") } else { String::new() };
    let fields = framing + &ask_for.more_fields();
    format!("{method} {url} HTTP/1.1\r\nHost{space}: {host}\r\n{fields}\r\n{}", ask_for.body)
}

/// Writes a request, and reads the only answer to it.
async fn say<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &str, rest: Rest) -> Seen {
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    if rest == Rest::Ended {
        stream.shutdown().await.unwrap();
    }
    let answer = read_answer(stream, request.split(' ').next().unwrap()).await;
    assert!(is_at_end(stream).await, "more than one answer");
    Seen::http1(&answer)
}

async fn forward(world: &World, ask_for: &Ask) -> Seen {
    let target = target(world, ask_for, Door::Forward);
    let mut stream = world.connect();
    let url = format!("http://{target}{}", ask_for.path);
    say(&mut stream, &request(ask_for, &url, &target), ask_for.rest).await
}

/// The answer to the `CONNECT` itself, where there is no way in.
async fn enter_by_connect(world: &World, ask: &Ask, door: Door) -> Result<DuplexStream, Seen> {
    let target = target(world, ask, door);
    let mut stream = world.connect();
    // Inside, it is the request that is wrong.
    let (space, host) = match door {
        Door::ConnectRaw => (if ask.malformed { " " } else { "" }, ask.names.unwrap_or(&target)),
        _ => ("", target.as_str()),
    };
    let fields = if door == Door::ConnectRaw { ask.more_fields() } else { String::new() };
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost{space}: {host}\r\n{fields}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream, "CONNECT").await;
    if answer.status == 200 { Ok(stream) } else { Err(Seen::http1(&answer)) }
}

async fn enter_by_socks(world: &World, ask: &Ask, door: Door) -> Result<DuplexStream, u8> {
    let target = target(world, ask, door);
    let (host, port) = target.rsplit_once(':').unwrap();
    let mut stream = world.connect();
    stream.write_all(&[5, 1, 0]).await.unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).await.unwrap();
    if method[1] != 0 {
        assert!(is_at_end(&mut stream).await);
        return Err(method[1]);
    }
    let host = if ask.malformed && door == Door::SocksRaw { "no\0host" } else { host };
    stream.write_all(&socks_request_bytes(host.as_bytes(), port.parse().unwrap())).await.unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await.unwrap();
    match reply[1] {
        0 => Ok(stream),
        refused => {
            assert!(is_at_end(&mut stream).await);
            Err(refused)
        }
    }
}

async fn enter_by_line(world: &World, ask: &Ask, door: Door) -> Result<DuplexStream, Seen> {
    let target = target(world, ask, door);
    let host = if ask.malformed && door == Door::TransparentRaw { "no host:1" } else { target.as_str() };
    let mut stream = world.connect();
    stream.write_all(format!("TCP1 {host}\n").as_bytes()).await.unwrap();
    let line = String::from_utf8(client::read_until(&mut stream, b"\n").await).unwrap();
    if line == "TCP1 OK\n" {
        return Ok(stream);
    }
    assert!(is_at_end(&mut stream).await);
    let (code, id) = line.trim_end().strip_prefix("TCP1 NO ").unwrap().split_once(' ').unwrap();
    let seen = Seen::only(Said::Line);
    Err(Seen { code: code.to_owned(), decision_id: Some(id.to_owned()), ..seen })
}

async fn inside(world: &World, stream: DuplexStream, ask_for: &Ask) -> Seen {
    let target = target(world, ask_for, Door::Http1);
    let mut tls = tls(world, stream, ask_for.server_name.unwrap_or(ask_for.host)).await;
    say(&mut tls, &request(ask_for, ask_for.path, &target), ask_for.rest).await
}

async fn inside_http2(world: &World, stream: DuplexStream, ask_for: &Ask) -> Seen {
    let target = target(world, ask_for, Door::Http2);
    let server_name = ask_for.server_name.unwrap_or(ask_for.host);
    let offer: (&str, &[&[u8]]) = (server_name, &[b"h2"]);
    let tls = tls_offering(world.proxy.ca_certificate_pem(), stream, offer).await.unwrap();
    let mut client = h2::over(tls).await;
    let authority = ask_for.names.unwrap_or(&target);
    let method = if ask_for.body.is_empty() { "GET" } else { "POST" };
    let mut request = h2::request(method, authority, ask_for.path);
    if ask_for.malformed {
        // What the library lets through, and our own measure does not.
        request = request.header("content_length", "1");
    }
    for n in 0..ask_for.fields {
        request = request.header(format!("x-{n}"), "1");
    }
    if !ask_for.body.is_empty() {
        request = request.header("content-length", ask_for.length());
    }
    let (sender, mut body) = h2::pieces();
    match ask_for.body {
        "" => body = h2::no_body(),
        bytes => sender.send(Frame::data(Bytes::from_static(bytes.as_bytes()))).unwrap(),
    }
    // The end of the body.
    let sender = (ask_for.rest != Rest::None).then_some(sender);
    let answer = h2::ask(&mut client, request.body(body).unwrap()).await;
    drop(sender);
    assert!(!answer.headers.contains_key("connection"), "malformed in HTTP/2");
    let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    Seen::http(answer.status, &answer.json(), header)
}

async fn raw(mut stream: DuplexStream) -> Seen {
    // It may be closed already.
    let _ = stream.write_all(b"SSH-2.0-x y\r\n").await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    Seen::only(Said::Closed)
}

async fn dns(world: &World, ask: &Ask) -> Seen {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(format!("{}.", ask.host)).unwrap(), RecordType::A));
    if ask.malformed {
        query.add_query(Query::query(Name::from_ascii("ok.example.").unwrap(), RecordType::A));
    }
    query.set_edns(Edns::new());
    let answer = world.proxy.answer_dns(&query.to_vec().unwrap()).await.unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert!(answer.answers.is_empty());
    assert_eq!(answer.metadata.id, query.metadata.id);
    let (mut error, mut decision_id) = (None, None);
    if let Some(EdnsOption::Unknown(_, data)) =
        answer.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Unknown(15)))
    {
        error = Some(u16::from_be_bytes([data[0], data[1]]));
        let text = String::from_utf8(data[2..].to_vec()).unwrap();
        decision_id = text.split_once("decision_id=").map(|(_, id)| id.to_owned());
    }
    let code = u16::from(answer.metadata.response_code);
    Seen { decision_id, ..Seen::only(Said::Dns(code, error)) }
}
