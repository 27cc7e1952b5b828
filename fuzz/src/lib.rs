//! What several targets need: input taken apart, forms decoded, a guest's driver, frames of HTTP/2, and RFC 9112 written down a second
//! time. Must never decide what is right beyond what a specification says: each target holds its own oracle.

pub mod driver;
pub mod frames;
pub mod rfc9112;

/// The fuzzer's bytes, taken from the front. Where they end, zeros follow, so that every input means something.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether everything was taken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// Below `end`, which is at most 256.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.u8()) % end
    }

    /// One of several.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Up to `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A length of one byte and so many bytes.
    pub fn piece(&mut self) -> &'a [u8] {
        let count = usize::from(self.u8());
        self.take(count)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.take(N);
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}

/// `text` cut into chunks of the lengths that `cuts` says; what is left is the last one.
pub fn chunks<'t>(text: &'t [u8], cuts: &[u8]) -> Vec<&'t [u8]> {
    let mut rest = text;
    let mut all = Vec::new();
    for cut in cuts {
        let (chunk, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        all.push(chunk);
        rest = after;
    }
    all.push(rest);
    all
}

/// Whether `part` occurs in `text`.
pub fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window[0] == part[0] && window == part)
}

/// A value of `application/x-www-form-urlencoded`, read as leniently as servers do: a `%` that begins nothing is one.
pub fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let digit = |place: usize| text.get(place).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    out
}
