//! The one thread of a served device: socket, kicks, host side and stop request in one epoll set.
//!
//! It must never block anywhere but in `epoll_wait`, except for the rest of a message that the VMM has
//! begun, and that wait is bounded by [`MESSAGE_TIMEOUT`].

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vhost::vhost_user::{BackendReqHandler, Error as ProtocolError};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::handler::State;
use super::{Error, Socket};
use crate::devices::Device;

/// How long the VMM may take between the first and the last byte of a message.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// Events taken per wait: more than a device has descriptors.
const EVENTS_MAX: usize = 32;

// Event tokens; from TOKEN_RING on, one per ring.
const TOKEN_STOP: u64 = 0;
const TOKEN_SOCKET: u64 = 1;
const TOKEN_HOST: u64 = 2;
const TOKEN_RING: u64 = 16;

/// The epoll set, shared by the loop and the message handler.
#[derive(Clone)]
pub(super) struct Watch(Arc<Epoll>);

impl Watch {
    fn new() -> io::Result<Self> {
        Epoll::new().map(|epoll| Self(Arc::new(epoll)))
    }

    fn add(&self, fd: &impl AsRawFd, token: u64) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN, token);
        match self.0.ctl(ControlOperation::Add, fd.as_raw_fd(), event) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// Watches the kick descriptor of ring `index`.
    pub(super) fn add_ring(&self, kick: &File, index: u32) -> io::Result<()> {
        self.add(kick, TOKEN_RING.saturating_add(u64::from(index)))
    }

    /// Watches the device's own descriptor, or stops doing so.
    pub(super) fn set_host(&self, fd: BorrowedFd<'_>, watched: bool) -> io::Result<()> {
        if watched {
            self.add(&fd, TOKEN_HOST)
        } else {
            self.remove(&fd);
            Ok(())
        }
    }

    /// Stops watching `fd`; it need not be watched.
    pub(super) fn remove(&self, fd: &impl AsRawFd) {
        let _ = self.0.ctl(ControlOperation::Delete, fd.as_raw_fd(), EpollEvent::default());
    }
}

/// Serves until the VMM disconnects or `stop` is signalled.
pub(super) fn run(device: Box<dyn Device>, socket: Socket, stop: &EventFd) -> Result<(), Error> {
    let watch = Watch::new().map_err(Error::Start)?;
    watch.add(stop, TOKEN_STOP).map_err(Error::Start)?;
    let Some(stream) = connection(socket, &watch)? else { return Ok(()) };
    stream.set_read_timeout(Some(MESSAGE_TIMEOUT)).map_err(Error::Start)?;
    stream.set_write_timeout(Some(MESSAGE_TIMEOUT)).map_err(Error::Start)?;
    watch.add(&stream, TOKEN_SOCKET).map_err(Error::Start)?;

    let state = Arc::new(Mutex::new(State::new(device, watch.clone()).map_err(Error::Start)?));
    let mut requests = BackendReqHandler::from_stream(stream, Arc::clone(&state));
    let result = serve_events(&watch, &state, &mut requests);
    lock(&state).shut_down();
    result
}

/// The VMM's connection, or `None` when the stop request came first.
fn connection(socket: Socket, watch: &Watch) -> Result<Option<UnixStream>, Error> {
    let listener = match socket {
        Socket::Connected(stream) => {
            stream.set_nonblocking(false).map_err(Error::Start)?;
            return Ok(Some(stream));
        }
        Socket::Listener(listener) => listener,
    };
    listener.set_nonblocking(true).map_err(Error::Accept)?;
    watch.add(&listener, TOKEN_SOCKET).map_err(Error::Accept)?;
    loop {
        let mut events = [EpollEvent::default(); EVENTS_MAX];
        for event in wait(watch, &mut events)? {
            if event.data() == TOKEN_STOP {
                return Ok(None);
            }
        }
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(Error::Accept)?;
                return Ok(Some(stream));
            }
            // The VMM may be gone again between the event and the call.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(Error::Accept(error)),
        }
    }
}

fn serve_events(
    watch: &Watch,
    state: &Arc<Mutex<State>>,
    requests: &mut BackendReqHandler<Mutex<State>>,
) -> Result<(), Error> {
    loop {
        let mut events = [EpollEvent::default(); EVENTS_MAX];
        for event in wait(watch, &mut events)? {
            match event.data() {
                TOKEN_STOP => return Ok(()),
                TOKEN_SOCKET => match requests.handle_request() {
                    Ok(()) | Err(ProtocolError::SocketRetry(_)) => {}
                    Err(error) if is_disconnect(&error) => return Ok(()),
                    Err(error) => return Err(Error::Protocol(error)),
                },
                TOKEN_HOST => lock(state).host_event(),
                token => ring_event(&mut lock(state), token),
            }
        }
    }
}

fn ring_event(state: &mut State, token: u64) {
    let index = token.checked_sub(TOKEN_RING).and_then(|index| usize::try_from(index).ok());
    if let Some(index) = index {
        // Drained before the work, so that a kick during the work is not lost. A message earlier in this
        // batch may have stopped the ring: then there is no descriptor left and nothing happens.
        if let Some(ring) = state.rings.get(index) {
            ring.drain_kick();
        }
        state.queue_event(index);
    }
}

fn wait<'e>(
    watch: &Watch,
    events: &'e mut [EpollEvent],
) -> Result<impl Iterator<Item = &'e EpollEvent>, Error> {
    loop {
        match watch.0.wait(-1, events) {
            Ok(count) => return Ok(events.iter().take(count)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::EventLoop(error)),
        }
    }
}

/// A VMM that exits or is killed closes the socket between messages or in the middle of one.
fn is_disconnect(error: &ProtocolError) -> bool {
    matches!(
        error,
        ProtocolError::Disconnected | ProtocolError::PartialMessage | ProtocolError::SocketBroken(_)
    )
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic elsewhere ends this thread, so a poisoned lock is only ever met while unwinding.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
