//! What decides on holding back: how forms begin, how long they get, which bytes they are made of.

use zeroize::Zeroizing;

use super::work;
use crate::limits::HOLD_PREFIX_BYTES;

type Begin = [u8; HOLD_PREFIX_BYTES];

/// Bytes that are looked at without a question after each of them.
const CHUNK: usize = 16;

/// What is known of the bytes that a text begins with, from the last time.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    /// So many were looked at.
    pub(super) known: usize,
    /// In so many of those, no form begins that is not complete.
    pub(super) free: usize,
}

impl Seen {
    /// After the first `count` bytes were given up.
    pub(super) fn without(self, count: usize) -> Self {
        Self { known: self.known.saturating_sub(count), free: self.free.saturating_sub(count) }
    }
}

pub(super) struct Holds {
    /// Sorted, each once, with the length of the longest form that begins so.
    begins: Zeroizing<Vec<(Begin, usize)>>,
    /// For each byte, whether a form begins with it: most places are dismissed by it.
    firsts: Zeroizing<[bool; 256]>,
    /// One bit for each first two bytes of a form: nearly all others are.
    pairs: Zeroizing<Vec<u64>>,
    member: [bool; 256],
    longest: usize,
}

impl Holds {
    /// `begins` are the first bytes of forms, and the longest that the form gets; `members` are the bytes that forms
    /// are made of, beyond those of every token and every escape.
    pub(super) fn new(
        begins: impl Iterator<Item = (Begin, usize)>,
        members: impl Iterator<Item = u8>,
    ) -> Self {
        let mut begins = Zeroizing::new(begins.collect::<Vec<_>>());
        // The longest of its kind comes first, and stays.
        begins.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        begins.dedup_by_key(|(begin, _)| *begin);
        let (mut firsts, mut pairs) = (Zeroizing::new([false; 256]), Zeroizing::new(vec![0; (1 << 16) / 64]));
        for (begin, _) in begins.iter() {
            if let Some(first) = firsts.get_mut(usize::from(begin[0])) {
                *first = true;
            }
            let (word, bit) = pair_bit(begin[0], begin[1]);
            if let Some(word) = pairs.get_mut(word) {
                *word |= bit;
            }
        }
        let mut member = [false; 256];
        // Every byte of ordinary tokens, whether or not this secret has it: the set must not tell.
        for (byte, member) in (0u8..=255).zip(member.iter_mut()) {
            *member = byte.is_ascii_alphanumeric() || b"-._~+/=%\\&#;".contains(&byte);
        }
        for byte in members {
            if let Some(member) = member.get_mut(usize::from(byte)) {
                *member = true;
            }
        }
        let longest = begins.iter().map(|&(_, longest)| longest).max().unwrap_or(0);
        Self { begins, firsts, pairs, member, longest }
    }

    /// Length of the longest form.
    #[cfg(test)]
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Where the end of `text` begins that must be held back: the earliest place at which a form may have begun
    /// without being complete. `text.len()` when nothing needs holding.
    ///
    /// A superset of the true beginnings of forms, which looks at no more than `HOLD_PREFIX_BYTES` of a form's own
    /// bytes (the reason is in the head of `scrub`). What is `seen` is not looked at again, but where the answer moves
    /// on, so that a stream costs O(its length) in all.
    pub(super) fn from(&self, text: &[u8], seen: Seen) -> usize {
        let reach = text.len().saturating_sub(self.longest.saturating_sub(1));
        // Forms consist of member bytes, so what is held is a run of them. A line feed is no member:
        // after a complete server-sent event the run is empty and this costs nothing.
        let from = reach.max(seen.known);
        let run = from + self.outside(text.get(from..).unwrap_or_default());
        // What is known and not free is a run already.
        let run = if run == seen.known { reach.max(seen.free) } else { run };
        let hold = self.first(text, run).unwrap_or(text.len());
        work::done(text.len().saturating_sub(seen.known).saturating_add(hold - run));
        hold
    }

    /// Where the members at the end of `text` begin.
    fn outside(&self, text: &[u8]) -> usize {
        let mut end = text.len();
        while let Some(chunk) = text.get(..end).and_then(<[u8]>::last_chunk::<CHUNK>)
            && chunk.iter().fold(true, |all, &byte| all & is_in(&self.member, byte))
        {
            end -= CHUNK;
        }
        let rest = text.get(..end).unwrap_or_default();
        rest.iter().rposition(|&byte| !is_in(&self.member, byte)).map_or(0, |at| at + 1)
    }

    /// The first place from `run` on where an unfinished form may begin.
    fn first(&self, text: &[u8], run: usize) -> Option<usize> {
        let mut start = run;
        loop {
            while let Some(chunk) = text.get(start..)?.first_chunk::<CHUNK>()
                && !chunk.iter().fold(false, |any, &byte| any | is_in(&self.firsts, byte))
            {
                start += CHUNK;
            }
            start += text.get(start..)?.iter().position(|&byte| is_in(&self.firsts, byte))?;
            if self.may_begin(text.get(start..)?) {
                return Some(start);
            }
            start += 1;
        }
    }

    /// Whether an unfinished form may begin with `tail`, judged by its first bytes and its length. What is false
    /// stays so when more comes.
    fn may_begin(&self, tail: &[u8]) -> bool {
        if let [a, b, ..] = *tail {
            let (word, bit) = pair_bit(a, b);
            if self.pairs.get(word).is_none_or(|word| word & bit == 0) {
                return false;
            }
        }
        let known = tail.get(..HOLD_PREFIX_BYTES).unwrap_or(tail);
        let from = self.begins.partition_point(|(begin, _)| &begin[..] < known);
        let same = self.begins.get(from..).unwrap_or_default().iter();
        same.take_while(|(begin, _)| begin.starts_with(known)).any(|&(_, longest)| longest > tail.len())
    }
}

fn is_in(table: &[bool; 256], byte: u8) -> bool {
    table.get(usize::from(byte)).copied().unwrap_or(false)
}

/// Word and bit of a pair in the table of pairs.
fn pair_bit(a: u8, b: u8) -> (usize, u64) {
    let index = u16::from_le_bytes([a, b]);
    (usize::from(index >> 6), 1 << (index & 63))
}
