//! One running program and its connection: a poll loop that owns both.
//!
//! ```text
//! host ──frames──► input ─┬─ Stdin ──► stdin.rs ──► program
//!                         └─ Signal, Resize: at once, whatever stdin does
//! host ◄─frames── output ◄── stdout, stderr        (read only while output has room: backpressure)
//! ```
//!
//! Ends when the program has ended *and* its output is out; grandchildren that hold a pipe are not waited for
//! beyond [`limits::DRAIN_WAIT_MAX`], but what was in the pipes at the end is always delivered.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::hunt::kill_session;
use super::pipes::{self, HostEnds};
use super::queue::Queue;
use super::spawn::{Started, reap};
use super::stdin::Stdin;
use crate::limits;
use crate::proto::frame::{HEADER_BYTES, Split};
use crate::proto::{ExecInput, ExecOutput, ExecRequest, Exit, ExitStatus, Kind};
use crate::server::sys;

const SIGHUP: u8 = 1;
const SIGTERM: u8 = 15;

/// One of the program's output streams.
#[derive(Debug)]
struct Source {
    fd: OwnedFd,
    kind: Kind,
    /// Bytes that were in the pipe when the program ended and are not read yet: they are delivered in any case.
    promised: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Host,
    StdinRoom,
    StdinClosed,
    Output(Kind),
    Program,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session<'a> {
    host: &'a UnixStream,
    host_gone: bool,
    input: Queue,
    output: Queue,
    pid: Pid,
    pidfd: OwnedFd,
    stdin: Stdin,
    sources: Vec<Source>,
    terminal: Option<OwnedFd>,
    status: Option<ExitStatus>,
    timed_out: bool,
    /// Somebody gave up on the program: whatever is left of its session at the end is killed.
    hunted: bool,
    timeout_at: Option<Instant>,
    kill_at: Option<Instant>,
    drain_until: Option<Instant>,
}

impl<'a> Session<'a> {
    /// Takes over a started program.
    pub(super) fn new(host: &'a UnixStream, program: Started, request: &ExecRequest) -> io::Result<Self> {
        let Started { pid, pidfd, ends: HostEnds { stdin, stdout, stderr, terminal } } = program;
        let source = |fd, kind| Source { fd, kind, promised: 0 };
        let sources = [Some(source(stdout, Kind::Stdout)), stderr.map(|fd| source(fd, Kind::Stderr))]
            .into_iter()
            .flatten();
        let timeout = request.timeout_ms.map(Duration::from_millis);
        Ok(Self {
            host,
            host_gone: host.set_nonblocking(true).is_err(),
            input: Queue::default(),
            output: Queue::default(),
            pid,
            pidfd,
            stdin: Stdin::new(stdin, terminal.is_some()),
            sources: sources.collect(),
            terminal,
            status: None,
            timed_out: false,
            hunted: false,
            timeout_at: timeout.and_then(|t| Instant::now().checked_add(t)),
            kill_at: None,
            drain_until: None,
        })
    }

    /// Runs it to its end.
    pub(super) fn run(mut self) -> io::Result<()> {
        let pid = u32::try_from(self.pid.as_raw_nonzero().get()).unwrap_or_default();
        self.say(&ExecOutput::Started(pid));
        let exit = loop {
            self.give_credit();
            self.flush();
            if let Some(exit) = self.exit(Instant::now()) {
                break exit;
            }
            self.turn()?;
        };
        if self.hunted {
            kill_session(self.pid);
        }
        // Only now: until it is reaped, the leader's number cannot become another group's.
        reap(self.pid);
        self.part(exit)
    }

    /// The last frame, and the end of the connection.
    fn part(mut self, exit: Exit) -> io::Result<()> {
        if self.host_gone {
            return Ok(());
        }
        self.say(&ExecOutput::Exited(exit));
        self.stdin.close();
        self.host.set_nonblocking(false)?;
        let mut host = self.host;
        host.write_all(self.output.pending())?;
        pipes::linger(host);
        Ok(())
    }

    /// How it ended, once nothing more is to be done.
    fn exit(&self, now: Instant) -> Option<Exit> {
        let status = self.status?;
        let overdue = self.drain_until.is_some_and(|until| now >= until);
        let delivered = overdue && self.sources.iter().all(|s| s.promised == 0);
        let done = self.host_gone || self.sources.is_empty() || delivered;
        let output_cut = !self.sources.is_empty();
        done.then_some(Exit { status, timed_out: self.timed_out, output_cut })
    }

    /// Waits for something to happen and deals with it.
    fn turn(&mut self) -> io::Result<()> {
        for role in self.wait()? {
            match role {
                Role::Host => self.hear_host(),
                Role::StdinRoom => self.feed(),
                Role::StdinClosed => self.close_stdin(),
                Role::Output(kind) => self.read_output(kind),
                Role::Program => self.note_end(),
            }
        }
        self.keep_time(Instant::now());
        Ok(())
    }

    /// Roles whose descriptor is ready; empty when a deadline came first.
    fn wait(&self) -> io::Result<Vec<Role>> {
        let mut watch = Watch { roles: Vec::with_capacity(5), fds: Vec::with_capacity(5) };
        if !self.host_gone {
            let out = if self.output.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            watch.add(Role::Host, self.host.as_fd(), PollFlags::IN | out);
        }
        match self.stdin.waiting() {
            Some((fd, true)) => watch.add(Role::StdinRoom, fd, PollFlags::OUT),
            // Asked for nothing, poll still tells that the other end is closed.
            Some((fd, false)) => watch.add(Role::StdinClosed, fd, PollFlags::empty()),
            None => {}
        }
        if self.output.len() < limits::OUTPUT_QUEUE_BYTES {
            for source in &self.sources {
                watch.add(Role::Output(source.kind), source.fd.as_fd(), PollFlags::IN);
            }
        }
        if self.status.is_none() {
            watch.add(Role::Program, self.pidfd.as_fd(), PollFlags::IN);
        }
        watch.ready(self.time_left(Instant::now()))
    }

    fn time_left(&self, now: Instant) -> Option<Duration> {
        let running = self.status.is_none();
        // An overdue drain has no say: what is left then is promised bytes, for which the pipe or the host is awaited.
        let drain = self.drain_until.filter(|until| *until > now);
        let timeout = self.timeout_at.filter(|_| running && !self.timed_out);
        [drain, timeout, self.kill_at].into_iter().flatten().min().map(|at| at.saturating_duration_since(now))
    }

    fn keep_time(&mut self, now: Instant) {
        let running = self.status.is_none();
        if running && !self.timed_out && self.timeout_at.is_some_and(|at| now >= at) {
            self.timed_out = true;
            self.hunt(SIGTERM, now);
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill_at = None;
            kill_session(self.pid);
        }
        if self.drain_until.is_some_and(|until| now >= until)
            && self.output.len() < limits::OUTPUT_QUEUE_BYTES
        {
            // A terminal may promise bytes that do not come: an empty read settles it.
            self.read_output(Kind::Stdout);
            self.read_output(Kind::Stderr);
        }
    }

    /// Gives up on the program: this signal now, SIGKILL after a grace.
    fn hunt(&mut self, signal: u8, now: Instant) {
        self.hunted = true;
        self.kill(signal);
        self.kill_at = now.checked_add(limits::KILL_GRACE);
    }

    fn kill(&self, signal: u8) {
        // Fails only if the group is empty already.
        let _ = sys::kill_group(self.pid, signal);
    }

    /// The host is gone: nobody reads the output, nobody will send input.
    fn lose_host(&mut self) {
        if std::mem::replace(&mut self.host_gone, true) {
            return;
        }
        self.input.clear();
        self.output.clear();
        self.stdin.close();
        self.sources.clear();
        // With its master closed, a terminal hangs up on its foreground group as well.
        self.terminal = None;
        if self.status.is_none() {
            self.hunt(SIGHUP, Instant::now());
        } else {
            self.hunted = true;
        }
    }

    fn hear_host(&mut self) {
        let mut host = self.host;
        match self.input.fill(HEADER_BYTES + limits::STREAM_CHUNK_BYTES_MAX, |room| host.read(room)) {
            Ok(0) => self.lose_host(),
            Ok(_) => self.obey(),
            Err(e) if waits(&e) => {}
            Err(_) => self.lose_host(),
        }
        self.feed();
    }

    /// Does what the whole frames in `input` say. A host that breaks the protocol is as good as gone.
    fn obey(&mut self) {
        let mut input = std::mem::take(&mut self.input);
        let honest = loop {
            let used = match input.frame() {
                Ok(Split::Frame { kind, payload, used }) if self.obey_one(kind, payload) => used,
                // Only kinds with small payloads belong here; a larger one is refused before it is collected.
                Ok(Split::Need(_)) => break input.len() <= HEADER_BYTES + limits::STREAM_CHUNK_BYTES_MAX,
                _ => break false,
            };
            input.consume(used);
        };
        self.input = input;
        if !honest {
            self.lose_host();
        }
    }

    fn obey_one(&mut self, kind: Kind, payload: &[u8]) -> bool {
        match ExecInput::parse(kind, payload) {
            Ok(ExecInput::Stdin(bytes)) => return self.stdin.accept(bytes).is_ok(),
            Ok(ExecInput::StdinEof) => self.stdin.end(),
            Ok(ExecInput::Signal(number)) => self.kill(number),
            Ok(ExecInput::Resize(size)) => {
                if let Some(terminal) = &self.terminal {
                    // A terminal that hung up has no size; its program is ending.
                    let _ = pipes::resize(terminal, size);
                }
            }
            Err(_) => return false,
        }
        true
    }

    fn feed(&mut self) {
        if self.stdin.write() {
            self.say(&ExecOutput::StdinClosed);
        }
    }

    fn close_stdin(&mut self) {
        if self.stdin.close() {
            self.say(&ExecOutput::StdinClosed);
        }
    }

    fn read_output(&mut self, kind: Kind) {
        let Some(index) = self.sources.iter().position(|s| s.kind == kind) else { return };
        let Some(source) = self.sources.get_mut(index) else { return };
        let fd = &source.fd;
        let got = self
            .output
            .fill_frame(kind, limits::STREAM_CHUNK_BYTES_MAX, |room| Ok(rustix::io::read(fd, room)?));
        match got {
            Ok(0) => drop(self.sources.swap_remove(index)),
            Ok(count) => {
                source.promised = source.promised.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
            }
            Err(e) if waits(&e) => source.promised = 0,
            // EIO: the last program on a terminal has closed it.
            Err(_) => drop(self.sources.swap_remove(index)),
        }
    }

    fn note_end(&mut self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let Ok(Some(status)) = waitid(WaitId::PidFd(self.pidfd.as_fd()), options) else { return };
        let byte = |n: i32| u8::try_from(n & 0xff).unwrap_or_default();
        self.status = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(ExitStatus::Code(byte(code))),
            (None, Some(signal)) => Some(ExitStatus::Signal(byte(signal))),
            (None, None) => return,
        };
        self.drain_until = Instant::now().checked_add(limits::DRAIN_WAIT_MAX);
        for source in &mut self.sources {
            source.promised = sys::bytes_readable(source.fd.as_fd());
        }
    }

    fn give_credit(&mut self) {
        if let Some(bytes) = self.stdin.credit() {
            self.say(&ExecOutput::StdinCredit(bytes));
        }
    }

    fn say(&mut self, message: &ExecOutput<'_>) {
        if !self.host_gone {
            let mut frame = Vec::new();
            // Our own small messages fit their frames.
            let _ = message.encode(&mut frame);
            self.output.push(&frame);
        }
    }

    fn flush(&mut self) {
        let mut host = self.host;
        while !self.output.is_empty() {
            match host.write(self.output.pending()) {
                Ok(count) => self.output.consume(count),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if waits(&e) => return,
                Err(_) => return self.lose_host(),
            }
        }
    }
}

fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// What one `poll` waits for.
struct Watch<'f> {
    roles: Vec<Role>,
    fds: Vec<PollFd<'f>>,
}

impl<'f> Watch<'f> {
    fn add(&mut self, role: Role, fd: BorrowedFd<'f>, flags: PollFlags) {
        self.roles.push(role);
        self.fds.push(PollFd::from_borrowed_fd(fd, flags));
    }

    fn ready(mut self, time: Option<Duration>) -> io::Result<Vec<Role>> {
        let time = time.and_then(|t| Timespec::try_from(t).ok());
        match poll(&mut self.fds, time.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        }
        let ready = self.fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(self.roles.into_iter().zip(ready).filter_map(|(role, ready)| ready.then_some(role)).collect())
    }
}
