//! One command's streams: standard input in, standard output and error out, signals and size across.
//!
//! Nothing here hangs: the end of our input is passed on, a closed output ends the command, a deadline is kept on
//! the host even if the guest does not keep it and nobody reads our output, and whoever insists gets out.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::Duration;

use glue::ask::terminal::Gate;
use guest_agent::client::{Event, Events, Exec, Remote, StdinWriter};
use guest_agent::proto::{Exit, ExitStatus, Failure, TtySize};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::error::{Error, Result};
use crate::terminal;

/// How much longer than `--timeout` the guest may take to say that it kept it.
const TIMEOUT_GRACE: Duration = Duration::from_secs(5);

/// A command that this many of our signals did not end is given up: it may ignore them, or the guest may be dead.
const SIGNALS_BEFORE_GIVING_UP: u8 = 3;

const BUFFER_BYTES: usize = 64 << 10;

/// What a writable pipe takes without blocking (POSIX `PIPE_BUF` on Linux).
const PIPE_STEP_BYTES: usize = 4096;
/// How long one look at a blocked output lasts before the reasons to stop are looked at again.
const BLOCKED_LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The same while the user is asked something.
const QUESTION_LOOK: Duration = Duration::from_millis(20);

/// How the command ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    Code(u8),
    Signal(u8),
    TimedOut,
    NotStarted(Failure),
    /// Our own standard output was closed; the command was hung up on.
    OutputClosed,
    /// The user insisted; the last of the signals.
    Abandoned(u8),
}

impl Outcome {
    /// The shell's convention, which `docker run` and `timeout` follow too.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Code(code) => *code,
            Self::Signal(signal) | Self::Abandoned(signal) => signal.saturating_add(128),
            Self::TimedOut => 124,
            Self::NotStarted(failure) => u8::try_from(failure.kind.shell_code()).unwrap_or(125),
            Self::OutputClosed => 141,
        }
    }
}

impl From<Exit> for Outcome {
    fn from(exit: Exit) -> Self {
        match exit.status {
            _ if exit.timed_out => Self::TimedOut,
            ExitStatus::Code(code) => Self::Code(code),
            ExitStatus::Signal(signal) => Self::Signal(signal),
        }
    }
}

/// What of this process is connected to the command.
pub struct Plumbing {
    /// Pass our standard input on; otherwise the command has none.
    pub stdin: bool,
    /// The command has a terminal: pass changes of its size on.
    pub tty: bool,
    pub timeout: Option<Duration>,
    /// Whose turn it is at the terminal: a question to the user comes before input and output of the command.
    pub gate: Gate,
}

/// Why to stop before the command has ended; set once, by whoever comes first.
#[derive(Clone, Default)]
struct Stop(Arc<AtomicU8>);

/// Signals are 1 to 64, so this is none.
const TIME_IS_UP: u8 = 255;

impl Stop {
    fn set(&self, reason: u8) {
        let _ = self.0.compare_exchange(0, reason, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn outcome(&self) -> Option<Outcome> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            TIME_IS_UP => Some(Outcome::TimedOut),
            signal => Some(Outcome::Abandoned(signal)),
        }
    }
}

/// Connects this process to `exec` and waits for its end.
pub fn attach(exec: Exec, plumbing: &Plumbing) -> Result<Outcome> {
    let (stdin, mut events, remote) = exec.split();
    let stop = Stop::default();
    if plumbing.stdin {
        // Not joined: it may be blocked on our input when the command has ended, and ends with the process.
        let gate = plumbing.gate.clone();
        thread::spawn(move || feed(stdin, &gate));
    }
    let handle = forward_signals(remote.clone(), stop.clone(), plumbing.tty)?;
    // Dropped at the end, which calls the watchdog off.
    let _watched =
        plumbing.timeout.map(|timeout| watch(timeout.saturating_add(TIMEOUT_GRACE), remote, stop.clone()));
    let outcome = pump(&mut events, (&stop, &plumbing.gate));
    handle.close();
    // A connection that we cut ourselves ends in an error; the reason for the cut is the better answer.
    stop.outcome().map_or(outcome, Ok)
}

/// Our standard input to the command's, until either ends.
fn feed(mut to: StdinWriter, gate: &Gate) {
    use std::io::Write;
    let mut from = io::stdin().lock();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let turn = wait_for_input(gate);
        let read = from.read(&mut buffer);
        drop(turn);
        match read {
            Ok(0) => break,
            Ok(count) if to.write_all(buffer.get(..count).unwrap_or_default()).is_err() => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // An unreadable input (a closed descriptor, a terminal that is gone) is one that has ended.
            Err(_) => break,
        }
    }
    // The command may have ended already.
    let _ = to.close();
}

/// Waits until there is input (or its end), and it is not an answer to a question.
fn wait_for_input(gate: &Gate) -> MutexGuard<'_, ()> {
    let there = |wait: Option<&Timespec>| {
        // What cannot be watched is read, and says itself what is wrong.
        poll(&mut [PollFd::new(&io::stdin(), PollFlags::IN)], wait) != Ok(0)
    };
    loop {
        while !there(None) {}
        let turn = gate.enter();
        if there(Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            return turn;
        }
    }
}

/// The command's output to ours, until it ends.
fn pump(events: &mut Events, (stop, gate): (&Stop, &Gate)) -> Result<Outcome> {
    loop {
        let event = events.recv().map_err(|error| Error::Sandbox(format!("the guest broke off: {error}")))?;
        let written = match event {
            Some(Event::Stdout(bytes)) => write_out(io::stdout().as_fd(), &bytes, (stop, gate)),
            Some(Event::Stderr(bytes)) => write_out(io::stderr().as_fd(), &bytes, (stop, gate)),
            Some(Event::Exited(exit)) => return Ok(exit.into()),
            Some(Event::Failed(failure)) => return Ok(Outcome::NotStarted(failure)),
            Some(_) => Ok(()),
            None => return Err(Error::Sandbox("the guest ended before the command did".to_owned())),
        };
        match written {
            Ok(()) => {}
            Err(Errno::PIPE) => return Ok(Outcome::OutputClosed),
            Err(error) => return Err(Error::Output(error.into())),
        }
        if let Some(outcome) = stop.outcome() {
            return Ok(outcome);
        }
    }
}

/// Writes all of `bytes`, but never blocks for good: a reader that does not read must not keep us from our deadline.
fn write_out(to: impl AsFd, mut bytes: &[u8], (stop, gate): (&Stop, &Gate)) -> rustix::io::Result<()> {
    while !bytes.is_empty() && stop.outcome().is_none() {
        let mut looked = [PollFd::new(&to, PollFlags::OUT)];
        match poll(&mut looked, Some(&BLOCKED_LOOK)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        // Nothing is written over a question.
        let Some(_turn) = gate.try_enter() else {
            thread::sleep(QUESTION_LOOK);
            continue;
        };
        let step = bytes.get(..PIPE_STEP_BYTES).unwrap_or(bytes);
        match rustix::io::write(&to, step) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Passes signals that ask a program to do something on to the command, and changes of terminal size.
fn forward_signals(remote: Remote, stop: Stop, tty: bool) -> Result<signal_hook::iterator::Handle> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH])
        .map_err(Error::io("cannot watch for signals"))?;
    let handle = signals.handle();
    thread::spawn(move || {
        let mut asked = 0;
        for signal in signals.forever() {
            if signal == SIGWINCH {
                if let Some((rows, cols)) = terminal::size().filter(|_| tty) {
                    // The command may have ended already.
                    let _ = remote.resize(TtySize { rows, cols });
                }
                continue;
            }
            let Ok(signal) = u8::try_from(signal) else { continue };
            asked += 1;
            if asked < SIGNALS_BEFORE_GIVING_UP {
                let _ = remote.signal(signal);
            } else {
                stop.set(signal);
                remote.abandon();
            }
        }
    });
    Ok(handle)
}

/// Cuts the connection to a command that outlives its time although the guest was to end it. Dropping the sender
/// calls it off.
fn watch(after: Duration, remote: Remote, stop: Stop) -> mpsc::Sender<()> {
    let (cancel, cancelled) = mpsc::channel::<()>();
    thread::spawn(move || {
        if cancelled.recv_timeout(after) == Err(mpsc::RecvTimeoutError::Timeout) {
            stop.set(TIME_IS_UP);
            remote.abandon();
        }
    });
    cancel
}
