//! The state machine of one vsock connection, alone against any packets, and against itself: two honest ends
//! never break the protocol, never overrun a buffer and never wait for credit for ever.

#![no_main]

use std::collections::VecDeque;

use fuzz::Input;
use libfuzzer_sys::fuzz_target;
use vmm_core::devices::vsock::connection::{Connection, Received, Step};
use vmm_core::devices::vsock::packet::{HEADER_BYTES, Header, Op};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let buffers = [input.u32() % 0x10_0000 + 1, input.u32() % 0x1000 + 1];
    if input.below(2) == 0 { hostile(&mut input, buffers[0]) } else { honest(&mut input, buffers) }
});

/// Any packets: what is to be delivered always fits the buffer, and credit is never more than was given.
fn hostile(input: &mut Input<'_>, buffer: u32) {
    let request = header(input);
    let mut connection = match input.below(2) {
        0 => Connection::from_host(buffer),
        _ => Connection::from_guest(&request, buffer),
    };
    let mut given = request.buf_alloc;
    let mut waiting = 0_u64;
    while !input.is_empty() {
        match input.below(6) {
            0 | 1 => {
                let packet = header(input);
                given = packet.buf_alloc;
                match connection.receive(&packet) {
                    Received::Deliver => waiting += u64::from(packet.len),
                    Received::Reset | Received::Violation | Received::Closed => return,
                    _ => {}
                }
            }
            2 => send(&mut connection, input.below(2) == 0, input.u16(), |_| {}),
            3 => {
                let part = u64::from(input.u32()).min(waiting);
                waiting -= part;
                connection.delivered(u32::try_from(part).unwrap());
            }
            4 => connection.host_finished(),
            _ => {
                connection.host_deaf();
                connection.delivered(u32::try_from(std::mem::take(&mut waiting)).unwrap());
            }
        }
        assert!(waiting <= u64::from(buffer), "more waits than the buffer holds");
        assert!(connection.credit() <= given.max(request.buf_alloc));
    }
}

fn header(input: &mut Input<'_>) -> Header {
    let wire: [u8; HEADER_BYTES] = std::array::from_fn(|_| input.u8());
    let mut header = Header::decode(&wire);
    assert_eq!(header.encode(), wire);
    header.raw_op = u16::from(input.u8() % 9);
    header
}

/// Takes the next packet that is owed, if any.
fn send(connection: &mut Connection, readable: bool, bytes: u16, mut out: impl FnMut(Header)) {
    let credit = connection.credit();
    let mut packet = Header::default();
    match connection.next(readable) {
        None => return,
        Some(Step::Control(op, flags)) => {
            packet.flags = flags;
            connection.stamp(&mut packet, op, 0);
        }
        Some(Step::Data { bytes_max }) => {
            assert!(readable && bytes_max > 0 && bytes_max <= credit);
            connection.stamp(&mut packet, Op::Data, bytes_max.min(u32::from(bytes).max(1)));
        }
    }
    out(packet);
}

#[derive(Debug)]
struct End {
    /// The guest's end begins with the request that it gets.
    connection: Option<Connection>,
    buffer: u32,
    inbox: VecDeque<Header>,
    /// Bytes in its buffer.
    waiting: u32,
    finished: bool,
    deaf: bool,
}

fn honest(input: &mut Input<'_>, buffers: [u32; 2]) {
    let end = |connection, buffer| End {
        connection,
        buffer,
        inbox: VecDeque::new(),
        waiting: 0,
        finished: false,
        deaf: false,
    };
    let mut ends = [end(Some(Connection::from_host(buffers[0])), buffers[0]), end(None, buffers[1])];
    while !input.is_empty() {
        let side = input.below(2);
        match input.below(8) {
            0..=2 => pass(&mut ends, side, input.below(4) > 0, input.u16()),
            3 | 4 => {
                let goes_on = ends[side].receive();
                if !goes_on {
                    return;
                }
            }
            5 => {
                let part = ends[side].waiting.min(u32::from(input.u16()));
                ends[side].deliver(part);
            }
            6 if input.below(8) == 0 => ends[side].finish(),
            7 if input.below(8) == 0 => ends[side].go_deaf(),
            _ => {}
        }
    }
    settle(&mut ends);
}

/// Lets everything come to rest; then whoever may still send must be able to.
fn settle(ends: &mut [End; 2]) {
    for round in 0..64 {
        let mut moved = false;
        for side in 0..2 {
            let before = ends[1 - side].inbox.len();
            pass(ends, side, false, 0);
            moved |= ends[1 - side].inbox.len() > before;
            while !ends[side].inbox.is_empty() {
                moved = true;
                if !ends[side].receive() {
                    return;
                }
            }
            let waiting = ends[side].waiting;
            moved |= waiting > 0;
            ends[side].deliver(waiting);
        }
        if moved {
            continue;
        }
        for side in 0..2 {
            let (own, other) = (&ends[side], &ends[1 - side]);
            let may_send = !own.finished && !other.deaf;
            let step = own.connection.as_ref().and_then(|connection| connection.next(true));
            if !may_send || matches!(step, Some(Step::Data { .. })) {
                continue;
            }
            assert!(step.is_some() && round < 32, "nobody is asked for credit: {own:?}, {other:?}");
            pass(ends, side, true, 1);
            moved = true;
        }
        if !moved {
            return;
        }
    }
    panic!("two honest ends never come to rest");
}

fn pass(ends: &mut [End; 2], side: usize, readable: bool, bytes: u16) {
    let [a, b] = ends;
    let (from, to) = if side == 0 { (a, b) } else { (b, a) };
    if let Some(connection) = &mut from.connection {
        send(connection, readable, bytes, |packet| to.inbox.push_back(packet));
    }
}

impl End {
    /// Takes in a packet; false when the connection is over.
    fn receive(&mut self) -> bool {
        let Some(packet) = self.inbox.pop_front() else { return true };
        let Some(connection) = &mut self.connection else {
            assert_eq!(packet.op(), Some(Op::Request));
            self.connection = Some(Connection::from_guest(&packet, self.buffer));
            return true;
        };
        match connection.receive(&packet) {
            Received::Violation => panic!("an honest packet breaks the protocol: {packet:?}"),
            Received::Closed | Received::Reset => return false,
            Received::Deliver => self.waiting += packet.len,
            Received::Noted | Received::Connected | Received::Discard | Received::Ended => {}
        }
        assert!(self.waiting <= self.buffer, "the buffer is overrun");
        true
    }

    fn deliver(&mut self, bytes: u32) {
        if let Some(connection) = &mut self.connection {
            self.waiting -= bytes;
            connection.delivered(bytes);
        }
    }

    fn finish(&mut self) {
        if let Some(connection) = &mut self.connection {
            self.finished = true;
            connection.host_finished();
        }
    }

    fn go_deaf(&mut self) {
        if let Some(connection) = &mut self.connection {
            self.deaf = true;
            connection.host_deaf();
            connection.delivered(std::mem::take(&mut self.waiting));
        }
    }
}
