//! The device driven through a virtqueue whose descriptors a hostile driver wrote.

use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Address, Bytes, GuestAddress};

use super::*;
use crate::devices::fs::{FsConfig, new};
use crate::devices::{Device, Vring};
use crate::memory::GuestMemory;

const REQUEST: u64 = 0x10_0000;
const REPLY: u64 = 0x11_0000;
/// VIRTQ_DESC_F_WRITE.
const WRITE: u16 = 2;

/// Descriptors: address, length, flags.
type Chain<'a> = &'a [(u64, u32, u16)];

/// Serves one chain; returns the used length, `None` if it was not used.
fn serve(chain: Chain<'_>, request: &[u8]) -> (Option<u32>, Vec<u8>) {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x20_0000)]).unwrap();
    memory.write_slice(request, GuestAddress(REQUEST)).unwrap();
    let ring = MockSplitQueue::new(&memory, 16);
    let descriptors: Vec<_> = chain
        .iter()
        .map(|&(address, bytes, flags)| RawDescriptor::from(Descriptor::new(address, bytes, flags, 0)))
        .collect();
    ring.build_desc_chain(&descriptors).unwrap();
    let mut queue: Queue = ring.create_queue().unwrap();
    let mut fs = new(FsConfig::default()).unwrap();
    let interrupts = std::cell::Cell::new(0);
    let interrupt = || interrupts.set(interrupts.get() + 1);
    let mut vrings = [Vring { queue: &mut queue, interrupt: &interrupt }];
    fs.queue_event(0, &memory, &mut vrings);
    let used = (queue.next_used() == 1).then(|| {
        assert_eq!(interrupts.get(), 1);
        memory.read_obj::<u32>(ring.used_addr().unchecked_add(8)).unwrap()
    });
    let mut reply = vec![0; 100];
    memory.read_slice(&mut reply, GuestAddress(REPLY)).unwrap();
    (used, reply)
}

fn init_request() -> Vec<u8> {
    let mut request = header(opcode::INIT, 0, 16);
    request.extend(Body::default().u32(7).u32(38).u32(0).u32(0).0);
    request
}

#[test]
fn a_request_split_anywhere_is_served() {
    for cut in 1..55 {
        let chain = [
            (REQUEST, cut, 0),
            (REQUEST + u64::from(cut), 56 - cut, 0),
            (REPLY, cut, WRITE),
            (REPLY + u64::from(cut), 80 - cut, WRITE),
        ];
        let (used, reply) = serve(&chain, &init_request());
        assert_eq!(used, Some(80), "{cut}");
        assert_eq!((u32_at(&reply, 0), u32_at(&reply, 4), u32_at(&reply, 16)), (80, 0, 7), "{cut}");
    }
}

#[test]
fn chains_that_break_the_rules_are_given_back_unanswered() {
    let request = init_request();
    let all = u32::try_from(request.len()).unwrap();
    let cases: [(&str, Chain<'_>); 6] = [
        ("readable after writable", &[(REPLY, 80, WRITE), (REQUEST, all, 0)]),
        ("outside memory", &[(u64::MAX - 10, all, 0), (REPLY, 80, WRITE)]),
        ("across the end of memory", &[(0x1f_fff0, 56, 0), (REPLY, 80, WRITE)]),
        ("reply outside memory", &[(REQUEST, all, 0), (0x4000_0000, 80, WRITE)]),
        ("nothing to read", &[(REPLY, 80, WRITE)]),
        ("nothing at all", &[(REQUEST, 0, 0)]),
    ];
    for (case, chain) in cases {
        let (used, reply) = serve(chain, &request);
        assert_eq!(used, Some(0), "{case}");
        assert!(reply.iter().all(|byte| *byte == 0), "{case}");
    }
}

#[test]
fn a_reply_without_room_is_not_written() {
    let request = init_request();
    let all = u32::try_from(request.len()).unwrap();
    assert_eq!(serve(&[(REQUEST, all, 0)], &request).0, Some(0));
    assert_eq!(serve(&[(REQUEST, all, 0), (REPLY, 15, WRITE)], &request).0, Some(0));
    let (used, reply) = serve(&[(REQUEST, all, 0), (REPLY, 16, WRITE)], &request);
    assert_eq!((used, u32_at(&reply, 4).cast_signed()), (Some(16), -libc::EOVERFLOW));
}

#[test]
fn a_ring_whose_index_is_nonsense_keeps_nobody_busy() {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x20_0000)]).unwrap();
    let ring = MockSplitQueue::new(&memory, 16);
    let mut queue: Queue = ring.create_queue().unwrap();
    memory.write_obj(1000_u16, ring.avail_addr().unchecked_add(2)).unwrap();
    let mut fs = new(FsConfig::default()).unwrap();
    let mut vrings = [Vring { queue: &mut queue, interrupt: &|| {} }];
    fs.queue_event(0, &memory, &mut vrings);
    let scheduled = rustix::io::read(fs.host_fd().unwrap(), &mut [0_u8; 8]);
    assert_eq!(scheduled, Err(rustix::io::Errno::AGAIN), "another turn was asked for");
}
