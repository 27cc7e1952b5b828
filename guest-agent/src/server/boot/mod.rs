//! PID 1, from the initramfs to `Ready`.
//!
//! ```text
//! early      /proc /sys /dev, standard descriptors, kernel log
//! modules    /modules/*.ko
//! control    vsock to the host: Hello, Configure
//! settings   host name, clock, entropy, loopback
//! root       new root on tmpfs, shares, files; the initramfs is gone from sight
//! services   proxy end, DNS end, exec
//! Ready      then main reaps and control waits for Shutdown
//! ```
//!
//! Decides nothing: what is not in `Configure` is not done. Every failure ends the guest, after telling why.

mod control;
mod early;
mod log;
mod root;
mod services;
mod settings;

use std::io;

use crate::limits::{NOTE_CHARS_MAX, NOTES_MAX};
use crate::proto::{Configure, Ready, Refused, Timings};

pub use root::populate;

/// Runs PID 1. Comes back only if this process is not PID 1.
pub fn run() {
    if std::process::id() != 1 {
        eprintln!(
            "guest-agent is the first process of a sandbox guest; run `agent-sandbox` on the host instead"
        );
        return;
    }
    if let Err(refused) = boot() {
        log::error(&refused.to_string());
        control::end(crate::proto::Shutdown::Reboot);
    }
    super::reaper::run();
}

fn boot() -> Result<(), Refused> {
    let mut timings = Timings { agent_start_us: now_us(), ..Timings::default() };
    let mut notes = Vec::new();
    early::prepare(&mut notes).map_err(|e| refused("prepare the early file systems", &e))?;
    early::load_modules(&mut notes);
    timings.modules_loaded_us = now_us();
    let mut control = control::Control::connect().map_err(|e| refused("reach the host over vsock", &e))?;
    timings.vsock_connected_us = now_us();
    let configure = control.receive_configure()?;
    timings.configured_us = now_us();
    match apply(&configure, &mut notes, &mut timings) {
        Ok(()) => {}
        Err(refused) => {
            control.refuse(&refused);
            return Err(refused);
        }
    }
    timings.ready_us = now_us();
    let ready =
        Ready { timings, kernel: kernel_release(), agent: env!("CARGO_PKG_VERSION").to_owned(), notes };
    control.ready(&ready)?;
    control.keep_listening().map_err(|e| refused("start the control thread", &e))
}

fn apply(configure: &Configure, notes: &mut Vec<String>, timings: &mut Timings) -> Result<(), Refused> {
    configure.validate()?;
    settings::apply(configure, notes)?;
    root::assemble(configure, notes)?;
    timings.root_assembled_us = now_us();
    services::start(configure, notes)
}

fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Microseconds of the monotonic clock, which starts with the kernel.
fn now_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |n: i64| u64::try_from(n).unwrap_or_default();
    part(now.tv_sec).saturating_mul(1_000_000).saturating_add(part(now.tv_nsec) / 1000)
}

fn refused(stage: &str, error: &io::Error) -> Refused {
    Refused { stage: stage.to_owned(), errno: error.raw_os_error().unwrap_or(0), detail: error.to_string() }
}

/// Notes something that did not work and is not needed.
fn note(notes: &mut Vec<String>, what: &str, error: &dyn std::fmt::Display) {
    if notes.len() < NOTES_MAX {
        let text: String = format!("{what}: {error}").chars().take(NOTE_CHARS_MAX).collect();
        log::info(&text);
        notes.push(text);
    }
}
