//! The only place that opens an outgoing connection, and only to addresses that the guard has judged.
#![allow(clippy::disallowed_methods)] // `TcpStream::connect` is banned everywhere but here.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::guard::Checked;

/// Why no address of an upstream could be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialError {
    /// Refused, reset or without a route.
    Unreachable,
    /// No answer.
    Timeout,
}

/// Dials the judged addresses one after the other. `attempt` bounds each but the last.
pub async fn dial(checked: &Checked, attempt: Duration) -> Result<TcpStream, DialError> {
    let mut last = DialError::Unreachable;
    let mut left = checked.addresses().iter().peekable();
    while let Some(address) = left.next() {
        let connected = if left.peek().is_some() {
            timeout(attempt, connect(*address)).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
        } else {
            connect(*address).await
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => last = DialError::Timeout,
            Err(_) => last = DialError::Unreachable,
        }
    }
    Err(last)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Nagle against delayed ACK costs 40 ms per small request.
    stream.set_nodelay(true)?;
    // A second opinion: what answers is what was judged. IPv4-mapped peers are the same address.
    let peer = stream.peer_addr()?;
    if peer.ip().to_canonical() != address.ip().to_canonical() {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    Ok(stream)
}
