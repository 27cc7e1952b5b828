//! The guest end for programs that know of no proxy: whatever address they connect to, they reach this agent.
//!
//! ```text
//! connect(198.18.0.7:443)
//!   │ routes.rs   TCP that no other route wants is local, and leaves with an address of ours as its source
//!   │ lookup.rs   the kernel asks a BPF program who listens there: we do, on every port
//! accept          its local address is what the program asked for
//!   │ "TCP1 198.18.0.7:443\n" to the host, which knows the name that a synthetic address stands for, and decides
//! relay           after "TCP1 OK\n"; else a reset
//! ```
//!
//! Only TCP is led here: UDP and ICMP stay unreachable, as on a machine without a network card, so that programs
//! fall back at once (QUIC to TCP). Loopback, addresses of interfaces in the guest and routes that a program adds
//! are as they were.

mod lookup;
mod routes;
mod sys;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::relay::relay;
use super::slots::Slots;
use super::{Connect, accept, spawn_thread};
use crate::limits;
use crate::proto::PROXY_PORT;

/// The guest's own address, the source of what is led here: the IPv4 dummy address (RFC 7600 §4.8), which is
/// nobody's. Without an address beside loopback, resolvers asked for IPv4 only (`AI_ADDRCONFIG`) would find nothing.
const OWN_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
/// For IPv6 it is loopback, so that resolvers prefer IPv4, or ask for nothing else: one question instead of two.
const OWN_V6: Ipv6Addr = Ipv6Addr::LOCALHOST;

/// What the host answers to a preface that it lets in. A refusal has as many bytes before its reason.
const ACCEPTED: &[u8; 8] = b"TCP1 OK\n";

/// Why connections cannot be led here.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct OpenError {
    step: &'static str,
    source: io::Error,
}

/// Listens on every port of every address that is not the guest's own.
pub struct Door {
    listeners: Vec<TcpListener>,
    /// The kernel asks the program for as long as this is open.
    program: OwnedFd,
}

/// Opens the door and leads TCP to it; loopback must be up. The second result is why IPv6 is not led here.
///
/// # Errors
/// What the kernel lacks. Nothing is led anywhere then.
pub fn open() -> Result<(Door, Option<OpenError>), OpenError> {
    routes::add_address(OWN_V4).map_err(step("give loopback an address"))?;
    let v4 = listen(OWN_V4.into())?;
    // A kernel may be without IPv6.
    let v6 = listen(OWN_V6.into());
    let listeners: [Option<BorrowedFd<'_>>; 2] = [Some(v4.as_fd()), v6.as_ref().ok().map(AsFd::as_fd)];
    let program = lookup::install(listeners, OWN_V4, OWN_V6).map_err(step("install the socket lookup"))?;
    lead_here(OWN_V4.into())?;
    let v6 = v6.and_then(|listener| lead_here(OWN_V6.into()).map(|()| listener));
    let (v6, problem) = match v6 {
        Ok(listener) => (Some(listener), None),
        Err(problem) => (None, Some(problem)),
    };
    Ok((Door { listeners: std::iter::once(v4).chain(v6).collect(), program }, problem))
}

/// Serves what comes, in threads of its own, for ever; `connect` makes a connection to the host's proxy.
///
/// # Errors
/// No thread is to be had.
pub fn serve(door: Door, connect: &Connect) -> io::Result<()> {
    let slots = Slots::new(limits::TRANSPARENT_CONNECTIONS_MAX);
    let program = Arc::new(door.program);
    for listener in door.listeners {
        let (slots, connect, program) = (slots.clone(), Connect::clone(connect), Arc::clone(&program));
        spawn_thread("transparent", move || {
            let _open = program;
            accept::each(&listener, "transparent", &slots, move |client| carry(client, &connect))
        })?;
    }
    Ok(())
}

fn carry(client: &TcpStream, connect: &Connect) {
    match let_in(client, connect) {
        // What went wrong is over with the connection.
        Ok(host) => drop(relay(client, &host)),
        // A reset, not an orderly end: no program shall take a refusal for an empty answer.
        Err(_) => drop(rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO))),
    }
}

/// Says where the client wanted to go. Why the host refuses is in the host's audit log.
fn let_in(client: &TcpStream, connect: &Connect) -> io::Result<UnixStream> {
    let asked = client.local_addr()?;
    let mut host = connect()?;
    host.set_read_timeout(Some(limits::ADMISSION_WAIT_MAX))?;
    host.write_all(preface(asked).as_bytes())?;
    let mut answer = [0; ACCEPTED.len()];
    host.read_exact(&mut answer)?;
    if answer != *ACCEPTED {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    host.set_read_timeout(None)?;
    Ok(host)
}

/// Without the zone that a link-local address may have: it means nothing to the host.
fn preface(asked: SocketAddr) -> String {
    format!("TCP1 {}\n", SocketAddr::new(asked.ip(), asked.port()))
}

fn listen(own: IpAddr) -> Result<TcpListener, OpenError> {
    let listener = TcpListener::bind((own, PROXY_PORT)).map_err(step("listen on every port"))?;
    // Or its answers, which come from addresses that are not ours, would not be sent.
    sys::set_transparent(&listener, own.is_ipv6()).map_err(step("answer for every address"))?;
    Ok(listener)
}

fn lead_here(own: IpAddr) -> Result<(), OpenError> {
    routes::add_catch_all(own).map_err(step("route TCP to loopback"))
}

fn step(step: &'static str) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError { step, source }
}
