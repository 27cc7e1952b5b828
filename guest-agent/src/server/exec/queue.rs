//! Byte queues between sockets and pipes: filled at one end, emptied at the other, moved rarely. No I/O but
//! through the closures given.
//!
//! Must never grow beyond what its user allows.

use std::io;

use crate::proto::frame::{self, HEADER_BYTES, Split};
use crate::proto::{Kind, WireError};

/// Bytes in order.
///
/// The buffer is kept at its length, so that its room is zeroed once and not before each read.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Queue {
    /// What is in it.
    pub(super) fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// How much is in it.
    pub(super) fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Forgets all, the room too.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Appends bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let place = self.room(bytes.len());
        place.get_mut(..bytes.len()).unwrap_or_default().copy_from_slice(bytes);
        self.end = self.end.saturating_add(bytes.len());
    }

    /// Appends what `read` delivers, at most `max` bytes; 0 is its end.
    pub(super) fn fill(
        &mut self,
        max: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let room = self.room(max);
        let got = read(room.get_mut(..max).unwrap_or_default())?.min(max);
        self.end = self.end.saturating_add(got);
        Ok(got)
    }

    /// Appends a frame whose payload `read` delivers: straight into place, no copy. Nothing is appended at its end.
    pub(super) fn fill_frame(
        &mut self,
        kind: Kind,
        max: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let room = self.room(HEADER_BYTES.saturating_add(max));
        let Some((header, payload)) = room.split_first_chunk_mut::<HEADER_BYTES>() else { return Ok(0) };
        let got = read(payload.get_mut(..max).unwrap_or_default())?.min(max);
        if got > 0 {
            *header = frame::header_for(kind, got).map_err(io::Error::other)?;
            self.end = self.end.saturating_add(HEADER_BYTES).saturating_add(got);
        }
        Ok(got)
    }

    /// Free room behind what is in it, at least `wanted` bytes. Moves bytes to the front only when it is short.
    fn room(&mut self, wanted: usize) -> &mut [u8] {
        if self.bytes.len().saturating_sub(self.end) < wanted && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        let length = self.end.saturating_add(wanted);
        if self.bytes.len() < length {
            self.bytes.resize(length, 0);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
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
                    queue.push(&[next]);
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
