//! Host name, clock, entropy, loopback.

use std::io;
use std::os::fd::AsFd;

use rustix::time::{ClockId, Timespec, clock_settime};

use super::{note, refused};
use crate::proto::{Configure, Refused};
use crate::server::sys;

const NS_PER_S: u64 = 1_000_000_000;

/// Applies what is in `configure`. Loopback is needed by the services; the rest is too, by programs.
pub(super) fn apply(configure: &Configure, notes: &mut Vec<String>) -> Result<(), Refused> {
    if !configure.hostname.is_empty() {
        rustix::system::sethostname(configure.hostname.as_bytes())
            .map_err(|e| refused("set the host name", &e.into()))?;
    }
    if let Some(ns) = configure.clock_unix_ns {
        set_clock(ns).map_err(|e| refused("set the clock", &e))?;
    }
    if !configure.entropy.is_empty() {
        // A pool without it still works, fed by the CPU or the virtio device.
        if let Err(error) = add_entropy(configure.entropy.as_slice()) {
            note(notes, "add entropy", &error);
        }
    }
    sys::loopback_up().map_err(|e| refused("bring loopback up", &e))
}

fn set_clock(unix_ns: u64) -> io::Result<()> {
    let part = |n: u64| i64::try_from(n).map_err(io::Error::other);
    let time = Timespec { tv_sec: part(unix_ns / NS_PER_S)?, tv_nsec: part(unix_ns % NS_PER_S)? };
    Ok(clock_settime(ClockId::Realtime, time)?)
}

fn add_entropy(seed: &[u8]) -> io::Result<()> {
    let random = std::fs::OpenOptions::new().write(true).open("/dev/urandom")?;
    sys::add_entropy(random.as_fd(), seed)
}
