//! The server against the `vhost` crate's own frontend, with a device that writes down what it is asked.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;
use crate::devices::Vring;
use crate::memory::GuestMemory;

const FEATURES: u64 = 1 << 32 | 1 << 29;
const PROTOCOL_FEATURES: u64 = 1 << 30;
const MEMORY_BYTES: usize = 0x10_0000;
/// Where the test's "VMM" says that its guest memory is mapped.
const VMM_ADDRESS: u64 = 0x7f00_0000_0000;
const GUEST_ADDRESS: u64 = 0x4000_0000;
/// Never waited for in full unless a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Acknowledged(u64),
    Queue { index: usize, ready: Vec<bool>, size: u16, first_word: u32 },
    Host,
    Reset,
    Dropped,
}

struct Recorder {
    events: Sender<Event>,
    host: EventFd,
}

impl Device for Recorder {
    fn id(&self) -> u32 {
        42
    }
    fn queue_sizes(&self) -> &[u16] {
        &[128, 64]
    }
    fn features(&self) -> u64 {
        FEATURES
    }
    fn acknowledge(&mut self, features: u64) {
        let _ = self.events.send(Event::Acknowledged(features));
    }
    fn read_config(&self, offset: u32, data: &mut [u8]) {
        data.fill(u8::try_from(offset).unwrap());
    }
    fn queue_event(&mut self, index: usize, memory: &GuestMemory, vrings: &mut [Vring<'_>]) {
        let first_word = memory.read_obj(GuestAddress(GUEST_ADDRESS)).unwrap();
        let ready = vrings.iter().map(|vring| vring.queue.ready()).collect();
        let size = vrings[index].queue.size();
        (vrings[index].interrupt)();
        let _ = self.events.send(Event::Queue { index, ready, size, first_word });
    }
    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the descriptor lives as long as the borrow of `self`.
        Some(unsafe { BorrowedFd::borrow_raw(self.host.as_raw_fd()) })
    }
    fn host_event(&mut self, _memory: &GuestMemory, _vrings: &mut [Vring<'_>]) {
        let _ = self.host.read();
        let _ = self.events.send(Event::Host);
    }
    fn reset(&mut self) {
        let _ = self.events.send(Event::Reset);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Dropped);
    }
}

/// A VMM with two rings in a shared memory file.
struct Vmm {
    frontend: Frontend,
    server: Server,
    events: Receiver<Event>,
    host: EventFd,
    kicks: [EventFd; 2],
    calls: [EventFd; 2],
    memory: std::fs::File,
}

impl Vmm {
    fn new() -> Self {
        let (events, received) = channel();
        let host = EventFd::new(EFD_NONBLOCK).unwrap();
        let device = Recorder { events, host: host.try_clone().unwrap() };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = serve(Box::new(device), ours).unwrap();
        let frontend = Frontend::from_stream(theirs, 2);
        let eventfds = || [(); 2].map(|()| EventFd::new(EFD_NONBLOCK).unwrap());
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(u64::try_from(MEMORY_BYTES).unwrap()).unwrap();
        Self { frontend, server, events: received, host, kicks: eventfds(), calls: eventfds(), memory }
    }

    fn negotiate(&mut self) {
        assert_eq!(self.frontend.get_features().unwrap(), FEATURES | PROTOCOL_FEATURES);
        let protocol = self.frontend.get_protocol_features().unwrap();
        assert!(protocol.contains(VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::MQ));
        self.frontend.set_protocol_features(protocol).unwrap();
        self.frontend.set_owner().unwrap();
        self.frontend.set_features(FEATURES | PROTOCOL_FEATURES).unwrap();
        self.expect(Event::Acknowledged(FEATURES));
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST_ADDRESS,
            memory_size: u64::try_from(MEMORY_BYTES).unwrap(),
            userspace_addr: VMM_ADDRESS,
            mmap_offset: 0,
            mmap_handle: self.memory.as_raw_fd(),
        };
        self.frontend.set_mem_table(&[region]).unwrap();
    }

    fn start(&mut self, index: usize, size: u16, base: u16) {
        let at = VMM_ADDRESS + 0x1_0000 * (u64::try_from(index).unwrap() + 1);
        let config = VringConfigData {
            queue_max_size: 1024,
            queue_size: size,
            flags: 0,
            desc_table_addr: at,
            avail_ring_addr: at + 0x4000,
            used_ring_addr: at + 0x8000,
            log_addr: None,
        };
        self.frontend.set_vring_num(index, size).unwrap();
        self.frontend.set_vring_base(index, base).unwrap();
        self.frontend.set_vring_addr(index, &config).unwrap();
        self.frontend.set_vring_call(index, &self.calls[index]).unwrap();
        self.frontend.set_vring_kick(index, &self.kicks[index]).unwrap();
    }

    fn expect(&self, event: Event) {
        assert_eq!(self.events.recv_timeout(PATIENCE).expect("no event"), event);
    }
}

fn queue(index: usize, ready: [bool; 2], size: u16) -> Event {
    Event::Queue { index, ready: ready.to_vec(), size, first_word: 0 }
}

#[test]
fn a_session_from_features_to_disconnect() {
    let mut vmm = Vmm::new();
    vmm.negotiate();
    let (_, config) =
        vmm.frontend.get_config(7, 4, VhostUserConfigFlags::empty(), &[0; 4]).expect("configuration space");
    assert_eq!(config, [7; 4]);
    // A host event before any ring runs waits until one does: a device that may not be called could
    // not make its descriptor unreadable, and the loop would spin.
    vmm.host.write(1).unwrap();
    vmm.start(0, 128, 0);
    assert!(vmm.events.try_recv().is_err(), "not enabled yet");
    vmm.frontend.set_vring_enable(0, true).unwrap();
    vmm.expect(queue(0, [true, false], 128));
    vmm.expect(Event::Host);
    // QEMU's virtio-mmio lets the guest choose 1024 whatever the device asked for.
    vmm.start(1, 1024, 0);
    vmm.frontend.set_vring_enable(1, true).unwrap();
    vmm.expect(queue(1, [true, true], 1024));
    vmm.kicks[0].write(1).unwrap();
    vmm.expect(queue(0, [true, true], 128));
    assert!(vmm.calls[0].read().is_ok() && vmm.calls[1].read().is_ok(), "both were interrupted");
    drop(vmm.frontend);
    vmm.server.join().unwrap();
    assert_eq!(vmm.events.iter().collect::<Vec<_>>(), [Event::Reset, Event::Dropped]);
}

#[test]
fn a_paused_driver_goes_on_and_a_new_driver_resets() {
    let mut vmm = Vmm::new();
    vmm.negotiate();
    vmm.start(0, 128, 5);
    vmm.frontend.set_vring_enable(0, true).unwrap();
    vmm.expect(queue(0, [true, false], 128));
    assert_eq!(vmm.frontend.get_vring_base(0).unwrap(), 5);
    // Goes on where it stopped: nothing is forgotten, and the ring is looked at at once.
    vmm.start(0, 128, 5);
    vmm.expect(queue(0, [true, false], 128));
    vmm.frontend.get_vring_base(0).unwrap();
    vmm.kicks[0].write(1).unwrap();
    // Begins anew: another driver.
    vmm.start(0, 128, 0);
    vmm.expect(Event::Reset);
    vmm.expect(Event::Acknowledged(FEATURES));
    vmm.expect(queue(0, [true, false], 128));
    // The kick that came while the ring was stopped is not lost.
    vmm.expect(queue(0, [true, false], 128));
}

#[test]
fn stopping_ends_the_thread_and_the_device() {
    let mut vmm = Vmm::new();
    vmm.negotiate();
    assert!(!vmm.server.is_finished());
    vmm.server.stop();
    vmm.server.join().unwrap();
    assert_eq!(vmm.events.iter().collect::<Vec<_>>(), [Event::Reset, Event::Dropped]);
}

#[test]
fn stopping_while_no_vmm_has_come() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    let (events, received) = channel();
    let device = Recorder { events, host: EventFd::new(EFD_NONBLOCK).unwrap() };
    drop(serve(Box::new(device), listener).unwrap());
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), Event::Dropped);
}

#[test]
fn a_vmm_that_connects_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let (events, _received) = channel();
    let device = Recorder { events, host: EventFd::new(EFD_NONBLOCK).unwrap() };
    let server = serve(Box::new(device), listener).unwrap();
    let frontend = Frontend::from_stream(UnixStream::connect(&path).unwrap(), 2);
    assert_eq!(frontend.get_features().unwrap(), FEATURES | PROTOCOL_FEATURES);
    drop(frontend);
    server.join().unwrap();
}

#[test]
fn a_vmm_that_breaks_the_protocol_ends_the_session() {
    let breakages: [fn(&mut Vmm); 6] = [
        |vmm| drop(vmm.frontend.set_features(1 << 5)),
        |vmm| drop(vmm.frontend.set_vring_num(0, 100)),
        |vmm| drop(vmm.frontend.set_vring_num(0, 2048)),
        |vmm| {
            vmm.negotiate();
            vmm.start(0, 128, 0);
            vmm.frontend.set_vring_enable(0, true).unwrap();
            // CVE-2026-5747: the size must not change under a running ring.
            drop(vmm.frontend.set_vring_num(0, 64));
        },
        |vmm| {
            let address = VringConfigData { desc_table_addr: 0x1234_0000, ..outside() };
            drop(vmm.frontend.set_vring_addr(0, &address));
        },
        |vmm| drop(vmm.frontend.reset_owner().and_then(|()| vmm.frontend.set_vring_num(1, 3))),
    ];
    for (index, breakage) in breakages.into_iter().enumerate() {
        let mut vmm = Vmm::new();
        breakage(&mut vmm);
        let result = vmm.server.join();
        assert!(matches!(result, Err(Error::Protocol(_))), "case {index}: {result:?}");
    }
}

fn outside() -> VringConfigData {
    VringConfigData {
        queue_max_size: 128,
        queue_size: 128,
        flags: 0,
        desc_table_addr: 0,
        used_ring_addr: 0,
        avail_ring_addr: 0,
        log_addr: None,
    }
}

#[test]
fn bytes_that_are_no_message_end_the_session() {
    let (events, _received) = channel();
    let device = Recorder { events, host: EventFd::new(EFD_NONBLOCK).unwrap() };
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = serve(Box::new(device), ours).unwrap();
    std::io::Write::write_all(&mut &theirs, &[0xff; 64]).unwrap();
    assert!(matches!(server.join(), Err(Error::Protocol(_))));
    let _ = theirs.as_fd();
}
