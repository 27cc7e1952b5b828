//! Serves any [`Device`] to another VMM (tested with QEMU 7.2) over the vhost-user protocol.
//!
//! One thread per device owns everything: the protocol socket, the kick descriptors, the device's own
//! [`host_fd`](Device::host_fd) and the device itself, so no lock is ever contended and nothing outlives
//! [`Server::join`]. It is built on the `vhost` crate's message layer alone: the ready-made daemon of
//! `vhost-user-backend` runs two threads, keeps its exit descriptor open after the end and accepts only
//! sockets that have a path.
//!
//! It must never: trust a ring index, address or length that the guest wrote (all go through
//! `virtio-queue` and `vm-memory`), block on the guest, or call back into a device that is not started.
//!
//! ```text
//! QEMU ── unix socket ──► handler.rs  (messages → ring state, memory table, features)
//!      ── kick eventfd ─► event_loop.rs ──► Device::queue_event
//!      ◄─ call eventfd ── rings.rs (Vring::interrupt)
//! host descriptors ─────► event_loop.rs ──► Device::host_event
//! ```
//!
//! # Without a path on disk
//!
//! QEMU's `-chardev socket,id=c0,fd=N` takes an inherited, already connected socket, so one end of a
//! [`UnixStream::pair`] is enough. The process that starts QEMU must close its own copy of QEMU's end,
//! or the end of QEMU is never noticed here. Guest memory must be shared, as in
//! `-object memory-backend-memfd,id=m,size=512M,share=on` with `-machine …,memory-backend=m`.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::devices::Device;

mod event_loop;
mod handler;
mod rings;

/// Why a device stopped being served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A descriptor or the thread could not be made before serving began.
    #[error("cannot start the vhost-user server: {0}; check the limits on open files and threads")]
    Start(#[source] io::Error),
    /// No VMM could be accepted on the listening socket.
    #[error("cannot accept a VMM on the vhost-user socket: {0}")]
    Accept(#[source] io::Error),
    /// Waiting for events failed.
    #[error("the vhost-user event loop failed: {0}")]
    EventLoop(#[source] io::Error),
    /// The VMM sent something this device cannot act on.
    #[error("the VMM at the other end broke the vhost-user protocol: {0}; is its version supported?")]
    Protocol(#[source] vhost::vhost_user::Error),
    /// The device panicked.
    #[error("the device thread panicked; this is a bug in the device")]
    Panicked,
}

/// Where the VMM is reached.
#[derive(Debug)]
pub enum Socket {
    /// The VMM connects to this listener; exactly one connection is accepted, then the listener closes.
    Listener(UnixListener),
    /// The VMM holds the other end already.
    Connected(UnixStream),
}

impl From<UnixListener> for Socket {
    fn from(listener: UnixListener) -> Self {
        Self::Listener(listener)
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::Connected(stream)
    }
}

/// A device being served on a thread of its own.
///
/// Dropping it stops the thread and waits for it.
#[derive(Debug)]
pub struct Server {
    thread: Option<JoinHandle<Result<(), Error>>>,
    stop: EventFd,
}

/// Serves `device` to the VMM at the other end of `socket`, on a new thread.
///
/// The thread ends when the VMM disconnects, breaks the protocol, or [`Server::stop`] is called; the
/// device is reset and dropped then.
///
/// # Errors
/// [`Error::Start`] when the thread or one of its descriptors cannot be made.
///
/// ```no_run
/// # fn example(device: Box<dyn vmm_core::devices::Device>) -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, qemus) = std::os::unix::net::UnixStream::pair()?;
/// let server = vmm_core::vhost_user::serve(device, ours)?;
/// // … start QEMU with `qemus` inherited as fd N: -chardev socket,id=c0,fd=N …
/// drop(qemus);
/// server.join()?; // returns once QEMU is gone
/// # Ok(()) }
/// ```
pub fn serve(device: Box<dyn Device>, socket: impl Into<Socket>) -> Result<Server, Error> {
    let socket = socket.into();
    let stop = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(Error::Start)?;
    let stop_seen = stop.try_clone().map_err(Error::Start)?;
    let name = format!("vhost-user-{}", device.id());
    let thread = std::thread::Builder::new()
        .name(name)
        .spawn(move || event_loop::run(device, socket, &stop_seen))
        .map_err(Error::Start)?;
    Ok(Server { thread: Some(thread), stop })
}

impl Server {
    /// Asks the thread to end; returns at once. Harmless when it has ended already.
    pub fn stop(&self) {
        // The only failure of an eventfd write is a full counter, and then the thread is being woken.
        let _ = self.stop.write(1);
    }

    /// Whether the thread has ended (the VMM is gone, or an error waits to be read by [`Server::join`]).
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the VMM disconnects or [`Server::stop`] takes effect.
    ///
    /// # Errors
    /// Whatever ended the session other than a disconnect or a stop.
    pub fn join(mut self) -> Result<(), Error> {
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or(Err(Error::Panicked)),
            None => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop();
            // Nobody is left to be told; `join` is the way to hear about errors.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
