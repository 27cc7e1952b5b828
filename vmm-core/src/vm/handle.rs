//! A running virtual machine: wait for it, or stop it.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use kvm_ioctls::VmFd;

use crate::exit::{Exit, ExitReason};

/// A running virtual machine. Dropping it stops the guest and waits for its threads.
///
/// As a file descriptor ([`AsFd`]) it becomes readable when the guest ends; do not read from it.
pub struct Handle {
    exit: Arc<Exit>,
    pub(super) vcpus: Vec<JoinHandle<()>>,
    pub(super) devices: Vec<JoinHandle<()>>,
    /// Keeps the virtual machine itself until all its threads are gone.
    _fd: VmFd,
}

impl Handle {
    pub(super) fn new(exit: Arc<Exit>, fd: VmFd) -> Self {
        Self { exit, vcpus: Vec::new(), devices: Vec::new(), _fd: fd }
    }

    /// Waits until the guest ends, then for all threads; closes everything.
    #[must_use = "a guest can end in many ways"]
    pub fn wait(mut self) -> ExitReason {
        self.join()
    }

    /// Ends the guest at its next instruction, without its help; returns at once. Harmless when it has
    /// ended already. To let the guest sync its disks, ask its agent to shut down instead.
    pub fn stop(&self) {
        self.exit.set(ExitReason::Stopped);
    }

    /// A handle that can only stop, for another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.exit))
    }

    /// Why the guest ended, if it has.
    #[must_use]
    pub fn exit_reason(&self) -> Option<ExitReason> {
        self.exit.reason()
    }

    fn join(&mut self) -> ExitReason {
        // The vCPUs first: as long as one runs, the guest may still have something to say to a device.
        // The bodies catch their own panics, so there is no error left to hear of.
        for thread in self.vcpus.drain(..) {
            let _ = thread.join();
        }
        // Only without any vCPU thread, when starting failed half-way, is there no reason yet.
        let reason = self.exit.reason().unwrap_or(ExitReason::Stopped);
        self.exit.set(reason.clone());
        for thread in self.devices.drain(..) {
            let _ = thread.join();
        }
        reason
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the eventfd lives as long as `exit`, which `self` holds.
        unsafe { BorrowedFd::borrow_raw(self.exit.event().as_raw_fd()) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
        self.join();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("exit_reason", &self.exit_reason()).finish_non_exhaustive()
    }
}

/// Stops a virtual machine; see [`Handle::stop`]. Clone it freely; it does not keep the guest running.
#[derive(Clone)]
pub struct Stopper(Arc<Exit>);

impl Stopper {
    /// Ends the guest.
    pub fn stop(&self) {
        self.0.set(ExitReason::Stopped);
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").field("exit_reason", &self.0.reason()).finish()
    }
}
