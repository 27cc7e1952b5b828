//! Where the guest runs: one interface over our own VMM and QEMU's software emulation.
//!
//! Both get the very same devices; only what carries them differs.

pub mod choose;
mod console;
pub mod kvm;
pub mod qemu;

use std::path::PathBuf;

use vmm_core::devices::Device;

use crate::error::Result;

pub use choose::{Choice, EngineKind};

/// What the machine is made of.
pub struct Hardware {
    /// Uncompressed kernel with a PVH entry.
    pub vmlinux: PathBuf,
    pub initramfs: PathBuf,
    pub cpus: u8,
    pub memory_mib: u32,
    pub vsock: Box<dyn Device>,
    pub fs: Box<dyn Device>,
}

/// A running machine. Dropping it ends it.
pub enum Machine {
    Kvm(kvm::Machine),
    Qemu(qemu::Machine),
}

impl Machine {
    /// Starts the machine; returns as soon as its processor runs.
    pub fn start(kind: EngineKind, hardware: Hardware) -> Result<Self> {
        match kind {
            EngineKind::Kvm => kvm::Machine::start(hardware).map(Self::Kvm),
            EngineKind::Qemu => qemu::Machine::start(hardware).map(Self::Qemu),
        }
    }

    /// Whether the machine has ended, and how, in words.
    pub fn ended(&mut self) -> Option<String> {
        match self {
            Self::Kvm(machine) => machine.ended(),
            Self::Qemu(machine) => machine.ended(),
        }
    }

    /// The last lines of the guest's serial console, for an error message.
    pub fn console_tail(&self) -> String {
        match self {
            Self::Kvm(machine) => machine.console.tail(),
            Self::Qemu(machine) => machine.console.tail(),
        }
    }

    /// Ends the machine and waits until nothing of it is left.
    pub fn stop(self) {
        match self {
            Self::Kvm(machine) => machine.stop(),
            Self::Qemu(machine) => machine.stop(),
        }
    }
}
