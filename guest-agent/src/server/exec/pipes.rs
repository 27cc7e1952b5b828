//! Both ends of a program's streams, and the polite end of a connection.
//!
//! Must never let our end be inherited: a program that holds the write end of its own input never sees it close.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::Winsize;

use crate::limits;
use crate::proto::{StdinMode, TtySize};
use crate::server::sys;

/// What the program gets. Dropped in the parent after `fork`.
#[derive(Debug)]
pub(super) struct ChildEnds {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    tty: bool,
}

impl ChildEnds {
    /// Descriptors for 0, 1 and 2.
    pub(super) fn stdio(&self) -> [RawFd; 3] {
        [self.stdin.as_raw_fd(), self.stdout.as_raw_fd(), self.stderr.as_raw_fd()]
    }

    /// What shall be the controlling terminal.
    pub(super) fn terminal(&self) -> Option<RawFd> {
        self.tty.then_some(self.stdout.as_raw_fd())
    }
}

/// What the session keeps; all non-blocking.
#[derive(Debug)]
pub(super) struct HostEnds {
    /// Where input goes; `None` if the program has none.
    pub stdin: Option<OwnedFd>,
    /// Output, or what the terminal shows.
    pub stdout: OwnedFd,
    /// Error output; a terminal has none of its own.
    pub stderr: Option<OwnedFd>,
    /// The terminal's master, for its size and its end-of-file character.
    pub terminal: Option<OwnedFd>,
}

/// Opens the streams of one program.
pub(super) fn open(tty: Option<TtySize>, stdin: StdinMode) -> io::Result<(ChildEnds, HostEnds)> {
    match tty {
        None => open_pipes(stdin),
        Some(size) => open_terminal(size, stdin),
    }
}

fn open_pipes(mode: StdinMode) -> io::Result<(ChildEnds, HostEnds)> {
    let (stdin, stdin_write) = match mode {
        StdinMode::None => (null()?, None),
        StdinMode::Pipe => {
            let (read, write) = pipe()?;
            set_nonblocking(&write)?;
            (read, Some(write))
        }
    };
    let (stdout_read, stdout) = pipe()?;
    let (stderr_read, stderr) = pipe()?;
    set_nonblocking(&stdout_read)?;
    set_nonblocking(&stderr_read)?;
    let host =
        HostEnds { stdin: stdin_write, stdout: stdout_read, stderr: Some(stderr_read), terminal: None };
    Ok((ChildEnds { stdin, stdout, stderr, tty: false }, host))
}

fn open_terminal(size: TtySize, mode: StdinMode) -> io::Result<(ChildEnds, HostEnds)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    resize(&master, size)?;
    let peer = ioctl_tiocgptpeer(&master, flags)?;
    set_nonblocking(&master)?;
    // A terminal without input hangs whoever reads it. Its end-of-file character would be eaten by a program that
    // changes modes first, so "no input" is the null device here too.
    let (stdin, stdin_write) = match mode {
        StdinMode::None => (null()?, None),
        StdinMode::Pipe => (peer.try_clone()?, Some(master.try_clone()?)),
    };
    let stderr = peer.try_clone()?;
    let host =
        HostEnds { stdin: stdin_write, stdout: master.try_clone()?, stderr: None, terminal: Some(master) };
    Ok((ChildEnds { stdin, stdout: peer, stderr, tty: true }, host))
}

/// Sets a terminal's size; the kernel tells its foreground group.
pub(super) fn resize(master: &OwnedFd, size: TtySize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    sys::wish_pipe_size(write.as_fd(), limits::PIPE_BYTES);
    Ok((read, write))
}

fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

/// Says that nothing more comes and waits, not for long, until the host has closed: closing a vsock connection
/// that holds unread bytes resets it, and a reset may overtake the last frame.
pub(in super::super) fn linger(mut stream: &UnixStream) {
    let until = Instant::now() + limits::LINGER_WAIT_MAX;
    if stream.set_nonblocking(false).is_err() || stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut sink = [0; 1024];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut sink) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
