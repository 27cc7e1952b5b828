//! How fast this host's time-stamp counter runs.
//!
//! QEMU's software emulation hands the host's counter through to the guest but offers it no reliable way
//! to calibrate it: with the PIT of a loaded host the guest's calibration fails in about every other boot,
//! and then the kernel has no clock source and hangs. The frequency is measured here and given to the
//! guest kernel as `tsc_early_khz=`.

use std::time::{Duration, Instant};

/// Measures the time-stamp counter against the monotonic clock for `window` and returns kHz.
///
/// 20 ms give an error below 0.01 %. Returns `None` where the counter did not advance (no TSC, or a
/// hypervisor that traps it), in which case the guest should be left to calibrate by itself.
#[cfg(target_arch = "x86_64")]
pub fn measure_khz(window: Duration) -> Option<u64> {
    let (start, start_ticks) = (Instant::now(), ticks());
    std::thread::sleep(window);
    let (elapsed, end_ticks) = (start.elapsed(), ticks());
    let advanced = u128::from(end_ticks.checked_sub(start_ticks)?);
    let khz = advanced.checked_mul(1_000_000)?.checked_div(elapsed.as_nanos())?;
    u64::try_from(khz).ok().filter(|khz| *khz > 0)
}

#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: RDTSC is part of the x86_64 baseline, reads no memory and has no precondition. (Where a
    // host forbids it to user space through CR4.TSD the instruction faults; no supported host does.)
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let first = measure_khz(Duration::from_millis(20)).expect("this host has a TSC");
        let second = measure_khz(Duration::from_millis(20)).expect("this host has a TSC");
        assert!(first.abs_diff(second) < first / 50, "{first} kHz and {second} kHz");
    }
}
