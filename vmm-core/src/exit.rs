//! Why a guest ended, told once, and heard by every thread.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::vcpu::kick;

/// Why a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// The guest switched itself off (ACPI S5, or a KVM system event).
    PowerOff,
    /// The guest asked for a reset (i8042 port, or a KVM system event). A virtual machine
    /// is not restarted: the guest's `reboot` is how a kernel without ACPI power management says "done".
    Reset,
    /// The guest faulted while handling a fault; `reboot=t` on the kernel command line does so on purpose.
    TripleFault,
    /// The host program asked, through `Handle::stop`, `Stopper::stop`, or by dropping the handle.
    Stopped,
    /// The guest told KVM that it crashed.
    Crashed,
    /// KVM cannot go on; nothing the guest asked for.
    Failed(Failure),
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("the guest switched itself off"),
            Self::Reset => f.write_str("the guest reset itself"),
            Self::TripleFault => f.write_str("the guest triple-faulted"),
            Self::Stopped => f.write_str("the host stopped the guest"),
            Self::Crashed => f.write_str("the guest reported a crash"),
            Self::Failed(failure) => write!(f, "the virtual machine failed: {failure}"),
        }
    }
}

/// What stopped a virtual machine that should have gone on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// `KVM_RUN` returned an error.
    #[error("KVM_RUN on vCPU {vcpu} returned error {errno}")]
    Run {
        /// Which vCPU.
        vcpu: u8,
        /// `errno` of the call.
        errno: i32,
    },
    /// KVM could not emulate an instruction, or met another inner error.
    #[error("KVM could not go on with vCPU {vcpu} at guest address {rip:#x} (internal error {suberror})")]
    Internal {
        /// Which vCPU.
        vcpu: u8,
        /// KVM's sub-error; 1 is "emulation failed".
        suberror: u32,
        /// Instruction pointer of the vCPU, 0 if KVM would not say.
        rip: u64,
    },
    /// The processor refused the guest's state.
    #[error("the processor refused to enter the guest on vCPU {vcpu} (reason {reason:#x})")]
    Entry {
        /// Which vCPU.
        vcpu: u8,
        /// Reason code of the hardware.
        reason: u64,
    },
    /// An exit that this VMM does not know.
    #[error("vCPU {vcpu} stopped for a reason this VMM does not know: {exit}")]
    Unexpected {
        /// Which vCPU.
        vcpu: u8,
        /// The exit as `kvm-ioctls` names it.
        exit: String,
    },
    /// A thread panicked.
    #[error("the thread {thread} panicked; this is a bug in the VMM or in a device")]
    Panicked {
        /// Name of the thread.
        thread: String,
    },
    /// A device thread could not wait for events.
    #[error("the event loop of {thread} failed: {error}")]
    EventLoop {
        /// Name of the thread.
        thread: String,
        /// What the kernel said.
        error: String,
    },
}

/// Where the first reason to end is kept, and who has to hear of it.
pub(crate) struct Exit {
    ended: AtomicBool,
    reason: Mutex<Option<ExitReason>>,
    /// Readable once the guest has ended; read by nobody, so that it stays readable.
    event: EventFd,
    /// vCPU threads that may be inside `KVM_RUN`. Each takes itself out before it ends, under this lock,
    /// so that no signal is ever sent to a thread that is gone.
    vcpus: Mutex<Vec<libc::pthread_t>>,
}

impl Exit {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            ended: AtomicBool::new(false),
            reason: Mutex::new(None),
            event: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?,
            vcpus: Mutex::default(),
        })
    }

    /// Ends the guest; only the first reason counts.
    pub(crate) fn set(&self, reason: ExitReason) {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.ended.store(true, Ordering::SeqCst);
        let _ = self.event.write(1);
        for thread in self.vcpus.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // SAFETY: the thread is alive, for it removes itself from the list under this lock before it
            // ends; it blocks the signal (see `vcpu::kick`), so nothing but KVM_RUN ever notices it.
            unsafe { libc::pthread_kill(*thread, kick::signal()) };
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    pub(crate) fn reason(&self) -> Option<ExitReason> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Becomes readable when the guest ends.
    pub(crate) fn event(&self) -> &EventFd {
        &self.event
    }

    /// Registers the calling thread for [`set`](Self::set)'s signal until the guard drops.
    pub(crate) fn enroll(&self) -> Enrolled<'_> {
        // SAFETY: no precondition.
        let thread = unsafe { libc::pthread_self() };
        self.vcpus.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Enrolled { exit: self, thread }
    }

    /// Starts a thread of this guest. A panic in it ends the guest instead of leaving it half alive.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: String,
        body: impl FnOnce(&Self) + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let exit = Arc::clone(self);
        let thread = name.clone();
        std::thread::Builder::new().name(name).spawn(move || {
            kick::block_signals();
            // What a panicking body leaves behind is only ever dropped.
            let body = AssertUnwindSafe(|| body(&exit));
            if catch_unwind(body).is_err() {
                exit.set(ExitReason::Failed(Failure::Panicked { thread }));
            }
        })
    }
}

pub(crate) struct Enrolled<'e> {
    exit: &'e Exit,
    thread: libc::pthread_t,
}

impl Drop for Enrolled<'_> {
    fn drop(&mut self) {
        let mut threads = self.exit.vcpus.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| *thread != self.thread);
    }
}
