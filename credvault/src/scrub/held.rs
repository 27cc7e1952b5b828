//! The end of a stream that is held back, between two chunks.
//!
//! Taking n bytes in and giving them out again costs O(n), however they were cut: bytes move only when as many
//! have come or gone since they last moved. Must never leave a copy behind that is not cleared.

use zeroize::Zeroizing;

use super::work;

/// Bytes in order, taken at the end and given up at the front.
pub(super) struct Held {
    buffer: Zeroizing<Vec<u8>>,
    /// Bytes at its beginning that were given up.
    gone: usize,
}

impl Held {
    pub(super) fn new() -> Self {
        Self { buffer: Zeroizing::new(Vec::new()), gone: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.gone..).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.buffer.len().saturating_sub(self.gone)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        if self.buffer.capacity() - self.buffer.len() < chunk.len() {
            // A vector that grows by itself leaves its old bytes behind.
            let needed = self.len().saturating_add(chunk.len());
            self.move_to(needed.max(self.len().saturating_mul(2)));
        }
        self.buffer.extend_from_slice(chunk);
        work::done(chunk.len());
    }

    /// Gives up the first `count` bytes.
    pub(super) fn give_up(&mut self, count: usize) {
        self.gone = self.gone.saturating_add(count).min(self.buffer.len());
        if self.is_empty() {
            *self = Self::new();
        } else if self.gone >= self.len() {
            self.move_to(self.len().saturating_mul(2));
        }
    }

    fn move_to(&mut self, capacity: usize) {
        work::done(self.len().saturating_add(self.buffer.capacity()));
        let mut buffer = Zeroizing::new(Vec::with_capacity(capacity));
        buffer.extend_from_slice(self.bytes());
        *self = Self { buffer, gone: 0 };
    }
}
