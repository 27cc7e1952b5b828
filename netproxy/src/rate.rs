//! How much may happen in a second: one small state for each limit, told the time by its caller. It never sleeps
//! and never reads a clock.

use std::time::{Duration, Instant};

const NANOS_PER_S: u128 = 1_000_000_000;

/// A token bucket in the form of GCRA (ITU-T I.371): all it keeps is when everything taken so far has been paid for.
/// A second's worth may be taken at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    paid: Option<Instant>,
}

impl Rate {
    /// Takes one of `per_s`, if it is there.
    ///
    /// # Errors
    /// How long until one is; nothing was taken.
    pub fn take(&mut self, per_s: u32, now: Instant) -> Result<(), Duration> {
        let start = self.paid.map_or(now, |paid| paid.max(now));
        let paid = start.checked_add(cost(1, u64::from(per_s))).unwrap_or(start);
        match paid.saturating_duration_since(now).checked_sub(Duration::from_secs(1)) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                self.paid = Some(paid);
                Ok(())
            }
        }
    }

    /// Takes `count` that are used already, and says how long to wait before more: what a stream of bytes needs,
    /// which is slowed down and never cut.
    pub fn pay(&mut self, count: u64, per_s: u64, now: Instant) -> Duration {
        let start = self.paid.map_or(now, |paid| paid.max(now));
        let paid = start.checked_add(cost(count, per_s)).unwrap_or(start);
        self.paid = Some(paid);
        paid.saturating_duration_since(now)
    }
}

/// Time that `count` takes at `per_s`; nothing is ever allowed at 0, which is a year here.
fn cost(count: u64, per_s: u64) -> Duration {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    let nanos = u128::from(count).saturating_mul(NANOS_PER_S).checked_div(u128::from(per_s));
    let nanos = nanos.and_then(|nanos| u64::try_from(nanos).ok());
    nanos.map_or(YEAR, Duration::from_nanos).min(YEAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_at_once_then_one_after_the_other() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut rate = Rate::default();
        for _ in 0..10 {
            assert_eq!(rate.take(10, at(0)), Ok(()));
        }
        assert_eq!(rate.take(10, at(0)), Err(Duration::from_millis(100)));
        assert_eq!(rate.take(10, at(99)), Err(Duration::from_millis(1)));
        assert_eq!(rate.take(10, at(100)), Ok(()));
        assert!(rate.take(10, at(100)).is_err());
        // Idle time is not saved up beyond a second's worth.
        let taken = (0..100).filter(|_| rate.take(10, at(60_000)).is_ok()).count();
        assert_eq!(taken, 10);
    }

    #[test]
    fn bytes_are_slowed_down_to_the_rate_whatever_their_pieces() {
        let start = Instant::now();
        for piece in [1_u64, 7, 1000, 50_000] {
            let (mut rate, mut now) = (Rate::default(), start);
            for _ in 0..100_000_u64.div_ceil(piece) {
                now += rate.pay(piece, 10_000, now);
            }
            let took = (now - start).as_secs_f64();
            assert!((9.9..=10.1).contains(&took), "{piece}: {took}");
        }
    }

    #[test]
    fn nothing_is_allowed_at_zero_and_nothing_overflows() {
        let now = Instant::now();
        assert!(Rate::default().take(0, now).is_err());
        assert!(Rate::default().pay(u64::MAX, 1, now) >= Duration::from_secs(86_400));
        assert!(Rate::default().take(u32::MAX, now).is_ok());
    }
}
