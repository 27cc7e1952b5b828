//! A map of bounded size that forgets what was used least recently.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

#[derive(Debug)]
pub struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    /// By last use; the stamps are unique.
    order: BTreeMap<u64, K>,
    stamp: u64,
    max: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// Holds up to `max` entries, at least one.
    pub fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), stamp: 0, max: max.max(1) }
    }

    /// The value of `key`, which is now the most recently used.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        let stamp = self.next_stamp();
        let (used, value) = self.entries.get_mut(key)?;
        if let Some(key) = self.order.remove(used) {
            self.order.insert(stamp, key);
        }
        *used = stamp;
        Some(value)
    }

    /// Sets the value of `key`; gives the entry that had to go for it.
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        let stamp = self.next_stamp();
        if let Some((old, _)) = self.entries.insert(key.clone(), (stamp, value)) {
            self.order.remove(&old);
        }
        self.order.insert(stamp, key);
        if self.entries.len() <= self.max {
            return None;
        }
        let (_, oldest) = self.order.pop_first()?;
        let (_, value) = self.entries.remove(&oldest)?;
        Some((oldest, value))
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamp = self.stamp.wrapping_add(1);
        self.stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut map = Recent::new(2);
        assert_eq!(map.insert("a", 1), None);
        assert_eq!(map.insert("b", 2), None);
        assert_eq!(map.get(&"a"), Some(&1));
        assert_eq!(map.insert("c", 3), Some(("b", 2)));
        assert_eq!(map.insert("a", 4), None);
        assert_eq!(map.insert("d", 5), Some(("c", 3)));
        assert_eq!(map.get(&"a"), Some(&4));
        assert_eq!(map.get(&"b"), None);
        assert_eq!((map.entries.len(), map.order.len()), (2, 2));
    }
}
