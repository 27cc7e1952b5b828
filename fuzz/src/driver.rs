//! A guest's driver: rings and buffers in guest memory, written by hand, as honest or as broken as a target wants.

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_core::devices::{Device, Vring};
use vmm_core::memory::GuestMemory;

/// Guest memory, in two regions that touch.
const MEMORY_BYTES: u64 = 0x20_0000;
/// Rings of queue `n` are in the page block that begins at `(n + 1) * BLOCK`.
const BLOCK: u64 = 0x1_0000;
const AVAIL: u64 = 0x8000;
const USED: u64 = 0xa000;
/// Where buffers are taken from, round and round.
const BUFFERS: u64 = 0x8_0000;
/// Descriptors of each queue.
const SIZE: u16 = 64;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// One descriptor of a chain.
pub enum Part<'p> {
    /// For the device to read.
    Out(&'p [u8]),
    /// For the device to write.
    In(u32),
    /// Anything: address, length, flags, next.
    Raw(u64, u32, u16, u16),
}

/// A chain that came back: address of its first writable buffer, and the bytes used.
pub struct Used {
    address: u64,
    /// As the device wrote it into the used ring.
    pub bytes: u32,
}

/// The guest's side of one device.
pub struct Driver {
    memory: GuestMemory,
    queues: Vec<Queue>,
    /// For each queue: next free descriptor, next entry of the used ring.
    positions: Vec<(u16, u16)>,
    /// For each queue and head: where the answer goes.
    answers: Vec<[u64; SIZE as usize]>,
    next_buffer: u64,
}

impl Driver {
    /// A driver that has set up all queues of `device`.
    pub fn new(device: &dyn Device) -> Self {
        let half = usize::try_from(MEMORY_BYTES / 2).unwrap();
        let second = GuestAddress(MEMORY_BYTES / 2);
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), half), (second, half)]).unwrap();
        let count = device.queue_sizes().len();
        let queues = (0..count).map(|index| {
            let base = block(index);
            let mut queue = Queue::new(SIZE).unwrap();
            queue.try_set_desc_table_address(GuestAddress(base)).unwrap();
            queue.try_set_avail_ring_address(GuestAddress(base + AVAIL)).unwrap();
            queue.try_set_used_ring_address(GuestAddress(base + USED)).unwrap();
            queue.set_ready(true);
            queue
        });
        let queues = queues.collect();
        let (positions, answers) = (vec![(0, 0); count], vec![[0; SIZE as usize]; count]);
        Self { memory, queues, positions, answers, next_buffer: BUFFERS }
    }

    /// Puts a chain into `queue`. Descriptors are used round and round: one that is still with the device is
    /// overwritten, as a hostile guest would.
    pub fn offer(&mut self, queue: usize, parts: &[Part<'_>]) {
        let head = self.positions[queue].0 % SIZE;
        let mut answer = 0;
        for (part, left) in parts.iter().zip((0..parts.len()).rev()) {
            let index = self.positions[queue].0 % SIZE;
            let following = (index + 1) % SIZE;
            let more = if left > 0 { NEXT } else { 0 };
            let (address, bytes, flags, next) = match *part {
                Part::Out(data) => {
                    let bytes = u32::try_from(data.len()).unwrap();
                    let address = self.buffer(bytes);
                    self.memory.write_slice(data, GuestAddress(address)).unwrap();
                    (address, bytes, more, following)
                }
                Part::In(bytes) => (self.buffer(bytes), bytes, more | WRITE, following),
                Part::Raw(address, bytes, flags, next) => (address, bytes, flags, next),
            };
            if flags & WRITE != 0 && answer == 0 {
                answer = address;
            }
            let at = block(queue) + u64::from(index) * 16;
            self.store(at, address);
            self.store(at + 8, bytes);
            self.store(at + 12, flags);
            self.store(at + 14, next);
            self.positions[queue].0 = self.positions[queue].0.wrapping_add(1);
        }
        self.answers[queue][usize::from(head)] = answer;
        let avail = block(queue) + AVAIL;
        let index: u16 = self.memory.read_obj(GuestAddress(avail + 2)).unwrap();
        self.store(avail + 4 + 2 * u64::from(index % SIZE), head);
        self.store(avail + 2, index.wrapping_add(1));
    }

    /// Writes nonsense into the rings or buffers of a queue, `offset` bytes into its block.
    pub fn scribble(&mut self, queue: usize, offset: u16, bytes: &[u8]) {
        let _ = self.memory.write_slice(bytes, GuestAddress(block(queue) + u64::from(offset)));
    }

    /// Tells the device of a queue.
    pub fn kick(&mut self, device: &mut dyn Device, queue: usize) {
        let memory = self.memory.clone();
        self.with_vrings(|vrings| device.queue_event(queue, &memory, vrings));
    }

    /// Tells the device that its host descriptor is readable.
    pub fn host_event(&mut self, device: &mut dyn Device) {
        let memory = self.memory.clone();
        self.with_vrings(|vrings| device.host_event(&memory, vrings));
    }

    /// The next chain that came back.
    pub fn used(&mut self, queue: usize) -> Option<Used> {
        let used = block(queue) + USED;
        let end: u16 = self.memory.read_obj(GuestAddress(used + 2)).unwrap();
        let seen = self.positions[queue].1;
        if seen == end {
            return None;
        }
        self.positions[queue].1 = seen.wrapping_add(1);
        let entry = used + 4 + 8 * u64::from(seen % SIZE);
        let head: u32 = self.memory.read_obj(GuestAddress(entry)).unwrap();
        let bytes: u32 = self.memory.read_obj(GuestAddress(entry + 4)).unwrap();
        let address = self.answers[queue].get(usize::try_from(head).unwrap()).copied().unwrap_or(0);
        Some(Used { address, bytes })
    }

    /// What the device wrote into a chain.
    pub fn read(&self, used: &Used) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(used.bytes).unwrap()];
        self.memory.read_slice(&mut bytes, GuestAddress(used.address)).unwrap();
        bytes
    }

    fn with_vrings(&mut self, action: impl FnOnce(&mut [Vring<'_>])) {
        let interrupt = || {};
        let vring = |queue| Vring { queue, interrupt: &interrupt as &dyn Fn() };
        let mut vrings: Vec<Vring<'_>> = self.queues.iter_mut().map(vring).collect();
        action(&mut vrings);
    }

    fn store<T: vm_memory::ByteValued>(&self, at: u64, value: T) {
        self.memory.write_obj(value, GuestAddress(at)).unwrap();
    }

    fn buffer(&mut self, bytes: u32) -> u64 {
        let bytes = u64::from(bytes);
        if self.next_buffer + bytes > MEMORY_BYTES {
            self.next_buffer = BUFFERS;
        }
        let address = self.next_buffer;
        self.next_buffer += bytes;
        address
    }
}

fn block(queue: usize) -> u64 {
    (u64::try_from(queue).unwrap() + 1) * BLOCK
}
