//! The connection by itself: tables for the handshake and the shutdowns, a model of a guest for credit.

use proptest::prelude::*;

use super::*;
use crate::devices::vsock::packet::TYPE_STREAM;

const BUFFER: u32 = 256 * 1024;

fn packet(op: Op) -> Header {
    Header { raw_op: op as u16, kind: TYPE_STREAM, buf_alloc: BUFFER, ..Header::default() }
}

fn data(bytes: u32) -> Header {
    Header { len: bytes, ..packet(Op::Data) }
}

fn shutdown(flags: u32) -> Header {
    Header { flags, ..packet(Op::Shutdown) }
}

/// Sends whatever is owed and returns it.
fn step(connection: &mut Connection, host_readable: bool) -> Option<Step> {
    let step = connection.next(host_readable)?;
    let (op, flags, bytes) = match step {
        Step::Control(op, flags) => (op, flags, 0),
        Step::Data { bytes_max } => (Op::Data, 0, bytes_max),
    };
    connection.stamp(&mut Header { flags, ..Header::default() }, op, bytes);
    Some(step)
}

fn control(op: Op) -> Option<Step> {
    Some(Step::Control(op, 0))
}

fn open() -> Connection {
    let mut connection = Connection::from_guest(&packet(Op::Request), BUFFER);
    assert_eq!(step(&mut connection, false), control(Op::Response));
    connection
}

#[test]
fn host_connects() {
    let mut connection = Connection::from_host(BUFFER);
    assert!(!connection.is_known_to_guest());
    assert_eq!(step(&mut connection, true), control(Op::Request));
    assert!(connection.is_known_to_guest());
    assert_eq!(step(&mut connection, true), None, "nothing before the guest answers");
    assert_eq!(connection.receive(&packet(Op::Response)), Received::Connected);
    assert_eq!(step(&mut connection, true), Some(Step::Data { bytes_max: BUFFER }));
}

#[test]
fn guest_connects() {
    let mut connection = Connection::from_guest(&packet(Op::Request), BUFFER);
    assert_eq!(step(&mut connection, true), control(Op::Response));
    assert_eq!(step(&mut connection, true), Some(Step::Data { bytes_max: BUFFER }));
}

#[test]
fn what_each_operation_means_in_each_phase() {
    use Received::{Closed, Connected, Deliver, Ended, Noted, Reset, Violation};
    let accepting = Connection::from_guest(&packet(Op::Request), BUFFER);
    let mut requested = Connection::from_host(BUFFER);
    step(&mut requested, false);
    // Columns: accepting, requested, open.
    let table = [
        (packet(Op::Request), [Violation, Violation, Violation]),
        (packet(Op::Response), [Violation, Connected, Violation]),
        (packet(Op::Reset), [Reset, Reset, Reset]),
        (shutdown(0), [Ended, Violation, Ended]),
        (shutdown(SHUTDOWN_SEND), [Ended, Violation, Ended]),
        (shutdown(SHUTDOWN_RECEIVE), [Ended, Violation, Ended]),
        (shutdown(SHUTDOWN_BOTH), [Closed, Violation, Closed]),
        (shutdown(u32::MAX), [Closed, Violation, Closed]),
        (data(1), [Violation, Violation, Deliver]),
        (data(BUFFER + 1), [Violation, Violation, Violation]),
        (packet(Op::CreditUpdate), [Violation, Violation, Noted]),
        (packet(Op::CreditRequest), [Violation, Violation, Noted]),
        (Header { raw_op: 0, ..packet(Op::Data) }, [Violation, Violation, Violation]),
        (Header { raw_op: 8, ..packet(Op::Data) }, [Violation, Violation, Violation]),
    ];
    for (header, expected) in table {
        for (start, expected) in [&accepting, &requested, &open()].into_iter().zip(expected) {
            assert_eq!(start.clone().receive(&header), expected, "{:?} in {:?}", header, start.phase);
        }
    }
}

#[test]
fn host_half_close_is_not_a_close() {
    // cloud-hypervisor #8300, vhost-device #874: the reply of the guest must still be taken.
    let mut connection = open();
    connection.host_finished();
    assert_eq!(step(&mut connection, false), Some(Step::Control(Op::Shutdown, SHUTDOWN_SEND)));
    assert!(!connection.is_shut_down());
    assert_eq!(connection.receive(&data(100)), Received::Deliver);
    assert_eq!(step(&mut connection, true), None, "told once, and no data after it");
    connection.host_deaf();
    assert_eq!(step(&mut connection, false), Some(Step::Control(Op::Shutdown, SHUTDOWN_BOTH)));
    assert!(connection.is_shut_down());
}

#[test]
fn guest_half_close_is_not_a_close() {
    let mut connection = open();
    assert_eq!(connection.receive(&shutdown(SHUTDOWN_SEND)), Received::Ended);
    assert_eq!(step(&mut connection, true), Some(Step::Data { bytes_max: BUFFER }));
    assert_eq!(connection.receive(&data(1)), Received::Violation, "it said that it would send no more");
    assert_eq!(connection.receive(&shutdown(SHUTDOWN_RECEIVE)), Received::Closed, "flags add up");
}

#[test]
fn guest_that_receives_no_more_gets_no_data() {
    let mut connection = open();
    connection.receive(&shutdown(SHUTDOWN_RECEIVE));
    assert_eq!(step(&mut connection, true), None);
}

#[test]
fn host_that_receives_no_more_costs_the_guest_no_credit() {
    let mut connection = open();
    connection.host_deaf();
    step(&mut connection, false);
    for _ in 0..100 {
        assert_eq!(connection.receive(&data(64 * 1024)), Received::Discard);
        while step(&mut connection, false).is_some() {}
    }
}

#[test]
fn credit_is_told_at_half_the_buffer() {
    let mut connection = open();
    assert_eq!(connection.receive(&data(BUFFER / 2 - 1)), Received::Deliver);
    connection.delivered(BUFFER / 2 - 1);
    assert_eq!(step(&mut connection, false), None);
    assert_eq!(connection.receive(&data(1)), Received::Deliver);
    connection.delivered(1);
    assert_eq!(step(&mut connection, false), control(Op::CreditUpdate));
    assert_eq!(step(&mut connection, false), None, "told once");
}

#[test]
fn credit_is_asked_for_once_per_drought() {
    let mut connection = open();
    assert_eq!(step(&mut connection, true), Some(Step::Data { bytes_max: BUFFER }));
    assert_eq!(step(&mut connection, true), control(Op::CreditRequest));
    // A full guest answers at once. Asking again on that answer would spin for as long as it is full.
    connection.receive(&packet(Op::CreditUpdate));
    assert_eq!(step(&mut connection, true), None);
    connection.receive(&Header { fwd_cnt: 10, ..packet(Op::CreditUpdate) });
    assert_eq!(step(&mut connection, true), Some(Step::Data { bytes_max: 10 }));
    assert_eq!(step(&mut connection, true), control(Op::CreditRequest));
}

#[test]
fn guest_overrunning_its_credit_is_refused() {
    let mut connection = open();
    assert_eq!(connection.receive(&data(BUFFER)), Received::Deliver);
    assert_eq!(connection.receive(&data(1)), Received::Violation);
}

#[test]
fn counters_of_nonsense_give_no_credit() {
    // CVE-2026-23069: a guest that claims to have taken more than it was sent must not gain credit.
    let mut connection = open();
    for (buf_alloc, fwd_cnt) in [(BUFFER, 1), (BUFFER, u32::MAX - BUFFER), (0, 0), (0, u32::MAX), (10, 20)] {
        connection.receive(&Header { buf_alloc, fwd_cnt, ..packet(Op::CreditUpdate) });
        assert_eq!(connection.credit(), 0, "buf_alloc {buf_alloc} fwd_cnt {fwd_cnt}");
    }
    // Shrinking the buffer below what is in flight is legal, and means no credit for now.
    connection.receive(&packet(Op::CreditUpdate));
    step(&mut connection, true);
    connection.receive(&Header { buf_alloc: 10, ..packet(Op::CreditUpdate) });
    assert_eq!(connection.credit(), 0);
}

/// A guest with a correct implementation, as a model: what it holds and what it thinks of us.
struct Model {
    buffer: u32,
    holds: u32,
    taken: Wrapping<u32>,
    sent: Wrapping<u32>,
    our_buf_alloc: u32,
    our_fwd_cnt: Wrapping<u32>,
    total: u64,
}

impl Model {
    fn header(&self, op: Op, len: u32) -> Header {
        Header { raw_op: op as u16, len, buf_alloc: self.buffer, fwd_cnt: self.taken.0, ..Header::default() }
    }

    fn credit(&self) -> u32 {
        self.our_buf_alloc - (self.sent - self.our_fwd_cnt).0
    }
}

/// One action of the simulated pair.
#[derive(Clone, Copy, Debug)]
enum Action {
    HostToGuest,
    GuestReads(u32),
    GuestSends(u32),
    HostReads(u32),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        Just(Action::HostToGuest),
        (1..100_000_u32).prop_map(Action::GuestReads),
        (1..70_000_u32).prop_map(Action::GuestSends),
        (1..100_000_u32).prop_map(Action::HostReads),
    ];
    prop::collection::vec(action, 1..400)
}

/// Runs `actions` with the counters starting near their wrap, and checks what must always hold.
fn simulate(actions: &[Action], guest_buffer: u32, start: u32) {
    let mut connection = open();
    connection.received = Wrapping(start);
    connection.forwarded = Wrapping(start);
    connection.forwarded_told = Wrapping(start);
    connection.sent = Wrapping(start);
    let mut guest = Model {
        buffer: guest_buffer,
        holds: 0,
        taken: Wrapping(start),
        sent: Wrapping(start),
        our_buf_alloc: BUFFER,
        our_fwd_cnt: Wrapping(start),
        total: 0,
    };
    connection.receive(&guest.header(Op::CreditUpdate, 0));
    let mut backlog = 0;
    for &action in actions {
        match action {
            Action::HostToGuest => deliver_all(&mut connection, &mut guest),
            Action::GuestReads(bytes) => {
                let bytes = bytes.min(guest.holds);
                guest.holds -= bytes;
                guest.taken += bytes;
                connection.receive(&guest.header(Op::CreditUpdate, 0));
            }
            Action::GuestSends(bytes) => {
                let bytes = bytes.min(guest.credit());
                guest.sent += bytes;
                assert_eq!(connection.receive(&guest.header(Op::Data, bytes)), Received::Deliver);
                backlog += bytes;
                assert!(backlog <= BUFFER, "more than the buffer that was announced");
            }
            Action::HostReads(bytes) => {
                let bytes = bytes.min(backlog);
                backlog -= bytes;
                connection.delivered(bytes);
            }
        }
    }
    // The host reads all, every packet arrives: then the guest has at least half the buffer of credit.
    connection.delivered(backlog);
    deliver_all(&mut connection, &mut guest);
    assert!(guest.credit() > BUFFER / 2, "the guest starves with {} bytes of credit", guest.credit());
    // The guest reads all: then its whole buffer is ours again.
    guest.taken += guest.holds;
    connection.receive(&guest.header(Op::CreditUpdate, 0));
    assert_eq!(connection.credit(), guest_buffer);
}

/// Moves every packet that is owed to the guest, the host always having something to send.
fn deliver_all(connection: &mut Connection, guest: &mut Model) {
    for turn in 0.. {
        assert!(turn < 10, "packets without end");
        let Some(step) = connection.next(true) else { return };
        let (op, bytes) = match step {
            Step::Control(op, _) => (op, 0),
            Step::Data { bytes_max } => (Op::Data, bytes_max),
        };
        let mut header = Header::default();
        connection.stamp(&mut header, op, bytes);
        guest.our_buf_alloc = header.buf_alloc;
        guest.our_fwd_cnt = Wrapping(header.fwd_cnt);
        guest.holds += bytes;
        guest.total += u64::from(bytes);
        assert!(guest.holds <= guest.buffer, "the guest's buffer overflows");
        if op == Op::CreditRequest {
            connection.receive(&guest.header(Op::CreditUpdate, 0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn credit_is_kept_and_never_starves(actions in actions(), guest_buffer in 1..300_000_u32, start: u32) {
        simulate(&actions, guest_buffer, start);
    }

    #[test]
    fn hostile_headers_break_nothing(
        headers in prop::collection::vec((0..10_u16, any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<bool>()), 1..200),
        from_host: bool,
    ) {
        let mut connection = if from_host { Connection::from_host(BUFFER) } else { open() };
        for (raw_op, len, flags, buf_alloc, fwd_cnt, readable) in headers {
            let header = Header { raw_op, len, flags, buf_alloc, fwd_cnt, ..Header::default() };
            if connection.receive(&header) == Received::Deliver {
                prop_assert!(len <= BUFFER);
                connection.delivered(len / 2);
            }
            prop_assert!((connection.received - connection.forwarded).0 <= BUFFER);
            prop_assert!(connection.credit() <= buf_alloc);
            for turn in 0.. {
                prop_assert!(turn < 10, "packets without end");
                if step(&mut connection, readable).is_none() { break; }
            }
        }
    }
}
