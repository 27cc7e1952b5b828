//! Takes secrets out of what comes back: a streaming filter over bytes, without I/O.
//!
//! ```text
//! chunk ─▶ held tail + chunk ─▶ find every form of every secret ─▶ marker in its place ─▶ out
//!                                        │
//!                                        └─ an unfinished end stays held (< longest form)
//! ```
//!
//! * A hit is replaced by the marker of its secret (its placeholder). Hits that overlap are covered by
//!   one marker, so that no piece of the second one stays. **The length of the stream changes**: the
//!   caller drops `Content-Length`, or knows that the marker is as long as the secret.
//! * The result does not depend on how the stream was cut into chunks.
//! * What is held back is only what may be an unfinished secret. A server-sent event ends in a line end,
//!   which no secret contains, so a complete event is never held.
//! * **Holding must not tell the secret.** A guest that makes an allowed host echo a guess could see by a
//!   late byte that its guess is a true prefix, and extend it byte by byte. So the decision to hold looks
//!   at the first four bytes of a form only (`sk-a`, `ghp_`: public anyway); after them every byte that
//!   tokens are made of is held alike.
//! * [`Scrubber::release`] is for streams that fall quiet in the middle of a message.
//!
//! It is a match of bytes; which forms are found is said at [`Scrubber`].
//! Must never emit a complete form, hold more than the longest form, or copy a form into memory that is
//! not cleared.

mod forms;
mod held;
mod holds;
#[cfg(test)]
mod oracle;
mod patterns;
mod spelling;
#[cfg(test)]
mod tests;
mod work;

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::limits::{HOLD_PREFIX_BYTES, SECRET_BYTES_MIN};
use crate::secret::Secret;
use held::Held;
use holds::Seen;
pub(crate) use patterns::Patterns;
use patterns::{Hit, Values};

/// A set of secrets and their markers, ready to search for: built once, shared by all streams of a sandbox.
pub struct ScrubSet {
    patterns: Patterns,
    /// The same in lower case: what HTTP libraries make of header names.
    lower_case: Patterns,
    markers: Vec<Vec<u8>>,
}

impl ScrubSet {
    /// Builds the set from secrets and what to write in their place. A secret shorter than
    /// [`SECRET_BYTES_MIN`] is left out, since its bytes occur by chance; [`crate::Vault`] refuses it.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a Secret, &'a [u8])>) -> Arc<Self> {
        let (mut markers, mut all) = (Vec::new(), Vec::new());
        for (owner, (secret, marker)) in secrets.into_iter().enumerate() {
            markers.push(marker.to_vec());
            if secret.len() >= SECRET_BYTES_MIN {
                all.push((owner, secret.expose()));
            }
        }
        let (patterns, lower_case) = Patterns::both(&Values::new(&all));
        Arc::new(Self { patterns, lower_case, markers })
    }

    /// Whether the name of a header contains a secret, in any case: names are written in lower case.
    #[must_use]
    pub fn is_in_name(&self, name: &str) -> bool {
        // HTTP libraries write them so already.
        if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.lower_case.find(name.as_bytes()).is_some();
        }
        let mut name = Zeroizing::new(name.as_bytes().to_vec());
        name.make_ascii_lowercase();
        self.lower_case.find(&name).is_some()
    }

    /// Scrubs a complete value, such as a header's. `None` when it is clean, which is nearly always.
    #[must_use]
    pub fn scrub_value(self: &Arc<Self>, value: &[u8]) -> Option<Vec<u8>> {
        self.patterns.find(value)?;
        let mut out = Vec::with_capacity(value.len());
        let mut scrubber = Scrubber::new(Arc::clone(self));
        scrubber.push(value, &mut out);
        scrubber.finish(&mut out);
        Some(out)
    }

    fn marker(&self, owner: usize) -> &[u8] {
        self.markers.get(owner).map_or(b"[redacted]", Vec::as_slice)
    }
}

/// Patterns that find values in every form, with their owners.
pub(crate) fn patterns_of<'a>(values: impl Iterator<Item = (usize, &'a [u8])>) -> Patterns {
    Patterns::new(&Values::new(&values.collect::<Vec<_>>()))
}

/// Scrubs one stream. `push` chunks, then `finish`.
///
/// Found are these forms of a secret: raw, hexadecimal, base64 at each alignment, UTF-16 in both orders; URL, JSON
/// and HTML, whichever characters that are no letters or digits are escaped there; every byte as `%2b`, every
/// character as `\u002b`. Not found are: some letters escaped and others not, other escapes (`\x2b`), base64 broken
/// into lines, a form of a form, and whatever else a server can think of. A compressed body must be decoded first.
///
/// Time is linear in the length of the stream, however it is cut and whatever is in it.
///
/// ```
/// use credvault::{ScrubSet, Scrubber, Secret};
/// let secret = Secret::new(b"sk-live-0123456789".to_vec());
/// let mut scrubber = Scrubber::new(ScrubSet::new([(&secret, &b"[key]"[..])]));
/// let mut out = Vec::new();
/// scrubber.push(b"you sent sk-live-01", &mut out);
/// scrubber.push(b"23456789, thanks", &mut out);
/// scrubber.finish(&mut out);
/// assert_eq!(out, b"you sent [key], thanks");
/// assert_eq!(scrubber.redactions(), 1);
/// ```
pub struct Scrubber {
    sets: Sets,
    /// The unfinished end of what was pushed.
    held: Held,
    progress: Progress,
}

/// What is searched for.
struct Sets {
    /// From the beginning of the stream to its end.
    own: Searched,
    /// See [`Scrubber::also`].
    newer: Option<Searched>,
}

/// A set, and how far it has looked at what is held: that may be for another set's sake.
struct Searched {
    set: Arc<ScrubSet>,
    seen: Seen,
}

#[derive(Default)]
struct Progress {
    /// Leading held bytes that a marker already written stands for.
    covered: usize,
    /// Leading held bytes that need no writing any more: covered, or released early.
    spent: usize,
    redactions: u64,
}

impl Scrubber {
    /// A scrubber for one stream.
    #[must_use]
    pub fn new(set: Arc<ScrubSet>) -> Self {
        let sets = Sets { own: Searched::by(set), newer: None };
        Self { sets, held: Held::new(), progress: Progress::default() }
    }

    /// From here on, looks for the secrets of this set too, in place of those that were given here before. The set that
    /// the scrubber was made with stays.
    ///
    /// A secret that nobody knew before this call is found whole: it begins after this call, or in what is held. One
    /// that was given here before, and is not in this set, is no longer looked for, even where its first bytes have
    /// come in: those that are held are let go.
    pub fn also(&mut self, set: &Arc<ScrubSet>) {
        let newer = (!Arc::ptr_eq(set, &self.sets.own.set)).then_some(set);
        if self.sets.newer.as_ref().map(|newer| Arc::as_ptr(&newer.set)) != newer.map(Arc::as_ptr) {
            self.sets.newer = newer.map(|set| Searched::by(Arc::clone(set)));
        }
    }

    /// Whether this chunk may be passed on as it is, in place of a `push`: nothing is held, nothing is
    /// found in it, and nothing at its end could begin a secret. Saves copying nearly every chunk:
    ///
    /// ```
    /// # use credvault::Vault;
    /// # let (vault, chunk, mut out) = (Vault::builder().build(), b"data: hi\n\n", Vec::new());
    /// # let mut scrubber = vault.scrubber();
    /// if !scrubber.is_clean(chunk) {
    ///     scrubber.push(chunk, &mut out); // send `out`
    /// } // else send `chunk`
    /// ```
    #[must_use]
    pub fn is_clean(&self, chunk: &[u8]) -> bool {
        self.held.is_empty()
            && self.sets.all().all(|set| set.patterns.hold_from(chunk, Seen::default()) == chunk.len())
            && self.sets.all().all(|set| set.patterns.is_free(chunk))
    }

    /// Takes the next chunk and appends to `out` all that is decided.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if self.held.is_empty() {
            let hold = self.sets.hold_from(chunk);
            self.progress.write(&self.sets, chunk, hold, out);
            self.held.push(chunk.get(hold..).unwrap_or_default());
        } else {
            self.held.push(chunk);
            let hold = self.sets.hold_from(self.held.bytes());
            self.progress.write(&self.sets, self.held.bytes(), hold, out);
            self.held.give_up(hold);
        }
    }

    /// Ends the stream: appends what was held. The scrubber can then be used for another stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let held = std::mem::replace(&mut self.held, Held::new());
        self.sets.give_up(held.len());
        self.progress.write(&self.sets, held.bytes(), held.len(), out);
    }

    /// Says that the stream is quiet: appends a held end shorter than four bytes, which any text may end
    /// in by chance, so that a peer that waits for it is not stuck. It stays remembered: when it turns
    /// out to be the beginning of a secret, the rest is still replaced. A longer end stays held.
    ///
    /// Not needed for server-sent events or for bodies that end; meant for WebSocket, gRPC and tunnels.
    /// Only after this call does the result depend on chunks: a marker may follow up to three bytes of
    /// the secret's (public) beginning.
    pub fn release(&mut self, out: &mut Vec<u8>) {
        if self.held.len() < HOLD_PREFIX_BYTES {
            out.extend_from_slice(self.held.bytes().get(self.progress.spent..).unwrap_or_default());
            self.progress.spent = self.held.len();
        }
    }

    /// [`ScrubSet::is_in_name`] of every set.
    #[must_use]
    pub fn is_in_name(&self, name: &str) -> bool {
        self.sets.all().any(|set| set.is_in_name(name))
    }

    /// Scrubs a complete value beside the stream, such as a header's, of what the stream is scrubbed of. `None` when
    /// it is clean.
    #[must_use]
    pub fn scrub_value(&self, value: &[u8]) -> Option<Vec<u8>> {
        self.sets.all().find_map(|set| set.patterns.find(value))?;
        let (mut progress, mut out) = (Progress::default(), Vec::with_capacity(value.len()));
        progress.write(&self.sets, value, value.len(), &mut out);
        Some(out)
    }

    /// How many markers were written.
    #[must_use]
    pub fn redactions(&self) -> u64 {
        self.progress.redactions
    }

    /// How many bytes are held back now: less than the longest form of a secret.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len().saturating_sub(self.progress.spent)
    }
}

impl Searched {
    fn by(set: Arc<ScrubSet>) -> Self {
        Self { set, seen: Seen::default() }
    }
}

impl Sets {
    fn all(&self) -> impl Iterator<Item = &Arc<ScrubSet>> {
        std::iter::once(&self.own).chain(&self.newer).map(|searched| &searched.set)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Searched> {
        std::iter::once(&mut self.own).chain(&mut self.newer)
    }

    /// Where what must be held of `text` begins, which begins with what was held before. What comes before that is then
    /// given up.
    fn hold_from(&mut self, text: &[u8]) -> usize {
        let mut hold = text.len();
        for Searched { set, seen } in self.all_mut() {
            *seen = Seen { known: text.len(), free: set.patterns.hold_from(text, *seen) };
            hold = hold.min(seen.free);
        }
        self.give_up(hold);
        hold
    }

    fn give_up(&mut self, count: usize) {
        for searched in self.all_mut() {
            searched.seen = searched.seen.without(count);
        }
    }

    /// The hits that begin before `until`, in order, and what to write for each.
    fn hits<'t>(&'t self, text: &'t [u8], until: usize) -> impl Iterator<Item = (Hit, &'t [u8])> {
        let of = move |set: &'t ScrubSet| {
            let hits = set.patterns.hits(text, until);
            hits.map(move |hit| (hit, set.marker(hit.owner))).peekable()
        };
        let (mut own, mut newer) = (of(&self.own.set), self.newer.as_ref().map(|newer| of(&newer.set)));
        std::iter::from_fn(move || {
            let Some(newer) = &mut newer else { return own.next() };
            match (own.peek(), newer.peek()) {
                (Some((first, _)), Some((second, _))) if first.start <= second.start => own.next(),
                (Some(_), None) => own.next(),
                _ => newer.next(),
            }
        })
    }
}

impl Progress {
    /// Writes what comes before `hold` of `text`, which begins with the bytes held so far. Each place is looked at
    /// once: what is held is searched when it is given up, as only then it is known what begins there.
    fn write(&mut self, sets: &Sets, text: &[u8], hold: usize, out: &mut Vec<u8>) {
        // Next byte to write, and the end of what the newest marker stands for.
        let (mut next, mut covered) = (self.spent, self.covered);
        for (hit, marker) in sets.hits(text, hold) {
            if hit.start >= covered {
                // Empty when the bytes before the hit were released early.
                out.extend_from_slice(text.get(next..hit.start).unwrap_or_default());
                out.extend_from_slice(marker);
                self.redactions = self.redactions.saturating_add(1);
            }
            covered = covered.max(hit.end);
            next = next.max(hit.end);
        }
        out.extend_from_slice(text.get(next..hold).unwrap_or_default());
        self.covered = covered.saturating_sub(hold);
        self.spent = next.saturating_sub(hold);
    }
}
