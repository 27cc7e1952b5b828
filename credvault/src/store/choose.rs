//! Which of several stores is used: the first, in the order given, that a read probe finds usable.
//!
//! ```text
//! usable ─▶ this one       absent (no bus, no file, other system) ─▶ the next       anything else ─▶ stop and say why
//! ```
//!
//! Must never go on from a store that is there and does not open: a locked keyring is a reason to unlock it, not to
//! look for keys in a weaker place. Decides only; what was found stays for the caller to show.

use super::{Store, StoreError};

/// One store and what its probe said.
#[derive(Debug)]
pub struct Surveyed {
    /// [`Store::describe`].
    pub store: String,
    /// What the probe said.
    pub found: Result<(), StoreError>,
}

/// No store can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChooseError {
    /// One is there and does not open; the ones after it were not considered.
    #[error("{0}")]
    Unusable(StoreError),
    /// None is there.
    #[error("no store for secrets on this machine:\n  {0}")]
    None(String),
}

/// Probes each store once, in order, without reading a value.
pub fn survey<'s>(stores: impl IntoIterator<Item = &'s dyn Store>) -> Vec<Surveyed> {
    let look = |store: &dyn Store| Surveyed { store: store.describe(), found: store.probe() };
    stores.into_iter().map(look).collect()
}

/// The place in `surveyed` of the store to use.
///
/// # Errors
/// [`ChooseError`], with the remedy of the store that stands in the way, or of all that are absent.
pub fn chosen(surveyed: Vec<Surveyed>) -> Result<usize, ChooseError> {
    let mut absent = Vec::new();
    for (place, Surveyed { found, .. }) in surveyed.into_iter().enumerate() {
        match found {
            Ok(()) => return Ok(place),
            Err(error @ StoreError::NoStore { .. }) => absent.push(error.to_string()),
            Err(error) => return Err(ChooseError::Unusable(error)),
        }
    }
    if absent.is_empty() {
        absent.push("none was named; name one".to_owned());
    }
    Err(ChooseError::None(absent.join("\n  ")))
}

#[cfg(test)]
mod tests {
    use super::super::NoStoreReason;
    use super::*;

    fn surveyed(found: Result<(), StoreError>) -> Surveyed {
        Surveyed { store: "a store".to_owned(), found }
    }

    fn absent(reason: NoStoreReason) -> Result<(), StoreError> {
        Err(StoreError::NoStore { store: "keyring".to_owned(), reason })
    }

    #[test]
    fn the_first_usable_store_is_taken_and_absent_ones_are_passed() {
        assert_eq!(chosen(vec![surveyed(Ok(())), surveyed(Ok(()))]).unwrap(), 0);
        let passed = [NoStoreReason::NoBus, NoStoreReason::NoService, NoStoreReason::OtherSystem];
        for reason in passed {
            assert_eq!(chosen(vec![surveyed(absent(reason)), surveyed(Ok(()))]).unwrap(), 1);
        }
    }

    #[test]
    fn a_store_that_is_there_and_does_not_open_is_never_passed() {
        let store = || "keyring".to_owned();
        let detail = || "x".to_owned();
        for error in [
            StoreError::Locked { store: store() },
            StoreError::Denied { store: store() },
            StoreError::WrongKey { store: store() },
            StoreError::Damaged { store: store(), detail: detail() },
            StoreError::Exposed { store: store(), detail: detail() },
            StoreError::Failed { store: store(), detail: detail() },
        ] {
            let text = error.to_string();
            let refused = chosen(vec![surveyed(Err(error)), surveyed(Ok(()))]).unwrap_err();
            assert!(matches!(refused, ChooseError::Unusable(_)));
            assert_eq!(refused.to_string(), text, "the store's own words, with the remedy");
        }
    }

    #[test]
    fn with_none_at_all_each_says_what_is_missing() {
        let all = vec![surveyed(absent(NoStoreReason::NoBus)), surveyed(absent(NoStoreReason::NoFile))];
        let text = chosen(all).unwrap_err().to_string();
        assert!(text.contains("no D-Bus session bus") && text.contains("file does not exist"), "{text}");
        assert!(chosen(Vec::new()).unwrap_err().to_string().contains("name one"));
    }
}
