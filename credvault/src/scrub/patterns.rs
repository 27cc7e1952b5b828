//! Finds any of a set of values in every form: the search of Wu and Manber ("A fast algorithm for multi-pattern
//! searching", 1994) for how forms begin, and a comparison with the value where one does.
//!
//! Why not a general matcher: those copy patterns into tables of their own, which are neither locked nor
//! cleared. Here values and beginnings lie in a [`LockedBuf`] and the tables derived from them are cleared.
//! The window is as long as the beginnings; where its last three bytes occur in none, the whole window is skipped,
//! so text without hits costs a step per some tens of bytes.
//!
//! What a value costs does not grow with the number of its forms: its bytes once, and at most
//! `BEGINNINGS_MAX` beginnings of at most `WINDOW_BYTES_MAX` bytes for a form, of which a value without
//! special characters at its beginning has one.
//!
//! Time is linear in the text whatever is in it, but for values that repeat themselves: each place is compared once,
//! for as long as it agrees with a value, and places that agree for long lie as far apart as the value's beginning
//! differs from itself moved along. `xxxxxxxx` agrees everywhere, which costs as much again as it is long.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::forms::{Beginning, Form};
use super::holds::{Holds, Seen};
use super::work;
use crate::limits::{BEGINNINGS_MAX, HOLD_PREFIX_BYTES, WINDOW_BYTES_MAX};
use crate::lock::LockedBuf;

/// Bits of the hash over the last bytes of a window. The table of one byte per slot stays in a
/// first-level cache, and a few hundred beginnings fill a small part of it.
const SLOT_BITS: u32 = 15;

/// How many bytes at the end of a window are looked at. With two, a dozen base64 forms would contain
/// nearly every pair that text has.
const BLOCK: usize = 3;
/// How many parts of a text are walked side by side.
const LANES: usize = 4;
/// Short enough for every value to have few beginnings of this length, and longer than what decides on holding.
const WINDOW_BYTES_MIN: usize = HOLD_PREFIX_BYTES + 1;
const _: () = assert!(BLOCK <= HOLD_PREFIX_BYTES && WINDOW_BYTES_MIN <= WINDOW_BYTES_MAX);
const _: () = assert!(WINDOW_BYTES_MAX <= 255, "a shift is one byte");

/// Found: where, how long, and whose value it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) owner: usize,
}

/// Values with their owners.
pub(crate) struct Values {
    bytes: LockedBuf,
    /// Start, end and owner of each.
    spans: Vec<(usize, usize, usize)>,
}

impl Values {
    pub(crate) fn new(values: &[(usize, &[u8])]) -> Arc<Self> {
        let mut bytes = LockedBuf::zeroed(values.iter().map(|(_, value)| value.len()).sum());
        let (mut spans, mut start) = (Vec::with_capacity(values.len()), 0);
        for (owner, value) in values {
            let end = start + value.len();
            if let Some(home) = bytes.bytes_mut().get_mut(start..end) {
                home.copy_from_slice(value);
            }
            spans.push((start, end, *owner));
            start = end;
        }
        Arc::new(Self { bytes, spans })
    }

    fn get(&self, index: usize) -> Option<(&[u8], usize)> {
        let &(start, end, owner) = self.spans.get(index)?;
        Some((self.bytes.bytes().get(start..end)?, owner))
    }

    /// Every form of every value that is longer than what decides on holding: shorter ones would be found everywhere.
    fn forms(&self) -> impl Iterator<Item = (usize, &[u8], Form)> {
        let all = (0..self.spans.len()).filter_map(|index| Some((index, self.get(index)?.0)));
        all.flat_map(|(index, value)| Form::all(value).into_iter().map(move |form| (index, value, form)))
            .filter(|(_, value, form)| form.lengths(value).0 >= WINDOW_BYTES_MIN)
    }

    /// The bytes that forms are made of, beyond those of every escape.
    fn members(&self) -> impl Iterator<Item = u8> {
        let all = (0..self.spans.len()).filter_map(|index| Some(self.get(index)?.0));
        all.flat_map(|value| {
            let text = str::from_utf8(value).unwrap_or_default();
            value.iter().copied().chain(text.encode_utf16().flat_map(u16::to_le_bytes))
        })
    }
}

/// How letters are compared.
#[derive(Clone, Copy)]
enum Letters {
    AsTheyAre,
    /// The text has none but lower-case ones.
    Lowered,
}

/// A set of values, ready to search for.
pub(crate) struct Patterns {
    values: Arc<Values>,
    letters: Letters,
    /// Beginnings, one window long each.
    beginnings: LockedBuf,
    /// How far the window may move, by the slot of its last block; 0 where a beginning may end.
    shift: Zeroizing<Vec<u8>>,
    /// Sorted by slot.
    candidates: Zeroizing<Vec<Candidate>>,
    window: usize,
    holds: Holds,
}

/// One way in which one form of one value begins.
#[derive(Clone, Copy)]
struct Candidate {
    /// Of its last block.
    slot: u16,
    /// Where it lies among the beginnings.
    begins: usize,
    value: usize,
    form: Form,
}

impl Default for Candidate {
    fn default() -> Self {
        Self { slot: 0, begins: 0, value: 0, form: Form::Raw }
    }
}

impl zeroize::DefaultIsZeroes for Candidate {}

/// How every form of every value begins, in one window.
type Found = Vec<(Beginning, usize, Form)>;

impl Patterns {
    /// Patterns of the values as they are, and of what is left of them in a text in lower case.
    pub(crate) fn both(values: &Arc<Values>) -> (Self, Self) {
        let (window, mut found) = beginnings(values);
        let plain = Self::of(values, Letters::AsTheyAre, window, &found);
        found.iter_mut().for_each(|(beginning, ..)| beginning.make_ascii_lowercase());
        (plain, Self::of(values, Letters::Lowered, window, &found))
    }

    /// Patterns of the values as they are.
    pub(crate) fn new(values: &Arc<Values>) -> Self {
        let (window, found) = beginnings(values);
        Self::of(values, Letters::AsTheyAre, window, &found)
    }

    fn of(values: &Arc<Values>, letters: Letters, window: usize, found: &Found) -> Self {
        let holds = Holds::new(
            found.iter().filter_map(|(beginning, index, form)| {
                Some((*beginning.first_chunk()?, form.lengths(values.get(*index)?.0).1))
            }),
            values.members(),
        );
        let mut patterns = Self {
            values: Arc::clone(values),
            letters,
            beginnings: LockedBuf::zeroed(found.len().saturating_mul(window)),
            shift: Zeroizing::new(Vec::new()),
            candidates: Zeroizing::new(Vec::new()),
            window,
            holds,
        };
        patterns.fill_tables(found);
        patterns
    }

    fn fill_tables(&mut self, found: &Found) {
        // A window that ends in an unknown block moves until it no longer holds the whole of that block.
        let farthest = (self.window + 1).saturating_sub(BLOCK);
        self.shift = Zeroizing::new(vec![u8::try_from(farthest).unwrap_or(u8::MAX); 1 << SLOT_BITS]);
        self.candidates = Zeroizing::new(Vec::with_capacity(found.len()));
        let mut begins = 0;
        for (beginning, value, form) in found {
            let end = begins + self.window;
            if let Some(home) = self.beginnings.bytes_mut().get_mut(begins..end)
                && home.len() == beginning.len()
            {
                home.copy_from_slice(beginning);
            }
            let blocks = beginning.windows(BLOCK).filter_map(<[u8]>::first_chunk::<BLOCK>);
            for (at, block) in blocks.enumerate() {
                let distance = (self.window - BLOCK).saturating_sub(at);
                if let Some(entry) = self.shift.get_mut(usize::from(slot(*block))) {
                    *entry = (*entry).min(u8::try_from(distance).unwrap_or(u8::MAX));
                }
            }
            if let Some(block) = beginning.last_chunk::<BLOCK>() {
                let (slot, value, form) = (slot(*block), *value, *form);
                self.candidates.push(Candidate { slot, begins, value, form });
            }
            begins = end;
        }
        self.candidates.sort_unstable_by_key(|candidate| (candidate.slot, candidate.begins));
    }

    /// Length of the longest form.
    #[cfg(test)]
    pub(crate) fn longest(&self) -> usize {
        self.holds.longest()
    }

    /// Every place before `until` where a form begins that is complete, in order, with the longest form there.
    pub(crate) fn hits<'t>(&'t self, text: &'t [u8], until: usize) -> Hits<'t> {
        Hits { patterns: self, text, until, end: self.window }
    }

    /// The first place of all.
    pub(crate) fn find(&self, text: &[u8]) -> Option<Hit> {
        self.hits(text, text.len()).next()
    }

    /// Whether there is none. Parts of the text are walked side by side: a step waits for the bytes that it looks at, and
    /// meanwhile those of the other parts go on.
    pub(crate) fn is_free(&self, text: &[u8]) -> bool {
        if self.candidates.is_empty() {
            return true;
        }
        let part = text.len() / LANES;
        if part < self.window {
            return self.find(text).is_none();
        }
        let limits: [usize; LANES] = std::array::from_fn(|lane| (lane + 1) * part + self.window);
        let mut ends = limits.map(|limit| limit - part);
        // For as many rounds as cannot lead beyond a part, whatever the text is.
        loop {
            let left = limits.iter().zip(&ends).map(|(&limit, &end)| limit.saturating_sub(end)).min();
            let rounds = left.unwrap_or(0) / self.window;
            if rounds == 0 {
                break;
            }
            for _ in 0..rounds {
                for end in &mut ends {
                    let block = text.get(*end - BLOCK..*end).and_then(<[u8]>::first_chunk);
                    let Some(block) = block else { return self.find(text).is_none() };
                    work::done(1);
                    let slot = slot(*block);
                    match self.shift.get(usize::from(slot)) {
                        Some(&distance) if distance > 0 => *end += usize::from(distance),
                        _ if self.longest_at(text, *end - self.window, slot).is_some() => return false,
                        _ => *end += 1,
                    }
                }
            }
        }
        // What is left of each is searched one after the other.
        let untils = limits.map(|limit| limit - self.window).into_iter().take(LANES - 1).chain([text.len()]);
        ends.into_iter()
            .zip(untils)
            .all(|(end, until)| Hits { patterns: self, text, until, end }.next().is_none())
    }

    /// [`Holds::from`].
    pub(super) fn hold_from(&self, text: &[u8], seen: Seen) -> usize {
        self.holds.from(text, seen)
    }

    fn longest_at(&self, text: &[u8], start: usize, slot: u16) -> Option<Hit> {
        let rest = text.get(start..)?;
        let from = self.candidates.partition_point(|candidate| candidate.slot < slot);
        let candidates = self.candidates.get(from..)?.iter();
        let mut best: Option<Hit> = None;
        // A value that stands there as it is, which is looked for first: it is as long in each form that leaves all of it
        // plain, and to find that out once more is slow.
        let mut plain = None;
        for candidate in candidates.take_while(|candidate| candidate.slot == slot) {
            if plain == Some((candidate.value, true)) && candidate.form.escapes_some() {
                continue;
            }
            let Some(begins) = self.beginnings.bytes().get(candidate.begins..candidate.begins + self.window)
            else {
                continue;
            };
            work::done(1);
            if !rest.starts_with(begins) {
                continue;
            }
            let Some((value, owner)) = self.values.get(candidate.value) else { continue };
            let Some(length) = candidate.form.match_len(value, rest, self.letters.eq()) else { continue };
            if candidate.form == Form::Raw {
                // Where an escape may begin with what stands there, it may go on: `%` is the beginning of `%25`.
                plain = Some((candidate.value, !value.iter().any(|byte| b"%\\&".contains(byte))));
            }
            if best.is_none_or(|hit| start + length > hit.end) {
                best = Some(Hit { start, end: start + length, owner });
            }
        }
        best
    }
}

/// Places where forms begin.
pub(crate) struct Hits<'t> {
    patterns: &'t Patterns,
    text: &'t [u8],
    until: usize,
    /// Of the window.
    end: usize,
}

impl Iterator for Hits<'_> {
    type Item = Hit;

    fn next(&mut self) -> Option<Hit> {
        let Patterns { shift, window, .. } = self.patterns;
        while let Some(&[a, b, c]) = self.text.get(self.end.checked_sub(BLOCK)?..self.end) {
            let start = self.end.saturating_sub(*window);
            if start >= self.until {
                return None;
            }
            work::done(1);
            let slot = slot([a, b, c]);
            match shift.get(usize::from(slot)) {
                Some(0) | None => {
                    self.end += 1;
                    if let Some(hit) = self.patterns.longest_at(self.text, start, slot) {
                        return Some(hit);
                    }
                }
                Some(&distance) => self.end += usize::from(distance),
            }
        }
        None
    }
}

impl Letters {
    fn eq(self) -> fn(&[u8], &[u8]) -> bool {
        match self {
            Self::AsTheyAre => |a, b| a == b,
            Self::Lowered => <[u8]>::eq_ignore_ascii_case,
        }
    }
}

/// The longest window in which no form begins in too many ways, and all those ways.
fn beginnings(values: &Values) -> (usize, Found) {
    let window = values.forms().map(|(_, value, form)| widest(value, form)).min().unwrap_or(0);
    let most = if window > WINDOW_BYTES_MIN { BEGINNINGS_MAX } else { usize::MAX };
    let all = values.forms().flat_map(|(index, value, form)| {
        let ways = form.beginnings(value, window, most).unwrap_or_default();
        ways.into_iter().map(move |beginning| (beginning, index, form))
    });
    (window, all.collect())
}

/// The longest window in which this form has few beginnings. A longer one never has fewer, so it is halved in on.
fn widest(value: &[u8], form: Form) -> usize {
    let (mut fits, mut most) = (WINDOW_BYTES_MIN, form.lengths(value).0.min(WINDOW_BYTES_MAX));
    while fits < most {
        let middle = fits.midpoint(most + 1);
        match form.beginnings(value, middle, BEGINNINGS_MAX) {
            Some(_) => fits = middle,
            None => most = middle - 1,
        }
    }
    fits
}

/// Multiplicative hash (Knuth, volume 3, §6.4): the high bits of a product with an odd constant.
fn slot([a, b, c]: [u8; BLOCK]) -> u16 {
    let product = u32::from_le_bytes([a, b, c, 0]).wrapping_mul(0x9E37_79B1);
    u16::try_from(product >> (u32::BITS - SLOT_BITS)).unwrap_or(0)
}

#[cfg(test)]
#[path = "patterns_tests.rs"]
mod tests;
