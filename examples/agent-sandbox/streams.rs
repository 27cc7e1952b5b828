//! One command's streams: standard input in, standard output and error out, signals and size across.
//!
//! Nothing here hangs: the end of our input is passed on, a closed output ends the command, and the
//! deadline is kept on the host even if the guest does not keep it.

use std::io::{self, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use guest_agent::client::{Event, Events, Exec, Remote, StdinWriter};
use guest_agent::proto::{Exit, ExitStatus, Failure, TtySize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::error::{Error, Result};
use crate::terminal;

/// How much longer than `--timeout` the guest may take to say that it kept it.
const TIMEOUT_GRACE: Duration = Duration::from_secs(5);

const BUFFER_BYTES: usize = 64 << 10;

/// How the command ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    Code(u8),
    Signal(u8),
    TimedOut,
    NotStarted(Failure),
    /// Our own standard output was closed; the command was hung up on.
    OutputClosed,
}

impl Outcome {
    /// The shell's convention, which `docker run` and `timeout` follow too.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Code(code) => *code,
            Self::Signal(signal) => signal.saturating_add(128),
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
}

/// Connects this process to `exec` and waits for its end.
pub fn attach(exec: Exec, plumbing: &Plumbing) -> Result<Outcome> {
    let (stdin, mut events, remote) = exec.split();
    if plumbing.stdin {
        // Not joined: it may be blocked on our input when the command has ended, and ends with the process.
        thread::spawn(move || feed(stdin));
    }
    let handle = forward_signals(remote.clone(), plumbing.tty)?;
    let watchdog =
        plumbing.timeout.map(|timeout| Watchdog::start(timeout.saturating_add(TIMEOUT_GRACE), remote));
    let outcome = pump(&mut events);
    handle.close();
    match outcome {
        Err(_) if watchdog.is_some_and(Watchdog::has_fired) => Ok(Outcome::TimedOut),
        outcome => outcome,
    }
}

/// Our standard input to the command's, until either ends.
fn feed(mut to: StdinWriter) {
    let mut from = io::stdin().lock();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer) {
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

/// The command's output to ours, until it ends.
fn pump(events: &mut Events) -> Result<Outcome> {
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
    loop {
        let event = events.recv().map_err(|error| Error::Sandbox(format!("the guest broke off: {error}")))?;
        let written = match event {
            Some(Event::Stdout(bytes)) => stdout.write_all(&bytes).and_then(|()| stdout.flush()),
            Some(Event::Stderr(bytes)) => stderr.write_all(&bytes),
            Some(Event::Exited(exit)) => return Ok(exit.into()),
            Some(Event::Failed(failure)) => return Ok(Outcome::NotStarted(failure)),
            Some(_) => Ok(()),
            None => return Err(Error::Sandbox("the guest ended before the command did".to_owned())),
        };
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Outcome::OutputClosed),
            Err(source) => return Err(Error::Io { what: "cannot write the command's output", source }),
        }
    }
}

/// Passes signals that ask a program to do something on to the command, and changes of terminal size.
fn forward_signals(remote: Remote, tty: bool) -> Result<signal_hook::iterator::Handle> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH])
        .map_err(Error::io("cannot watch for signals"))?;
    let handle = signals.handle();
    thread::spawn(move || {
        for signal in signals.forever() {
            // The command may have ended already; then the signal has no one to reach.
            let _ = match (signal, u8::try_from(signal)) {
                (SIGWINCH, _) if tty => match terminal::size() {
                    Some((rows, cols)) => remote.resize(TtySize { rows, cols }),
                    None => Ok(()),
                },
                (SIGWINCH, _) => Ok(()),
                (_, Ok(signal)) => remote.signal(signal),
                _ => Ok(()),
            };
        }
    });
    Ok(handle)
}

/// Cuts the connection to a command that outlives its time although the guest was to end it.
struct Watchdog {
    fired: mpsc::Receiver<()>,
    _cancel: mpsc::Sender<()>,
}

impl Watchdog {
    fn start(after: Duration, remote: Remote) -> Self {
        let (fire, fired) = mpsc::channel();
        let (cancel, cancelled) = mpsc::channel::<()>();
        thread::spawn(move || {
            if cancelled.recv_timeout(after) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Said first, so that whoever sees the cut connection finds the reason.
                let _ = fire.send(());
                remote.abandon();
            }
        });
        Self { fired, _cancel: cancel }
    }

    fn has_fired(self) -> bool {
        self.fired.try_recv().is_ok()
    }
}
