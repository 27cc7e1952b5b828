//! Finds out in milliseconds whether this host's KVM can run Linux user space.
//!
//! A `/dev/kvm` may pass every ioctl and still not run a Linux guest: a software KVM without processor
//! support behind it emulates ring 0 and fails at `iretq` to ring 3, at `SYSCALL` or at SSE. So a guest of
//! a dozen instructions does just that, twice, and reports.
//!
//! On such a KVM the guest may never come back, so it runs in a child process that can be killed. The
//! child is a copy of this process (no program file is needed) that makes ioctls and exits; it raises no
//! `SIGCHLD`, runs no handler, and dies with its parent.
//!
//! It must never: hang its caller beyond the time limit, or answer "usable" for a guest that did not
//! report.
//!
//! ```no_run
//! use vmm_core::probe::{self, Probe};
//!
//! match probe::probe(probe::TIME_LIMIT) {
//!     Probe::Usable => println!("engine kvm"),
//!     Probe::Unusable(defect) => println!("engine qemu: {defect}"),
//!     Probe::Unavailable(error) => println!("engine qemu: {error}"),
//! }
//! ```

mod child;
mod guest;

use std::time::Duration;

use crate::kvm::{self, OpenError};

/// A time limit that suits every host: a KVM on real hardware answers in about 5 ms, one inside an emulated
/// machine in 300 ms. Only a KVM on which the guest hangs takes all of it.
pub const TIME_LIMIT: Duration = Duration::from_secs(2);

/// What the probe found. These three are all there are.
#[derive(Debug)]
pub enum Probe {
    /// The guest reached ring 3, used SSE and made system calls.
    Usable,
    /// KVM is there but cannot run Linux user space.
    Unusable(Defect),
    /// There is no KVM to probe, or no permission.
    Unavailable(OpenError),
}

/// How the probe guest came to grief.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// The guest neither reported nor stopped.
    #[error("this KVM cannot run Linux user space: its probe guest hung and was killed")]
    Hung,
    /// KVM could not emulate an instruction.
    #[error("this KVM cannot run Linux user space: it failed to emulate an instruction (sub-error {0})")]
    Internal(u32),
    /// The guest faulted.
    #[error("this KVM cannot run Linux user space: its probe guest crashed on entering it")]
    Crashed,
    /// The guest reported nonsense or stopped in another way.
    #[error("this KVM cannot run Linux user space: its probe guest stopped unexpectedly (exit {0})")]
    Unexpected(u32),
    /// KVM refused a step of making the guest.
    #[error("this KVM refused to {step} (error {errno})")]
    Refused {
        /// What was wanted.
        step: &'static str,
        /// `errno` of the call.
        errno: i32,
    },
    /// The child died of something else, or could not be made.
    #[error("the KVM probe could not run: {0}")]
    NoChild(String),
}

/// Runs the probe guest; answers within `limit` and a little.
#[must_use]
pub fn probe(limit: Duration) -> Probe {
    let kvm = match kvm::open() {
        Ok(kvm) => kvm,
        Err(error) => return Probe::Unavailable(error),
    };
    match child::run(&kvm, limit) {
        Ok(()) => Probe::Usable,
        Err(defect) => Probe::Unusable(defect),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_answer_comes_in_time_whatever_it_is() {
        let start = Instant::now();
        let answer = probe(TIME_LIMIT);
        eprintln!("probe: {answer:?} after {:?}", start.elapsed());
        match answer {
            Probe::Unusable(Defect::NoChild(text)) => panic!("{text}"),
            Probe::Unavailable(OpenError::Io(error)) => panic!("{error}"),
            _ => {}
        }
    }
}
