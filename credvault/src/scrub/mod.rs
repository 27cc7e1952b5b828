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
mod patterns;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::limits::{HOLD_PREFIX_BYTES, SECRET_BYTES_MIN};
use crate::secret::Secret;
pub(crate) use patterns::Patterns;

/// The forms of a set of secrets and their markers: built once, shared by all streams of a sandbox.
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
        let mut markers = Vec::new();
        let mut all = Vec::new();
        for (owner, (secret, marker)) in secrets.into_iter().enumerate() {
            markers.push(marker.to_vec());
            if secret.len() >= SECRET_BYTES_MIN {
                all.extend(forms::forms(secret.expose()).into_iter().map(|form| (owner, form)));
            }
        }
        let patterns = Patterns::new(&all);
        all.iter_mut().for_each(|(_, form)| form.make_ascii_lowercase());
        Arc::new(Self { patterns, lower_case: Patterns::new(&all), markers })
    }

    /// Whether the name of a header contains a secret, in any case: names are written in lower case.
    #[must_use]
    pub fn is_in_name(&self, name: &str) -> bool {
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
    let all: Vec<_> = values
        .flat_map(|(owner, value)| forms::forms(value).into_iter().map(move |form| (owner, form)))
        .collect();
    Patterns::new(&all)
}

/// Scrubs one stream. `push` chunks, then `finish`.
///
/// Found are these forms of a secret: raw, hexadecimal, URL (percent-encoded as encoders do, or every byte), JSON
/// (escaped as writers do, or every character as `\u`), base64 at each alignment, UTF-16 in both orders. Not found
/// are: any other choice of escaped bytes, base64 broken into lines, HTML entities, a form of a form, and whatever
/// else a server can think of. A compressed body must be decoded first.
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
    set: Arc<ScrubSet>,
    /// The unfinished end of what was pushed.
    held: Zeroizing<Vec<u8>>,
    /// Leading bytes of `held` that a marker already written stands for.
    covered: usize,
    /// Leading bytes of `held` that need no writing any more: covered, or released early.
    spent: usize,
    redactions: u64,
}

impl Scrubber {
    /// A scrubber for one stream.
    #[must_use]
    pub fn new(set: Arc<ScrubSet>) -> Self {
        Self { set, held: Zeroizing::new(Vec::new()), covered: 0, spent: 0, redactions: 0 }
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
        let patterns = &self.set.patterns;
        self.held.is_empty() && patterns.hold_from(chunk) == chunk.len() && patterns.find(chunk).is_none()
    }

    /// Takes the next chunk and appends to `out` all that is decided.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if self.held.is_empty() {
            return self.advance(chunk, out, false);
        }
        let text = self.held_and(chunk);
        self.advance(&text, out, false);
    }

    /// Ends the stream: appends what was held. The scrubber can then be used for another stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let text = std::mem::take(&mut self.held);
        self.advance(&text, out, true);
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
            out.extend_from_slice(self.held.get(self.spent..).unwrap_or_default());
            self.spent = self.held.len();
        }
    }

    /// How many markers were written.
    #[must_use]
    pub fn redactions(&self) -> u64 {
        self.redactions
    }

    /// How many bytes are held back now: less than the longest form of a secret.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.len() - self.spent
    }

    /// Held bytes and chunk in one buffer that does not grow, so that no copy of a beginning is left.
    fn held_and(&self, chunk: &[u8]) -> Zeroizing<Vec<u8>> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.held.len().saturating_add(chunk.len())));
        text.extend_from_slice(&self.held);
        text.extend_from_slice(chunk);
        text
    }

    /// Writes what is decided of `text`, which begins with the bytes held so far, and holds the rest.
    fn advance(&mut self, text: &[u8], out: &mut Vec<u8>, last: bool) {
        // Next byte to write, and the end of what the newest marker stands for.
        let (mut next, mut covered) = (self.spent, self.covered);
        let hold = if last { text.len() } else { self.set.patterns.hold_from(text) };
        self.set.patterns.scan(text, |hit| {
            // It may lie inside a longer one that is not complete yet, whose beginning must not go out now.
            if hit.start >= hold {
                return false;
            }
            if hit.start >= covered {
                // Empty when the bytes before the hit were released early.
                out.extend_from_slice(text.get(next..hit.start).unwrap_or_default());
                out.extend_from_slice(self.set.marker(hit.owner));
                self.redactions = self.redactions.saturating_add(1);
            }
            covered = covered.max(hit.end);
            next = next.max(hit.end);
            true
        });
        out.extend_from_slice(text.get(next..hold).unwrap_or_default());
        self.covered = covered.saturating_sub(hold);
        self.spent = next.saturating_sub(hold);
        self.held = Zeroizing::new(text.get(hold..).unwrap_or_default().to_vec());
    }
}
