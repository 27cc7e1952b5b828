//! The most recently used directory descriptors, a bounded number of them.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// A least-recently-used cache from node numbers to `O_PATH` descriptors.
#[derive(Debug)]
pub(super) struct DirectoryCache {
    entries: HashMap<u64, (u64, Arc<OwnedFd>)>,
    /// From time of last use to node.
    order: BTreeMap<u64, u64>,
    clock: u64,
    capacity: usize,
}

impl DirectoryCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), clock: 0, capacity }
    }

    /// The descriptor of `node`, which thereby counts as just used.
    pub(super) fn get(&mut self, node: u64) -> Option<Arc<OwnedFd>> {
        let (used, fd) = self.entries.get_mut(&node)?;
        self.order.remove(used);
        self.clock = self.clock.saturating_add(1);
        *used = self.clock;
        self.order.insert(self.clock, node);
        Some(fd.clone())
    }

    /// Remembers a descriptor, at the cost of the one that was not used for longest.
    pub(super) fn put(&mut self, node: u64, fd: Arc<OwnedFd>) {
        self.remove(node);
        while self.entries.len() >= self.capacity {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.entries.remove(&oldest);
        }
        self.clock = self.clock.saturating_add(1);
        self.order.insert(self.clock, node);
        self.entries.insert(node, (self.clock, fd));
    }

    pub(super) fn remove(&mut self, node: u64) {
        if let Some((used, _)) = self.entries.remove(&node) {
            self.order.remove(&used);
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_unused_goes_first() {
        let fd = Arc::new(OwnedFd::from(tempfile::tempfile().unwrap()));
        let mut cache = DirectoryCache::new(2);
        cache.put(1, fd.clone());
        cache.put(2, fd.clone());
        assert!(cache.get(1).is_some());
        cache.put(3, fd.clone());
        assert!(cache.get(2).is_none());
        assert!(cache.get(1).is_some() && cache.get(3).is_some());
        cache.remove(1);
        cache.put(3, fd);
        assert_eq!((cache.len(), cache.order.len()), (1, 1));
        cache.clear();
        assert_eq!(cache.len(), 0);
    }
}
