//! The other ways in: SOCKS5 and DNS on addresses of their own, which lead to the same proxy and the same policy; and the
//! metrics, which lead nowhere.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use glue::audit::AuditFile;
use netproxy::Proxy;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::metrics;
use crate::options::Options;
use crate::say::Messages;
use crate::serve::{ACCEPT_PAUSE, next};

/// Ports tried for DNS with port 0, until one is free for UDP and TCP alike.
const DNS_PORTS_TRIED: usize = 16;

/// Bound, and not served yet.
#[derive(Default)]
pub struct Doors {
    socks: Option<TcpListener>,
    dns: Option<(UdpSocket, TcpListener)>,
    metrics: Option<TcpListener>,
}

impl Doors {
    /// Binds what the options ask for.
    pub fn bind(options: &Options) -> Result<Self> {
        Ok(Self {
            socks: options.socks.map(|asked| bind_tcp("--socks", asked, options)).transpose()?,
            dns: options.dns.map(|asked| bind_dns(asked, options)).transpose()?,
            metrics: options.metrics.map(|asked| bind_tcp("--metrics", asked, options)).transpose()?,
        })
    }

    /// What each is called and where it listens.
    pub fn places(&self) -> Vec<(&'static str, SocketAddr)> {
        let socks = self.socks.as_ref().and_then(|listener| listener.local_addr().ok());
        let dns = self.dns.as_ref().and_then(|(socket, _)| socket.local_addr().ok());
        let metrics = self.metrics.as_ref().and_then(|listener| listener.local_addr().ok());
        [("socks", socks), ("dns", dns), ("metrics", metrics)]
            .into_iter()
            .filter_map(|(name, at)| Some((name, at?)))
            .collect()
    }

    /// Serves until the result is dropped. Each connection holds a clone of `open` until it ends.
    pub fn serve(
        self,
        proxy: &Proxy,
        audit: Option<&Arc<AuditFile>>,
        open: &mpsc::Sender<()>,
        messages: Messages,
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        if let Some(listener) = self.socks {
            tasks.spawn(accept(listener, proxy.clone(), open.clone(), Service::Socks));
        }
        if let Some((socket, listener)) = self.dns {
            let own = proxy.clone();
            tasks.spawn(async move {
                let serve = || {
                    let (socket, own) = (clone_of(&socket), own.clone());
                    async move {
                        match socket {
                            Ok(socket) => own.serve_dns_udp(socket).await,
                            Err(error) => error,
                        }
                    }
                };
                go_on(serve, |text| messages.say("dns", text)).await;
            });
            tasks.spawn(accept(listener, proxy.clone(), open.clone(), Service::Dns));
        }
        if let Some(listener) = self.metrics {
            tasks.spawn(accept(listener, proxy.clone(), open.clone(), Service::Metrics(audit.cloned())));
        }
        tasks
    }
}

/// Binds a listener, on loopback unless anyone may use it.
pub fn bind_tcp(name: &str, asked: SocketAddr, options: &Options) -> Result<TcpListener> {
    check_loopback(name, asked, options)?;
    listener(asked).map_err(Error::io(format!("cannot listen on {asked} ({name})")))
}

fn check_loopback(name: &str, asked: SocketAddr, options: &Options) -> Result<()> {
    if asked.ip().is_loopback() || options.i_know_anyone_can_use_it {
        return Ok(());
    }
    let could = match name {
        "--metrics" => "see what this sandbox does",
        "--dns" => "have names looked up by this machine",
        _ => "use your keys",
    };
    Err(Error::Usage(format!(
        "{name} {asked}: everybody who reaches this address could {could}\n  \
         listen on 127.0.0.1, or add --i-know-anyone-can-use-it, which is for every door"
    )))
}

fn listener(asked: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(asked)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// UDP and TCP on the same port: an answer too long for the one is asked for over the other.
fn bind_dns(asked: SocketAddr, options: &Options) -> Result<(UdpSocket, TcpListener)> {
    check_loopback("--dns", asked, options)?;
    let pair = || {
        let socket = UdpSocket::bind(asked)?;
        socket.set_nonblocking(true)?;
        let listener = listener(socket.local_addr()?)?;
        io::Result::Ok((socket, listener))
    };
    let tries = if asked.port() == 0 { DNS_PORTS_TRIED } else { 1 };
    let mut last = pair();
    for _ in 1..tries {
        if last.is_ok() {
            break;
        }
        last = pair();
    }
    last.map_err(Error::io(format!("cannot listen on {asked} (--dns)")))
}

/// Of the same socket, for the runtime.
fn clone_of(socket: &UdpSocket) -> io::Result<tokio::net::UdpSocket> {
    tokio::net::UdpSocket::from_std(socket.try_clone()?)
}

/// Serves again, after a pause, whenever it breaks off: for want of memory or descriptors, mostly, which come back. Each
/// reason is told once, not twenty times a second.
async fn go_on<F: Future<Output = io::Error>>(serve: impl Fn() -> F, tell: impl Fn(&str)) {
    let mut told = None;
    loop {
        let error = serve().await;
        if told != Some(error.kind()) {
            told = Some(error.kind());
            tell(&format!("DNS over UDP broke off and is begun again: {error}"));
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Which of the proxy's services a stream is for.
#[derive(Clone)]
enum Service {
    Socks,
    Dns,
    Metrics(Option<Arc<AuditFile>>),
}

async fn accept(listener: TcpListener, proxy: Proxy, open: mpsc::Sender<()>, service: Service) {
    loop {
        let Some(stream) = next(&listener).await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (proxy, open, service) = (proxy.clone(), open.clone(), service.clone());
        tokio::spawn(async move {
            match service {
                Service::Socks => proxy.serve_socks(stream).await,
                Service::Dns => proxy.serve_dns(stream).await,
                Service::Metrics(audit) => metrics::serve(stream, &proxy, audit.as_deref()).await,
            }
            drop(open);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    fn options(more: &[&str]) -> Options {
        let all = ["inject-proxy", "--listen", "127.0.0.1:0", "--policy", "p"];
        Options::try_parse_from(all.iter().chain(more)).unwrap()
    }

    #[tokio::test]
    async fn each_door_listens_where_it_says_and_serves_until_it_is_closed() {
        let doors = Doors::bind(&options(&["--socks", "127.0.0.1:0", "--dns", "127.0.0.1:0"])).unwrap();
        let [("socks", socks), ("dns", dns)] = doors.places()[..] else { panic!("{:?}", doors.places()) };
        let (open, mut all_gone) = mpsc::channel(1);
        let tasks = doors.serve(&Proxy::builder().build().unwrap(), None, &open, Messages { json: false });
        let mut client = TcpStream::connect(socks).await.unwrap();
        client.write_all(&[5, 1, 0, 5, 1, 0, 1, 192, 0, 2, 1, 0, 22]).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer[..4], [5, 0, 5, 2]);
        drop(client);
        // `a`, type A: refused with NXDOMAIN, over both.
        let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        let asker = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        asker.send_to(query, dns).await.unwrap();
        let mut buffer = [0; 512];
        let (length, from) = asker.recv_from(&mut buffer).await.unwrap();
        assert_eq!((from, &buffer[..2], buffer[3] & 15), (dns, &query[..2], 3));
        let mut client = TcpStream::connect(dns).await.unwrap();
        client.write_all(&[&[0, 19][..], query].concat()).await.unwrap();
        assert_eq!(usize::from(client.read_u16().await.unwrap()), length);
        drop((tasks, open, client));
        assert_eq!(all_gone.recv().await, None);
        while TcpStream::connect(socks).await.is_ok() {}
    }

    #[tokio::test]
    async fn an_error_of_the_socket_is_told_once_and_does_not_end_dns() {
        let errors =
            std::cell::RefCell::new(vec![io::ErrorKind::OutOfMemory, io::ErrorKind::HostUnreachable]);
        errors.borrow_mut().push(io::ErrorKind::HostUnreachable);
        let (all_met, met) = tokio::sync::oneshot::channel();
        let all_met = std::cell::Cell::new(Some(all_met));
        let serve = async || {
            let Some(kind) = errors.borrow_mut().pop() else {
                all_met.take().unwrap().send(()).unwrap();
                return std::future::pending().await;
            };
            io::Error::from(kind)
        };
        let said = std::cell::RefCell::new(Vec::new());
        tokio::select! {
            () = go_on(serve, |text| said.borrow_mut().push(text.to_owned())) => {}
            served_after_all = met => served_after_all.unwrap(),
        }
        let said = said.into_inner();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said.iter().all(|text| text.starts_with("DNS over UDP broke off")), "{said:?}");
    }

    #[test]
    fn no_door_opens_beyond_loopback_unasked() {
        for more in [&["--socks", "0.0.0.0:0"][..], &["--dns", "[::]:0"], &["--metrics", "0.0.0.0:0"]] {
            let error = Doors::bind(&options(more)).err().unwrap().to_string();
            assert!(error.starts_with(more[0]) && error.contains("--i-know-anyone-can-use-it"), "{error}");
        }
        assert!(Doors::bind(&options(&[])).unwrap().places().is_empty());
    }
}
