//! The interrupt of one device: status bits and an edge on its line.

use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

/// A used buffer, or a change of configuration (virtio 1.2 §4.2.2, `InterruptStatus`).
const USED_BUFFER: u32 = 1;
const CONFIGURATION: u32 = 2;

pub(super) struct Interrupt {
    status: AtomicU32,
    line: EventFd,
}

impl Interrupt {
    pub(super) fn new(line: EventFd) -> Self {
        Self { status: AtomicU32::new(0), line }
    }

    /// The device used buffers.
    pub(super) fn used_buffer(&self) {
        self.raise(USED_BUFFER);
    }

    /// The device needs a reset, or its configuration changed.
    pub(super) fn configuration_changed(&self) {
        self.raise(CONFIGURATION);
    }

    fn raise(&self, bit: u32) {
        // The bit first: the guest reads it in answer to the edge.
        self.status.fetch_or(bit, Ordering::SeqCst);
        let _ = self.line.write(1);
    }

    pub(super) fn status(&self) -> u32 {
        self.status.load(Ordering::SeqCst)
    }

    pub(super) fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::SeqCst);
    }

    pub(super) fn clear(&self) {
        self.status.store(0, Ordering::SeqCst);
    }
}
