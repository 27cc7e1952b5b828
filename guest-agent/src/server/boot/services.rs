//! Starts what listens: proxy end, DNS end, transparent end, exec.
//!
//! All sockets are bound before `Ready` is said, so that nothing races with the first program.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::{log, note, refused};
use crate::limits;
use crate::proto::{Bytes, CONTROL_PORT, Configure, DNS_PORT, HOST_CID, PROXY_PORT, Refused};
use crate::server::slots::Slots;
use crate::server::{Connect, accept, dns_end, exec, proxy_end, spawn_thread, sys, transparent};

/// The host accepts or refuses at once; a longer wait means that it is stuck.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);

/// Starts the services that `configure` asks for, and exec.
pub(super) fn start(configure: &Configure, notes: &mut Vec<String>) -> Result<(), Refused> {
    if let Some(port) = configure.proxy_port {
        start_proxy_end(port).map_err(|e| refused("start the proxy end", &e))?;
    }
    if configure.dns {
        start_dns_end().map_err(|e| refused("start the DNS end", &e))?;
    }
    if configure.transparent {
        start_transparent_end(notes).map_err(|e| refused("start the transparent end", &e))?;
    }
    start_exec(configure.env.clone()).map_err(|e| refused("start the exec service", &e))
}

fn host_port(port: u16) -> Connect {
    Arc::new(move || sys::vsock_connect(HOST_CID, u32::from(port), CONNECT_WAIT_MAX))
}

fn start_proxy_end(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    spawn_thread("proxy-end", move || proxy_end::serve(&listener, &host_port(PROXY_PORT)))
}

fn start_dns_end() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, DNS_PORT))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, DNS_PORT))?;
    spawn_thread("dns-udp-end", move || dns_end::serve_udp(socket, &host_port(DNS_PORT)))?;
    spawn_thread("dns-tcp-end", move || dns_end::serve_tcp(&listener, &host_port(DNS_PORT)))
}

/// A kernel without what it takes makes a smaller sandbox, not a broken one: programs that use the proxy still work.
fn start_transparent_end(notes: &mut Vec<String>) -> io::Result<()> {
    match transparent::open() {
        Ok((door, problem)) => {
            if let Some(problem) = problem {
                note(notes, "connections without a proxy over IPv6", &problem);
            }
            transparent::serve(door, &host_port(PROXY_PORT))
        }
        Err(problem) => {
            note(notes, "connections without a proxy", &problem);
            Ok(())
        }
    }
}

fn start_exec(env: Vec<(Bytes, Bytes)>) -> io::Result<()> {
    let listener = sys::vsock_listen(CONTROL_PORT)?;
    let env = Arc::new(env);
    let slots = Slots::new(limits::EXECS_MAX);
    spawn_thread("exec-listener", move || {
        loop {
            match sys::vsock_accept(listener.as_fd()) {
                Ok((stream, HOST_CID)) => serve_one(stream, &env, &slots),
                // A guest process that found vsock's loopback: exec is root, so this is not for it.
                Ok((_, cid)) => log::info(&format!("exec connection from context {cid} refused")),
                Err(_) => std::thread::sleep(accept::PAUSE),
            }
        }
    })
}

fn serve_one(stream: UnixStream, env: &Arc<Vec<(Bytes, Bytes)>>, slots: &Slots) {
    let (env, slot) = (Arc::clone(env), slots.try_take());
    let served = spawn_thread("exec", move || {
        let result = match &slot {
            Some(_) => exec::serve(stream, &env),
            None => exec::refuse_busy(stream),
        };
        if let Err(error) = result {
            log::info(&format!("exec connection: {error}"));
        }
        drop(slot);
    });
    if let Err(error) = served {
        log::error(&format!("no thread for an exec connection: {error}"));
    }
}
