//! The host program's side: listen on ports, connect to the guest.
//!
//! Everything handed over is one end of a socket pair, so it has no name, no path and no permissions to
//! get wrong. It must never hold a lock while it calls out or waits.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::limits::CONNECTS_WAITING_MAX;

/// Takes connections of the guest to one host port.
type Handler = Arc<Mutex<dyn FnMut(UnixStream) + Send>>;

/// A connect that the device's thread has not taken up yet.
pub(super) struct Connect {
    /// Port in the guest.
    pub(super) port: u32,
    /// The device's end of the pair.
    pub(super) stream: UnixStream,
    pub(super) deadline: Instant,
    /// Where the outcome goes; holds one message, so answering never blocks.
    pub(super) outcome: SyncSender<io::Result<()>>,
}

/// What the handles and the device share.
pub(super) struct Shared {
    listeners: Mutex<HashMap<u32, Handler>>,
    connects: Mutex<Connects>,
    wake: EventFd,
}

#[derive(Default)]
struct Connects {
    waiting: VecDeque<Connect>,
    /// The device is gone: nobody will ever take anything out of `waiting`.
    closed: bool,
}

impl Shared {
    pub(super) fn new() -> io::Result<Self> {
        let wake = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        Ok(Self { listeners: Mutex::default(), connects: Mutex::default(), wake })
    }

    /// Readable when there is a connect to take, or when [`Shared::wake`] was called.
    pub(super) fn wake_fd(&self) -> &EventFd {
        &self.wake
    }

    /// Makes the device's thread come round again.
    pub(super) fn wake(&self) {
        // The only failure is a full counter, and then the thread is being woken.
        let _ = self.wake.write(1);
    }

    pub(super) fn next_connect(&self) -> Option<Connect> {
        lock(&self.connects).waiting.pop_front()
    }

    /// Whether a handler listens on `port`.
    pub(super) fn has_listener(&self, port: u32) -> bool {
        lock(&self.listeners).contains_key(&port)
    }

    /// Gives `stream` to the handler of `port`, if there is one.
    pub(super) fn accept(&self, port: u32, stream: UnixStream) -> bool {
        // The table is unlocked before the call: a handler may itself listen or stop listening.
        let handler = lock(&self.listeners).get(&port).cloned();
        match handler {
            Some(handler) => {
                let mut handler = handler.lock().unwrap_or_else(PoisonError::into_inner);
                (*handler)(stream);
                true
            }
            None => false,
        }
    }

    /// The device is gone: fails all connects, now and later.
    pub(super) fn close(&self) {
        let waiting = {
            let mut connects = lock(&self.connects);
            connects.closed = true;
            std::mem::take(&mut connects.waiting)
        };
        for connect in waiting {
            let _ = connect.outcome.try_send(Err(device_gone()));
        }
        // Handlers often own the handle they were given by; keeping them would keep each other alive.
        lock(&self.listeners).clear();
    }

    fn enqueue(&self, connect: Connect) -> io::Result<()> {
        {
            let mut connects = lock(&self.connects);
            if connects.closed {
                return Err(device_gone());
            }
            if connects.waiting.len() >= CONNECTS_WAITING_MAX {
                let text = "too many connects to the guest are waiting; has it started?";
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
            }
            connects.waiting.push_back(connect);
        }
        self.wake();
        Ok(())
    }
}

/// The host's end of the vsock device: cheap to clone, usable from any thread.
///
/// It stays valid after the device is gone; everything fails with [`io::ErrorKind::NotConnected`] then.
#[derive(Clone)]
pub struct VsockHost {
    shared: Arc<Shared>,
}

impl VsockHost {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Calls `handler` with each connection that the guest makes to `port` of the host (CID 2).
    ///
    /// `handler` runs on the device's thread: it must hand the stream on (to a channel, a thread, a
    /// runtime) and return. Streams are in blocking mode. A half-close passes in both directions. The
    /// guest's connects to ports without a handler are refused.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] if `port` has a handler, [`io::ErrorKind::NotConnected`] if the device
    /// is gone.
    pub fn listen(&self, port: u32, handler: impl FnMut(UnixStream) + Send + 'static) -> io::Result<()> {
        if lock(&self.shared.connects).closed {
            return Err(device_gone());
        }
        let mut listeners = lock(&self.shared.listeners);
        if listeners.contains_key(&port) {
            let text = format!("host vsock port {port} has a listener already");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        listeners.insert(port, Arc::new(Mutex::new(handler)));
        Ok(())
    }

    /// Refuses connects to `port` from now on; connections that exist go on. Returns whether there was a
    /// handler.
    pub fn unlisten(&self, port: u32) -> bool {
        // Dropped after the table is unlocked: what the handler owns may call back.
        let removed = lock(&self.shared.listeners).remove(&port);
        removed.is_some()
    }

    /// Connects to `port` of the guest.
    ///
    /// Waits while the guest has not brought up its vsock driver yet (Firecracker #1253). A guest that is
    /// up and has no listener refuses at once; whether that is final is for the caller to know.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`]; [`io::ErrorKind::ConnectionRefused`] without a listener in the guest;
    /// [`io::ErrorKind::ConnectionReset`] if the guest restarted meanwhile;
    /// [`io::ErrorKind::QuotaExceeded`] with too many connections; [`io::ErrorKind::NotConnected`] if the
    /// device is gone.
    pub fn connect(&self, port: u32, timeout: Duration) -> io::Result<UnixStream> {
        let (theirs, ours) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let deadline = Instant::now().checked_add(timeout).ok_or(io::ErrorKind::InvalidInput)?;
        let (outcome, result) = sync_channel(1);
        self.shared.enqueue(Connect { port, stream: ours, deadline, outcome })?;
        match result.recv_timeout(timeout) {
            Ok(Ok(())) => Ok(theirs),
            Ok(Err(error)) => Err(error),
            Err(RecvTimeoutError::Timeout) => Err(timed_out(port)),
            Err(RecvTimeoutError::Disconnected) => Err(device_gone()),
        }
    }
}

impl fmt::Debug for VsockHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VsockHost").finish_non_exhaustive()
    }
}

/// The guest did not answer a connect to `port` in time.
pub(super) fn timed_out(port: u32) -> io::Error {
    let text = format!("the guest did not answer on vsock port {port} in time; has it finished booting?");
    io::Error::new(io::ErrorKind::TimedOut, text)
}

fn device_gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the vsock device is gone: the virtual machine has ended")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under these locks can leave the data half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
