//! A store that lives as long as the value: for tests, demos, and secrets given on the command's own
//! terms. Must never write anything anywhere.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Store, StoreError, checked_name};
use crate::secret::Secret;

/// Secrets in locked memory, gone with the process.
#[derive(Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, Secret>>);

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn map(&self) -> MutexGuard<'_, BTreeMap<String, Secret>> {
        // A panic elsewhere cannot leave a map half-changed: each method changes it in one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing(&self, name: &str) -> StoreError {
        StoreError::Missing { store: self.describe(), name: name.to_owned() }
    }
}

impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory of this process".to_owned()
    }

    fn get(&self, name: &str) -> Result<Secret, StoreError> {
        let name = checked_name(name)?;
        self.map().get(name).map(Secret::duplicate).ok_or_else(|| self.missing(name))
    }

    fn put(&self, name: &str, value: &Secret) -> Result<(), StoreError> {
        self.map().insert(checked_name(name)?.to_owned(), value.duplicate());
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let name = checked_name(name)?;
        self.map().remove(name).map(|_| ()).ok_or_else(|| self.missing(name))
    }

    fn list(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.map().keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_replaces_lists_and_deletes() {
        let store = MemoryStore::new();
        let secret = |value: &str| Secret::new(value.as_bytes().to_vec());
        store.probe().unwrap();
        assert!(matches!(store.get("a").map(|_| ()), Err(StoreError::Missing { .. })));
        store.put("b", &secret("first")).unwrap();
        store.put("b", &secret("second")).unwrap();
        store.put("a", &secret("third")).unwrap();
        assert!(store.get("b").unwrap() == secret("second"));
        assert_eq!(store.list().unwrap(), ["a", "b"]);
        store.delete("b").unwrap();
        let error = store.delete("b").unwrap_err();
        assert_eq!(
            error.to_string(),
            "memory of this process has no credential `b`; store it first, or check the name in the list of stored names"
        );
        assert!(matches!(store.put("a b", &secret("x")), Err(StoreError::Name)));
    }
}
