//! The guest end of DNS: UDP and TCP on guest loopback, length-framed to the host.
//!
//! Decides nothing about names. A host that is not there is answered SERVFAIL, so that nobody waits for a timeout.

mod wire;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::relay::relay;
use super::slots::Slots;
use super::{Connect, accept, spawn_thread};
use crate::limits;

/// Serves UDP for ever: one host connection per question.
pub fn serve_udp(socket: UdpSocket, connect: &Connect) -> ! {
    let slots = Slots::new(limits::DNS_QUERIES_MAX);
    let socket = Arc::new(socket);
    let mut buffer = vec![0; limits::DNS_MESSAGE_BYTES_MAX];
    loop {
        let Ok((count, client)) = socket.recv_from(&mut buffer) else {
            std::thread::sleep(accept::PAUSE);
            continue;
        };
        let question = buffer.get(..count).unwrap_or_default().to_vec();
        // Over the bound a question is dropped, and asked again by whoever needs it.
        let Some(slot) = slots.try_take() else { continue };
        let (socket, connect) = (Arc::clone(&socket), Connect::clone(connect));
        let _ = spawn_thread("dns", move || {
            answer(&socket, client, &question, &connect);
            drop(slot);
        });
    }
}

/// Serves TCP for ever. The framing on both sides is the same, so bytes are passed through.
pub fn serve_tcp(listener: &TcpListener, connect: &Connect) -> ! {
    let slots = Slots::new(limits::DNS_CONNECTIONS_MAX);
    let connect = Connect::clone(connect);
    accept::each(listener, "dns-tcp", &slots, move |client| {
        if let Ok(host) = connect() {
            let _ = relay(client, &host);
        }
    })
}

fn answer(socket: &UdpSocket, client: SocketAddr, question: &[u8], connect: &Connect) {
    // What is too short to be a question, or is an answer, gets none: two servers must not talk to each other.
    if !wire::is_question(question) {
        return;
    }
    let answer = match ask(question, connect) {
        Ok(answer) if wire::answers(&answer, question) => wire::fit(answer, wire::udp_bytes_max(question)),
        _ => wire::server_failure(question),
    };
    // A client that is gone misses nothing.
    let _ = socket.send_to(&answer, client);
}

fn ask(question: &[u8], connect: &Connect) -> io::Result<Vec<u8>> {
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    let mut host: UnixStream = connect()?;
    host.set_read_timeout(Some(limits::DNS_ANSWER_WAIT_MAX))?;
    host.set_write_timeout(Some(limits::DNS_ANSWER_WAIT_MAX))?;
    host.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    host.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    host.read_exact(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests;
