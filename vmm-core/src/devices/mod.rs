//! Virtio devices, each independent of how it reaches the guest.
//!
//! A [`Device`] knows queues, configuration space and its own host side. It does not know whether
//! virtio-mmio inside our own VM or vhost-user inside somebody else's carries it: `mmio.rs` and
//! `vhost_user.rs` are the only two callers. Every device runs on one thread that owns it, so a device
//! needs no locks of its own.

pub mod blk;
pub mod console;
#[cfg(test)]
mod driver;
#[cfg(feature = "fs")]
pub mod fs;
pub mod rng;
mod turn;
pub mod vsock;

use std::os::fd::BorrowedFd;

use virtio_queue::{Queue, QueueT};

use crate::memory::GuestMemory;

/// One virtqueue together with the means to interrupt the guest about it.
pub struct Vring<'a> {
    /// Ring addresses and indices, validated by `virtio-queue`.
    pub queue: &'a mut Queue,
    /// Raises the used-buffer interrupt of this queue, unconditionally.
    pub interrupt: &'a dyn Fn(),
}

impl Vring<'_> {
    /// Interrupts the guest if it asked to hear about the buffers used since the last call
    /// (virtio 1.2 §2.7.7 and §2.7.10, notification suppression and `EVENT_IDX`).
    pub fn signal_used(&mut self, memory: &GuestMemory) {
        // A ring whose suppression field cannot be read is interrupted about: a spurious interrupt is
        // legal, a lost one hangs the guest.
        if self.queue.needs_notification(memory).unwrap_or(true) {
            (self.interrupt)();
        }
    }
}

/// A virtio device.
///
/// The caller guarantees: `queue_event` and `host_event` come only between feature negotiation and
/// [`reset`](Device::reset), from one thread, with as many `vrings` as [`queue_sizes`](Device::queue_sizes)
/// has entries. Vrings that the driver never enabled have `queue.ready() == false`; a device skips them.
pub trait Device: Send {
    /// Device id of virtio 1.2 §5 (1 = net, 2 = block, 3 = console, 4 = entropy, 19 = socket, 26 = fs).
    fn id(&self) -> u32;

    /// Largest size of each queue, in descriptors; powers of two.
    fn queue_sizes(&self) -> &[u16];

    /// Feature bits offered, `VIRTIO_F_VERSION_1` included.
    fn features(&self) -> u64;

    /// Feature bits that the driver accepted; always a subset of [`features`](Device::features).
    fn acknowledge(&mut self, features: u64);

    /// Reads configuration space. Bytes beyond the device's configuration read as zero.
    fn read_config(&self, offset: u32, data: &mut [u8]);

    /// Writes configuration space; ignored by devices that have no writable field.
    fn write_config(&mut self, _offset: u32, _data: &[u8]) {}

    /// The driver kicked queue `index`.
    fn queue_event(&mut self, index: usize, memory: &GuestMemory, vrings: &mut [Vring<'_>]);

    /// A descriptor that becomes readable when [`host_event`](Device::host_event) has work: typically an
    /// epoll descriptor that nests all host-side descriptors of the device.
    /// Watched only while a queue is ready: before that the device could not make it unreadable again.
    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// [`host_fd`](Device::host_fd) became readable.
    fn host_event(&mut self, _memory: &GuestMemory, _vrings: &mut [Vring<'_>]) {}

    /// The driver reset the device: drop every connection and all negotiated state.
    fn reset(&mut self);
}
