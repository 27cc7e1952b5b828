//! Questions that wait for one person. Pure: who waits is the caller's, and so is the time.
//!
//! A program in the sandbox decides how often it tries; the person does not have to answer more for it: attempts that
//! would be asked about in the same words share one question, few questions wait, only so many are put in a minute, and
//! what was refused is not asked again for a while.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use policy::ask::Question;

/// Questions that wait at a time, the one that is being put among them.
pub const QUESTIONS_MAX: usize = 8;
/// Attempts that wait for one question.
pub const WAITERS_MAX: usize = 32;
/// Questions in [`RATE_OVER`].
pub const RATE_MAX: usize = 10;
/// See [`RATE_MAX`].
pub const RATE_OVER: Duration = Duration::from_secs(60);
/// How long a no holds for the same question.
pub const REFUSED_FOR: Duration = Duration::from_secs(300);
/// Refused questions that are remembered; the oldest is forgotten first.
pub const REFUSED_MAX: usize = 256;

/// Why an attempt does not get a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TurnedAway {
    /// The same was refused a short while ago.
    #[error("the user was asked about it and did not allow it")]
    Refused,
    /// Too many questions, or attempts behind one, wait already.
    #[error("the user was not asked about it, as too many questions wait for an answer")]
    Full,
    /// Too many questions were put lately.
    #[error("the user was not asked about it, as more than {RATE_MAX} questions were put in a minute")]
    TooFast,
}

/// The line. `W` is who waits.
pub struct Line<W> {
    open: VecDeque<(Question, Vec<W>)>,
    refused: VecDeque<(Question, Instant)>,
    taken: VecDeque<Instant>,
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Self { open: VecDeque::new(), refused: VecDeque::new(), taken: VecDeque::new() }
    }
}

impl<W> Line<W> {
    /// Takes an attempt in.
    ///
    /// # Errors
    /// [`TurnedAway`]: it is refused without a question.
    pub fn join(&mut self, question: Question, waiter: W, now: Instant) -> Result<(), TurnedAway> {
        if let Some((_, waiters)) = self.open.iter_mut().find(|(open, _)| *open == question) {
            if waiters.len() >= WAITERS_MAX {
                return Err(TurnedAway::Full);
            }
            waiters.push(waiter);
            return Ok(());
        }
        let lately = |time: Instant, over: Duration| now.saturating_duration_since(time) < over;
        if self.refused.iter().any(|(refused, time)| *refused == question && lately(*time, REFUSED_FOR)) {
            return Err(TurnedAway::Refused);
        }
        if self.open.len() >= QUESTIONS_MAX {
            return Err(TurnedAway::Full);
        }
        while self.taken.front().is_some_and(|time| !lately(*time, RATE_OVER)) {
            self.taken.pop_front();
        }
        if self.taken.len() >= RATE_MAX {
            return Err(TurnedAway::TooFast);
        }
        self.taken.push_back(now);
        self.open.push_back((question, vec![waiter]));
        Ok(())
    }

    /// The question to put next, and how many wait behind it. Those for which nobody waits any more are left out.
    pub fn next(&mut self, waits: impl Fn(&W) -> bool) -> Option<(Question, usize)> {
        while let Some((question, waiters)) = self.open.front() {
            if waiters.iter().any(&waits) {
                return Some((question.clone(), self.open.len().saturating_sub(1)));
            }
            self.open.pop_front();
        }
        None
    }

    /// The first question has its answer; gives those who waited for it.
    pub fn answered(&mut self, refused: bool, now: Instant) -> Vec<W> {
        let Some((question, waiters)) = self.open.pop_front() else { return Vec::new() };
        if refused {
            if self.refused.len() >= REFUSED_MAX {
                self.refused.pop_front();
            }
            self.refused.push_back((question, now));
        }
        waiters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::question;

    fn number(n: usize) -> Question {
        question(&format!("GET https://{n}.example/"))
    }

    #[test]
    fn the_same_attempt_shares_one_question() {
        let (mut line, now) = (Line::default(), Instant::now());
        line.join(question("GET https://a.example/x?k=1"), 1, now).unwrap();
        line.join(question("GET https://a.example/x?k=2"), 2, now).unwrap();
        line.join(question("POST https://a.example/x"), 3, now).unwrap();
        assert_eq!(line.next(|_| true), Some((question("GET https://a.example/x"), 1)));
        // Also while it is being put.
        line.join(question("GET https://a.example/x"), 4, now).unwrap();
        assert_eq!(line.answered(false, now), [1, 2, 4]);
        assert_eq!(line.next(|_| true).unwrap().0, question("POST https://a.example/x"));
        assert_eq!(line.answered(false, now), [3]);
        assert_eq!(line.next(|_| true), None);
    }

    #[test]
    fn a_no_holds_for_a_while_and_for_the_same_only() {
        let (mut line, now) = (Line::default(), Instant::now());
        line.join(number(1), 1, now).unwrap();
        assert_eq!(line.answered(true, now), [1]);
        let almost = REFUSED_FOR.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(line.join(number(1), 2, now + almost), Err(TurnedAway::Refused));
        line.join(number(2), 2, now + almost).unwrap();
        line.join(number(1), 3, now + REFUSED_FOR).unwrap();
        // Refusing many forgets the oldest, not the newest.
        let mut line = Line::default();
        for n in 0..=REFUSED_MAX {
            let later = now + RATE_OVER * u32::try_from(n).unwrap() / 8;
            line.join(number(n), n, later).unwrap();
            line.answered(true, now + REFUSED_FOR * 100);
        }
        assert_eq!(line.join(number(REFUSED_MAX), 0, now + REFUSED_FOR * 100), Err(TurnedAway::Refused));
        assert!(line.join(number(0), 0, now + REFUSED_FOR * 100).is_ok());
    }

    #[test]
    fn a_flood_waits_for_nobody_and_asks_nobody() {
        let (mut line, now) = (Line::default(), Instant::now());
        for n in 0..QUESTIONS_MAX {
            line.join(number(n), n, now).unwrap();
        }
        assert_eq!(line.join(number(99), 99, now), Err(TurnedAway::Full));
        for n in 1..WAITERS_MAX {
            line.join(number(0), n, now).unwrap();
        }
        assert_eq!(line.join(number(0), 0, now), Err(TurnedAway::Full));
        for _ in 0..QUESTIONS_MAX {
            line.answered(false, now);
        }
        for n in QUESTIONS_MAX..RATE_MAX {
            line.join(number(n), n, now).unwrap();
            line.answered(false, now);
        }
        assert_eq!(line.join(number(99), 99, now), Err(TurnedAway::TooFast));
        line.join(number(99), 99, now + RATE_OVER).unwrap();
    }

    #[test]
    fn a_question_for_which_nobody_waits_is_not_put() {
        let (mut line, now) = (Line::default(), Instant::now());
        line.join(number(1), 1, now).unwrap();
        line.join(number(2), 2, now).unwrap();
        assert_eq!(line.next(|waiter| *waiter != 1), Some((number(2), 0)));
        assert_eq!(line.answered(false, now), [2]);
    }
}
