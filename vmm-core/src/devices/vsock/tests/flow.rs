//! What a well-behaved guest and host program may expect.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use super::driver::{GUEST_PORT, Guest, HOST_PORT, PATIENCE, memory, packet, pattern};
use crate::devices::Device;
use crate::devices::vsock::packet::{
    HEADER_BYTES, HOST_CID, Header, Op, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND,
};
use crate::devices::vsock::{self, VsockConfig};

#[test]
fn configuration_space_holds_the_guest_cid() {
    let (device, _) = vsock::new(VsockConfig { guest_cid: 0x1234_5678, ..VsockConfig::default() }).unwrap();
    let mut config = [0xff; 12];
    device.read_config(0, &mut config);
    assert_eq!(config, [0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0, 0, 0, 0, 0]);
    device.read_config(2, &mut config[..2]);
    assert_eq!(config[..2], [0x34, 0x12]);
    device.read_config(u32::MAX, &mut config);
    assert_eq!(config, [0; 12]);
}

#[test]
fn reserved_guest_cids_are_refused() {
    for guest_cid in [0, 1, 2, u64::from(u32::MAX), u64::MAX] {
        let error = vsock::new(VsockConfig { guest_cid, ..VsockConfig::default() }).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn data_flows_both_ways() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let mut stream = guest.connected();
    guest.send_data(b"question");
    assert_eq!(guest.read_host(&stream), b"question");
    stream.write_all(b"answer").unwrap();
    guest.poll();
    let (header, payload) = guest.receive().unwrap();
    assert_eq!(payload, b"answer");
    let expected = Header {
        src_cid: HOST_CID,
        dst_cid: 3,
        src_port: HOST_PORT,
        dst_port: GUEST_PORT,
        len: 6,
        raw_op: Op::Data as u16,
        fwd_cnt: 8,
        buf_alloc: 256 * 1024,
        ..packet(Op::Data)
    };
    assert_eq!(header, expected);
}

#[test]
fn header_and_payload_may_be_cut_anywhere() {
    // cloud-hypervisor #5691: one descriptor since Linux 6.2, two before; virtio allows any cut.
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let stream = guest.connected();
    let mut cuts: Vec<Vec<usize>> = (1..=HEADER_BYTES + 3).map(|at| vec![at]).collect();
    cuts.extend([
        vec![],
        vec![2; HEADER_BYTES / 2],
        vec![0, HEADER_BYTES, 0, 2],
        vec![10, 10, 10, 10, 4, 1, 1],
    ]);
    for cuts in cuts {
        guest.send_cut(&Header { len: 5, ..packet(Op::Data) }, b"hello", &cuts);
        assert_eq!(guest.read_host(&stream), b"hello", "cut {cuts:?}");
    }
}

#[test]
fn packet_across_two_memory_regions_arrives() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let stream = guest.connected();
    let payload = pattern(64 * 1024);
    guest.send_data(&payload);
    assert!(guest.read_host(&stream) == payload);
}

#[test]
fn host_that_reads_late_loses_and_repeats_nothing() {
    // Firecracker #5485: what a partial write took must not be written again.
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let stream = guest.connected();
    let payload = pattern(4 * 64 * 1024);
    for chunk in payload.chunks(60_000) {
        guest.send_data(chunk);
    }
    assert!(guest.read_host(&stream) == payload);
}

#[test]
fn megabytes_pass_through_a_small_guest_buffer() {
    // libkrun #772: credit starvation after 240 KB; the host writes as fast as the socket takes it.
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let mut stream = guest.connected();
    let payload = pattern(1 << 20);
    let expected = payload.clone();
    let writer = std::thread::spawn(move || stream.write_all(&payload).map(|()| stream).unwrap());
    let mut taken = Vec::new();
    let buffer = 5000;
    guest.send(&Header { buf_alloc: buffer, ..packet(Op::CreditUpdate) }, &[]);
    while taken.len() < expected.len() {
        guest.poll();
        while let Some((header, payload)) = guest.receive() {
            if header.op() == Some(Op::Data) {
                taken.extend(payload);
            }
        }
        let fwd_cnt = u32::try_from(taken.len()).unwrap();
        guest.send(&Header { buf_alloc: buffer, fwd_cnt, ..packet(Op::CreditUpdate) }, &[]);
    }
    drop(writer.join().unwrap());
    assert!(taken == expected);
}

#[test]
fn guest_that_sends_for_long_is_told_its_credit() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let stream = guest.connected();
    let (mut sent, mut told) = (0_u32, 0_u32);
    for _ in 0..100 {
        guest.send_data(&[7; 50_000]);
        sent += 50_000;
        guest.read_host(&stream);
        while let Some((header, _)) = guest.receive() {
            told = header.fwd_cnt;
        }
        assert!(sent - told <= 128 * 1024, "sent {sent}, told {told}");
    }
}

#[test]
fn host_half_close_leaves_the_reply() {
    // cloud-hypervisor #8300, vhost-device #874, propolis #1102.
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let mut stream = guest.connected();
    stream.write_all(b"all there is").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    guest.poll();
    assert_eq!(guest.receive().unwrap().1, b"all there is");
    assert_eq!(guest.expect(Op::Shutdown).flags, SHUTDOWN_SEND);
    guest.send_data(b"the reply");
    guest.send(&Header { flags: SHUTDOWN_BOTH, ..packet(Op::Shutdown) }, &[]);
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "the reply");
    guest.expect(Op::Reset);
}

#[test]
fn guest_half_close_leaves_the_reply() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let mut stream = guest.connected();
    guest.send_data(b"all there is");
    guest.send(&Header { flags: SHUTDOWN_SEND, ..packet(Op::Shutdown) }, &[]);
    let mut got = String::new();
    stream.read_to_string(&mut got).unwrap();
    assert_eq!(got, "all there is");
    stream.write_all(b"the reply").unwrap();
    drop(stream);
    guest.poll();
    assert_eq!(guest.receive().unwrap().1, b"the reply");
    assert_eq!(guest.expect(Op::Shutdown).flags, SHUTDOWN_BOTH);
}

#[test]
fn end_of_stream_waits_for_what_the_host_has_not_read() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let stream = guest.connected();
    let payload = pattern(4 * 60_000);
    for chunk in payload.chunks(60_000) {
        guest.send_data(chunk);
    }
    // The guest closes altogether, and is let go at once; the host still gets every byte.
    guest.send(&Header { flags: SHUTDOWN_BOTH, ..packet(Op::Shutdown) }, &[]);
    while guest.receive().is_some_and(|(header, _)| header.op() != Some(Op::Reset)) {}
    assert!(guest.read_host(&stream) == payload);
    assert_eq!((&stream).read(&mut [0]).unwrap(), 0, "then the end");
}

#[test]
fn host_writing_to_a_guest_that_receives_no_more_fails() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let mut stream = guest.connected();
    guest.send(&Header { flags: SHUTDOWN_RECEIVE, ..packet(Op::Shutdown) }, &[]);
    assert_eq!(stream.write_all(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    guest.send_data(b"still sends");
    assert_eq!(guest.read_host(&stream), b"still sends");
}

#[test]
fn host_that_closed_kills_no_process_and_ends_the_connection() {
    // Firecracker #2464: no SIGPIPE. #6077: no spin on the dead socket.
    let memory = memory();
    let mut guest = Guest::new(&memory);
    drop(guest.connected());
    guest.send_data(b"into the void");
    guest.poll();
    assert_eq!(guest.expect(Op::Shutdown).flags, SHUTDOWN_BOTH);
    guest.send_op(Op::Reset);
    guest.send_op(Op::CreditUpdate);
    guest.expect(Op::Reset);
    guest.poll();
    guest.expect_silence();
}

#[test]
fn host_closing_with_data_under_way_delivers_it() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let mut stream = guest.connected();
    let payload = pattern(100_000);
    stream.write_all(&payload).unwrap();
    drop(stream);
    let mut taken = Vec::new();
    loop {
        guest.poll();
        guest.kick(0);
        let Some((header, payload)) = guest.receive() else { panic!("stalled at {}", taken.len()) };
        match header.op() {
            Some(Op::Data) => taken.extend(payload),
            op => {
                assert_eq!((op, taken.len()), (Some(Op::Shutdown), payload.len().max(100_000)));
                break;
            }
        }
    }
    assert!(taken == payload);
}

#[test]
fn host_connects_before_the_guest_is_ready() {
    // Firecracker #1253. The driver resets the device when it starts: that must not lose the connect.
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let host = guest.host.clone();
    let waiting = std::thread::spawn(move || host.connect(1024, PATIENCE));
    guest.reset();
    let request = loop {
        guest.poll();
        if let Some((header, _)) = guest.receive() {
            break header;
        }
        std::thread::yield_now();
    };
    assert_eq!((request.op(), request.dst_port), (Some(Op::Request), 1024));
    let (src_port, dst_port) = (request.dst_port, request.src_port);
    guest.send(&Header { src_port, dst_port, ..packet(Op::Response) }, &[]);
    let mut stream = waiting.join().unwrap().unwrap();
    guest.send(&Header { src_port, dst_port, len: 2, ..packet(Op::Data) }, b"hi");
    let mut got = [0; 2];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hi");
}

#[test]
fn host_connect_outcomes() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    // Nobody serves the device: the caller's own patience ends it.
    let error = guest.host.connect(1024, Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    guest.poll();
    guest.expect_silence();
    // The guest has no listener.
    let host = guest.host.clone();
    let waiting = std::thread::spawn(move || host.connect(1024, PATIENCE));
    let request = loop {
        guest.poll();
        if let Some((header, _)) = guest.receive() {
            break header;
        }
    };
    let (src_port, dst_port) = (request.dst_port, request.src_port);
    guest.send(&Header { src_port, dst_port, ..packet(Op::Reset) }, &[]);
    assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // The guest never answers: it is told that nobody waits any more.
    let host = guest.host.clone();
    let waiting = std::thread::spawn(move || host.connect(1024, PATIENCE));
    let request = loop {
        guest.poll();
        if let Some((header, _)) = guest.receive() {
            break header;
        }
    };
    guest.let_time_pass(PATIENCE);
    let reset = guest.expect(Op::Reset);
    assert_eq!((reset.src_port, reset.dst_port), (request.src_port, request.dst_port));
    assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    // The device goes away.
    let host = guest.host.clone();
    let waiting = std::thread::spawn(move || host.connect(1024, PATIENCE));
    while !guest.is_awake() {
        std::thread::yield_now();
    }
    drop(guest);
    assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::NotConnected);
}

#[test]
fn a_port_has_one_listener() {
    let (_device, host) = vsock::new(VsockConfig::default()).unwrap();
    host.listen(53, drop).unwrap();
    assert_eq!(host.listen(53, drop).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert!(host.unlisten(53));
    assert!(!host.unlisten(53));
    host.listen(53, drop).unwrap();
}

#[test]
fn driver_reset_drops_connections_and_keeps_listeners() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let mut stream = guest.connected();
    guest.reset();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    guest.send_op(Op::Request);
    guest.expect(Op::Response);
}

#[test]
fn a_thousand_connections_come_and_go() {
    let memory = memory();
    let mut guest = Guest::new(&memory);
    let streams = guest.listen();
    for port in 0..1000 {
        let of = |op| Header { src_port: 40_000 + port, ..packet(op) };
        guest.send(&of(Op::Request), &[]);
        guest.expect(Op::Response);
        guest.send(&Header { len: 1, ..of(Op::Data) }, b"x");
        let stream = streams.try_recv().unwrap();
        assert_eq!(guest.read_host(&stream), b"x");
        guest.send(&Header { flags: SHUTDOWN_BOTH, ..of(Op::Shutdown) }, &[]);
        guest.expect(Op::Reset);
    }
}
