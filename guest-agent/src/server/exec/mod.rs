//! The exec service: one connection runs one program.
//!
//! ```text
//! serve    hello, request                  (blocking, bounded by a read timeout)
//! lookup   PATH → candidates, environment  (pure)
//! spawn    pipes or terminal, fork, exec   (failure comes back with its stage)
//! session  one poll loop: input, output, signals, end
//! ```
//!
//! Must never queue without bound, wait for a program's input before taking a signal, or leave a process
//! unreaped.

mod hunt;
mod lookup;
mod pipes;
mod queue;
mod session;
mod spawn;
mod stdin;

pub(super) use pipes::linger;

use std::io::Write;
use std::os::unix::net::UnixStream;

use crate::limits;
use crate::proto::io::{self as wire, StreamError};
use crate::proto::{Bytes, ExecOutput, ExecRequest, FailKind, Failure, Kind, WireError, frame};

/// Serves one exec connection to its end. `env` is the default environment of programs.
///
/// # Errors
/// The stream's, and a host that breaks the protocol. A program that cannot be run is told to the host instead.
pub fn serve(mut stream: UnixStream, env: &[(Bytes, Bytes)]) -> Result<(), StreamError> {
    let request = receive_request(&mut stream)?;
    let started = request
        .validate()
        .map_err(|_| failure(FailKind::Request, 0, "request"))
        .and_then(|()| spawn::spawn(&request, env));
    match started {
        Ok(program) => Ok(session::Session::new(&stream, program, &request)?.run()?),
        Err(failure) => finish_failed(&stream, failure),
    }
}

/// Answers a connection that there is no room for.
///
/// # Errors
/// As [`serve`].
pub fn refuse_busy(mut stream: UnixStream) -> Result<(), StreamError> {
    receive_request(&mut stream)?;
    finish_failed(&stream, failure(FailKind::Busy, 0, "request"))
}

fn receive_request(stream: &mut UnixStream) -> Result<ExecRequest, StreamError> {
    stream.set_read_timeout(Some(limits::REQUEST_WAIT_MAX))?;
    wire::send_hello(stream)?;
    wire::receive_hello(stream)?;
    let mut payload = Vec::new();
    let request = match wire::receive(stream, &mut payload)? {
        Some(kind @ Kind::ExecRequest) => frame::parse_json(kind, &payload)?,
        Some(kind) => return Err(WireError::Misplaced { kind, expected: "ExecRequest" }.into()),
        None => return Err(StreamError::Closed),
    };
    stream.set_read_timeout(None)?;
    Ok(request)
}

fn finish_failed(mut stream: &UnixStream, failure: Failure) -> Result<(), StreamError> {
    let mut out = Vec::new();
    ExecOutput::Failed(failure).encode(&mut out)?;
    stream.write_all(&out)?;
    linger(stream);
    Ok(())
}

fn failure(kind: FailKind, errno: i32, stage: &str) -> Failure {
    Failure { kind, errno, stage: stage.to_owned() }
}
