//! DNS over real sockets to a fake host.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::wire::tests::question;
use super::*;

/// A connector and the host's ends of what it made.
fn host() -> (Connect, Receiver<UnixStream>) {
    let (sender, hosts) = channel();
    let sender = Mutex::new(sender);
    let connect: Connect = Arc::new(move || {
        let (host, guest) = UnixStream::pair()?;
        sender.lock().unwrap().send(host).unwrap();
        Ok(guest)
    });
    (connect, hosts)
}

fn client_of(connect: Connect) -> UdpSocket {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    std::thread::spawn(move || serve_udp(server, &connect));
    client
}

fn receive(host: &mut UnixStream) -> Vec<u8> {
    let mut length = [0; 2];
    host.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    host.read_exact(&mut message).unwrap();
    message
}

fn send(host: &mut UnixStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    host.write_all(&[&length, message].concat()).unwrap();
}

#[test]
fn a_question_over_udp_is_framed_and_its_answer_comes_back() {
    let (connect, hosts) = host();
    let client = client_of(connect);
    client.send(&question(9, None)).unwrap();
    let mut host = hosts.recv().unwrap();
    assert_eq!(receive(&mut host), question(9, None));
    let mut answer = question(9, None);
    answer[2] |= 0x80;
    send(&mut host, &answer);
    let mut got = [0; 600];
    let count = client.recv(&mut got).unwrap();
    assert_eq!(got[..count], answer);
}

#[test]
fn an_answer_too_long_for_udp_is_marked() {
    let (connect, hosts) = host();
    let client = client_of(connect);
    client.send(&question(9, Some(600))).unwrap();
    let mut host = hosts.recv().unwrap();
    let mut answer = receive(&mut host);
    answer[2] |= 0x80;
    answer.resize(601, 0);
    send(&mut host, &answer);
    let mut got = [0; 2000];
    let count = client.recv(&mut got).unwrap();
    assert!(count < 100 && got[2] & 2 == 2, "{count} bytes, flags {:#x}", got[2]);
}

#[test]
fn a_missing_or_confused_host_is_a_server_failure() {
    let client = client_of(Arc::new(|| Err(io::ErrorKind::ConnectionReset.into())));
    client.send(&question(5, None)).unwrap();
    let mut got = [0; 600];
    let count = client.recv(&mut got).unwrap();
    assert!(wire::answers(&got[..count], &question(5, None)) && got[3] & 15 == 2);

    let (connect, hosts) = host();
    let client = client_of(connect);
    client.send(&question(6, None)).unwrap();
    let mut host = hosts.recv().unwrap();
    let mut stale = receive(&mut host);
    stale[..3].copy_from_slice(&[0, 5, 0x81]);
    send(&mut host, &stale);
    let count = client.recv(&mut got).unwrap();
    assert!(wire::answers(&got[..count], &question(6, None)) && got[3] & 15 == 2);
}

#[test]
fn tcp_is_passed_through() {
    let (connect, hosts) = host();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || serve_tcp(&listener, &connect));
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"\0\x05hello").unwrap();
    let mut host = hosts.recv().unwrap();
    assert_eq!(receive(&mut host), b"hello");
    host.write_all(b"\0\x01x").unwrap();
    let mut got = [0; 3];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"\0\x01x");
}
