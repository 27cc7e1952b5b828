//! A vsock device in user space: stream sockets between the guest and this process, and nothing else.
//!
//! The guest sees a standard virtio socket device (virtio 1.2 §5.10) and uses `AF_VSOCK`. The host
//! program gets ends of socket pairs: no path, no kernel module, no global CID, no privilege.
//!
//! It must never: act on a packet that does not carry the guest's own CID, connect to anything by itself,
//! hold more for a connection than its announced buffer, or let one connection stop another.
//!
//! ```text
//! guest memory ◄─ device.rs ─► mux.rs ──► endpoint.rs ◄─► socket pair ◄─► host program
//!   virtqueues     budgets      table       connection.rs (states, credit)      ▲
//!                               timers      segments.rs (in-place I/O)          │
//!                                 ▲──────────────── host.rs: listen, connect ───┘
//! ```
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! use std::io::{Read, Write};
//! use vmm_core::devices::vsock::{self, VsockConfig};
//!
//! let (device, host) = vsock::new(VsockConfig::default())?; // guest CID 3
//! host.listen(3128, |stream| drop(std::thread::spawn(move || serve(stream))))?;
//! # let _ = device; // give it to a virtual machine or to vhost_user::serve, then:
//! let mut agent = host.connect(1024, std::time::Duration::from_secs(10))?;
//! agent.write_all(b"hello")?;
//! agent.shutdown(std::net::Shutdown::Write)?; // a half-close: the answer still comes
//! let mut answer = Vec::new();
//! agent.read_to_end(&mut answer)?;
//! # Ok(()) }
//! # fn serve(_: std::os::unix::net::UnixStream) {}
//! ```

use std::io;
use std::sync::Arc;

pub mod connection;
mod device;
mod endpoint;
mod host;
pub mod limits;
mod mux;
pub mod packet;
mod segments;

pub use device::Vsock;
pub use host::VsockHost;

/// How a vsock device behaves.
#[derive(Clone, Debug)]
pub struct VsockConfig {
    /// Context id of the guest, at least 3; 3 by default. It means something to this guest alone.
    pub guest_cid: u64,
    /// Connections at once, both directions together; [`limits::CONNECTIONS_MAX`] by default. Each uses
    /// one file descriptor here and one in the host program.
    pub connections_max: usize,
    /// Bytes that one connection holds for a host program that does not read;
    /// [`limits::CONNECTION_BUFFER_BYTES`] by default. Together with `connections_max` this bounds the
    /// device's memory.
    pub connection_buffer_bytes: u32,
}

impl Default for VsockConfig {
    fn default() -> Self {
        Self {
            guest_cid: 3,
            connections_max: limits::CONNECTIONS_MAX,
            connection_buffer_bytes: limits::CONNECTION_BUFFER_BYTES,
        }
    }
}

/// Makes a vsock device and the handle by which the host program uses it.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for a guest CID below 3 or above 2³² - 2 (reserved), else the errors of
/// `epoll_create1(2)`, `eventfd(2)` and `timerfd_create(2)`.
pub fn new(config: VsockConfig) -> io::Result<(Vsock, VsockHost)> {
    if !(3..u64::from(u32::MAX)).contains(&config.guest_cid) {
        let text = format!("guest CID {} is reserved; use 3 to 4294967294", config.guest_cid);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let shared = Arc::new(host::Shared::new()?);
    let host = VsockHost::new(Arc::clone(&shared));
    let guest_cid = config.guest_cid;
    Ok((Vsock::new(guest_cid, mux::Mux::new(config, shared)?), host))
}

#[cfg(test)]
mod tests;
