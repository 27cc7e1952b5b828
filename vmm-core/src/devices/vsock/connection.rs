//! One vsock connection as a state machine: no socket, no clock, no memory of the guest.
//!
//! The multiplexer tells it what arrived ([`Connection::receive`]) and what the host side did
//! (`host_…`, [`Connection::delivered`]); it answers what the guest is owed next ([`Connection::next`]).
//! Nothing is queued here: what is owed is a handful of flags, so a guest that takes nothing out makes
//! nothing grow.
//!
//! It must never: trust the guest's counters to be consistent (all arithmetic wraps, CVE-2026-23069),
//! turn a half-close into a close (cloud-hypervisor #8300), or let data pass its own shutdown.
//!
//! ```text
//!  host connects:  Requesting ─REQUEST sent─► Requested ─RESPONSE─► Open
//!  guest connects: Accepting ──RESPONSE sent──────────────────────► Open
//!  Open ─SHUTDOWN (each direction on its own)─► … ─RESET─► gone
//! ```
//!
//! **Credit** (virtio 1.2 §5.10.6.3). Each side tells `buf_alloc`, the size of its buffer, and `fwd_cnt`,
//! how many bytes it has taken out of it since the start. The other side may have
//! `buf_alloc - (sent - fwd_cnt)` more bytes in flight. The counters wrap at 2³².

use std::num::Wrapping;

use super::packet::{Header, Op, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

/// How far the opening handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The host connects; the request is still to be sent.
    Requesting,
    /// The request was sent; the guest has not answered.
    Requested,
    /// The guest connects; the response is still to be sent.
    Accepting,
    /// Data may flow.
    Open,
}

/// A packet owed to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A packet without payload, with these shutdown flags (zero for every other operation).
    Control(Op, u32),
    /// Up to `bytes_max` bytes that the host program wrote; never zero.
    Data {
        /// The guest's credit.
        bytes_max: u32,
    },
}

/// What a packet from the guest means for the host side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing but, perhaps, a packet owed in return.
    Noted,
    /// The guest accepted the host's connect.
    Connected,
    /// Give the payload to the host program, then call [`Connection::delivered`].
    Deliver,
    /// The payload is for a host program that reads no more; it is counted already.
    Discard,
    /// The guest ended a direction; see [`Connection::guest_sends`] and [`Connection::guest_receives`].
    Ended,
    /// The guest has closed, and waits for a reset.
    Closed,
    /// The guest reset the connection, or refused it.
    Reset,
    /// The guest broke the protocol: reset the connection.
    Violation,
}

/// The state of one connection.
#[derive(Clone, Debug)]
pub struct Connection {
    phase: Phase,
    /// Our buffer, as told to the guest.
    buf_alloc: u32,
    /// Bytes received from the guest.
    received: Wrapping<u32>,
    /// Of these, taken out of our buffer.
    forwarded: Wrapping<u32>,
    /// `forwarded` as the guest knows it.
    forwarded_told: Wrapping<u32>,
    /// The guest's buffer.
    guest_buf_alloc: u32,
    /// Bytes the guest says it has taken out.
    guest_forwarded: Wrapping<u32>,
    /// Bytes sent to the guest.
    sent: Wrapping<u32>,
    /// Directions the guest has ended, as shutdown flags of the guest.
    guest_ended: u32,
    /// Directions the host program has ended, as shutdown flags of the host.
    host_ended: u32,
    /// Of these, what the guest has been told.
    host_ended_told: u32,
    /// The guest asked for our credit, or is about to run out of it.
    owes_credit: bool,
    /// The guest has been asked for credit, and has had none to give since.
    asked_credit: bool,
}

impl Connection {
    fn new(phase: Phase, buf_alloc: u32) -> Self {
        Self {
            phase,
            buf_alloc,
            received: Wrapping(0),
            forwarded: Wrapping(0),
            forwarded_told: Wrapping(0),
            guest_buf_alloc: 0,
            guest_forwarded: Wrapping(0),
            sent: Wrapping(0),
            guest_ended: 0,
            host_ended: 0,
            host_ended_told: 0,
            owes_credit: false,
            asked_credit: false,
        }
    }

    /// A connection that the host opens.
    #[must_use]
    pub fn from_host(buf_alloc: u32) -> Self {
        Self::new(Phase::Requesting, buf_alloc)
    }

    /// A connection that the guest's `request` opens.
    #[must_use]
    pub fn from_guest(request: &Header, buf_alloc: u32) -> Self {
        let mut connection = Self::new(Phase::Accepting, buf_alloc);
        connection.note_credit(request);
        connection
    }

    /// Takes in a packet from the guest.
    pub fn receive(&mut self, header: &Header) -> Received {
        self.note_credit(header);
        match (self.phase, header.op()) {
            (_, Some(Op::Reset)) => Received::Reset,
            (Phase::Requested, Some(Op::Response)) => {
                self.phase = Phase::Open;
                Received::Connected
            }
            // Legal once the guest has asked for the connection, and needed: it may give up.
            (Phase::Accepting | Phase::Open, Some(Op::Shutdown)) => self.receive_shutdown(header.flags),
            (Phase::Open, Some(Op::Data)) => self.receive_data(header.len),
            (Phase::Open, Some(Op::CreditUpdate)) => Received::Noted,
            (Phase::Open, Some(Op::CreditRequest)) => {
                self.owes_credit = true;
                Received::Noted
            }
            _ => Received::Violation,
        }
    }

    fn note_credit(&mut self, header: &Header) {
        self.guest_buf_alloc = header.buf_alloc;
        self.guest_forwarded = Wrapping(header.fwd_cnt);
        // Asked once per drought: a guest whose buffer is full answers "none" at once, and asking again on
        // that answer would go on as fast as both sides can. It tells by itself when it has read.
        if self.credit() > 0 {
            self.asked_credit = false;
        }
    }

    fn receive_shutdown(&mut self, flags: u32) -> Received {
        // Flags add up: each end of a direction is final.
        self.guest_ended |= flags & SHUTDOWN_BOTH;
        if self.guest_ended == SHUTDOWN_BOTH { Received::Closed } else { Received::Ended }
    }

    fn receive_data(&mut self, bytes: u32) -> Received {
        // `received - forwarded` is what our buffer holds: never more than `buf_alloc`, by this check.
        let free = self.buf_alloc.saturating_sub((self.received - self.forwarded).0);
        if bytes > free || !self.guest_sends() {
            return Received::Violation;
        }
        self.received += bytes;
        if self.host_receives() {
            return Received::Deliver;
        }
        self.delivered(bytes);
        Received::Discard
    }

    /// `bytes` of what the guest sent have left our buffer.
    pub fn delivered(&mut self, bytes: u32) {
        self.forwarded += bytes;
        // Half the buffer: late enough to spare packets, early enough that a guest that sends as fast as
        // the host reads never waits for credit (starvation: libkrun #772, Firecracker #1751).
        let guest_sees_free = self.buf_alloc.saturating_sub((self.received - self.forwarded_told).0);
        if guest_sees_free <= self.buf_alloc / 2 {
            self.owes_credit = true;
        }
    }

    /// The host program will send no more, and all it sent has been passed on.
    pub fn host_finished(&mut self) {
        self.host_ended |= SHUTDOWN_SEND;
    }

    /// The host program will receive no more.
    pub fn host_deaf(&mut self) {
        self.host_ended |= SHUTDOWN_RECEIVE;
    }

    /// Whether the host program may still receive.
    #[must_use]
    pub fn host_receives(&self) -> bool {
        self.host_ended & SHUTDOWN_RECEIVE == 0
    }

    /// Whether the guest may still send.
    #[must_use]
    pub fn guest_sends(&self) -> bool {
        self.guest_ended & SHUTDOWN_SEND == 0
    }

    /// Whether the guest may still receive.
    #[must_use]
    pub fn guest_receives(&self) -> bool {
        self.guest_ended & SHUTDOWN_RECEIVE == 0
    }

    /// Whether the guest has been told that both directions are over, and owes a reset.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.host_ended_told == SHUTDOWN_BOTH
    }

    /// Whether the guest knows of this connection, and is owed a reset if it goes away.
    #[must_use]
    pub fn is_known_to_guest(&self) -> bool {
        self.phase != Phase::Requesting
    }

    /// Bytes that the guest can take right now. A guest whose counters make no sense has none.
    #[must_use]
    pub fn credit(&self) -> u32 {
        self.guest_buf_alloc.saturating_sub((self.sent - self.guest_forwarded).0)
    }

    /// The packet that the guest is owed next, if any. `host_readable`: the host program may have written
    /// something that was not passed on yet.
    ///
    /// Asking changes nothing; a packet that was sent is reported with [`Connection::stamp`].
    #[must_use]
    pub fn next(&self, host_readable: bool) -> Option<Step> {
        match self.phase {
            Phase::Requesting => return Some(Step::Control(Op::Request, 0)),
            Phase::Accepting => return Some(Step::Control(Op::Response, 0)),
            Phase::Requested => return None,
            Phase::Open => {}
        }
        let wants_to_send = host_readable && self.guest_receives() && self.host_ended & SHUTDOWN_SEND == 0;
        if wants_to_send && self.credit() > 0 {
            return Some(Step::Data { bytes_max: self.credit() });
        }
        // After the data: trying to read it also finds the end of stream, so that a host program that
        // closed is told of in one packet.
        if self.host_ended != self.host_ended_told {
            return Some(Step::Control(Op::Shutdown, self.host_ended));
        }
        if self.owes_credit {
            return Some(Step::Control(Op::CreditUpdate, 0));
        }
        if wants_to_send && !self.asked_credit {
            return Some(Step::Control(Op::CreditRequest, 0));
        }
        None
    }

    /// Marks a packet as sent and fills in what every packet carries: our credit. `data_bytes` is the
    /// payload of [`Op::Data`].
    pub fn stamp(&mut self, header: &mut Header, op: Op, data_bytes: u32) {
        match op {
            Op::Request => self.phase = Phase::Requested,
            Op::Response => self.phase = Phase::Open,
            Op::Shutdown => self.host_ended_told = header.flags,
            Op::Data => self.sent += data_bytes,
            Op::CreditRequest => self.asked_credit = true,
            Op::CreditUpdate | Op::Reset => {}
        }
        self.owes_credit = false;
        self.forwarded_told = self.forwarded;
        header.raw_op = op as u16;
        header.len = data_bytes;
        header.buf_alloc = self.buf_alloc;
        header.fwd_cnt = self.forwarded.0;
    }
}

#[cfg(test)]
mod tests;
