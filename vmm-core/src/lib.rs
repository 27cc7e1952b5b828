//! A microVM as a library: KVM, a Linux guest, virtio devices, and the same devices over vhost-user.
//!
//! It boots an unmodified distribution kernel (`vmlinuz` or `vmlinux`) with an initramfs of yours in a
//! virtual machine that has no firmware, no PCI bus and no network card, and returns when the guest ends.
//! Where KVM is missing or cannot run Linux ([`probe`] tells within milliseconds), [`vhost_user`] serves
//! the same devices to QEMU.
//!
//! It never: trusts a number that the guest wrote, exits the process, installs a signal handler, needs
//! root or a daemon, leaves a thread or a file descriptor behind.
//!
//! ```text
//!            your program
//!  kernel, initramfs │        ▲ ExitReason
//!                    ▼        │
//!   Vm::builder() ─► Vm ─► Handle          vhost_user::serve ─► Server
//!                    │ threads                   │ thread
//!     vCPUs ── bus ──┼── mmio ──┐                │ unix socket ── QEMU
//!     (KVM)          │          ▼                ▼
//!                    │     devices::{vsock, fs, blk, rng, console} ── host side: sockets, files
//!                    ▼
//!              guest memory
//! ```
//!
//! # A guest in ten lines
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::fs::File;
//! use vmm_core::devices::{console::Console, rng::Rng, vsock};
//! use vmm_core::{ExitReason, Vm};
//!
//! let (vsock, host) = vsock::new(vsock::VsockConfig::default())?;
//! host.listen(1024, |stream| drop(stream))?; // what connects from the guest
//! let (console, _keyboard) = Console::new(std::io::stderr())?;
//! let vm = Vm::builder()
//!     .kernel(File::open("vmlinuz")?)
//!     .initramfs(File::open("initramfs.cpio")?)
//!     .command_line("console=hvc0 quiet reboot=k panic=-1")
//!     .memory_mib(512)
//!     .device(Box::new(vsock))
//!     .device(Box::new(Rng::new()?))
//!     .device(Box::new(console))
//!     .build()?;
//! match vm.start()?.wait() {
//!     ExitReason::PowerOff | ExitReason::Reset => println!("done"),
//!     other => eprintln!("{other}"),
//! }
//! # Ok(()) }
//! ```
//!
//! # What is wrong with a description is said before anything runs
//!
//! ```
//! # #[cfg(feature = "kvm")] {
//! use vmm_core::Vm;
//!
//! let error = Vm::builder().kernel(b"not a kernel".to_vec()).cpus(0).build().err();
//! assert_eq!(error.unwrap().to_string(), "the number of vCPUs must be between 1 and 32, not 0");
//! # }
//! ```
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_possible_truncation
)]
#![cfg_attr(test, allow(clippy::cast_possible_truncation))]

#[cfg(feature = "kvm")]
mod arch;
#[cfg(feature = "kvm")]
mod boot;
#[cfg(feature = "kvm")]
mod bus;
pub mod devices;
#[cfg(feature = "kvm")]
mod exit;
pub mod host_child;
#[cfg(feature = "fs")]
pub mod host_path;
#[cfg(target_arch = "x86_64")]
pub mod host_tsc;
#[cfg(feature = "kvm")]
pub mod kvm;
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
pub use bus::Overlap;
#[cfg(feature = "kvm")]
pub use exit::{ExitReason, Failure};
#[cfg(feature = "kvm")]
pub use mmio::AttachError;
#[cfg(feature = "kvm")]
pub use vm::{Vm, VmError};
