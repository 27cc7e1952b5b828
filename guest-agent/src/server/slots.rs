//! A bound on how many of something run at once.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// So many places, shared by clones.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    free: Mutex<usize>,
    freed: Condvar,
}

/// One taken place; dropping it frees it.
#[derive(Debug)]
pub struct Slot(Arc<Inner>);

impl Slots {
    /// `count` free places.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Inner { free: Mutex::new(count), freed: Condvar::new() }))
    }

    /// Waits for a free place.
    #[must_use]
    pub fn take(&self) -> Slot {
        let waiting = self.0.lock();
        let mut free =
            self.0.freed.wait_while(waiting, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free = free.saturating_sub(1);
        Slot(Arc::clone(&self.0))
    }

    /// A free place, if there is one now.
    #[must_use]
    pub fn try_take(&self) -> Option<Slot> {
        let mut free = self.0.lock();
        *free = free.checked_sub(1)?;
        Some(Slot(Arc::clone(&self.0)))
    }
}

impl Inner {
    /// A poisoned lock holds a plain number, which stays usable.
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut free = self.0.lock();
        *free = free.saturating_add(1);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_run_out_and_come_back() {
        let slots = Slots::new(2);
        let (first, _second) = (slots.take(), slots.try_take().unwrap());
        assert!(slots.try_take().is_none());
        drop(first);
        assert!(slots.try_take().is_some());
    }
}
