//! A guest driver whose rings, buffers and packets the tests write by hand.

use std::cell::Cell;
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::{AvailRing, DescriptorTable, UsedRing};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use crate::devices::vsock::packet::{HEADER_BYTES, HOST_CID, Header, Op, TYPE_STREAM};
use crate::devices::vsock::{self, Vsock, VsockConfig, VsockHost};
use crate::devices::{Device, Vring};
use crate::memory::GuestMemory;

pub const QUEUE_SIZE: u16 = 32;
pub const GUEST_CID: u64 = 3;
/// Port of the host that tests listen on.
pub const HOST_PORT: u32 = 3128;
/// Port of the guest that tests connect from.
pub const GUEST_PORT: u32 = 50_000;
/// What the guest announces.
pub const GUEST_BUFFER: u32 = 256 * 1024;

/// Where the second region of guest memory begins. A packet of 64 KiB at [`TX_BUFFER`] crosses it.
const SECOND_REGION: u64 = 0x8_0000;
pub const MEMORY_END: u64 = 0x20_0000;
pub const TX_BUFFER: u64 = 0x7_0000;
const RX_BUFFERS: u64 = 0x10_0000;
const RX_BUFFER_BYTES: u64 = 0x1000;

/// Two regions that touch, so that a packet may lie in both.
pub fn memory() -> GuestMemory {
    let second = usize::try_from(MEMORY_END - SECOND_REGION).unwrap();
    GuestMemory::from_ranges(&[(GuestAddress(0), 0x8_0000), (GuestAddress(SECOND_REGION), second)]).unwrap()
}

/// The three parts of one queue, laid out by hand: `MockSplitQueue` lets its rings overlap.
pub struct Rings<'m> {
    pub table: DescriptorTable<'m, GuestMemory>,
    pub avail: AvailRing<'m, GuestMemory>,
    pub used: UsedRing<'m, GuestMemory>,
    table_at: u64,
    avail_at: u64,
    used_at: u64,
}

impl<'m> Rings<'m> {
    fn new(memory: &'m GuestMemory, table_at: u64) -> Self {
        let (avail_at, used_at) = (table_at + 0x400, table_at + 0x800);
        Self {
            table: DescriptorTable::new(memory, GuestAddress(table_at), QUEUE_SIZE),
            avail: AvailRing::new(memory, GuestAddress(avail_at), QUEUE_SIZE),
            used: UsedRing::new(memory, GuestAddress(used_at), QUEUE_SIZE),
            table_at,
            avail_at,
            used_at,
        }
    }

    fn device_side(&self) -> Queue {
        let mut queue = Queue::new(QUEUE_SIZE).unwrap();
        queue.try_set_desc_table_address(GuestAddress(self.table_at)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(self.avail_at)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(self.used_at)).unwrap();
        queue.set_ready(true);
        queue
    }
}

pub struct Guest<'m> {
    memory: &'m GuestMemory,
    pub device: Vsock,
    pub host: VsockHost,
    queues: [Queue; 3],
    pub rx: Rings<'m>,
    pub tx: Rings<'m>,
    rx_seen: u16,
    pub interrupts: Cell<u32>,
}

impl<'m> Guest<'m> {
    /// A guest without any receive buffer.
    pub fn bare(memory: &'m GuestMemory, config: VsockConfig) -> Self {
        let (device, host) = vsock::new(config).unwrap();
        let rx = Rings::new(memory, 0x1000);
        let tx = Rings::new(memory, 0x3000);
        let event = Rings::new(memory, 0x5000);
        let queues = [&rx, &tx, &event].map(|queue| queue.device_side());
        Self { memory, device, host, queues, rx, tx, rx_seen: 0, interrupts: Cell::new(0) }
    }

    /// A guest whose receive queue is full of buffers.
    pub fn new(memory: &'m GuestMemory) -> Self {
        let mut guest = Self::bare(memory, VsockConfig::default());
        for _ in 0..QUEUE_SIZE {
            guest.offer_rx();
        }
        guest
    }

    pub fn use_event_idx(&mut self) {
        for queue in &mut self.queues {
            queue.set_event_idx(true);
        }
    }

    pub fn queue(&mut self, index: usize) -> &mut Queue {
        &mut self.queues[index]
    }

    fn with_vrings(&mut self, action: impl FnOnce(&mut Vsock, &GuestMemory, &mut [Vring<'_>])) {
        let interrupts = &self.interrupts;
        let interrupt = || interrupts.set(interrupts.get() + 1);
        let mut vrings =
            self.queues.each_mut().map(|queue| Vring { queue, interrupt: &interrupt as &dyn Fn() });
        action(&mut self.device, self.memory, &mut vrings);
    }

    pub fn kick(&mut self, index: usize) {
        self.with_vrings(|device, memory, vrings| device.queue_event(index, memory, vrings));
    }

    /// Lets the device look at its host side, as often as it asks for it.
    pub fn poll(&mut self) {
        for turn in 0.. {
            assert!(turn < 10_000, "the device never comes to rest");
            if !self.is_awake() {
                return;
            }
            self.with_vrings(|device, memory, vrings| device.host_event(memory, vrings));
        }
    }

    /// Whether the device wants to be called.
    pub fn is_awake(&self) -> bool {
        let fd = self.device.host_fd().unwrap().as_raw_fd();
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd is passed, with its count.
        unsafe { libc::poll(&raw mut poll, 1, 0) > 0 }
    }

    pub fn put(queue: &Rings<'_>, head: u16) {
        let index = queue.avail.idx().load();
        queue.avail.ring().ref_at(usize::from(index % QUEUE_SIZE)).unwrap().store(head);
        queue.avail.idx().store(index.wrapping_add(1));
    }

    /// Offers one more receive buffer of a page; its descriptor is the next in turn.
    pub fn offer_rx(&mut self) {
        let slot = self.rx.avail.idx().load() % QUEUE_SIZE;
        let address = RX_BUFFERS + u64::from(slot) * RX_BUFFER_BYTES;
        self.offer_rx_buffer(slot, address, u32::try_from(RX_BUFFER_BYTES).unwrap());
    }

    pub fn offer_rx_buffer(&mut self, slot: u16, address: u64, bytes: u32) {
        store(&self.rx, slot, descriptor(address, bytes, VRING_DESC_F_WRITE, 0));
        Self::put(&self.rx, slot);
    }

    /// Takes the next packet out of the receive queue and offers its buffer again.
    pub fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let used = self.take_used()?;
        let (slot, bytes) = used;
        let descriptor = Descriptor::from(self.rx.table.load(slot).unwrap());
        let mut packet = vec![0; usize::try_from(bytes).unwrap()];
        self.memory.read_slice(&mut packet, descriptor.addr()).unwrap();
        Self::put(&self.rx, slot);
        let payload = packet.split_off(HEADER_BYTES);
        Some((Header::decode(&packet.try_into().unwrap()), payload))
    }

    /// The next used receive buffer: its descriptor and the bytes in it.
    pub fn take_used(&mut self) -> Option<(u16, u32)> {
        if self.rx.used.idx().load() == self.rx_seen {
            return None;
        }
        let used = self.rx.used.ring().ref_at(usize::from(self.rx_seen % QUEUE_SIZE)).unwrap().load();
        self.rx_seen = self.rx_seen.wrapping_add(1);
        Some((u16::try_from(used.id()).unwrap(), used.len()))
    }

    /// The next packet, which must be there and must not carry data.
    pub fn expect(&mut self, op: Op) -> Header {
        let (header, payload) = self.receive().unwrap_or_else(|| panic!("no packet, expected {op:?}"));
        assert_eq!(header.op(), Some(op), "{header:?}");
        assert!(payload.is_empty());
        header
    }

    pub fn expect_silence(&mut self) {
        assert_eq!(self.receive(), None);
    }

    /// Sends a packet cut into descriptors of the given sizes; the last one takes the rest.
    pub fn send_cut(&mut self, header: &Header, payload: &[u8], cuts: &[usize]) {
        let packet = [header.encode().as_slice(), payload].concat();
        self.memory.write_slice(&packet, GuestAddress(TX_BUFFER)).unwrap();
        let mut at = 0;
        let mut sizes: Vec<usize> = cuts.to_vec();
        sizes.push(packet.len() - cuts.iter().sum::<usize>());
        for (index, size) in sizes.iter().enumerate() {
            let index = u16::try_from(index).unwrap();
            let last = usize::from(index) + 1 == sizes.len();
            let flags = if last { 0 } else { VRING_DESC_F_NEXT };
            let bytes = u32::try_from(*size).unwrap();
            store(&self.tx, index, descriptor(TX_BUFFER + at, bytes, flags, index + 1));
            at += u64::from(bytes);
        }
        Self::put(&self.tx, 0);
        self.kick(1);
    }

    /// Sends a packet as guests since Linux 6.2 do, header and payload in one descriptor.
    pub fn send(&mut self, header: &Header, payload: &[u8]) {
        self.send_cut(header, payload, &[]);
    }

    pub fn send_op(&mut self, op: Op) {
        self.send(&packet(op), &[]);
    }

    pub fn send_data(&mut self, payload: &[u8]) {
        self.send(&Header { len: u32::try_from(payload.len()).unwrap(), ..packet(Op::Data) }, payload);
    }

    /// Listens on [`HOST_PORT`].
    pub fn listen(&self) -> Receiver<UnixStream> {
        let (sender, receiver) = channel();
        self.host.listen(HOST_PORT, move |stream| drop(sender.send(stream))).unwrap();
        receiver
    }

    /// Opens a connection from the guest and returns the host's end.
    pub fn connected(&mut self) -> UnixStream {
        let streams = self.listen();
        self.send_op(Op::Request);
        self.expect(Op::Response);
        self.poll();
        self.expect_silence();
        streams.try_recv().unwrap()
    }

    /// Reads everything that has arrived for the host, moving data until nothing moves.
    pub fn read_host(&mut self, stream: &UnixStream) -> Vec<u8> {
        stream.set_nonblocking(true).unwrap();
        let mut all = Vec::new();
        loop {
            let before = all.len();
            let end = (&mut &*stream).read_to_end(&mut all);
            assert!(end.is_ok() || end.unwrap_err().kind() == ErrorKind::WouldBlock);
            self.poll();
            if all.len() == before {
                return all;
            }
        }
    }

    /// Takes back the last receive buffer offered, before the device saw it.
    pub fn take_back_rx(&mut self) {
        let index = self.rx.avail.idx().load();
        self.rx.avail.idx().store(index.wrapping_sub(1));
    }

    /// The device's clock stands this much later.
    pub fn let_time_pass(&mut self, time: Duration) {
        let now = Instant::now() + time;
        self.with_vrings(|device, memory, vrings| device.host_event_at(memory, vrings, now));
    }

    /// `used_event` of the driver: it wants an interrupt when this used buffer is there.
    pub fn want_interrupt_at(&self, queue: &Rings<'_>, position: u16) {
        let address = queue.avail_at + 4 + 2 * u64::from(QUEUE_SIZE);
        self.memory.write_obj(position, GuestAddress(address)).unwrap();
    }

    /// `avail_event` of the device: it wants a kick when this buffer is offered.
    pub fn kick_wanted_at(&self, queue: &Rings<'_>) -> u16 {
        let address = queue.used_at + 4 + 8 * u64::from(QUEUE_SIZE);
        self.memory.read_obj(GuestAddress(address)).unwrap()
    }

    /// The driver goes and comes back.
    pub fn reset(&mut self) {
        self.device.reset();
    }
}

/// A packet of the connection that tests use, without payload.
pub fn packet(op: Op) -> Header {
    Header {
        src_cid: GUEST_CID,
        dst_cid: HOST_CID,
        src_port: GUEST_PORT,
        dst_port: HOST_PORT,
        kind: TYPE_STREAM,
        raw_op: op as u16,
        buf_alloc: GUEST_BUFFER,
        ..Header::default()
    }
}

pub fn descriptor(address: u64, bytes: u32, flags: u32, next: u16) -> RawDescriptor {
    RawDescriptor::from(Descriptor::new(address, bytes, u16::try_from(flags).unwrap(), next))
}

pub fn store(queue: &Rings<'_>, index: u16, descriptor: RawDescriptor) {
    queue.table.store(index, descriptor).unwrap();
}

/// Bytes that differ from place to place.
pub fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap()).collect()
}

/// Long enough for another thread to be scheduled; never waited for in full unless a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);
