//! A guest driver for tests: lays chains out in memory by hand, kicks, and reads what was used.

use std::cell::Cell;

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::{Device, Vring};
use crate::memory::GuestMemory;

const MEMORY_BYTES: usize = 16 << 20;
/// Rings of queue `n` begin at `(n + 1) * RINGS_BYTES`; buffers begin behind all of them.
const RINGS_BYTES: u64 = 0x1_0000;
const BUFFERS: u64 = 0x10_0000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// One descriptor of a chain.
#[derive(Clone, Copy)]
pub(crate) enum Part<'p> {
    /// For the device to read.
    Out(&'p [u8]),
    /// For the device to write.
    In(u32),
    /// For the device to write, at an address of the test's choice.
    At(u64, u32),
}

/// Where a chain's writable part begins, and how long it is.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    address: u64,
    bytes: usize,
}

pub(crate) struct Driver {
    pub(crate) memory: GuestMemory,
    queues: Vec<Queue>,
    /// Next free descriptor and next entry of the used ring, for each queue.
    positions: Vec<(u16, u16)>,
    next_buffer: u64,
    pub(crate) interrupts: Cell<u32>,
}

impl Driver {
    pub(crate) fn new(device: &dyn Device) -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
        let queue = |(size, number): (&u16, u64)| {
            let mut queue = Queue::new(*size).unwrap();
            let base = (number + 1) * RINGS_BYTES;
            queue.try_set_desc_table_address(GuestAddress(base)).unwrap();
            queue.try_set_avail_ring_address(GuestAddress(base + 0x8000)).unwrap();
            queue.try_set_used_ring_address(GuestAddress(base + 0xa000)).unwrap();
            queue.set_ready(true);
            queue
        };
        let queues: Vec<Queue> = device.queue_sizes().iter().zip(0..).map(queue).collect();
        let positions = vec![(0, 0); queues.len()];
        Self { memory, queues, positions, next_buffer: BUFFERS, interrupts: Cell::new(0) }
    }

    /// Offers a chain in `queue`. The device is not told.
    pub(crate) fn offer(&mut self, queue: usize, parts: &[Part<'_>]) -> Answer {
        let table = (u64::try_from(queue).unwrap() + 1) * RINGS_BYTES;
        let head = self.positions[queue].0;
        let mut answer = Answer { address: self.next_buffer, bytes: 0 };
        for (part, left) in parts.iter().zip((0..parts.len()).rev()) {
            let (address, bytes, write) = match *part {
                Part::Out(data) => {
                    self.memory.write_slice(data, GuestAddress(self.next_buffer)).unwrap();
                    (self.next_buffer, u32::try_from(data.len()).unwrap(), 0)
                }
                Part::In(bytes) => (self.next_buffer, bytes, WRITE),
                Part::At(address, bytes) => (address, bytes, WRITE),
            };
            if write != 0 && answer.bytes == 0 {
                answer.address = address;
            }
            answer.bytes += if write == 0 { 0 } else { usize::try_from(bytes).unwrap() };
            self.next_buffer += if matches!(part, Part::At(..)) { 0 } else { u64::from(bytes) };
            let index = self.positions[queue].0;
            let flags = write | if left > 0 { NEXT } else { 0 };
            let at = table + u64::from(index) * 16;
            self.memory.write_obj(address, GuestAddress(at)).unwrap();
            self.memory.write_obj(bytes, GuestAddress(at + 8)).unwrap();
            self.memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
            self.memory.write_obj(index + 1, GuestAddress(at + 14)).unwrap();
            self.positions[queue].0 += 1;
        }
        let available = table + 0x8000;
        let index: u16 = self.memory.read_obj(GuestAddress(available + 2)).unwrap();
        let slot = available + 4 + 2 * u64::from(index % self.queues[queue].size());
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.memory.write_obj(index + 1, GuestAddress(available + 2)).unwrap();
        answer
    }

    /// Tells the device of its queue.
    pub(crate) fn kick(&mut self, device: &mut dyn Device, queue: usize) {
        let memory = self.memory.clone();
        self.with_vrings(|vrings| device.queue_event(queue, &memory, vrings));
    }

    /// Tells the device that its host descriptor is readable.
    pub(crate) fn host_event(&mut self, device: &mut dyn Device) {
        let memory = self.memory.clone();
        self.with_vrings(|vrings| device.host_event(&memory, vrings));
    }

    fn with_vrings(&mut self, action: impl FnOnce(&mut [Vring<'_>])) {
        let interrupt = || self.interrupts.set(self.interrupts.get() + 1);
        let mut vrings: Vec<Vring<'_>> =
            self.queues.iter_mut().map(|queue| Vring { queue, interrupt: &interrupt }).collect();
        action(&mut vrings);
    }

    /// Bytes used in each chain that came back since the last call.
    pub(crate) fn used(&mut self, queue: usize) -> Vec<u32> {
        let ring = (u64::try_from(queue).unwrap() + 1) * RINGS_BYTES + 0xa000;
        let end: u16 = self.memory.read_obj(GuestAddress(ring + 2)).unwrap();
        let start = std::mem::replace(&mut self.positions[queue].1, end);
        let size = self.queues[queue].size();
        (start..end)
            .map(|index| ring + 4 + 8 * u64::from(index % size))
            .map(|entry| self.memory.read_obj(GuestAddress(entry + 4)).unwrap())
            .collect()
    }

    /// What the device wrote.
    pub(crate) fn read(&self, answer: Answer) -> Vec<u8> {
        let mut bytes = vec![0; answer.bytes];
        self.memory.read_slice(&mut bytes, GuestAddress(answer.address)).unwrap();
        bytes
    }
}
