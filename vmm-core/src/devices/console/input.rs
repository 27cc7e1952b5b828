//! Input on its way to the guest: a bounded buffer and the event that announces it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::INPUT_BYTES_MAX;

/// The keyboard of a console: what is sent here, the guest reads. Clone it freely.
#[derive(Clone, Debug)]
pub struct ConsoleInput(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<VecDeque<u8>>,
    event: EventFd,
}

impl ConsoleInput {
    pub(super) fn new() -> io::Result<Self> {
        let event = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        Ok(Self(Arc::new(Shared { waiting: Mutex::default(), event })))
    }

    /// Takes as much of `bytes` as there is room for and says how much that was. What does not fit has to
    /// be sent again later: the guest is not reading.
    #[must_use = "what was not taken is not sent"]
    pub fn send(&self, bytes: &[u8]) -> usize {
        let mut waiting = self.waiting();
        let room = INPUT_BYTES_MAX.saturating_sub(waiting.len()).min(bytes.len());
        waiting.extend(bytes.iter().take(room));
        drop(waiting);
        self.wake();
        room
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, VecDeque<u8>> {
        // Nothing under this lock panics half-way.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the device look.
    pub(super) fn wake(&self) {
        let _ = self.0.event.write(1);
    }

    pub(super) fn drain_event(&self) {
        let _ = self.0.event.read();
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the eventfd lives as long as `self`, and so as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.0.event.as_raw_fd()) }
    }
}
