//! The rule set of the moment, replaced whole while others decide by it.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};

use crate::ruleset::Ruleset;

/// Holds the current rule set. Reading takes no lock and never waits for a load; what is read stays whole for as
/// long as it is held, whatever is loaded meanwhile.
///
/// Each load gets the next generation, which every verdict carries. What does not load changes nothing but
/// [`Live::last_error`].
///
/// ```
/// use policy::{Facts, Live, Ruleset, decide};
///
/// let text = |host: &str| format!("version = 1\n[[allow]]\nhost = \"{host}\"\n");
/// let live = Live::new(Ruleset::parse(&text("a.example"), "policy.toml")?);
/// let facts = Facts::parse("GET https://b.example/")?;
/// assert!(!decide(&live.current(), &facts).is_allowed());
///
/// let generation = live.load(|| Ruleset::parse(&text("b.example"), "policy.toml"))?;
/// assert_eq!(decide(&live.current(), &facts).generation, generation);
/// assert!(live.load(|| Ruleset::parse("version = 2", "policy.toml")).is_err());
/// assert!(decide(&live.current(), &facts).is_allowed(), "the old one stays");
/// assert!(live.last_error().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Live {
    current: ArcSwap<Ruleset>,
    /// Also the order of loads: held while one runs, so that an older one never replaces a newer.
    last_error: Mutex<Option<Arc<str>>>,
}

/// The rule set that was current when it was asked for. Cheap; not meant to be kept for long.
pub struct Current(Guard<Arc<Ruleset>>);

impl Live {
    /// Starts with these rules, as generation 1.
    #[must_use]
    pub fn new(mut rules: Ruleset) -> Self {
        rules.set_generation(1);
        Self { current: ArcSwap::from_pointee(rules), last_error: Mutex::default() }
    }

    /// The rules of this moment. Ask once for each decision: two calls may give two generations.
    #[must_use]
    pub fn current(&self) -> Current {
        Current(self.current.load())
    }

    /// From now on, these rules. Gives their generation.
    pub fn replace(&self, rules: Ruleset) -> u64 {
        let mut last_error = self.lock();
        self.swap(rules, &mut last_error)
    }

    /// Loads the next rules, one caller at a time; deciding goes on meanwhile. Gives their generation.
    ///
    /// # Errors
    /// What `load` said. The rules stay as they are, and [`Live::last_error`] shows it until a load succeeds.
    pub fn load<E: fmt::Display>(&self, load: impl FnOnce() -> Result<Ruleset, E>) -> Result<u64, E> {
        let mut last_error = self.lock();
        match load() {
            Ok(rules) => Ok(self.swap(rules, &mut last_error)),
            Err(error) => {
                *last_error = Some(error.to_string().into());
                Err(error)
            }
        }
    }

    /// Why the last load failed; `None` if the current rules are the newest.
    #[must_use]
    pub fn last_error(&self) -> Option<Arc<str>> {
        self.lock().clone()
    }

    fn swap(&self, mut rules: Ruleset, last_error: &mut Option<Arc<str>>) -> u64 {
        let generation = self.current.load().generation().saturating_add(1);
        rules.set_generation(generation);
        self.current.store(Arc::new(rules));
        *last_error = None;
        generation
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        // A load that panicked has changed nothing.
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Live {
    /// Denies everything until the first load.
    fn default() -> Self {
        Self::new(Ruleset::empty())
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Live {{ generation: {} }}", self.current.load().generation())
    }
}

impl Deref for Current {
    type Target = Ruleset;

    fn deref(&self) -> &Ruleset {
        &self.0
    }
}
