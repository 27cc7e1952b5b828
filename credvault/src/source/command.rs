//! A value from a program, within a time.

use std::io::{self, ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};

use super::SourceError;
use crate::limits::{COMMAND_GRACE_MS, COMMAND_LOOK_MS};
use crate::secret::Secret;

/// In a process group of its own, so that what the program itself started ends with it. Its standard error is not
/// read: some programs repeat the value there. The limit holds for all of it: what is printed, and the end.
pub(super) fn run(words: &[String], timeout_ms: u64) -> Result<Secret, SourceError> {
    let (program, arguments) = words.split_first().ok_or(SourceError::Form)?;
    let start = |error| SourceError::Start { program: program.clone(), error };
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(start)?;
    let Some(pipe) = child.stdout.take() else { return Err(SourceError::Form) };
    let mut output = Output { pipe, child, deadline, ended: None };
    let answer = output.value().and_then(|value| Ok((value, output.status()?)));
    let failed = |status: String| SourceError::Failed { program: program.clone(), status };
    match answer {
        Ok((Ok(value), status)) if status.success() && !value.is_empty() => Ok(value),
        Ok((Ok(_), status)) => Err(failed(status.to_string())),
        Ok((Err(error), _)) => Err(failed(error.to_string())),
        Err(error) => {
            end(output.child);
            match error.kind() {
                ErrorKind::TimedOut => {
                    Err(SourceError::Timeout { program: program.clone(), limit_ms: timeout_ms })
                }
                _ => Err(failed(error.to_string())),
            }
        }
    }
}

/// What a program prints, until it closes it, or ended a moment ago: what it left running may hold the pipe for ever.
struct Output {
    pipe: ChildStdout,
    child: Child,
    deadline: Instant,
    /// When it was seen to have ended.
    ended: Option<Instant>,
}

impl Output {
    /// The outer error ends the program, the inner one is about what it printed.
    fn value(&mut self) -> io::Result<io::Result<Secret>> {
        fcntl_setfl(&self.pipe, OFlags::NONBLOCK)?;
        let value = match Secret::read(&mut *self) {
            Err(error) if error.kind() != ErrorKind::InvalidData => return Err(error),
            value => value,
        };
        // What is too long is still taken, so that the program can end.
        io::copy(&mut self.take(1 << 20), &mut io::sink())?;
        Ok(value)
    }

    fn status(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(self.pause()?);
        }
    }

    fn pause(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(left.min(Duration::from_millis(COMMAND_LOOK_MS)))
    }
}

impl Read for Output {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let pause = self.pause()?;
            match self.pipe.read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            if let Some(ended) = self.ended {
                if ended.elapsed() >= Duration::from_millis(COMMAND_GRACE_MS) {
                    return Ok(0);
                }
            } else if self.child.try_wait()?.is_some() {
                self.ended = Some(Instant::now());
            }
            std::thread::sleep(pause);
        }
    }
}

/// Does not wait for it: one that may not be ended (`sudo`) would be waited for without a limit.
fn end(mut child: Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    // Without a thread to spare it stays a zombie until this process ends.
    let _ = std::thread::Builder::new().spawn(move || child.wait());
}
