//! Byte queues between sockets and pipes: filled at one end, emptied at the other, moved rarely. No I/O but
//! through the closures given.
//!
//! Must never grow beyond what its user allows.

use std::io;

use crate::proto::frame::{self, HEADER_BYTES, Split};
use crate::proto::{Kind, WireError};

/// Bytes in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    /// What is in it.
    pub(super) fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// How much is in it.
    pub(super) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.start)
    }

    /// Whether nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.bytes.len());
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.consume(usize::MAX);
    }

    /// The buffer to append to.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if self.start >= self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    /// Appends what `read` delivers, at most `max` bytes; 0 is its end.
    pub(super) fn fill(
        &mut self,
        max: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.fill_after(0, max, read)
    }

    /// Appends a frame whose payload `read` delivers: straight into place, no copy. Nothing is appended at its end.
    pub(super) fn fill_frame(
        &mut self,
        kind: Kind,
        max: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let got = self.fill_after(HEADER_BYTES, max, read)?;
        if got > 0 {
            let header = frame::header_for(kind, got).map_err(io::Error::other)?;
            let at = self.bytes.len().saturating_sub(got).saturating_sub(HEADER_BYTES);
            if let Some(place) = self.bytes.get_mut(at..at.saturating_add(HEADER_BYTES)) {
                place.copy_from_slice(&header);
            }
        }
        Ok(got)
    }

    fn fill_after(
        &mut self,
        gap: usize,
        max: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let bytes = self.tail();
        let old = bytes.len();
        bytes.resize(old.saturating_add(gap).saturating_add(max), 0);
        let room = bytes.get_mut(old.saturating_add(gap)..).unwrap_or_default();
        let got = read(room);
        let kept = match got {
            Ok(0) | Err(_) => old,
            Ok(count) => old.saturating_add(gap).saturating_add(count.min(max)),
        };
        bytes.truncate(kept);
        got.map(|count| count.min(max))
    }

    /// The first frame in it, if that is whole.
    pub(super) fn frame(&self) -> Result<Split<'_>, WireError> {
        frame::split(self.pending())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_filled_in_place_and_ends_add_nothing() {
        let mut queue = Queue::default();
        let got = queue.fill_frame(Kind::Stdout, 8, |room| {
            room[..3].copy_from_slice(b"abc");
            Ok(3)
        });
        assert_eq!(got.unwrap(), 3);
        assert_eq!(queue.fill_frame(Kind::Stdout, 8, |_| Ok(0)).unwrap(), 0);
        assert!(queue.fill_frame(Kind::Stdout, 8, |_| Err(io::ErrorKind::WouldBlock.into())).is_err());
        assert_eq!(queue.frame().unwrap(), Split::Frame { kind: Kind::Stdout, payload: b"abc", used: 8 });
        queue.consume(8);
        assert!(queue.is_empty());
    }

    proptest! {
        #[test]
        fn bytes_come_out_in_order(steps in prop::collection::vec((0usize..40, 0usize..40), 0..60)) {
            let (mut queue, mut model, mut next) = (Queue::default(), std::collections::VecDeque::new(), 0u8);
            for (add, take) in steps {
                for _ in 0..add {
                    next = next.wrapping_add(1);
                    queue.tail().push(next);
                    model.push_back(next);
                }
                let take = take.min(model.len());
                queue.consume(take);
                model.drain(..take);
                prop_assert_eq!(queue.pending(), model.make_contiguous() as &[u8]);
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }
}
