//! A microVM as a library: KVM, a Linux guest, virtio devices, and the same devices over vhost-user.

#[cfg(feature = "kvm")]
mod arch;
#[cfg(feature = "kvm")]
mod boot;
#[cfg(feature = "kvm")]
mod bus;
pub mod devices;
#[cfg(feature = "kvm")]
mod exit;
#[cfg(target_arch = "x86_64")]
pub mod host_tsc;
#[cfg(feature = "kvm")]
pub mod kvm;
#[cfg(feature = "fs")]
pub mod host_path;
pub mod limits;
pub mod memory;
#[cfg(feature = "kvm")]
mod mmio;
#[cfg(feature = "kvm")]
pub mod probe;
#[cfg(feature = "kvm")]
mod vcpu;
#[cfg(feature = "vhost-user")]
pub mod vhost_user;
#[cfg(feature = "kvm")]
pub mod vm;

#[cfg(feature = "kvm")]
pub use boot::{BootError, Image};
#[cfg(feature = "kvm")]
pub use exit::{ExitReason, Failure};
#[cfg(feature = "kvm")]
pub use mmio::AttachError;
#[cfg(feature = "kvm")]
pub use vm::{Vm, VmError};
