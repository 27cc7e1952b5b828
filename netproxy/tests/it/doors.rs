//! What the tests of SOCKS and transparent connections share: rules with a raw port, a server that speaks first,
//! and the three doors as one.

use std::net::SocketAddr;
use std::sync::Arc;

use netproxy::hooks::*;
use netproxy::{Authority, HostName, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;

use crate::client::{read_answer, read_until};
use crate::hooks::{Names, Rules};
use crate::world::World;

/// [`Rules`], and `plain.example` and `raw.example` for connections; raw bytes to `raw.example`.
pub struct DoorRules(pub Rules);

fn is_raw(authority: &Authority) -> bool {
    authority.host().to_string() == "raw.example"
}

impl Authorize for DoorRules {
    fn connect(&self, facts: &ConnectFacts<'_>) -> Verdict {
        let host = facts.authority.host().to_string();
        if is_raw(facts.authority)
            || (host == "plain.example" && self.0.ports.contains(&facts.authority.port()))
        {
            return Allow::by("door").into();
        }
        self.0.connect(facts)
    }
    fn request(&self, facts: &RequestFacts<'_>) -> Verdict {
        if is_raw(facts.authority) {
            return Deny::unmatched("raw.example speaks no HTTP").into();
        }
        self.0.request(facts)
    }
    fn tcp(&self, facts: &ConnectFacts<'_>) -> Verdict {
        if is_raw(facts.authority) {
            return Allow::by("raw").into();
        }
        let deny = Deny::by("no-raw", format!("{} is not for raw bytes", facts.authority));
        deny.of_generation(5).into()
    }
    fn dns_name(&self, name: &HostName) -> Verdict {
        self.0.dns_name(name)
    }
    fn address(&self, facts: &AddressFacts<'_>) -> bool {
        self.0.address(facts)
    }
}

/// A world under [`DoorRules`], and the ports that its rules name beside those of its upstreams.
pub async fn world() -> Arc<World> {
    world_with(|builder| builder).await
}

pub async fn world_with(more: impl FnOnce(netproxy::Builder) -> netproxy::Builder) -> Arc<World> {
    let names = |names: Names| names.with("raw.example", &[&["127.0.0.1"]]);
    World::build_ruled(names, |ports| DoorRules(Rules { ports }), more).await
}

/// A server that greets when `greets`, then gives back what it gets, upper case.
pub async fn raw_server(greets: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if greets {
                    stream.write_all(b"220 hello\r\n").await?;
                }
                let mut buffer = [0; 1024];
                loop {
                    let count = stream.read(&mut buffer).await?;
                    if count == 0 {
                        return stream.shutdown().await;
                    }
                    stream.write_all(&buffer[..count].to_ascii_uppercase()).await?;
                }
            });
        }
    });
    address
}

/// The ways in that end in the same passage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Way {
    Connect,
    Socks,
    Transparent,
}

pub const WAYS: [Way; 3] = [Way::Connect, Way::Socks, Way::Transparent];

impl Way {
    pub fn layer(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Socks => "socks",
            Self::Transparent => "transparent",
        }
    }

    /// A connection to `target` that was let in.
    pub async fn open(self, world: &World, target: &str) -> DuplexStream {
        let mut stream = world.connect();
        match self {
            Self::Connect => {
                let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                assert_eq!(read_answer(&mut stream, "CONNECT").await.status, 200);
            }
            Self::Socks => {
                assert_eq!(socks_reply(&mut stream, &socks_request(target)).await, 0, "{target}");
            }
            Self::Transparent => {
                stream.write_all(format!("TCP1 {target}\n").as_bytes()).await.unwrap();
                assert_eq!(read_until(&mut stream, b"\n").await, b"TCP1 OK\n", "{target}");
            }
        }
        stream
    }
}

/// `CONNECT` by name.
pub fn socks_request(target: &str) -> Vec<u8> {
    let (host, port) = target.rsplit_once(':').unwrap();
    socks_request_bytes(host.as_bytes(), port.parse().unwrap())
}

pub fn socks_request_bytes(host: &[u8], port: u16) -> Vec<u8> {
    let mut request = vec![5, 1, 0, 3, u8::try_from(host.len()).unwrap()];
    request.extend(host);
    request.extend(port.to_be_bytes());
    request
}

/// Greets without authentication, sends the request and gives the reply code.
pub async fn socks_reply(stream: &mut DuplexStream, request: &[u8]) -> u8 {
    stream.write_all(&[5, 1, 0]).await.unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).await.unwrap();
    assert_eq!(method, [5, 0]);
    stream.write_all(request).await.unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!((reply[0], &reply[2..]), (5, &[0, 1, 0, 0, 0, 0, 0, 0][..]));
    reply[1]
}

pub fn serve_socks(proxy: &Proxy) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let proxy = proxy.clone();
    tokio::spawn(async move { proxy.serve_socks(far).await });
    near
}

pub fn serve_transparent(proxy: &Proxy) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let proxy = proxy.clone();
    tokio::spawn(async move { proxy.serve_transparent(far).await });
    near
}
