//! What the programs do about their own process: dumps and debuggers, before they hold keys, and limits that would end it.
//! Must not go wrong in silence: the threat model promises it.

use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Asks the system to keep this process from being dumped and traced; a sentence for the user where it refuses.
#[must_use]
pub fn harden() -> Option<String> {
    let error = credvault::harden_process().err()?;
    Some(format!("this process, which holds keys, can be dumped or traced by your other programs: {error}"))
}

/// Makes a file that outgrows this process's limit (`ulimit -f`) an error of the write, as on a full disk: the system would
/// end the process (SIGXFSZ). Needs the context of a tokio runtime.
///
/// # Errors
/// The signal cannot be watched.
pub fn outlive_file_limit() -> io::Result<()> {
    // What was once watched stays so.
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}
