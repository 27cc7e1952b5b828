//! The device: one queue of buffers to fill.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::Writer;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::REQUEST_BYTES_MAX;
use crate::devices::turn::{self, Left};
use crate::devices::{Device, Vring};
use crate::memory::GuestMemory;

const QUEUE_SIZES: [u16; 1] = [64];
/// Bytes taken from the host's kernel at once.
const CHUNK_BYTES: usize = 4096;

/// The entropy device.
#[derive(Debug)]
pub struct Rng {
    /// Readable while a turn ended before its queue did.
    again: EventFd,
}

impl Rng {
    /// Makes an entropy device.
    ///
    /// # Errors
    /// Those of `eventfd(2)`.
    pub fn new() -> io::Result<Self> {
        Ok(Self { again: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)? })
    }

    fn turn(&self, memory: &GuestMemory, vrings: &mut [Vring<'_>]) {
        let [vring] = vrings else { return };
        if turn::serve(memory, vring, |_, writer| fill(writer)) == Left::More {
            let _ = self.again.write(1);
        }
    }
}

/// Fills the buffers, up to the limit, and says how many bytes that were.
fn fill(writer: &mut Writer<'_>) -> u32 {
    let mut chunk = [0; CHUNK_BYTES];
    let mut left = writer.available_bytes().min(REQUEST_BYTES_MAX);
    let mut filled = 0_u32;
    while left > 0 {
        let wanted = left.min(CHUNK_BYTES);
        let Some(part) = chunk.get_mut(..wanted) else { break };
        let Some(count) = random(part) else { break };
        let Some(part) = chunk.get(..count) else { break };
        if writer.write_all(part).is_err() {
            break;
        }
        left -= count;
        filled = filled.saturating_add(u32::try_from(count).unwrap_or_default());
    }
    filled
}

/// Random bytes at the start of `buffer`: how many, or `None` where the kernel has none to give.
fn random(buffer: &mut [u8]) -> Option<usize> {
    // SAFETY: the kernel writes at most `len` bytes to the start of the buffer, which is that long.
    let count = unsafe { libc::getrandom(buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(count).ok().filter(|count| *count > 0)
}

impl Device for Rng {
    fn id(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    fn acknowledge(&mut self, _features: u64) {}

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        turn::read_config(&[], offset, data);
    }

    fn queue_event(&mut self, _index: usize, memory: &GuestMemory, vrings: &mut [Vring<'_>]) {
        self.turn(memory, vrings);
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the eventfd lives as long as `self`, and so as long as the borrow.
        Some(unsafe { BorrowedFd::borrow_raw(self.again.as_raw_fd()) })
    }

    fn host_event(&mut self, memory: &GuestMemory, vrings: &mut [Vring<'_>]) {
        let _ = self.again.read();
        self.turn(memory, vrings);
    }

    fn reset(&mut self) {
        let _ = self.again.read();
    }
}
