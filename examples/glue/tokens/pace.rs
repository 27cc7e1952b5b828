//! How often a guest may have a token server asked. A token that is good until its end has to be scrubbed from answers
//! until then, and the vault remembers [`OLD_VALUES_MAX`] replaced ones: a guest that renews again and again must not push
//! one out, nor have the server lock the user out.

use credvault::limits::OLD_VALUES_MAX;

/// Seconds from one request to the next at least. Within them, a tool is given what is in use.
const GUEST_EVERY_S: u64 = 30;
/// With so many good tokens, a guest gets no further one. The vault's other half is for the host, which renews in a token's
/// last minute only.
const GOOD_TOKENS_MAX: usize = OLD_VALUES_MAX / 2;

/// Of one token server's source. Times are seconds since 1970.
#[derive(Debug, Default)]
pub struct Pace {
    pub(super) asked_s: Option<u64>,
    /// Of the tokens that came, whoever asked: the latest ones.
    ends_s: Vec<u64>,
}

impl Pace {
    /// Whether the server may be asked for the guest.
    pub fn lets_ask(&self, now_s: u64) -> bool {
        // A clock that was put back does not count.
        let passed = self.asked_s.and_then(|asked_s| now_s.checked_sub(asked_s));
        let good = self.ends_s.iter().filter(|end_s| **end_s > now_s).count();
        passed.is_none_or(|passed| passed >= GUEST_EVERY_S) && good < GOOD_TOKENS_MAX
    }

    /// It is asked.
    pub fn asked(&mut self, now_s: u64) {
        self.asked_s = Some(now_s);
    }

    /// A token came that ends then.
    pub fn took(&mut self, now_s: u64, end_s: u64) {
        self.asked(now_s);
        self.ends_s.retain(|end_s| *end_s > now_s);
        self.ends_s.push(end_s);
        self.ends_s.sort_unstable_by(|one, other| other.cmp(one));
        self.ends_s.truncate(OLD_VALUES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_good_token_is_pushed_out_by_a_guest_that_renews_whenever_it_may() {
        for lives in [&[3600][..], &[28_800], &[20], &[30 * 24 * 3600, 100, 3600], &[0]] {
            let (mut pace, mut ends, mut last) = (Pace::default(), Vec::new(), None);
            for now_s in 1_000..100_000 {
                if !pace.lets_ask(now_s) {
                    continue;
                }
                assert!(last.is_none_or(|last| now_s - last >= GUEST_EVERY_S));
                last = Some(now_s);
                let end_s = now_s + lives[ends.len() % lives.len()];
                pace.took(now_s, end_s);
                ends.push(end_s);
                let good = ends.iter().filter(|end_s| **end_s > now_s).count();
                assert!(good <= GOOD_TOKENS_MAX, "{good} of {lives:?}");
            }
            assert!(ends.len() > 1);
        }
    }

    #[test]
    fn a_failure_counts_and_a_clock_that_is_put_back_does_not() {
        let mut pace = Pace::default();
        pace.asked(1_000);
        assert!(!pace.lets_ask(1_029) && pace.lets_ask(1_030) && pace.lets_ask(500));
    }
}
