//! The vsock device under a guest that sends any packets in any rings, while the host reads, writes and closes.
//! An honest ring's bytes arrive in order and unchanged, both ways; every packet to the guest is well-formed and
//! within its credit; the device always comes to rest.

#![no_main]

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use fuzz::Input;
use fuzz::driver::{Driver, Part};
use libfuzzer_sys::fuzz_target;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use vmm_core::devices::Device;
use vmm_core::devices::vsock::packet::{HEADER_BYTES, HOST_CID, Header, Op, SHUTDOWN_SEND, TYPE_STREAM};
use vmm_core::devices::vsock::{self, Vsock, VsockConfig, VsockHost};

const GUEST_CID: u64 = 3;
const GUEST_PORT: u32 = 50_000;
/// The host listens on these; a connection is known by its host port.
const HOST_PORTS: [u32; 2] = [53, 3128];
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const STEPS_MAX: usize = 200;
/// Fewer than descriptors: an honest driver does not overwrite what is with the device.
const BUFFERS_MAX: usize = 60;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut scene = Scene::new();
    scene.offer_buffers(&mut Input(&[16, 0]));
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        match input.below(12) {
            0 => scene.offer_buffers(&mut input),
            1..=3 => scene.send_sensible(&mut input),
            4 => scene.send_any(&mut input),
            5 => scene.break_rings(&mut input),
            6 => scene.host_writes(&mut input),
            7 => scene.host_reads(&mut input),
            8 => scene.host_ends(&mut input),
            9 => {
                scene.driver.kick(&mut scene.device, input.below(3));
                scene.look();
            }
            10 => {
                // The time is over at once; the device takes it up later and must forget it.
                let _ = scene.host.connect(1024, Duration::ZERO);
            }
            _ => scene.settle(),
        }
    }
    scene.settle();
    scene.device.reset();
    assert!(scene.links.iter_mut().all(Link::is_closed), "a connection outlives the guest");
});

/// What is known of the newest connection of one host port.
#[derive(Default)]
struct Link {
    stream: Option<UnixStream>,
    /// Sent by the guest, and how much of it the host has read.
    sent: Vec<u8>,
    read: usize,
    guest_ended: bool,
    /// Written by the host, and how much of it the guest has got.
    written: Vec<u8>,
    got: usize,
    guest_buffer: u32,
}

struct Scene {
    driver: Driver,
    device: Vsock,
    host: VsockHost,
    accepted: [Receiver<UnixStream>; 2],
    links: [Link; 2],
    /// Whether the guest has kept to the rules of rings and packets so far.
    honest: bool,
    /// Receive buffers that are with the device.
    buffers: usize,
}

impl Scene {
    fn new() -> Self {
        let (device, host) = vsock::new(VsockConfig::default()).unwrap();
        let accepted = HOST_PORTS.map(|port| {
            let (sender, receiver) = channel();
            host.listen(port, move |stream| drop(sender.send(stream))).unwrap();
            receiver
        });
        let driver = Driver::new(&device);
        Self { driver, device, host, accepted, links: Default::default(), honest: true, buffers: 0 }
    }

    fn offer_buffers(&mut self, input: &mut Input<'_>) {
        let count = input.below(32);
        let bytes = input.one(&[4096, 44, 45, 64, 43, 0, 0x2000]);
        self.honest &= bytes >= 44;
        for _ in 0..count.min(BUFFERS_MAX.saturating_sub(self.buffers)) {
            self.buffers += 1;
            self.driver.offer(RECEIVE, &[Part::In(bytes)]);
        }
        self.driver.kick(&mut self.device, RECEIVE);
        self.look();
    }

    /// A packet of the connection to one of the ports, with honest lengths and any order.
    fn send_sensible(&mut self, input: &mut Input<'_>) {
        let side = input.below(2);
        let op = input.one(&[
            Op::Request,
            Op::Data,
            Op::Data,
            Op::Data,
            Op::CreditUpdate,
            Op::CreditRequest,
            Op::Shutdown,
            Op::Reset,
        ]);
        let payload = if op == Op::Data { input.piece() } else { &[] };
        let flags = if op == Op::Shutdown { u32::from(input.u8()) % 4 } else { 0 };
        let (buf_alloc, fwd_cnt) = (input.one(&[0x4_0000, 0, 1, 100, u32::MAX]), u32::from(input.u16()));
        let link = &mut self.links[side];
        match op {
            Op::Request => *link = Link::default(),
            Op::Data if !link.guest_ended => link.sent.extend_from_slice(payload),
            _ => {}
        }
        link.guest_buffer = buf_alloc;
        link.guest_ended |= op == Op::Reset || flags & SHUTDOWN_SEND != 0;
        let header = Header {
            src_cid: GUEST_CID,
            dst_cid: HOST_CID,
            src_port: GUEST_PORT,
            dst_port: HOST_PORTS[side],
            len: u32::try_from(payload.len()).unwrap(),
            kind: TYPE_STREAM,
            raw_op: op as u16,
            flags,
            buf_alloc,
            fwd_cnt,
        };
        self.send(&header, payload, usize::from(input.u8()));
    }

    fn send(&mut self, header: &Header, payload: &[u8], cut: usize) {
        let packet = [&header.encode()[..], payload].concat();
        let (first, second) = packet.split_at(cut.min(packet.len()));
        let parts: Vec<Part<'_>> =
            [first, second].into_iter().filter(|p| !p.is_empty()).map(Part::Out).collect();
        self.driver.offer(TRANSMIT, &parts);
        self.driver.kick(&mut self.device, TRANSMIT);
        self.look();
    }

    /// 44 bytes of nonsense, or nearly so.
    fn send_any(&mut self, input: &mut Input<'_>) {
        let wire: [u8; HEADER_BYTES] = std::array::from_fn(|_| input.u8());
        let mut header = Header::decode(&wire);
        if input.below(2) == 0 {
            (header.src_cid, header.dst_cid, header.kind) = (GUEST_CID, HOST_CID, TYPE_STREAM);
            (header.src_port, header.dst_port) = (GUEST_PORT, input.one(&HOST_PORTS));
            header.raw_op = u16::from(input.u8()) % 9;
        }
        self.honest = false;
        self.send(&header, input.piece(), usize::from(input.u8()));
    }

    fn break_rings(&mut self, input: &mut Input<'_>) {
        self.honest = false;
        let queue = input.below(2);
        if input.below(2) == 0 {
            let address = if input.below(2) == 0 { u64::from(input.u32()) } else { input.u64() };
            let bytes = input.u32();
            let (flags, next) = (input.u16() % 8, input.u16() % 80);
            self.driver.offer(queue, &[Part::Raw(address, bytes, flags, next)]);
        } else {
            let offset = input.u16();
            self.driver.scribble(queue, offset, input.piece());
        }
        self.driver.kick(&mut self.device, queue);
    }

    fn host_writes(&mut self, input: &mut Input<'_>) {
        let link = &mut self.links[input.below(2)];
        let payload = input.piece();
        if let Some(stream) = &mut link.stream
            && let Ok(count) = send(stream, payload, SendFlags::NOSIGNAL)
        {
            link.written.extend_from_slice(&payload[..count]);
        }
        self.settle();
    }

    fn host_reads(&mut self, input: &mut Input<'_>) {
        let link = &mut self.links[input.below(2)];
        let mut room = [0; 300];
        if let Some(stream) = &mut link.stream
            && let Ok(count) = stream.read(&mut room)
        {
            if self.honest {
                let expected = link.sent.get(link.read..link.read + count);
                assert_eq!(expected, Some(&room[..count]), "the host got other bytes");
            }
            link.read += count;
        }
        self.settle();
    }

    fn host_ends(&mut self, input: &mut Input<'_>) {
        let link = &mut self.links[input.below(2)];
        match (input.below(3), &link.stream) {
            (0, Some(stream)) => drop(stream.shutdown(std::net::Shutdown::Write)),
            (1, Some(stream)) => drop(stream.shutdown(std::net::Shutdown::Read)),
            _ => link.stream = None,
        }
        self.settle();
    }

    /// Serves the host's side until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let fd = self.device.host_fd().unwrap();
            if poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&Timespec::default())) == Ok(0) {
                return;
            }
            self.driver.host_event(&mut self.device);
            self.look();
        }
        panic!("the device never comes to rest");
    }

    /// Takes what the device did: new connections for the host, packets for the guest.
    fn look(&mut self) {
        for (link, accepted) in self.links.iter_mut().zip(&self.accepted) {
            for stream in accepted.try_iter() {
                stream.set_nonblocking(true).unwrap();
                link.stream = Some(stream);
            }
        }
        while self.honest
            && let Some(used) = self.driver.used(RECEIVE)
        {
            self.buffers -= 1;
            let packet = self.driver.read(&used);
            self.check_packet(&packet);
        }
    }

    fn check_packet(&mut self, packet: &[u8]) {
        let (head, payload) = packet.split_first_chunk::<HEADER_BYTES>().expect("a whole header");
        let header = Header::decode(head);
        assert_eq!((header.src_cid, header.dst_cid, header.kind), (HOST_CID, GUEST_CID, TYPE_STREAM));
        assert_eq!(usize::try_from(header.len).unwrap(), payload.len());
        let op = header.op().expect("an operation");
        assert!(op == Op::Data || payload.is_empty());
        assert!(header.flags == 0 || op == Op::Shutdown);
        let side = HOST_PORTS.iter().position(|port| *port == header.src_port);
        let Some(side) = side.filter(|_| header.dst_port == GUEST_PORT) else {
            panic!("a packet of no connection: {header:?}")
        };
        let link = &mut self.links[side];
        if op == Op::Data {
            assert!(!payload.is_empty() && header.len <= link.guest_buffer, "no credit for {header:?}");
            let expected = link.written.get(link.got..link.got + payload.len());
            assert_eq!(expected, Some(payload), "the guest got other bytes");
            link.got += payload.len();
        }
    }
}

impl Link {
    /// Whether the host finds the end of its stream, if it has one.
    fn is_closed(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return true };
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).is_ok() || send(stream, b"x", SendFlags::NOSIGNAL).is_err()
    }
}
