//! The table of connections: who is meant by a packet, and whose turn it is to send one.
//!
//! It owns the host sockets, nested in one epoll descriptor, and the timers. It knows guest memory only
//! as [`Segments`], and virtqueues not at all.
//!
//! It must never: answer a packet that does not come from the guest's own CID or is not meant for the
//! host, answer a reset with a reset, or keep anything per packet of the guest. All that grows is bounded:
//! connections by `connections_max`, the ready queue and the timers by the connections, resets by
//! [`RESETS_MAX`].

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::timerfd::TimerFd;

use super::VsockConfig;
use super::connection::{Connection, Received};
use super::endpoint::{Endpoint, Fill, Packet};
use super::host::{Connect, Shared, timed_out};
use super::limits::{
    CONNECTS_WAITING_MAX, HOST_PORT_END, HOST_PORT_FIRST, RESETS_MAX, SHUTDOWN_TIMEOUT, TURN_EVENTS_MAX,
};
use super::packet::{HEADER_BYTES, HOST_CID, Header, Op, TYPE_STREAM};
use super::segments::Segments;

/// The two ports that name a connection; the CIDs never differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) host_port: u32,
    pub(super) guest_port: u32,
}

/// What became of a guest buffer offered to [`Mux::fill`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// It holds a packet of this many bytes, header included.
    Packet(u32),
    /// There is nothing to send.
    Nothing,
    /// It cannot hold a packet.
    TooSmall,
}

/// Names a connection in epoll events; never used twice, so a stale event finds nothing.
type Token = u64;

const TOKEN_WAKE: Token = 0;
const TOKEN_TIMER: Token = 1;
const TOKEN_FIRST: Token = 2;

pub(super) struct Mux {
    config: VsockConfig,
    shared: Arc<Shared>,
    epoll: Epoll,
    timer: TimerFd,
    /// When the timer will fire.
    armed: Option<Instant>,
    endpoints: HashMap<Token, Endpoint>,
    by_key: HashMap<Key, Token>,
    /// Connections that owe the guest a packet, in the order of their turns.
    ready: VecDeque<Token>,
    /// Resets owed to ports without a connection.
    resets: VecDeque<Key>,
    deadlines: BTreeSet<(Instant, Token)>,
    next_token: Token,
    next_port: u32,
}

impl Mux {
    pub(super) fn new(config: VsockConfig, shared: Arc<Shared>) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let timer = TimerFd::new()?;
        // Edge-triggered: the timer is re-armed rather than read (reading could block).
        let edge = EventSet::IN | EventSet::EDGE_TRIGGERED;
        epoll.ctl(ControlOperation::Add, timer.as_raw_fd(), EpollEvent::new(edge, TOKEN_TIMER))?;
        let wake = EpollEvent::new(EventSet::IN, TOKEN_WAKE);
        epoll.ctl(ControlOperation::Add, shared.wake_fd().as_raw_fd(), wake)?;
        Ok(Self {
            config,
            shared,
            epoll,
            timer,
            armed: None,
            endpoints: HashMap::new(),
            by_key: HashMap::new(),
            ready: VecDeque::new(),
            resets: VecDeque::new(),
            deadlines: BTreeSet::new(),
            next_token: TOKEN_FIRST,
            next_port: HOST_PORT_FIRST,
        })
    }

    /// Readable when [`Mux::poll`] has work.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open for as long as `self.epoll` lives, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.epoll.as_raw_fd()) }
    }

    /// Makes the event loop come round again.
    pub(super) fn wake(&self) {
        self.shared.wake();
    }

    /// Whether the guest is owed a packet.
    pub(super) fn has_packets(&self) -> bool {
        !self.resets.is_empty() || !self.ready.is_empty()
    }

    /// Whether packets of the guest must wait, since each could owe it one more reset.
    pub(super) fn is_congested(&self) -> bool {
        self.resets.len() >= RESETS_MAX
    }

    /// Takes in what happened on the host side.
    pub(super) fn poll(&mut self, now: Instant) {
        let mut events = [EpollEvent::default(); TURN_EVENTS_MAX];
        // An interrupted wait is repeated by the outer event loop: the descriptor stays readable.
        let count = self.epoll.wait(0, &mut events).unwrap_or(0);
        for event in events.iter().take(count) {
            match event.data() {
                TOKEN_WAKE => {
                    let _ = self.shared.wake_fd().read();
                    self.take_connects(now);
                }
                TOKEN_TIMER => self.armed = None,
                token => self.socket_event(token, event.event_set()),
            }
        }
        self.expire(now);
    }

    fn socket_event(&mut self, token: Token, events: EventSet) {
        let Some(endpoint) = self.endpoints.get_mut(&token) else { return };
        endpoint.host_event(events);
        self.settle(token);
    }

    /// Takes in a packet of the guest. `payload` is what follows the header in its buffer.
    pub(super) fn receive(&mut self, header: &Header, payload: &mut Segments<'_>) {
        if header.src_cid != self.config.guest_cid || header.dst_cid != HOST_CID {
            return;
        }
        let key = Key { host_port: header.dst_port, guest_port: header.src_port };
        let op = header.op();
        if header.kind != TYPE_STREAM {
            return self.answer_reset(key, op);
        }
        match (self.by_key.get(&key).copied(), op) {
            (None, Some(Op::Request)) => self.accept(header, key),
            (None, _) => self.answer_reset(key, op),
            (Some(token), Some(Op::Request)) => {
                // The guest uses the port again: it has forgotten the old connection, whose reset was
                // lost or came too late for it (Firecracker #5688).
                self.detach(token);
                self.accept(header, key);
            }
            (Some(token), _) => self.receive_for(token, header, payload),
        }
    }

    fn receive_for(&mut self, token: Token, header: &Header, payload: &mut Segments<'_>) {
        let Some(endpoint) = self.endpoints.get_mut(&token) else { return };
        let expected = usize::try_from(header.len).unwrap_or(usize::MAX);
        let received = match endpoint.connection.receive(header) {
            // The header promises more than the buffer holds.
            Received::Deliver | Received::Discard if payload.len() < expected => Received::Violation,
            received => received,
        };
        match received {
            Received::Noted | Received::Discard => {}
            Received::Connected => {
                endpoint.resolve(Ok(()));
                self.set_deadline(token, None);
            }
            Received::Deliver => {
                payload.truncate(expected);
                endpoint.deliver(payload);
            }
            Received::Ended => endpoint.guest_ended(),
            Received::Closed | Received::Violation => {
                let key = endpoint.key;
                endpoint.guest_ended();
                self.detach(token);
                self.resets.push_back(key);
            }
            Received::Reset => {
                endpoint.resolve(Err(io::ErrorKind::ConnectionRefused.into()));
                self.detach(token);
            }
        }
        self.settle(token);
    }

    /// A packet for nobody is answered with a reset, a reset with nothing.
    fn answer_reset(&mut self, key: Key, op: Option<Op>) {
        if op != Some(Op::Reset) {
            self.resets.push_back(key);
        }
    }

    /// The guest connects to `key.host_port`.
    fn accept(&mut self, request: &Header, key: Key) {
        let full = self.endpoints.len() >= self.config.connections_max;
        if full || !self.shared.has_listener(key.host_port) {
            return self.resets.push_back(key);
        }
        let connection = Connection::from_guest(request, self.config.connection_buffer_bytes);
        let accepted = UnixStream::pair().and_then(|(theirs, ours)| {
            ours.set_nonblocking(true)?;
            Ok((theirs, self.insert(connection, key, ours)?))
        });
        // The host is out of descriptors or memory: the guest is refused, the others go on.
        let Ok((theirs, token)) = accepted else { return self.resets.push_back(key) };
        if self.shared.accept(key.host_port, theirs) {
            self.settle(token);
        } else {
            self.detach(token);
            self.resets.push_back(key);
        }
    }

    fn take_connects(&mut self, now: Instant) {
        for _ in 0..CONNECTS_WAITING_MAX {
            let Some(connect) = self.shared.next_connect() else { return };
            if connect.deadline > now {
                self.connect(connect);
            }
        }
        self.wake();
    }

    /// The host connects to a port of the guest.
    fn connect(&mut self, connect: Connect) {
        let Connect { port, stream, deadline, outcome } = connect;
        let connection = Connection::from_host(self.config.connection_buffer_bytes);
        let inserted = match self.free_port(port) {
            Some(key) if self.endpoints.len() < self.config.connections_max => {
                self.insert(connection, key, stream)
            }
            _ => {
                let text = format!("the guest has {} vsock connections already", self.endpoints.len());
                Err(io::Error::new(io::ErrorKind::QuotaExceeded, text))
            }
        };
        match inserted {
            Ok(token) => {
                if let Some(endpoint) = self.endpoints.get_mut(&token) {
                    endpoint.outcome = Some(outcome);
                }
                self.set_deadline(token, Some(deadline));
                self.settle(token);
            }
            Err(error) => {
                let _ = outcome.try_send(Err(error));
            }
        }
    }

    /// A host port that has no connection to `guest_port`, round robin, so that a port is not used again
    /// while the guest may still remember its last connection.
    fn free_port(&mut self, guest_port: u32) -> Option<Key> {
        // One more than there can be connections: one of them must be free.
        for _ in 0..=self.by_key.len() {
            let host_port = self.next_port;
            self.next_port = host_port.saturating_add(1);
            if self.next_port >= HOST_PORT_END {
                self.next_port = HOST_PORT_FIRST;
            }
            let key = Key { host_port, guest_port };
            if !self.by_key.contains_key(&key) {
                return Some(key);
            }
        }
        None
    }

    fn insert(&mut self, connection: Connection, key: Key, stream: UnixStream) -> io::Result<Token> {
        let token = self.next_token;
        let events = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
        self.epoll.ctl(ControlOperation::Add, stream.as_raw_fd(), EpollEvent::new(events, token))?;
        self.next_token = token.saturating_add(1);
        self.endpoints.insert(token, Endpoint::new(connection, key, stream));
        self.by_key.insert(key, token);
        Ok(token)
    }

    /// The guest does not know this connection any more; the host still gets what the guest sent.
    fn detach(&mut self, token: Token) {
        self.set_deadline(token, None);
        let Some(endpoint) = self.endpoints.get_mut(&token) else { return };
        endpoint.detach();
        endpoint.resolve(Err(io::ErrorKind::ConnectionReset.into()));
        let key = endpoint.key;
        if self.by_key.get(&key) == Some(&token) {
            self.by_key.remove(&key);
        }
        self.settle(token);
    }

    /// After any change: queues the connection if it owes a packet, drops it if nothing is left to do.
    fn settle(&mut self, token: Token) {
        let Some(endpoint) = self.endpoints.get_mut(&token) else { return };
        if endpoint.is_spent() {
            // Closing the socket takes it out of the epoll set.
            self.endpoints.remove(&token);
        } else if !endpoint.queued && endpoint.next().is_some() {
            endpoint.queued = true;
            self.ready.push_back(token);
        }
    }

    /// Puts the next packet owed to the guest into `buffer`.
    pub(super) fn fill(&mut self, buffer: &Segments<'_>, now: Instant) -> Filled {
        if buffer.len() < HEADER_BYTES {
            return if self.has_packets() { Filled::TooSmall } else { Filled::Nothing };
        }
        if let Some(key) = self.resets.pop_front() {
            let header = Header { raw_op: Op::Reset as u16, ..header(self.config.guest_cid, key) };
            return put(buffer, &header);
        }
        while let Some(token) = self.ready.pop_front() {
            let Some(endpoint) = self.endpoints.get_mut(&token) else { continue };
            endpoint.queued = false;
            let packet = match endpoint.fill(buffer) {
                Fill::Packet(packet) => packet,
                Fill::Nothing => continue,
                Fill::TooSmall => {
                    self.settle(token);
                    return Filled::TooSmall;
                }
            };
            return self.put_packet(token, &packet, buffer, now);
        }
        Filled::Nothing
    }

    fn put_packet(&mut self, token: Token, packet: &Packet, buffer: &Segments<'_>, now: Instant) -> Filled {
        let Some(endpoint) = self.endpoints.get_mut(&token) else { return Filled::Nothing };
        let mut header = Header { flags: packet.flags, ..header(self.config.guest_cid, endpoint.key) };
        endpoint.connection.stamp(&mut header, packet.op, packet.data_bytes);
        if packet.op == Op::Shutdown && endpoint.connection.is_shut_down() {
            self.set_deadline(token, now.checked_add(SHUTDOWN_TIMEOUT));
        }
        self.settle(token);
        put(buffer, &header)
    }

    fn set_deadline(&mut self, token: Token, deadline: Option<Instant>) {
        let Some(endpoint) = self.endpoints.get_mut(&token) else { return };
        if let Some(old) = std::mem::replace(&mut endpoint.deadline, deadline) {
            self.deadlines.remove(&(old, token));
        }
        if let Some(new) = deadline {
            self.deadlines.insert((new, token));
        }
    }

    /// Gives up on connections whose time has come, and sets the timer for the next one.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(deadline, token)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.set_deadline(token, None);
            let Some(endpoint) = self.endpoints.get_mut(&token) else { continue };
            let key = endpoint.key;
            endpoint.resolve(Err(timed_out(key.guest_port)));
            if endpoint.connection.is_known_to_guest() {
                self.resets.push_back(key);
            }
            self.detach(token);
        }
        self.arm(now);
    }

    /// Sets the timer for the first deadline, if that changed.
    pub(super) fn arm(&mut self, now: Instant) {
        let first = self.deadlines.first().map(|&(deadline, _)| deadline);
        if first == self.armed {
            return;
        }
        let armed = match first {
            // Zero would disarm the timer.
            Some(at) => {
                self.timer.reset(at.saturating_duration_since(now).max(Duration::from_nanos(1)), None)
            }
            None => self.timer.clear(),
        };
        self.armed = if armed.is_ok() { first } else { None };
    }

    /// The driver is gone: drops every connection. Connects that were not taken up yet still wait.
    pub(super) fn reset(&mut self) {
        for endpoint in self.endpoints.values_mut() {
            endpoint.resolve(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.endpoints.clear();
        self.by_key.clear();
        self.ready.clear();
        self.resets.clear();
        self.deadlines.clear();
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        self.reset();
        self.shared.close();
    }
}

/// The addresses of a packet to the guest.
fn header(guest_cid: u64, key: Key) -> Header {
    Header {
        src_cid: HOST_CID,
        dst_cid: guest_cid,
        src_port: key.host_port,
        dst_port: key.guest_port,
        kind: TYPE_STREAM,
        ..Header::default()
    }
}

/// Writes `header` before the payload that is in `buffer` already.
fn put(buffer: &Segments<'_>, header: &Header) -> Filled {
    buffer.put_header(header);
    // A header has 44 bytes, the payload at most PACKET_BYTES_MAX.
    let header_bytes = u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX);
    Filled::Packet(header_bytes.saturating_add(header.len))
}
