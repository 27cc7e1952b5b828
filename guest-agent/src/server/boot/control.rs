//! The guest's end of the control connection.
//!
//! Must end the guest when the host is gone: nobody could stop it otherwise.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::system::{RebootCommand, reboot};

use super::{log, refused};
use crate::limits;
use crate::proto::io::{self as wire, StreamError};
use crate::proto::{CONTROL_PORT, Configure, HOST_CID, Kind, Ready, Refused, Shutdown, WireError, frame};
use crate::server::{spawn_thread, sys};

pub(super) struct Control {
    stream: UnixStream,
}

impl Control {
    /// Connects to the host. The transport may still be probing its device and the host still be starting, so this
    /// tries again for a while.
    pub(super) fn connect() -> io::Result<Self> {
        let give_up = Instant::now() + limits::CONTROL_CONNECT_WAIT_MAX;
        let mut pause = limits::CONTROL_CONNECT_PAUSE_MIN;
        loop {
            match sys::vsock_connect(HOST_CID, CONTROL_PORT, Duration::from_secs(2)) {
                Ok(stream) => return Ok(Self { stream }),
                Err(error) if Instant::now() >= give_up => return Err(error),
                Err(_) => std::thread::sleep(pause),
            }
            pause = pause.saturating_mul(2).min(limits::CONTROL_CONNECT_PAUSE_MAX);
        }
    }

    /// Settles the protocol's generation and reads what the guest shall look like.
    pub(super) fn receive_configure(&mut self) -> Result<Configure, Refused> {
        self.handshake().map_err(|e| explain("be configured", &e))
    }

    fn handshake(&mut self) -> Result<Configure, StreamError> {
        wire::send_hello(&mut self.stream)?;
        wire::receive_hello(&mut self.stream)?;
        let mut payload = Vec::new();
        match wire::receive(&mut self.stream, &mut payload)? {
            Some(kind @ Kind::Configure) => Ok(frame::parse_json(kind, &payload)?),
            Some(kind) => Err(WireError::Misplaced { kind, expected: "Configure" }.into()),
            None => Err(StreamError::Closed),
        }
    }

    /// Tells the host why not. It may be gone; the kernel's log has it too.
    pub(super) fn refuse(&mut self, refused: &Refused) {
        let mut out = Vec::new();
        let _ = refused.encode(&mut out);
        let _ = self.stream.write_all(&out);
        crate::server::exec::linger(&self.stream);
    }

    /// Tells the host that programs can be run.
    pub(super) fn ready(&mut self, ready: &Ready) -> Result<(), Refused> {
        let mut out = Vec::new();
        ready.encode(&mut out).map_err(|e| explain("say that it is ready", &e.into()))?;
        self.stream.write_all(&out).map_err(|e| refused("say that it is ready", &e))
    }

    /// Waits, in a thread of its own, for the host to end the guest, or to be gone.
    pub(super) fn keep_listening(mut self) -> io::Result<()> {
        spawn_thread("control", move || {
            let mut payload = Vec::new();
            let received = wire::receive(&mut self.stream, &mut payload);
            let how = match received {
                Ok(Some(Kind::Shutdown)) => {
                    sys::kill_all();
                    rustix::fs::sync();
                    Shutdown::parse(&payload).unwrap_or(Shutdown::Reboot)
                }
                // Without a host nothing can be written out: its file systems are served by it.
                Ok(None) => Shutdown::Reboot,
                Ok(Some(kind)) => {
                    log::error(&format!("the host sent a {kind:?} frame on a configured control connection"));
                    Shutdown::Reboot
                }
                Err(error) => {
                    log::error(&format!("the control connection failed: {error}"));
                    Shutdown::Reboot
                }
            };
            end(how);
        })
    }
}

/// Ends the guest.
pub(super) fn end(how: Shutdown) {
    let command = match how {
        Shutdown::Reboot => RebootCommand::Restart,
        Shutdown::PowerOff => RebootCommand::PowerOff,
    };
    // Does not come back, but in a sandbox that forbids it to PID 1; then there is nothing more to do.
    let _ = reboot(command);
}

fn explain(stage: &str, error: &StreamError) -> Refused {
    let detail = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    Refused { stage: stage.to_owned(), errno: 0, detail }
}
