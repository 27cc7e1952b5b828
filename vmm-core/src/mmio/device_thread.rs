//! The one thread of a device: kicks, the device's host side and the end of the guest in one epoll set.
//!
//! It must never block anywhere but in `epoll_wait`, nor call a device that the driver has not started.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use virtio_queue::Queue;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::Transport;
use crate::devices::{Device, Vring};
use crate::exit::{Exit, ExitReason, Failure};

/// Events taken per wait; what does not fit comes with the next.
const EVENTS_MAX: usize = 16;

// Event tokens; from TOKEN_QUEUE on, one per queue.
const TOKEN_EXIT: u64 = 0;
const TOKEN_HOST: u64 = 1;
const TOKEN_QUEUE: u64 = 16;

/// The epoll set. vCPU threads change it too: a reset must not leave the host side watched.
pub(super) struct Watch(Epoll);

impl Watch {
    pub(super) fn new(kicks: &[EventFd]) -> io::Result<Self> {
        let watch = Self(Epoll::new()?);
        for (kick, token) in kicks.iter().zip(TOKEN_QUEUE..) {
            watch.add(kick, token)?;
        }
        Ok(watch)
    }

    fn add(&self, fd: &impl AsRawFd, token: u64) -> io::Result<()> {
        self.0.ctl(ControlOperation::Add, fd.as_raw_fd(), EpollEvent::new(EventSet::IN, token))
    }

    pub(super) fn set_host(&self, fd: BorrowedFd<'_>, watched: bool) -> io::Result<()> {
        if watched {
            self.add(&fd, TOKEN_HOST)
        } else {
            self.0.ctl(ControlOperation::Delete, fd.as_raw_fd(), EpollEvent::default())
        }
    }
}

/// Runs the device of `transport` until the guest has ended, and resets it then.
pub(crate) fn run(transport: &Transport, exit: &Exit) {
    let result = transport.watch.add(exit.event(), TOKEN_EXIT).and_then(|()| serve(transport));
    if let Err(error) = result {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        exit.set(ExitReason::Failed(Failure::EventLoop { thread, error: error.to_string() }));
    }
    let mut state = transport.state();
    transport.reset(&mut state);
}

fn serve(transport: &Transport) -> io::Result<()> {
    loop {
        let mut events = [EpollEvent::default(); EVENTS_MAX];
        let count = match transport.watch.0.wait(-1, &mut events) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let mut ended = false;
        for event in events.iter().take(count) {
            match event.data() {
                TOKEN_EXIT => ended = true,
                TOKEN_HOST => host_event(transport),
                token => queue_event(transport, token),
            }
        }
        if ended {
            // The guest's last words may still be in a queue.
            for (_, token) in transport.kicks.iter().zip(TOKEN_QUEUE..) {
                queue_event(transport, token);
            }
            return Ok(());
        }
    }
}

fn queue_event(transport: &Transport, token: u64) {
    let Some(index) = token.checked_sub(TOKEN_QUEUE).and_then(|index| usize::try_from(index).ok()) else {
        return;
    };
    let Some(kick) = transport.kicks.get(index) else { return };
    // Drained before the work, so that a kick during the work is not lost.
    if kick.read().is_ok() {
        with_device(transport, |device, vrings| device.queue_event(index, &transport.memory, vrings));
    }
}

fn host_event(transport: &Transport) {
    with_device(transport, |device, vrings| device.host_event(&transport.memory, vrings));
}

/// Lends the device and its rings to `action`, if the driver has started it.
fn with_device(transport: &Transport, action: impl FnOnce(&mut dyn Device, &mut [Vring<'_>])) {
    let mut state = transport.state();
    if !state.is_active() {
        return;
    }
    let state = &mut *state;
    let interrupt = || transport.interrupt.used_buffer();
    let vring = |queue| Vring { queue, interrupt: &interrupt };
    let mut vrings: Vec<Vring<'_>> = state.queues.iter_mut().map(|queue: &mut Queue| vring(queue)).collect();
    action(state.device.as_mut(), &mut vrings);
}
