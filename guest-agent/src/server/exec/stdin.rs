//! A program's standard input: a window of bytes from the host, written as the program reads.
//!
//! Must never block, and never hold more than the window.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::termios::{LocalModes, SpecialCodeIndex};

use super::queue::Queue;
use crate::limits;

/// Control-D, where the terminal has no end-of-file character set.
const EOF_CHARACTER_DEFAULT: u8 = 4;

/// Input on its way into the program.
#[derive(Debug)]
pub(super) struct Stdin {
    fd: Option<OwnedFd>,
    terminal: bool,
    pending: Queue,
    ended: bool,
    last: u8,
    /// What the host may still send.
    window: u32,
    /// Read by the program and not yet given back to the host.
    owed: u32,
}

/// The host sent more than it had credit for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WindowExceeded;

impl Stdin {
    /// Input into `fd`, which must not block; `None` is a program without input.
    pub(super) fn new(fd: Option<OwnedFd>, terminal: bool) -> Self {
        let owed = if fd.is_some() { limits::STDIN_WINDOW_BYTES } else { 0 };
        Self { fd, terminal, pending: Queue::default(), ended: false, last: b'\n', window: 0, owed }
    }

    /// Where to wait for room, if bytes wait.
    pub(super) fn waiting(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.fd.as_ref().map(|fd| (fd.as_fd(), !self.pending.is_empty()))
    }

    /// Takes bytes of the host. What comes after the program closed its input is dropped.
    pub(super) fn accept(&mut self, bytes: &[u8]) -> Result<(), WindowExceeded> {
        let count = u32::try_from(bytes.len()).map_err(|_| WindowExceeded)?;
        if self.fd.is_none() || self.ended {
            return Ok(());
        }
        self.window = self.window.checked_sub(count).ok_or(WindowExceeded)?;
        self.last = bytes.last().copied().unwrap_or(self.last);
        self.pending.push(bytes);
        Ok(())
    }

    /// No more will come. On a terminal, its end-of-file character is typed: twice where a line is unfinished, as
    /// the first then only hands that line over.
    pub(super) fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let (true, Some(fd)) = (self.terminal, &self.fd) {
            let modes = rustix::termios::tcgetattr(fd).ok();
            let character = modes.as_ref().map_or(EOF_CHARACTER_DEFAULT, |m| {
                match m.special_codes[SpecialCodeIndex::VEOF] {
                    0 => EOF_CHARACTER_DEFAULT,
                    set => set,
                }
            });
            let lines = modes.is_none_or(|m| m.local_modes.contains(LocalModes::ICANON));
            self.pending.push(&[character]);
            if lines && self.last != b'\n' {
                self.pending.push(&[character]);
            }
        }
    }

    /// Writes what the program takes. True if it has just closed its end.
    pub(super) fn write(&mut self) -> bool {
        let Some(fd) = &self.fd else { return false };
        while !self.pending.is_empty() {
            match rustix::io::write(fd, self.pending.pending()) {
                Ok(count) => {
                    self.pending.consume(count);
                    self.owed = self.owed.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return false,
                Err(_) => return self.close(),
            }
        }
        // A terminal stays open: its end was typed.
        if self.ended && !self.terminal {
            self.fd = None;
        }
        false
    }

    /// The program closed its end, or is gone. True the first time.
    pub(super) fn close(&mut self) -> bool {
        self.pending.clear();
        self.fd.take().is_some()
    }

    /// Credit to give back, in pieces that are worth a frame.
    pub(super) fn credit(&mut self) -> Option<u32> {
        let worth = self.owed >= limits::STDIN_WINDOW_BYTES / 4 || (self.pending.is_empty() && self.owed > 0);
        if !worth || self.ended || self.fd.is_none() {
            return None;
        }
        let owed = std::mem::take(&mut self.owed);
        self.window = self.window.saturating_add(owed);
        Some(owed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pipe() -> (std::fs::File, OwnedFd) {
        use rustix::pipe::{PipeFlags, pipe_with};
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        (read.into(), write)
    }

    #[test]
    fn the_window_holds_and_is_given_back_as_the_program_reads() {
        let (mut reader, writer) = pipe();
        let mut stdin = Stdin::new(Some(writer), false);
        assert_eq!(stdin.accept(b"x"), Err(WindowExceeded), "no credit was given yet");
        assert_eq!(stdin.credit(), Some(limits::STDIN_WINDOW_BYTES));
        let window = vec![7; limits::STDIN_WINDOW_BYTES as usize];
        stdin.accept(&window).unwrap();
        assert_eq!(stdin.accept(b"x"), Err(WindowExceeded));
        let mut given = 0;
        let mut sink = vec![0; 4096];
        for _ in 0..200 {
            assert!(!stdin.write());
            given += stdin.credit().unwrap_or(0);
            let _ = reader.read(&mut sink);
        }
        assert_eq!(given, limits::STDIN_WINDOW_BYTES);
    }

    #[test]
    fn an_end_closes_the_pipe_after_the_last_byte() {
        let (mut reader, writer) = pipe();
        let mut stdin = Stdin::new(Some(writer), false);
        stdin.credit();
        stdin.accept(b"last").unwrap();
        stdin.end();
        assert!(!stdin.write());
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert_eq!(got, b"last");
        assert_eq!(stdin.credit(), None);
    }

    #[test]
    fn a_closed_reader_is_told_once() {
        let (reader, writer) = pipe();
        let mut stdin = Stdin::new(Some(writer), false);
        stdin.credit();
        drop(reader);
        stdin.accept(b"x").unwrap();
        assert!(stdin.write());
        assert!(!stdin.write());
        assert_eq!(stdin.accept(b"late"), Ok(()));
    }
}
