//! The virtio device: takes packets off the transmit queue, puts packets into the receive queue.
//!
//! It must never: loop for as long as the guest likes (both directions have a budget per turn,
//! [`TURN_PACKETS_MAX`]), lose a wake-up (what is left over is come back to, and buffers are asked for
//! when they are short, CVE-2020-16843), or read more of a chain than `virtio-queue` vouches for.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;
use virtio_queue::{Queue, QueueT};

use super::limits::{QUEUE_SIZE, TURN_PACKETS_MAX};
use super::mux::{Filled, Mux};
use super::segments::Segments;
use crate::devices::{Device, Vring};
use crate::memory::GuestMemory;

/// Receive, transmit and event queue (virtio 1.2 §5.10.2). Nothing is ever sent on the last: its one
/// message, a transport reset, belongs to migration.
const QUEUE_SIZES: [u16; 3] = [QUEUE_SIZE; 3];
const QUEUE_RECEIVE: usize = 0;
const QUEUE_TRANSMIT: usize = 1;

/// The vsock device; see [`new`](super::new).
pub struct Vsock {
    guest_cid: u64,
    mux: Mux,
}

/// Why a queue was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Nothing to do, or nothing to do it with; the guest's next kick brings it on.
    Idle,
    /// The turn is over, there is more.
    Budget,
    /// Packets of the guest wait until it takes its resets.
    Congested,
}

impl Vsock {
    pub(super) fn new(guest_cid: u64, mux: Mux) -> Self {
        Self { guest_cid, mux }
    }

    /// [`Device::host_event`] at a given time.
    pub(super) fn host_event_at(&mut self, memory: &GuestMemory, vrings: &mut [Vring<'_>], now: Instant) {
        self.mux.poll(now);
        self.turn(memory, vrings, now);
    }

    /// One turn over both queues.
    fn turn(&mut self, memory: &GuestMemory, vrings: &mut [Vring<'_>], now: Instant) {
        let [receive, transmit, ..] = vrings else { return };
        let mut stop = self.transmit(memory, transmit);
        let full = self.receive(memory, receive, now);
        if stop == Stop::Congested && !self.mux.is_congested() {
            // The receive queue has just made room.
            stop = self.transmit(memory, transmit);
            stop = if stop == Stop::Congested { Stop::Budget } else { stop };
        }
        if stop == Stop::Budget || full == Stop::Budget {
            self.mux.wake();
        }
        self.mux.arm(now);
    }

    /// Guest to host.
    fn transmit(&mut self, memory: &GuestMemory, vring: &mut Vring<'_>) -> Stop {
        if !vring.queue.ready() {
            return Stop::Idle;
        }
        let mut segments = Segments::new();
        let mut budget = TURN_PACKETS_MAX;
        let stop = loop {
            let _ = vring.queue.disable_notification(memory);
            let before = budget;
            while budget > 0
                && !self.mux.is_congested()
                && let Some(chain) = vring.queue.pop_descriptor_chain(memory)
            {
                budget -= 1;
                let head = chain.head_index();
                // A chain without a readable header is dropped: there is nobody to answer.
                if segments.load(chain, memory, false).is_ok()
                    && let Some(header) = segments.take_header()
                {
                    self.mux.receive(&header, &mut segments);
                }
                let _ = vring.queue.add_used(memory, head, 0);
            }
            if budget == 0 {
                break Stop::Budget;
            }
            if self.mux.is_congested() {
                break Stop::Congested;
            }
            // A ring that claims more and yields nothing is broken; its owner may kick it again.
            let more = vring.queue.enable_notification(memory).unwrap_or(false);
            if !more || budget == before {
                break Stop::Idle;
            }
        };
        if budget < TURN_PACKETS_MAX {
            vring.signal_used(memory);
        }
        stop
    }

    /// Host to guest.
    fn receive(&mut self, memory: &GuestMemory, vring: &mut Vring<'_>, now: Instant) -> Stop {
        if !vring.queue.ready() {
            return Stop::Idle;
        }
        let mut segments = Segments::new();
        let mut budget = TURN_PACKETS_MAX;
        let mut asked = false;
        let mut stop = Stop::Idle;
        while self.mux.has_packets() {
            if budget == 0 {
                stop = Stop::Budget;
                break;
            }
            let position = vring.queue.next_avail();
            let Some(chain) = vring.queue.pop_descriptor_chain(memory) else {
                // Out of buffers: ask for a kick, and look once more in case they came meanwhile.
                if asked || !vring.queue.enable_notification(memory).unwrap_or(false) {
                    break;
                }
                asked = true;
                continue;
            };
            asked = false;
            let head = chain.head_index();
            let filled = match segments.load(chain, memory, true) {
                Ok(()) => self.mux.fill(&segments, now),
                Err(_) => Filled::TooSmall,
            };
            match filled {
                Filled::Packet(bytes) => add_used(vring.queue, memory, head, bytes),
                Filled::TooSmall => add_used(vring.queue, memory, head, 0),
                Filled::Nothing => {
                    // The buffer goes back to where it was taken from.
                    vring.queue.set_next_avail(position);
                    break;
                }
            }
            budget -= 1;
        }
        if budget < TURN_PACKETS_MAX {
            vring.signal_used(memory);
        }
        stop
    }
}

fn add_used(queue: &mut Queue, memory: &GuestMemory, head: u16, bytes: u32) {
    // Fails only if the guest's ring lies outside its memory: then the guest hurts itself alone.
    let _ = queue.add_used(memory, head, bytes);
}

impl Device for Vsock {
    fn id(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    fn acknowledge(&mut self, _features: u64) {
        // The queues know about EVENT_IDX, indirect descriptors are understood in any case, and there is
        // no vsock of before virtio 1.
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        let config = self.guest_cid.to_le_bytes();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let known = config.get(offset..).unwrap_or_default();
        for (to, from) in data.iter_mut().zip(known.iter().chain(std::iter::repeat(&0))) {
            *to = *from;
        }
    }

    fn queue_event(&mut self, index: usize, memory: &GuestMemory, vrings: &mut [Vring<'_>]) {
        if index == QUEUE_RECEIVE || index == QUEUE_TRANSMIT {
            self.turn(memory, vrings, Instant::now());
        }
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.mux.fd())
    }

    fn host_event(&mut self, memory: &GuestMemory, vrings: &mut [Vring<'_>]) {
        self.host_event_at(memory, vrings, Instant::now());
    }

    fn reset(&mut self) {
        self.mux.reset();
    }
}
