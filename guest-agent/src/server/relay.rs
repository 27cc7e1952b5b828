//! Copies between two stream sockets, both ways, until both ways have ended.
//!
//! An end of one way is passed on as a half-close and leaves the other way open. Never holds more than one buffer
//! per way, and never polls a socket it waits for nothing from: a dead one would be reported for ever.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::Shutdown;

use crate::limits;

/// One way: bytes from one socket on their way into the other.
struct Way<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    WantsRead,
    WantsWrite,
    Done,
}

/// Runs until both ways have ended.
///
/// # Errors
/// The sockets cannot be set up or waited for. A connection that breaks is an end, not an error.
pub fn relay(a: impl AsFd, b: impl AsFd) -> io::Result<()> {
    let (a, b) = (a.as_fd(), b.as_fd());
    for fd in [a, b] {
        let flags = rustix::fs::fcntl_getfl(fd)?;
        rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
    }
    let (mut there, mut back) = (Way::new(a, b), Way::new(b, a));
    loop {
        there.advance();
        back.advance();
        let (a_flags, b_flags) =
            (there.wants_of_from() | back.wants_of_to(), there.wants_of_to() | back.wants_of_from());
        let mut fds: Vec<PollFd<'_>> = [(a, a_flags), (b, b_flags)]
            .into_iter()
            .filter(|(_, flags)| !flags.is_empty())
            .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
            .collect();
        if fds.is_empty() {
            return Ok(());
        }
        rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
    }
}

impl<'a> Way<'a> {
    fn new(from: BorrowedFd<'a>, to: BorrowedFd<'a>) -> Self {
        Self { from, to, buffer: Vec::new(), start: 0, end: 0, state: State::WantsRead }
    }

    fn wants_of_from(&self) -> PollFlags {
        if self.state == State::WantsRead { PollFlags::IN } else { PollFlags::empty() }
    }

    fn wants_of_to(&self) -> PollFlags {
        if self.state == State::WantsWrite { PollFlags::OUT } else { PollFlags::empty() }
    }

    /// Copies until one of the sockets has to be waited for.
    fn advance(&mut self) {
        // One buffer at a time, then the other way has its turn: a fast sender must not starve it.
        let mut fresh = true;
        loop {
            let went_on = match self.state {
                State::WantsRead if fresh => {
                    fresh = false;
                    self.read()
                }
                State::WantsWrite => self.write(),
                State::WantsRead | State::Done => false,
            };
            if !went_on {
                return;
            }
        }
    }

    /// True if there is something to write now.
    fn read(&mut self) -> bool {
        if self.buffer.is_empty() {
            self.buffer = vec![0; limits::RELAY_BUFFER_BYTES];
        }
        match rustix::io::read(self.from, self.buffer.as_mut_slice()) {
            Ok(0) => self.finish(),
            Ok(count) => {
                (self.start, self.end, self.state) = (0, count, State::WantsWrite);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => self.finish(),
        }
    }

    /// True if all was written.
    fn write(&mut self) -> bool {
        let pending = self.buffer.get(self.start..self.end).unwrap_or_default();
        match rustix::net::send(self.to, pending, rustix::net::SendFlags::NOSIGNAL) {
            Ok(count) => {
                self.start = self.start.saturating_add(count);
                if self.start >= self.end {
                    self.state = State::WantsRead;
                }
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            Err(_) => {
                // Nobody reads there any more. The sender is told by ours being closed for reading.
                let _ = rustix::net::shutdown(self.from, Shutdown::Read);
                self.finish()
            }
        }
    }

    fn finish(&mut self) -> bool {
        self.state = State::Done;
        self.buffer = Vec::new();
        // Fails where the connection is gone, which is what it is for.
        let _ = rustix::net::shutdown(self.to, Shutdown::Write);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::Shutdown as Close;
    use std::os::unix::net::UnixStream;
    use std::thread::JoinHandle;

    fn relayed() -> (UnixStream, UnixStream, JoinHandle<()>) {
        let (left, a) = UnixStream::pair().unwrap();
        let (b, right) = UnixStream::pair().unwrap();
        (left, right, std::thread::spawn(move || relay(a, b).unwrap()))
    }

    #[test]
    fn a_half_close_leaves_the_answer_its_way() {
        let (mut left, mut right, relay) = relayed();
        left.write_all(b"question").unwrap();
        left.shutdown(Close::Write).unwrap();
        let mut got = String::new();
        right.read_to_string(&mut got).unwrap();
        right.write_all(b"answer to ").unwrap();
        right.write_all(got.as_bytes()).unwrap();
        drop(right);
        let mut answer = String::new();
        left.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer to question");
        relay.join().unwrap();
    }

    #[test]
    fn megabytes_pass_both_ways_at_once() {
        let (left, right, relay) = relayed();
        let bytes: Vec<u8> =
            (0..2_000_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        std::thread::scope(|scope| {
            for mut side in [&left, &right] {
                let bytes = &bytes;
                scope.spawn(move || {
                    side.write_all(bytes).unwrap();
                    side.shutdown(Close::Write).unwrap();
                });
            }
            for mut side in [&left, &right] {
                let bytes = &bytes;
                scope.spawn(move || {
                    let mut got = Vec::new();
                    side.read_to_end(&mut got).unwrap();
                    assert!(got == *bytes);
                });
            }
        });
        relay.join().unwrap();
    }

    #[test]
    fn a_side_that_vanishes_ends_both_ways() {
        let (left, right, relay) = relayed();
        drop(left);
        let mut got = Vec::new();
        (&right).read_to_end(&mut got).unwrap();
        // Nobody is there to read this; the relay must notice and end.
        while (&right).write_all(&[0; 65_536]).is_ok() {}
        drop(right);
        relay.join().unwrap();
    }
}
