//! One connection with its host socket: moves bytes between the two as the state machine allows.
//!
//! The socket is watched edge-triggered: `readable` and `writable` stay set until the kernel says
//! otherwise, so a connection that cannot proceed (no credit, no guest buffers, host not reading) costs
//! nothing while it waits, and wakes nothing (busy spins: Firecracker #6031, #6041, #6077).

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use vmm_sys_util::epoll::EventSet;

use super::connection::{Connection, Step};
use super::limits::PACKET_BYTES_MAX;
use super::mux::Key;
use super::packet::{HEADER_BYTES, Op};
use super::segments::{Segments, send_bytes};

/// Reads made to throw away what the host wrote and the guest will not take; covers a socket's buffer.
const DISCARD_READS_MAX: usize = 16;

/// A packet put into a guest buffer, its header excepted.
pub(super) struct Packet {
    pub(super) op: Op,
    pub(super) flags: u32,
    pub(super) data_bytes: u32,
}

/// What became of a guest buffer.
pub(super) enum Fill {
    Packet(Packet),
    /// Nothing is owed to the guest.
    Nothing,
    /// There is payload, and the buffer has no room for any.
    TooSmall,
}

pub(super) struct Endpoint {
    pub(super) connection: Connection,
    pub(super) key: Key,
    stream: UnixStream,
    /// What the guest sent and the host has not taken yet; at most the connection's `buf_alloc`.
    backlog: VecDeque<u8>,
    readable: bool,
    writable: bool,
    /// The host program has been told that the guest will send no more.
    end_passed_on: bool,
    /// Whether it stands in the multiplexer's ready queue, where each connection stands at most once.
    pub(super) queued: bool,
    /// When to give up.
    pub(super) deadline: Option<Instant>,
    /// The host's pending connect.
    pub(super) outcome: Option<SyncSender<io::Result<()>>>,
    /// The guest is done with this connection; it only lives until the backlog is delivered.
    pub(super) detached: bool,
}

impl Endpoint {
    pub(super) fn new(connection: Connection, key: Key, stream: UnixStream) -> Self {
        Self {
            connection,
            key,
            stream,
            backlog: VecDeque::new(),
            // The host may have written before the socket was watched.
            readable: true,
            writable: true,
            end_passed_on: false,
            queued: false,
            deadline: None,
            outcome: None,
            detached: false,
        }
    }

    /// The packet owed next.
    pub(super) fn next(&self) -> Option<Step> {
        if self.detached { None } else { self.connection.next(self.readable) }
    }

    /// Nothing is left to do for either side.
    pub(super) fn is_spent(&self) -> bool {
        self.detached && self.backlog.is_empty()
    }

    /// Tells the waiting connect how it went.
    pub(super) fn resolve(&mut self, outcome: io::Result<()>) {
        if let Some(waiting) = self.outcome.take() {
            // The caller may have given up; then dropping its stream ends the connection.
            let _ = waiting.try_send(outcome);
        }
    }

    /// Passes `payload` on, straight from guest memory as far as the socket takes it.
    pub(super) fn deliver(&mut self, payload: &mut Segments<'_>) {
        while self.backlog.is_empty() && self.writable && payload.len() > 0 {
            match payload.send_to(self.stream.as_fd()) {
                Ok(count) => {
                    // Never repeated, never lost: only what was not taken goes on (Firecracker #5485).
                    self.writable = count == payload.len();
                    payload.advance(count);
                    self.delivered(count);
                }
                Err(error) => self.send_failed(&error),
            }
        }
        if self.connection.host_receives() {
            // Bounded by the credit check in `Connection::receive`.
            payload.copy_into(&mut self.backlog);
        } else {
            self.delivered(payload.len());
        }
    }

    /// Passes on what waits, then the guest's half-close if that is due.
    pub(super) fn flush(&mut self) {
        while self.writable && !self.backlog.is_empty() {
            match send_bytes(&mut self.backlog, self.stream.as_fd()) {
                Ok(count) => self.delivered(count),
                Err(error) => self.send_failed(&error),
            }
        }
        if self.backlog.is_empty() {
            // A connection that was slow once does not keep the memory for ever.
            self.backlog = VecDeque::new();
            if !self.connection.guest_sends() && !self.end_passed_on {
                // Once: every shutdown(2) is an event of its own, which would come back here.
                self.end_passed_on = true;
                let _ = self.stream.shutdown(Shutdown::Write);
            }
        }
    }

    /// The guest ended a direction.
    pub(super) fn guest_ended(&mut self) {
        if !self.connection.guest_receives() {
            let _ = self.stream.shutdown(Shutdown::Read);
        }
        self.flush();
    }

    /// The guest is done with this connection, in whatever way.
    pub(super) fn detach(&mut self) {
        self.detached = true;
        self.deadline = None;
        self.flush();
        if self.is_spent() {
            self.discard_unread();
        }
    }

    /// The socket reported `events`.
    pub(super) fn host_event(&mut self, events: EventSet) {
        if events.intersects(EventSet::IN | EventSet::READ_HANG_UP | EventSet::HANG_UP | EventSet::ERROR) {
            self.readable = true;
        }
        if events.intersects(EventSet::HANG_UP | EventSet::ERROR) {
            // Both directions are over for the host, or it has closed. What it wrote before is still
            // read and passed on; the end of stream comes after it.
            self.host_deaf();
            if !self.connection.guest_receives() {
                self.connection.host_finished();
            }
        }
        if events.contains(EventSet::OUT) {
            self.writable = true;
            self.flush();
        }
        if self.is_spent() {
            self.discard_unread();
        }
    }

    /// Puts the next packet owed to the guest into `buffer`, payload after room for the header.
    pub(super) fn fill(&mut self, buffer: &Segments<'_>) -> Fill {
        let packet = |op, flags, data_bytes| Fill::Packet(Packet { op, flags, data_bytes });
        loop {
            // Each turn either returns or clears `readable`.
            let bytes_max = match self.next() {
                None => return Fill::Nothing,
                Some(Step::Control(op, flags)) => return packet(op, flags, 0),
                Some(Step::Data { bytes_max }) => bytes_max.min(PACKET_BYTES_MAX),
            };
            let room = buffer.len().saturating_sub(HEADER_BYTES);
            if room == 0 {
                return Fill::TooSmall;
            }
            let bytes_max = usize::try_from(bytes_max).unwrap_or(room).min(room);
            match buffer.receive_from(self.stream.as_fd(), HEADER_BYTES, bytes_max) {
                Ok(0) => {
                    self.readable = false;
                    self.connection.host_finished();
                }
                // Fits: at most PACKET_BYTES_MAX was asked for.
                Ok(count) => return packet(Op::Data, 0, u32::try_from(count).unwrap_or(u32::MAX)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(_) => {
                    self.readable = false;
                    self.connection.host_finished();
                    self.host_deaf();
                }
            }
        }
    }

    fn send_failed(&mut self, error: &io::Error) {
        self.writable = false;
        if error.kind() != io::ErrorKind::WouldBlock {
            self.host_deaf();
        }
    }

    /// The host reads no more: what waits for it is gone, and its credit is the guest's again.
    fn host_deaf(&mut self) {
        self.connection.host_deaf();
        // Most likely it has closed: reading finds out, and the guest hears of both in one packet.
        self.readable = true;
        let dropped = self.backlog.len();
        self.backlog = VecDeque::new();
        self.delivered(dropped);
    }

    fn delivered(&mut self, count: usize) {
        // Fits: never more than the backlog and one packet hold.
        self.connection.delivered(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Empties the socket. Closing one with unread bytes gives the other end `ECONNRESET` after the data
    /// instead of an end of stream, as if the guest had failed.
    fn discard_unread(&self) {
        let mut sink = [0; 16 * 1024];
        for _ in 0..DISCARD_READS_MAX {
            match io::Read::read(&mut &self.stream, &mut sink) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}
