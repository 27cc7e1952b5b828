//! Finds any of a set of byte strings: the search of Wu and Manber ("A fast algorithm for multi-pattern
//! searching", 1994), with every byte of a pattern in locked memory.
//!
//! Why not a general matcher: those copy patterns into tables of their own, which are neither locked nor
//! cleared. Here the strings lie in one [`LockedBuf`] and the tables derived from them are cleared.
//! The window is as long as the shortest pattern; where its last three bytes occur in no pattern, the
//! whole window is skipped, so text without hits costs a step per some tens of bytes.

use zeroize::Zeroizing;

use crate::limits::HOLD_PREFIX_BYTES;
use crate::lock::LockedBuf;
use crate::scrub::forms::Form;

/// Bits of the hash over the last bytes of a window. The table of one byte per slot stays in a
/// first-level cache, and a few hundred patterns fill a small part of it.
const SLOT_BITS: u32 = 15;

/// How many bytes at the end of a window are looked at. With two, a dozen base64 forms would contain
/// nearly every pair that text has.
const BLOCK: usize = 3;
const _: () = assert!(BLOCK <= HOLD_PREFIX_BYTES, "patterns are longer than a block");

/// Found: where, how long, and whose pattern it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) owner: usize,
}

/// A set of patterns, ready to search. Each is at least `SECRET_BYTES_MIN` long.
pub(crate) struct Patterns {
    bytes: LockedBuf,
    spans: Vec<Span>,
    /// How far the window may move, by the slot of its last block; 0 where a pattern may end it.
    shift: Zeroizing<Vec<u8>>,
    /// Slot of the end of each pattern's first window and the pattern's index, sorted.
    by_slot: Zeroizing<Vec<(u16, u32)>>,
    window: usize,
    longest: usize,
    holds: Holds,
}

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    owner: usize,
}

/// What decides on holding back: how patterns begin, how long they get, which bytes they are made of.
struct Holds {
    begins: Zeroizing<Vec<([u8; HOLD_PREFIX_BYTES], usize)>>,
    /// One bit for each first two bytes of a pattern: most places are dismissed by it.
    pairs: Zeroizing<Vec<u64>>,
    member: [bool; 256],
}

impl Patterns {
    /// Builds the tables. `forms` are pairs of owner and pattern; empty and too short ones are left out,
    /// as they would be found everywhere.
    pub(crate) fn new(forms: &[(usize, Form)]) -> Self {
        let usable = || forms.iter().filter(|(_, form)| form.len() > HOLD_PREFIX_BYTES);
        let total = usable().map(|(_, form)| form.len()).sum();
        let mut patterns = Self {
            bytes: LockedBuf::zeroed(total),
            spans: Vec::new(),
            shift: Zeroizing::new(Vec::new()),
            by_slot: Zeroizing::new(Vec::new()),
            window: usable().map(|(_, form)| form.len()).min().unwrap_or(0),
            longest: usable().map(|(_, form)| form.len()).max().unwrap_or(0),
            holds: Holds::new(usable().map(|(_, form)| &form[..])),
        };
        let mut start = 0;
        for (owner, form) in usable() {
            let end = start + form.len();
            if let Some(home) = patterns.bytes.bytes_mut().get_mut(start..end) {
                home.copy_from_slice(form);
            }
            patterns.spans.push(Span { start, end, owner: *owner });
            start = end;
        }
        patterns.fill_tables();
        patterns
    }

    fn fill_tables(&mut self) {
        // A window that ends in an unknown block moves until it no longer holds the whole of that block.
        let farthest = (self.window + 1).saturating_sub(BLOCK);
        let mut shift = Zeroizing::new(vec![u8::try_from(farthest).unwrap_or(u8::MAX); 1 << SLOT_BITS]);
        let mut by_slot = Zeroizing::new(Vec::with_capacity(self.spans.len()));
        for (index, span) in self.spans.iter().enumerate() {
            let first = self.text(span).get(..self.window).unwrap_or_default();
            let blocks = first.windows(BLOCK).filter_map(<[u8]>::first_chunk::<BLOCK>);
            for (at, block) in blocks.enumerate() {
                let distance = (self.window - BLOCK).saturating_sub(at);
                if let Some(entry) = shift.get_mut(usize::from(slot(*block))) {
                    *entry = (*entry).min(u8::try_from(distance).unwrap_or(u8::MAX));
                }
            }
            if let (Some(block), Ok(index)) = (first.last_chunk::<BLOCK>(), u32::try_from(index)) {
                by_slot.push((slot(*block), index));
            }
        }
        by_slot.sort_unstable();
        self.shift = shift;
        self.by_slot = by_slot;
    }

    /// Length of the longest pattern.
    #[cfg(test)]
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Calls `found` for every place where a pattern begins, in order, with the longest pattern there,
    /// until it returns `false`.
    pub(crate) fn scan(&self, text: &[u8], mut found: impl FnMut(Hit) -> bool) {
        if self.spans.is_empty() {
            return;
        }
        let mut end = self.window;
        while let Some(&[a, b, c]) = text.get(end.wrapping_sub(BLOCK)..end) {
            let slot = slot([a, b, c]);
            match self.shift.get(usize::from(slot)) {
                Some(0) | None => {
                    let start = end - self.window;
                    if let Some(hit) = self.longest_at(text, start, slot)
                        && !found(hit)
                    {
                        return;
                    }
                    end += 1;
                }
                Some(&distance) => end += usize::from(distance),
            }
        }
    }

    /// The first pattern found in `text`.
    pub(crate) fn find(&self, text: &[u8]) -> Option<Hit> {
        let mut first = None;
        self.scan(text, |hit| {
            first = Some(hit);
            false
        });
        first
    }

    fn longest_at(&self, text: &[u8], start: usize, slot: u16) -> Option<Hit> {
        let from = self.by_slot.partition_point(|&(other, _)| other < slot);
        let rest = text.get(start..)?;
        let mut best: Option<Hit> = None;
        for &(_, index) in self.by_slot.get(from..)?.iter().take_while(|&&(other, _)| other == slot) {
            let Some(span) = usize::try_from(index).ok().and_then(|index| self.spans.get(index)) else {
                continue;
            };
            let end = start + (span.end - span.start);
            if rest.starts_with(self.text(span)) && best.is_none_or(|hit| end > hit.end) {
                best = Some(Hit { start, end, owner: span.owner });
            }
        }
        best
    }

    /// Where the end of `text` begins that must be held back: the earliest place at which a pattern may
    /// have begun without being complete. `text.len()` when nothing needs holding.
    ///
    /// A superset of the true prefixes of patterns, which looks at no more than `HOLD_PREFIX_BYTES` of a
    /// pattern's own bytes (the reason is in the head of `scrub`).
    pub(crate) fn hold_from(&self, text: &[u8]) -> usize {
        let reach = text.len().saturating_sub(self.longest.saturating_sub(1));
        let mut run = text.len();
        // Patterns consist of member bytes, so what is held is a run of them. A line feed is no member:
        // after a complete server-sent event the run is empty and this costs nothing.
        while run > reach && text.get(run - 1).is_some_and(|&byte| self.holds.is_member(byte)) {
            run -= 1;
        }
        (run..text.len())
            .find(|&start| text.get(start..).is_some_and(|tail| self.holds.may_begin(tail)))
            .unwrap_or(text.len())
    }

    fn text(&self, span: &Span) -> &[u8] {
        self.bytes.bytes().get(span.start..span.end).unwrap_or_default()
    }
}

impl Holds {
    fn new<'a>(forms: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut member = [false; 256];
        let mut begins: Zeroizing<Vec<([u8; HOLD_PREFIX_BYTES], usize)>> = Zeroizing::new(Vec::new());
        let mut pairs = Zeroizing::new(vec![0; (1 << 16) / 64]);
        // Every byte of ordinary tokens, whether or not this secret has it: the set must not tell.
        for (byte, member) in (0u8..=255).zip(member.iter_mut()) {
            *member = byte.is_ascii_alphanumeric() || b"-._~+/=%\\".contains(&byte);
        }
        for form in forms {
            for &byte in form {
                if let Some(member) = member.get_mut(usize::from(byte)) {
                    *member = true;
                }
            }
            let Some((&begin, _)) = form.split_first_chunk() else { continue };
            let (word, bit) = pair_bit(begin[0], begin[1]);
            if let Some(word) = pairs.get_mut(word) {
                *word |= bit;
            }
            match begins.iter_mut().find(|(other, _)| *other == begin) {
                Some((_, longest)) => *longest = form.len().max(*longest),
                None => begins.push((begin, form.len())),
            }
        }
        Self { begins, pairs, member }
    }

    fn is_member(&self, byte: u8) -> bool {
        self.member.get(usize::from(byte)).copied().unwrap_or(false)
    }

    /// Whether an unfinished pattern may begin with `tail`, judged by its first bytes and its length.
    fn may_begin(&self, tail: &[u8]) -> bool {
        if let [a, b, ..] = *tail {
            let (word, bit) = pair_bit(a, b);
            if self.pairs.get(word).is_none_or(|word| word & bit == 0) {
                return false;
            }
        }
        let known = tail.get(..HOLD_PREFIX_BYTES).unwrap_or(tail);
        self.begins.iter().any(|(begin, longest)| begin.starts_with(known) && *longest > tail.len())
    }
}

/// Word and bit of a pair in the table of pairs.
fn pair_bit(a: u8, b: u8) -> (usize, u64) {
    let index = u16::from_le_bytes([a, b]);
    (usize::from(index >> 6), 1 << (index & 63))
}

/// Multiplicative hash (Knuth, volume 3, §6.4): the high bits of a product with an odd constant.
fn slot([a, b, c]: [u8; BLOCK]) -> u16 {
    let product = u32::from_le_bytes([a, b, c, 0]).wrapping_mul(0x9E37_79B1);
    u16::try_from(product >> (u32::BITS - SLOT_BITS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Patterns {
        let forms: Vec<(usize, Form)> = list
            .iter()
            .enumerate()
            .map(|(owner, text)| (owner, Form::new(text.as_bytes().to_vec())))
            .collect();
        Patterns::new(&forms)
    }

    fn all(patterns: &Patterns, text: &str) -> Vec<(usize, usize, usize)> {
        let mut hits = Vec::new();
        patterns.scan(text.as_bytes(), |hit| {
            hits.push((hit.start, hit.end, hit.owner));
            true
        });
        hits
    }

    #[test]
    fn finds_patterns_of_different_lengths_in_order() {
        let set = patterns(&["abcdefgh", "cdefghijklmn", "abcdefghijkl"]);
        assert_eq!(all(&set, "..abcdefgh.."), [(2, 10, 0)]);
        assert_eq!(all(&set, "abcdefghijklmn"), [(0, 12, 2), (2, 14, 1)]);
        assert_eq!(all(&set, "abcdefg"), []);
        assert_eq!(all(&set, "abcdefghabcdefgh"), [(0, 8, 0), (8, 16, 0)]);
    }

    #[test]
    fn no_pattern_finds_nothing_and_holds_nothing() {
        let set = patterns(&[]);
        assert_eq!(all(&set, "anything"), []);
        assert_eq!(set.hold_from(b"anything"), 8);
        assert!(set.find(b"anything").is_none());
    }

    #[test]
    fn a_pattern_longer_than_a_shift_entry_is_found() {
        let long = "0123456789".repeat(100);
        let set = patterns(&[&long]);
        assert_eq!(all(&set, &format!("{}{long}{}", "x".repeat(999), "y".repeat(999))), [(999, 1999, 0)]);
    }

    #[test]
    fn holds_what_may_become_a_pattern_and_nothing_after_a_line_end() {
        let set = patterns(&["ghp_0123456789"]);
        for (text, held) in [
            ("data: done\n\n", 0),
            ("data: ghp", 3),
            ("data: ghp_01", 6),
            // No more than the first bytes of the secret decide: a wrong guess is held like a right one.
            ("data: ghp_XX", 6),
            // Longer than the pattern: cannot be its beginning.
            ("data: ghp_XXXXXXXXXX", 0),
            ("data: ghp \"", 0),
            ("data: gh_", 0),
        ] {
            assert_eq!(text.len() - set.hold_from(text.as_bytes()), held, "{text:?}");
        }
    }
}
