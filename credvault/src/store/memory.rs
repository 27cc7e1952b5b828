//! A store that lives as long as the value: for tests, demos, and secrets given on the command's own
//! terms. Must never write anything anywhere.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Store, StoreError, Stored, checked_name};
use crate::secret::Secret;

/// Secrets in locked memory, gone with the process.
#[derive(Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, (Secret, Stored)>>);

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn map(&self) -> MutexGuard<'_, BTreeMap<String, (Secret, Stored)>> {
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

    fn fetch(&self, name: &str) -> Result<(Secret, Stored), StoreError> {
        let name = checked_name(name)?;
        let copy = |(value, stored): &(Secret, Stored)| (value.duplicate(), stored.clone());
        self.map().get(name).map(copy).ok_or_else(|| self.missing(name))
    }

    fn put_until(&self, name: &str, value: &Secret, not_after_s: Option<u64>) -> Result<Stored, StoreError> {
        let name = checked_name(name)?;
        let mut map = self.map();
        let stored = Stored::after(map.get(name).map(|(_, older)| older), name, not_after_s);
        map.insert(name.to_owned(), (value.duplicate(), stored.clone()));
        Ok(stored)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let name = checked_name(name)?;
        self.map().remove(name).map(|_| ()).ok_or_else(|| self.missing(name))
    }

    fn entries(&self) -> Result<Vec<Stored>, StoreError> {
        Ok(self.map().values().map(|(_, stored)| stored.clone()).collect())
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
        assert_eq!(store.put_until("b", &secret("third"), Some(9)).unwrap(), store.entries().unwrap()[1]);
        assert_eq!(
            (store.entries().unwrap()[1].version, store.entries().unwrap()[1].not_after_s),
            (3, Some(9))
        );
        store.delete("b").unwrap();
        let error = store.delete("b").unwrap_err();
        assert_eq!(
            error.to_string(),
            "memory of this process has no credential `b`; store it first, or check the name in the list of stored names"
        );
        assert!(matches!(store.put("a b", &secret("x")), Err(StoreError::Name)));
    }
}
