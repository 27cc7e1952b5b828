//! Memory for decoding: counted before it is used, over all answers of one proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that decoders may use together.
#[derive(Debug, Clone)]
pub struct Room {
    free: Arc<AtomicUsize>,
}

impl Room {
    /// Room for this many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { free: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// Takes so many bytes; `None` if fewer are free.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Option<Lease> {
        let mut lease = Lease { room: self.clone(), bytes: 0 };
        lease.resize(bytes).then_some(lease)
    }

    /// Bytes that nobody uses.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }
}

/// Bytes taken from a [`Room`], until it is dropped.
#[derive(Debug)]
pub struct Lease {
    room: Room,
    bytes: usize,
}

impl Lease {
    /// Gives bytes back, or takes more. False, and nothing is changed, if fewer are free.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let change = |free: usize| free.checked_add(self.bytes)?.checked_sub(bytes);
        let done = self.room.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).is_ok();
        if done {
            self.bytes = bytes;
        }
        done
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Giving back cannot fail: the sum was free once.
        let _ = self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_and_no_more_is_given_than_there_is() {
        let room = Room::new(100);
        let mut first = room.take(60).unwrap();
        assert!(room.take(41).is_none());
        let second = room.take(40).unwrap();
        assert!(!first.resize(61) && first.resize(50));
        assert_eq!(room.free(), 10);
        assert!(first.resize(60));
        drop(second);
        assert_eq!(room.free(), 40);
        drop(first);
        assert_eq!(room.free(), 100);
    }
}
