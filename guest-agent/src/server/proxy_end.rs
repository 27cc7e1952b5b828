//! The guest end of the proxy: TCP on guest loopback, one host connection each.
//!
//! Understands nothing of what passes. A host that is not there is answered in HTTP, as the clients speak it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use super::relay::relay;
use super::slots::Slots;
use super::{Connect, accept};
use crate::limits;

const UNREACHABLE: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nContent-Length: 48\r\n\
    Connection: close\r\n\r\nThe proxy of this sandbox's host is unreachable\n";

/// How long a client that cannot be served may take to read that.
const UNREACHABLE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Serves `listener` for ever. At most [`limits::PROXY_CONNECTIONS_MAX`] connections run; more wait in its backlog.
pub fn serve(listener: &TcpListener, connect: &Connect) -> ! {
    let slots = Slots::new(limits::PROXY_CONNECTIONS_MAX);
    let connect = Connect::clone(connect);
    accept::each(listener, "proxy", &slots, move |client| carry(client, &connect))
}

fn carry(client: &TcpStream, connect: &Connect) {
    match connect() {
        // What went wrong is over with the connection.
        Ok(host) => drop(relay(client, &host)),
        Err(_) => apologise(client),
    }
}

/// Reads on until the client has closed: a close with unread bytes would reset the connection and lose the answer.
fn apologise(mut client: &TcpStream) {
    let told = client
        .set_read_timeout(Some(UNREACHABLE_WAIT_MAX))
        .and_then(|()| client.write_all(UNREACHABLE))
        .and_then(|()| client.shutdown(Shutdown::Write));
    let mut sink = [0; 4096];
    if told.is_ok() {
        while client.read(&mut sink).is_ok_and(|count| count > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::net::SocketAddr;
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, Mutex, mpsc};

    fn start(connect: Connect) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(&listener, &connect));
        address
    }

    #[test]
    fn each_connection_gets_one_of_the_host() {
        let (sender, hosts) = mpsc::channel();
        let sender = Mutex::new(sender);
        let address = start(Arc::new(move || {
            let (host, guest) = UnixStream::pair()?;
            sender.lock().unwrap().send(host).unwrap();
            Ok(guest)
        }));
        let echo = std::thread::spawn(move || {
            for mut host in hosts.iter().take(20) {
                let mut got = Vec::new();
                host.read_to_end(&mut got).unwrap();
                got.reverse();
                host.write_all(&got).unwrap();
            }
        });
        for number in 0..20 {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(format!("<{number}").as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut got = String::new();
            client.read_to_string(&mut got).unwrap();
            assert_eq!(got.chars().rev().collect::<String>(), format!("<{number}"));
        }
        echo.join().unwrap();
    }

    #[test]
    fn a_missing_host_is_answered_in_http() {
        let address = start(Arc::new(|| Err(io::ErrorKind::ConnectionRefused.into())));
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"CONNECT example.com:443 HTTP/1.1\r\n\r\n").unwrap();
        let mut got = String::new();
        client.read_to_string(&mut got).unwrap();
        let (head, body) = got.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 502 "));
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{got}");
    }
}
