//! A virtual machine: what it is made of, the running thing, and the reason for its end.
//!
//! It must never: exit the process, leave a thread or a descriptor behind, or install a signal handler.
//!
//! ```text
//! Vm::builder() ─► Builder ─ build ─► Vm ─ start ─► Handle ─ wait ─► ExitReason
//!   plain data       loads all, no      threads: vcpu0…, virtio-…      joined, closed
//!                    thread yet
//! ```

mod builder;
mod handle;

pub use builder::Builder;
pub use handle::{Handle, Stopper};

use std::sync::Arc;

use kvm_ioctls::VmFd;

use crate::boot::BootError;
use crate::bus::Overlap;
use crate::exit::Exit;
use crate::kvm;
use crate::mmio::{AttachError, Transport};
use crate::vcpu::{Buses, Vcpu};

/// Why a virtual machine cannot be made or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// No usable KVM.
    #[error(transparent)]
    Kvm(#[from] kvm::OpenError),
    /// KVM lacks something that every KVM of the last ten years has.
    #[error("this KVM lacks {0}; use Linux 5.10 or later on the host")]
    Capability(&'static str),
    /// A call to KVM failed.
    #[error("KVM refused to {action}: {source}")]
    Ioctl {
        /// What was wanted.
        action: &'static str,
        /// What KVM said.
        source: kvm_ioctls::Error,
    },
    /// No kernel was given.
    #[error("no kernel was given; call `kernel` before `build`")]
    NoKernel,
    /// A number outside its limits.
    #[error("{what} must be between {min} and {max}, not {given}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
        /// What was given.
        given: u64,
    },
    /// Guest memory could not be mapped.
    #[error("cannot map {mib} MiB of guest memory: {source}; use less, or raise the limit on address space")]
    Memory {
        /// Size asked for.
        mib: u32,
        /// What the host said.
        source: vm_memory::mmap::FromRangesError,
    },
    /// The kernel could not be loaded.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A device could not be attached.
    #[error("cannot attach the virtio device with id {id}: {source}")]
    Attach {
        /// Virtio device id.
        id: u32,
        /// What failed.
        source: AttachError,
    },
    /// Two devices at one address.
    #[error(transparent)]
    Layout(#[from] Overlap),
    /// A descriptor or a thread could not be made.
    #[error("cannot make a thread or a file descriptor: {0}; check the limits on both")]
    Host(#[from] std::io::Error),
}

/// A virtual machine with everything loaded, not yet running. It has no thread.
pub struct Vm {
    exit: Arc<Exit>,
    buses: Arc<Buses>,
    vcpus: Vec<Vcpu>,
    transports: Vec<Arc<Transport>>,
    /// Last, so that it is closed after the vCPUs and the events that belong to it.
    fd: VmFd,
}

impl Vm {
    /// Starts a description: 256 MiB, one vCPU, no devices.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts all threads.
    ///
    /// # Errors
    /// [`VmError::Host`] when a thread cannot be started; those that were are ended again.
    pub fn start(self) -> Result<Handle, VmError> {
        let Self { exit, buses, vcpus, transports, fd } = self;
        // From here on, an early return drops the handle, which ends and joins what has been started.
        let mut handle = Handle::new(Arc::clone(&exit), fd);
        for (transport, number) in transports.into_iter().zip(0_u32..) {
            let name = format!("virtio{number}-id{}", transport.id());
            handle.devices.push(exit.spawn(name, move |exit| crate::mmio::run(&transport, exit))?);
        }
        for (vcpu, number) in vcpus.into_iter().zip(0_u32..) {
            let buses = Arc::clone(&buses);
            handle.vcpus.push(exit.spawn(format!("vcpu{number}"), move |exit| vcpu.run(&buses, exit))?);
        }
        Ok(handle)
    }
}
