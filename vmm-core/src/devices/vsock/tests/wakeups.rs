//! When the device wants to be called, and when it must stay asleep: no spin, no lost wake-up.

use std::io::{Read, Write};

use super::driver::{Guest, memory, packet, pattern};
use crate::devices::vsock::VsockConfig;
use crate::devices::vsock::packet::{Header, Op};

#[test]
fn guest_without_buffers_makes_nobody_spin() {
    // Firecracker #6031, #6041; vhost-device #800.
    let memory = memory();
    let mut guest = Guest::bare(&memory, VsockConfig::default());
    guest.offer_rx();
    let mut stream = guest.connected();
    guest.take_back_rx();
    stream.write_all(&pattern(10_000)).unwrap();
    guest.poll();
    assert!(!guest.is_awake(), "readable host data, no buffers: the guest's kick is waited for");
    // CVE-2020-16843: and the kick is enough.
    for _ in 0..4 {
        guest.offer_rx();
    }
    guest.kick(0);
    let (header, _) = guest.receive().unwrap();
    assert_eq!(header.op(), Some(Op::Data));
}

#[test]
fn guest_without_credit_makes_nobody_spin() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let mut stream = guest.connected();
    guest.send(&Header { buf_alloc: 0, ..packet(Op::CreditUpdate) }, &[]);
    stream.write_all(b"waits").unwrap();
    guest.poll();
    guest.expect(Op::CreditRequest);
    guest.send(&Header { buf_alloc: 0, ..packet(Op::CreditUpdate) }, &[]);
    guest.poll();
    guest.expect_silence();
    assert!(!guest.is_awake());
    guest.send(&Header { buf_alloc: 3, ..packet(Op::CreditUpdate) }, &[]);
    assert_eq!(guest.receive().unwrap().1, b"wai");
}

#[test]
fn host_that_does_not_read_makes_nobody_spin() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let mut stream = guest.connected();
    for _ in 0..4 {
        guest.send_data(&[1; 60_000]);
    }
    guest.poll();
    assert!(!guest.is_awake());
    let mut all = vec![0; 240_000];
    let reader = std::thread::spawn(move || stream.read_exact(&mut all).map(|()| stream));
    while !reader.is_finished() {
        guest.poll();
    }
    assert!(reader.join().unwrap().is_ok());
}

#[test]
fn a_dead_connection_makes_nobody_spin() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    for _ in 0..4 {
        drop(guest.connected());
        guest.host.unlisten(super::driver::HOST_PORT);
        guest.poll();
        guest.expect(Op::Shutdown);
        assert!(!guest.is_awake());
        guest.send_op(Op::Reset);
    }
}

#[test]
fn with_event_idx_a_starving_device_asks_for_a_kick() {
    let memory = memory();
    let mut guest = Guest::bare(&memory, VsockConfig::default());
    guest.use_event_idx();
    guest.offer_rx();
    guest.offer_rx();
    guest.send_op(Op::Data);
    // A buffer is left: no kick is wanted for more, `avail_event` still stands behind.
    assert_eq!(guest.kick_wanted_at(&guest.rx), 0);
    guest.send_op(Op::Data);
    guest.send_op(Op::Data);
    assert_eq!(guest.kick_wanted_at(&guest.rx), 2, "the next buffer offered is number 2");
    assert_eq!(guest.kick_wanted_at(&guest.tx), 3, "the next packet sent is number 3");
}

#[test]
fn with_event_idx_the_guest_is_interrupted_when_it_asked() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    guest.use_event_idx();
    // The driver wants to hear about the third used receive buffer, and of no transmit buffer.
    guest.want_interrupt_at(&guest.rx, 2);
    guest.want_interrupt_at(&guest.tx, 1000);
    for expected in [0, 0, 1, 1] {
        guest.send_op(Op::Data);
        assert_eq!(guest.interrupts.get(), expected);
    }
}

#[test]
fn a_silent_guest_is_let_go_when_its_time_is_up() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    drop(guest.connected());
    guest.poll();
    guest.expect(Op::Shutdown);
    guest.let_time_pass(crate::devices::vsock::limits::SHUTDOWN_TIMEOUT / 2);
    guest.expect_silence();
    guest.let_time_pass(crate::devices::vsock::limits::SHUTDOWN_TIMEOUT);
    guest.expect(Op::Reset);
}

#[test]
fn one_turn_takes_a_bounded_number_of_packets_and_comes_back() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let stream = guest.connected();
    stream.set_nonblocking(true).unwrap();
    // More data than one turn's packets and the ring hold.
    let payload = pattern(150_000);
    (&stream).write_all(&payload).unwrap();
    let mut taken = Vec::new();
    while taken.len() < payload.len() {
        guest.poll();
        let before = taken.len();
        while let Some((_, data)) = guest.receive() {
            taken.extend(data);
        }
        guest.kick(0);
        assert!(taken.len() > before, "stalled at {before}");
    }
    assert!(taken == payload);
}
