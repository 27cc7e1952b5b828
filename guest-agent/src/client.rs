//! The host's side: configure a guest, run programs in it.
//!
//! Blocking, over a [`UnixStream`] whose other end is the guest's vsock connection. Treats the guest as hostile:
//! it can lie, stall or stop, but not make this side panic, grow without limit or show control characters.
//!
//! ```no_run
//! use guest_agent::client::{self, Event};
//! use guest_agent::proto::{Configure, ExecRequest};
//! # fn streams() -> (std::os::unix::net::UnixStream, std::os::unix::net::UnixStream) { unimplemented!() }
//! # let (control_stream, exec_stream) = streams();
//! let mut control = client::Control::handshake(control_stream)?; // the guest connected to host port 1024
//! let ready = control.configure(&Configure::default())?;
//! println!("kernel {} after {} µs", ready.kernel, ready.timings.ready_us);
//!
//! let exec = client::exec(exec_stream, &ExecRequest::new(["uname", "-a"]))?; // host connected to guest port 1024
//! let (_stdin, mut events, _remote) = exec.split();
//! while let Some(event) = events.recv()? {
//!     match event {
//!         Event::Stdout(bytes) => print!("{}", String::from_utf8_lossy(&bytes)),
//!         Event::Exited(exit) => println!("ended with {}", exit.shell_code()),
//!         _ => {}
//!     }
//! }
//! # Ok::<(), client::ClientError>(())
//! ```

use std::io::{self, Write};
use std::net;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits;
use crate::proto::io::{self as wire, StreamError};
use crate::proto::{
    Configure, ExecInput, ExecOutput, ExecRequest, Exit, Failure, Kind, Ready, Refused, RequestError,
    Shutdown, TtySize, WireError, clean_text, frame,
};

/// Why the guest cannot be talked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Talking failed.
    #[error("{doing}")]
    Stream {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: StreamError,
    },
    /// The guest could not apply the configuration.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The request can never be run.
    #[error(transparent)]
    Request(#[from] RequestError),
}

fn doing<E: Into<StreamError>>(doing: &'static str) -> impl FnOnce(E) -> ClientError {
    move |source| ClientError::Stream { doing, source: source.into() }
}

/// The control connection, which the guest opens to host port 1024 when it boots.
#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
    generation: u16,
}

impl Control {
    /// Says hello, hears the agent's, settles the generation. Set a read timeout on `stream` to bound the wait.
    ///
    /// # Errors
    /// The stream's; that the agent is of another generation.
    pub fn handshake(mut stream: UnixStream) -> Result<Self, ClientError> {
        wire::send_hello(&mut stream).map_err(doing("greeting the agent in the guest"))?;
        let generation = wire::receive_hello(&mut stream)
            .map_err(doing("waiting for the greeting of the agent in the guest"))?;
        Ok(Self { stream, generation })
    }

    /// The generation both sides speak.
    #[must_use]
    pub fn generation(&self) -> u16 {
        self.generation
    }

    /// Tells the guest what it shall look like and waits until it does.
    ///
    /// # Errors
    /// [`ClientError::Refused`] says which step failed in the guest.
    pub fn configure(&mut self, configure: &Configure) -> Result<Ready, ClientError> {
        configure.validate()?;
        let mut out = Vec::new();
        configure.encode(&mut out).map_err(doing("preparing the guest's configuration"))?;
        self.stream.write_all(&out).map_err(doing("sending the guest its configuration"))?;
        let waiting = "waiting for the guest to be ready";
        match wire::receive(&mut self.stream, &mut out).map_err(doing(waiting))? {
            Some(Kind::Ready) => {
                let mut ready: Ready = frame::parse_json(Kind::Ready, &out).map_err(doing(waiting))?;
                ready.kernel = clean_text(&ready.kernel);
                ready.agent = clean_text(&ready.agent);
                ready.notes = ready.notes.iter().map(|note| clean_text(note)).collect();
                Ok(ready)
            }
            Some(Kind::Refused) => {
                let refused: Refused = frame::parse_json(Kind::Refused, &out).map_err(doing(waiting))?;
                let (stage, detail) = (clean_text(&refused.stage), clean_text(&refused.detail));
                Err(Refused { stage, detail, errno: refused.errno }.into())
            }
            Some(kind) => Err(doing(waiting)(WireError::Misplaced { kind, expected: "Ready or Refused" })),
            None => Err(doing(waiting)(StreamError::Closed)),
        }
    }

    /// Asks the guest to write out what is unwritten and end. Returns at once: the end is the VM's.
    ///
    /// # Errors
    /// The stream's; the guest may have gone already.
    pub fn shutdown(&mut self, how: Shutdown) -> Result<(), ClientError> {
        let mut out = Vec::new();
        how.encode(&mut out).map_err(doing("asking the guest to end"))?;
        self.stream.write_all(&out).map_err(doing("asking the guest to end"))
    }
}

/// Starts a program over a fresh connection to guest port 1024. Does not wait for it to run: the events tell.
///
/// # Errors
/// The request breaks a rule, or the stream failed.
pub fn exec(mut stream: UnixStream, request: &ExecRequest) -> Result<Exec, ClientError> {
    request.validate()?;
    let mut out = Vec::new();
    wire::send_hello(&mut out).map_err(doing("preparing a program's start"))?;
    request.encode(&mut out).map_err(doing("preparing a program's start"))?;
    stream.write_all(&out).map_err(doing("asking the guest to start a program"))?;
    wire::receive_hello(&mut stream).map_err(doing("waiting for the guest's exec service"))?;
    Ok(Exec {
        shared: Arc::new(Shared {
            stream,
            writing: Mutex::new(()),
            window: Mutex::new(Window { credit: 0, closed: false }),
            changed: Condvar::new(),
        }),
    })
}

/// A program that was asked for.
#[derive(Debug)]
pub struct Exec {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stream: UnixStream,
    /// Held while a frame is written, so that frames of two threads do not mix.
    writing: Mutex<()>,
    window: Mutex<Window>,
    changed: Condvar,
}

#[derive(Debug)]
struct Window {
    credit: u32,
    closed: bool,
}

/// A poisoned lock holds plain numbers or nothing: both stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn send(&self, message: ExecInput<'_>) -> io::Result<()> {
        let mut out = Vec::new();
        message.encode(&mut out).map_err(io::Error::other)?;
        let _whole_frames = lock(&self.writing);
        (&self.stream).write_all(&out)
    }

    fn grant(&self, bytes: u32) {
        let mut window = lock(&self.window);
        window.credit = window.credit.saturating_add(bytes).min(limits::STDIN_CREDIT_BYTES_MAX);
        self.changed.notify_all();
    }

    fn close(&self) {
        lock(&self.window).closed = true;
        self.changed.notify_all();
    }

    fn cut(&self) {
        self.close();
        // May fail where the guest was faster; either way it is cut.
        let _ = self.stream.shutdown(net::Shutdown::Both);
    }

    /// Waits for credit, takes at most `want` of it.
    fn take(&self, want: usize) -> io::Result<usize> {
        let waiting = lock(&self.window);
        let mut window = self
            .changed
            .wait_while(waiting, |w| w.credit == 0 && !w.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if window.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = window.credit.min(u32::try_from(want).unwrap_or(u32::MAX));
        window.credit = window.credit.saturating_sub(taken);
        Ok(usize::try_from(taken).unwrap_or(want))
    }
}

impl Exec {
    /// Input, events and remote control, each for a thread of its own.
    #[must_use]
    pub fn split(self) -> (StdinWriter, Events, Remote) {
        let Self { shared } = self;
        let remote = Remote { shared: Arc::clone(&shared) };
        let stdin = StdinWriter { shared: Arc::clone(&shared) };
        (stdin, Events { shared, buffer: Vec::new(), ended: false }, remote)
    }
}

/// The program's standard input, if the request asked for a pipe. Dropping it is not the end of input:
/// [`close`](Self::close) is.
#[derive(Debug)]
pub struct StdinWriter {
    shared: Arc<Shared>,
}

/// Blocks while the program does not read; [`Events::recv`] in another thread brings the credit that unblocks it.
/// `BrokenPipe` once the program closed its input or ended.
impl Write for StdinWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let taken = self.shared.take(bytes.len().min(limits::STREAM_CHUNK_BYTES_MAX))?;
        self.shared.send(ExecInput::Stdin(bytes.get(..taken).unwrap_or(bytes)))?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StdinWriter {
    /// No more input: the program reads its end; a terminal gets its end-of-file character.
    ///
    /// # Errors
    /// The stream's.
    pub fn close(self) -> io::Result<()> {
        self.shared.send(ExecInput::StdinEof)
    }
}

/// Signals and terminal size. Never waits for the program's input or output.
#[derive(Debug, Clone)]
pub struct Remote {
    shared: Arc<Shared>,
}

impl Remote {
    /// Sends a signal (1 to 64) to the program's process group.
    ///
    /// # Errors
    /// `InvalidInput` for another number; the stream's.
    pub fn signal(&self, number: u8) -> io::Result<()> {
        if !(1..=64).contains(&number) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.shared.send(ExecInput::Signal(number))
    }

    /// Tells the new size of the terminal.
    ///
    /// # Errors
    /// The stream's.
    pub fn resize(&self, size: TtySize) -> io::Result<()> {
        self.shared.send(ExecInput::Resize(size))
    }

    /// Cuts the connection: the guest hangs up on the program, then kills it. Wakes every blocked call here.
    pub fn abandon(&self) {
        self.shared.cut();
    }
}

/// What happens to a program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It runs; its process id in the guest.
    Started(u32),
    /// Bytes of standard output or of the terminal.
    Stdout(Vec<u8>),
    /// Bytes of standard error.
    Stderr(Vec<u8>),
    /// It closed its standard input.
    StdinClosed,
    /// It ended; all its output came before. The last event.
    Exited(Exit),
    /// It never ran. The last event.
    Failed(Failure),
}

/// The events of one program. Dropping it early makes the guest hang up on the program and then kill it.
#[derive(Debug)]
pub struct Events {
    shared: Arc<Shared>,
    buffer: Vec<u8>,
    ended: bool,
}

impl Events {
    /// The next event; `None` after the last.
    ///
    /// # Errors
    /// The guest broke off or broke the protocol. There are no events after an error.
    pub fn recv(&mut self) -> Result<Option<Event>, ClientError> {
        while !self.ended {
            match self.step() {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(error) => {
                    self.end();
                    return Err(doing("following a program in the guest")(error));
                }
            }
        }
        Ok(None)
    }

    /// [`recv`](Self::recv) gives up with an error if nothing comes for so long; `None` waits for ever.
    ///
    /// # Errors
    /// The socket's; a duration of zero.
    pub fn set_silence_max(&self, wait: Option<Duration>) -> io::Result<()> {
        self.shared.stream.set_read_timeout(wait)
    }

    fn step(&mut self) -> Result<Option<Event>, StreamError> {
        let Some(kind) = wire::receive(&mut &self.shared.stream, &mut self.buffer)? else {
            return Err(StreamError::Closed);
        };
        Ok(match ExecOutput::parse(kind, &self.buffer)? {
            ExecOutput::StdinCredit(bytes) => {
                self.shared.grant(bytes);
                None
            }
            ExecOutput::Stdout(_) => Some(Event::Stdout(std::mem::take(&mut self.buffer))),
            ExecOutput::Stderr(_) => Some(Event::Stderr(std::mem::take(&mut self.buffer))),
            ExecOutput::Started(pid) => Some(Event::Started(pid)),
            ExecOutput::StdinClosed => {
                self.shared.close();
                Some(Event::StdinClosed)
            }
            ExecOutput::Exited(exit) => {
                self.end();
                Some(Event::Exited(exit))
            }
            ExecOutput::Failed(Failure { kind, errno, stage }) => {
                self.end();
                Some(Event::Failed(Failure { kind, errno, stage: clean_text(&stage) }))
            }
        })
    }

    fn end(&mut self) {
        self.ended = true;
        self.shared.cut();
    }
}

impl Iterator for Events {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.recv().transpose()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.end();
    }
}
