//! What a guest may try: every row is refused, bounded or ignored, and the next good packet works.

use std::io::{Read, Write};

use proptest::prelude::*;
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::QueueT;

use super::driver::{Guest, MEMORY_END, QUEUE_SIZE, TX_BUFFER, descriptor, memory, packet, store};
use crate::devices::vsock::VsockConfig;
use crate::devices::vsock::limits::RESETS_MAX;
use crate::devices::vsock::packet::{Header, Op};

/// Whether the device still does its work.
fn still_works(guest: &mut Guest<'_>) {
    guest.poll();
    while guest.receive().is_some() {}
    let stream = guest.connected();
    guest.send_data(b"fine");
    assert_eq!(guest.read_host(&stream), b"fine");
}

#[test]
fn foreign_addresses_are_dropped_in_silence() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    for (src_cid, dst_cid) in [(2, 2), (4, 2), (3, 3), (3, 1), (3, 0), (u64::MAX, 2), (3, u64::MAX)] {
        guest.send(&Header { src_cid, dst_cid, ..packet(Op::Request) }, &[]);
        guest.expect_silence();
    }
    still_works(&mut guest);
}

#[test]
fn packets_for_nobody_are_reset_and_resets_are_not() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let ops = [Op::Request, Op::Response, Op::Shutdown, Op::Data, Op::CreditUpdate, Op::CreditRequest];
    for op in ops {
        guest.send_op(op);
        guest.expect(Op::Reset);
    }
    guest.send_op(Op::Reset);
    guest.expect_silence();
    guest.send(&Header { raw_op: 77, ..packet(Op::Data) }, &[]);
    guest.expect(Op::Reset);
    guest.send(&Header { kind: 2, ..packet(Op::Request) }, &[]);
    guest.expect(Op::Reset);
    still_works(&mut guest);
}

#[test]
fn a_broken_rule_ends_the_connection() {
    let violations = [
        packet(Op::Response),
        Header { raw_op: 0, ..packet(Op::Data) },
        // More than the buffer that was announced.
        Header { len: u32::MAX, ..packet(Op::Data) },
        // More than the descriptor holds.
        Header { len: 100, ..packet(Op::Data) },
    ];
    for header in violations {
        let memory = memory();
        let mut guest = Guest::new(&memory);
        let mut stream = guest.connected();
        guest.send(&header, b"short");
        guest.expect(Op::Reset);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{header:?}");
        guest.host.unlisten(super::driver::HOST_PORT);
        still_works(&mut guest);
    }
}

#[test]
fn overrunning_the_announced_buffer_is_refused() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let _unread = guest.connected();
    let mut sent = 0;
    // The socket takes some, the backlog takes 256 KiB, and there it ends.
    while guest.receive().is_none_or(|(header, _)| header.op() != Some(Op::Reset)) {
        assert!(sent < 2 << 20, "no end to what the device holds");
        guest.send_data(&[0; 64 * 1024]);
        sent += 64 * 1024;
    }
}

#[test]
fn port_used_again_replaces_the_connection() {
    // Firecracker #5688.
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let mut old = guest.connected();
    guest.host.unlisten(super::driver::HOST_PORT);
    let new = guest.connected();
    assert_eq!(old.read(&mut [0]).unwrap(), 0);
    guest.send_data(b"to the new one");
    assert_eq!(guest.read_host(&new), b"to the new one");
}

#[test]
fn malformed_chains_are_given_back() {
    // CVE-2019-18960 and relatives.
    let table: &[(&str, u64, u32, u32)] = &[
        ("empty", TX_BUFFER, 0, 0),
        ("shorter than a header", TX_BUFFER, 43, 0),
        ("writable", TX_BUFFER, 44, VRING_DESC_F_WRITE),
        ("beyond memory", MEMORY_END, 44, 0),
        ("across the end of memory", MEMORY_END - 10, 44, 0),
        ("at the end of the address space", u64::MAX - 10, 44, 0),
        ("4 GiB long", TX_BUFFER, u32::MAX, 0),
        ("a loop", TX_BUFFER, 1, VRING_DESC_F_NEXT),
        ("indirect, not a multiple of 16", TX_BUFFER, 17, VRING_DESC_F_INDIRECT),
        ("indirect, beyond memory", MEMORY_END, 16, VRING_DESC_F_INDIRECT),
        ("indirect, too long", TX_BUFFER, 16 * 65_536, VRING_DESC_F_INDIRECT),
    ];
    for &(name, address, bytes, flags) in table {
        let memory = memory();
        let mut guest = Guest::new(&memory);
        let used = guest.tx.used.idx().load();
        store(&guest.tx, 0, descriptor(address, bytes, flags, 0));
        Guest::put(&guest.tx, 0);
        guest.kick(1);
        assert_eq!(guest.tx.used.idx().load(), used + 1, "{name}");
        guest.expect_silence();
        still_works(&mut guest);
    }
}

#[test]
fn malformed_receive_buffers_are_given_back_empty() {
    let table: &[(&str, u64, u32)] = &[
        ("empty", TX_BUFFER, 0),
        ("shorter than a header", TX_BUFFER, 43),
        ("beyond memory", MEMORY_END, 4096),
        ("across the end of memory", MEMORY_END - 50, 4096),
    ];
    for &(name, address, bytes) in table {
        let memory = memory();
        let mut guest = Guest::bare(&memory, VsockConfig::default());
        guest.offer_rx_buffer(0, address, bytes);
        guest.send_op(Op::Request);
        assert_eq!(guest.take_used(), Some((0, 0)), "{name}");
        guest.offer_rx();
        guest.kick(0);
        guest.expect(Op::Reset);
    }
}

#[test]
fn buffer_for_a_header_alone_carries_no_data() {
    let memory = memory();
    let mut guest = Guest::bare(&memory, VsockConfig::default());
    guest.offer_rx();
    let mut stream = guest.connected();
    stream.write_all(b"data").unwrap();
    guest.take_back_rx();
    guest.offer_rx_buffer(9, TX_BUFFER, 44);
    guest.poll();
    assert_eq!(guest.take_used(), Some((9, 0)));
    guest.offer_rx();
    guest.kick(0);
    assert_eq!(guest.receive().unwrap().1, b"data");
}

#[test]
fn available_index_that_jumps_does_not_spin() {
    // vm-virtio #196, Firecracker #3149.
    let memory = memory();
    let mut guest = Guest::new(&memory);
    guest.tx.avail.idx().store(QUEUE_SIZE + 1);
    guest.kick(1);
    guest.rx.avail.idx().store(QUEUE_SIZE * 2 + 5);
    guest.kick(0);
    guest.kick(1);
    guest.expect_silence();
}

#[test]
fn ring_outside_memory_does_not_spin() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    guest.queue(1).set_avail_ring_address(Some(0xffff_fff0), Some(0xffff_ffff));
    guest.kick(1);
    guest.queue(0).set_used_ring_address(Some(0xffff_fff0), None);
    guest.kick(0);
}

#[test]
fn resets_that_nobody_takes_hold_back_the_guest() {
    let memory = memory();
    let mut guest = Guest::bare(&memory, VsockConfig::default());
    for _ in 0..RESETS_MAX + 10 {
        guest.send_op(Op::Data);
    }
    let used = guest.tx.used.idx().load();
    assert_eq!(usize::from(used), RESETS_MAX, "the rest waits in the guest's own queue");
    for _ in 0..4 {
        guest.offer_rx();
    }
    let mut resets = 0;
    loop {
        guest.kick(0);
        guest.poll();
        let before = resets;
        while let Some((header, _)) = guest.receive() {
            assert_eq!(header.op(), Some(Op::Reset));
            resets += 1;
        }
        if resets == before {
            break;
        }
    }
    assert_eq!(guest.tx.used.idx().load(), guest.tx.avail.idx().load());
    assert_eq!(resets, RESETS_MAX + 10);
}

#[test]
fn connections_are_limited() {
    let memory = memory();
    let config = VsockConfig { connections_max: 3, ..VsockConfig::default() };
    let mut guest = Guest::bare(&memory, config);
    for _ in 0..QUEUE_SIZE {
        guest.offer_rx();
    }
    let streams = guest.listen();
    for (port, answer) in [(1, Op::Response), (2, Op::Response), (3, Op::Response), (4, Op::Reset)] {
        guest.send(&Header { src_port: port, ..packet(Op::Request) }, &[]);
        guest.expect(answer);
    }
    let host = guest.host.clone();
    let waiting = std::thread::spawn(move || host.connect(1024, super::driver::PATIENCE));
    while !waiting.is_finished() {
        guest.poll();
    }
    assert_eq!(waiting.join().unwrap().unwrap_err().kind(), std::io::ErrorKind::QuotaExceeded);
    // One goes, one may come.
    guest.send(&Header { src_port: 2, ..packet(Op::Reset) }, &[]);
    guest.send(&Header { src_port: 5, ..packet(Op::Request) }, &[]);
    guest.expect(Op::Response);
    assert_eq!(streams.try_iter().count(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_packets_leave_the_device_working(
        packets in prop::collection::vec(
            (0..9_u16, 0..3_u32, 0..200_u32, 0..200_usize, 0..4_u32, any::<u32>(), 1..3_u16), 1..60,
        ),
    ) {
        let memory = memory();
        let mut guest = Guest::new(&memory);
        let streams = guest.listen();
        for (raw_op, src_port, len, carried, flags, fwd_cnt, kind) in packets {
            let header = Header { raw_op, src_port, len, flags, fwd_cnt, kind, ..packet(Op::Data) };
            guest.send(&header, &vec![0; carried]);
            guest.poll();
            while guest.receive().is_some() {}
        }
        drop(streams);
        guest.host.unlisten(super::driver::HOST_PORT);
        still_works(&mut guest);
    }

    #[test]
    fn any_ring_content_leaves_the_device_working(
        descriptors in prop::collection::vec((0..MEMORY_END + 0x1000, any::<u32>(), 0..8_u32, 0..40_u16), 16),
        heads in prop::collection::vec(any::<u16>(), 1..16),
    ) {
        let memory = memory();
        let mut guest = Guest::new(&memory);
        for (index, (address, bytes, flags, next)) in (0..).zip(descriptors) {
            store(&guest.tx, index, descriptor(address, bytes % 100_000, flags, next));
        }
        for head in heads {
            Guest::put(&guest.tx, head % (QUEUE_SIZE + 4));
        }
        guest.kick(1);
        while guest.receive().is_some() {}
        guest.expect_silence();
    }
}
