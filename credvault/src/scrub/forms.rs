//! The forms in which a value may come back: raw, percent-encoded, JSON-escaped, with HTML's references,
//! hexadecimal, base64 at each alignment, UTF-16.
//!
//! A server that echoes a request does one of these. Writers differ in which characters they escape, so a form is
//! no string but a choice at each character: letters and digits stand as they are, anything else stands as it is or
//! in one of its escapes. That covers every set of characters that a writer leaves alone. A form is described, never
//! written out: how it may begin is what [`super::Patterns`] looks for, the rest is compared with the value itself.
//!
//! It is a match of bytes and best effort by nature: a server that reverses, encrypts or splits the value gets past
//! it, and so does one that escapes some letters and not others, or breaks base64 into lines.
//! No choice is the beginning of another at the same character, so comparing never goes back.

use zeroize::Zeroizing;

use super::spelling::Spelling;
use crate::encode::Alphabet;

/// Most of a value that is compared at once, in bytes.
const PLAIN_BYTES_MAX: usize = 64;

/// Bytes that lead somewhere in a form, cleared on drop.
pub(crate) type Beginning = Zeroizing<Vec<u8>>;

/// One way to write a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Raw,
    /// RFC 3986 §2.1, and a space as `+` (WHATWG URL §5.2).
    Percent,
    /// RFC 8259 §7: `\/`, `\"`, `\u002b`.
    Json,
    /// `&amp;`, `&#43;`, `&#043;`, `&#x2B;`.
    Html,
    /// Every byte as `%2b`.
    WholePercent(Case),
    /// Every character as `\u002b`.
    WholeJson(Case),
    Hex(Case),
    Utf16(Order),
    /// The digits that the value alone decides when so many bytes (modulo 3) come first: `user:secret` in Basic
    /// authentication is such a text. Up to six bits at either end are shared with a neighbour and left out.
    Base64(Alphabet, Before),
}

/// Of hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Upper,
    Lower,
}

/// Of the bytes of a UTF-16 unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

/// Bytes before the value, modulo 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    None,
    One,
    Two,
}

/// One character of the value, or one byte that is part of none.
struct Unit<'v> {
    bytes: &'v [u8],
    c: Option<char>,
}

/// Calls `each` for every way to write one unit.
type Each<'e> = &'e mut dyn FnMut(&[u8]);

impl Form {
    /// All forms of `value` that differ, raw first.
    pub(crate) fn all(value: &[u8]) -> Vec<Self> {
        let mut all = vec![Self::Raw];
        // What encoders write of letters and digits alone is the same bytes.
        if !value.iter().all(u8::is_ascii_alphanumeric) {
            all.extend([Self::Percent, Self::Json, Self::Html]);
        }
        for case in [Case::Upper, Case::Lower] {
            all.extend([Self::WholePercent(case), Self::WholeJson(case), Self::Hex(case)]);
        }
        if str::from_utf8(value).is_ok() {
            all.extend([Self::Utf16(Order::Little), Self::Utf16(Order::Big)]);
        }
        for before in [Before::None, Before::One, Before::Two] {
            let standard = Self::Base64(Alphabet::Standard, before);
            all.push(standard);
            if (0..standard.end(value)).any(|at| digit(value, at, before) >= 62) {
                all.push(Self::Base64(Alphabet::UrlSafe, before));
            }
        }
        all
    }

    /// Whether it escapes some characters, and leaves the others as they are.
    pub(super) fn escapes_some(self) -> bool {
        matches!(self, Self::Percent | Self::Json | Self::Html)
    }

    /// How long the text is that `text` begins with and that is `value` in this form; `None` if it is not.
    /// `eq` compares two pieces of the same length.
    pub(super) fn match_len(self, value: &[u8], text: &[u8], eq: fn(&[u8], &[u8]) -> bool) -> Option<usize> {
        if self == Self::Raw {
            return text.get(..value.len()).filter(|piece| eq(piece, value)).map(<[u8]>::len);
        }
        let (mut at, mut length) = (self.start(), 0_usize);
        while at < self.end(value) {
            let rest = text.get(length..)?;
            let plain = self.plain(value, at);
            super::work::done(plain.len());
            if !plain.is_empty() {
                rest.get(..plain.len()).filter(|piece| eq(piece, plain))?;
                (at, length) = (at.checked_add(plain.len())?, length.checked_add(plain.len())?);
                continue;
            }
            let mut taken = None;
            at = self.spell(value, at, &mut |spelling| {
                let fits = rest.get(..spelling.len()).is_some_and(|piece| eq(piece, spelling));
                taken = taken.or(fits.then_some(spelling.len()));
            })?;
            super::work::done(taken.unwrap_or(1));
            length = length.checked_add(taken?)?;
        }
        Some(length)
    }

    /// What follows from `at` on that stands as it is in this form and in no other way. At once, it is compared several
    /// times faster than byte by byte: many values may begin alike, and a guest may have that sent back again and again.
    fn plain(self, value: &[u8], at: usize) -> &[u8] {
        let rest = if self.escapes_some() { value.get(at..).unwrap_or_default() } else { &[] };
        // No farther than it is likely to agree.
        let rest = rest.get(..PLAIN_BYTES_MAX).unwrap_or(rest);
        let end = rest.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    /// The different first `length` bytes of this form of `value`, sorted; `None` if there are more than `most`.
    pub(super) fn beginnings(self, value: &[u8], length: usize, most: usize) -> Option<Vec<Beginning>> {
        let mut done: Vec<Beginning> = Vec::new();
        let mut open = vec![(self.start(), Beginning::new(Vec::new()))];
        while let Some((at, text)) = open.pop() {
            let mut longer: Vec<Beginning> = Vec::new();
            let next = if text.len() >= length || at >= self.end(value) {
                None
            } else {
                self.spell(value, at, &mut |spelling| {
                    // Of its full size at once: a vector that grows leaves its old bytes behind.
                    let mut both = Beginning::new(Vec::with_capacity(length));
                    both.extend_from_slice(&text);
                    both.extend_from_slice(spelling.get(..length - text.len()).unwrap_or(spelling));
                    longer.push(both);
                })
            };
            match next {
                None => done.push(text),
                Some(next) => {
                    // Cut off at the end, escapes of the same character may have become the same.
                    longer.sort_unstable_by(|a, b| a[..].cmp(&b[..]));
                    longer.dedup();
                    open.extend(longer.into_iter().map(|text| (next, text)));
                }
            }
            if done.len().saturating_add(open.len()) > most {
                return None;
            }
        }
        done.sort_unstable_by(|a, b| a[..].cmp(&b[..]));
        Some(done)
    }

    /// Least and most bytes of this form. The most is not exact: no unit of `n` bytes takes more than the longest
    /// escape of a byte, `n` times.
    pub(super) fn lengths(self, value: &[u8]) -> (usize, usize) {
        let bytes = value.len();
        let plain = value.iter().filter(|byte| byte.is_ascii_alphanumeric()).count();
        let escaped = |longest: usize| plain.saturating_add((bytes - plain).saturating_mul(longest));
        match self {
            Self::Raw => (bytes, bytes),
            Self::Percent => (bytes, escaped(3)),
            Self::Json | Self::Html => (bytes, escaped(6)),
            Self::WholePercent(_) => (bytes.saturating_mul(3), bytes.saturating_mul(3)),
            Self::WholeJson(_) => (bytes, bytes.saturating_mul(6)),
            Self::Hex(_) => (bytes.saturating_mul(2), bytes.saturating_mul(2)),
            Self::Utf16(_) => {
                let units = str::from_utf8(value).map_or(0, |text| text.encode_utf16().count());
                (units.saturating_mul(2), units.saturating_mul(2))
            }
            Self::Base64(..) => {
                let digits = self.end(value).saturating_sub(self.start());
                (digits, digits)
            }
        }
    }

    fn start(self) -> usize {
        match self {
            Self::Base64(_, before) => (before.bytes() * 8).div_ceil(6),
            _ => 0,
        }
    }

    /// Where `at` ends: bytes of the value, or digits.
    fn end(self, value: &[u8]) -> usize {
        match self {
            Self::Base64(_, before) => value.len().saturating_add(before.bytes()).saturating_mul(8) / 6,
            _ => value.len(),
        }
    }

    /// Calls `each` for every way to write what is at `at`, and returns what comes after it.
    fn spell(self, value: &[u8], at: usize, each: Each<'_>) -> Option<usize> {
        let byte = *match self {
            Self::Base64(alphabet, before) => {
                each(&[alphabet.digit(digit(value, at, before))]);
                return Some(at + 1);
            }
            _ => value.get(at)?,
        };
        let next = at + 1;
        match self {
            Self::Percent | Self::Json | Self::Html if byte.is_ascii_alphanumeric() => each(&[byte]),
            Self::Raw => each(&[byte]),
            Self::Hex(case) => each(Spelling::default().hex(case, byte).bytes()),
            Self::WholePercent(case) => each(Spelling::of(b"%").hex(case, byte).bytes()),
            Self::Percent => percent(byte, each),
            Self::Json | Self::Html | Self::WholeJson(_) | Self::Utf16(_) | Self::Base64(..) => {
                let unit = Unit::at(value, at)?;
                self.spell_unit(&unit, each);
                return Some(at + unit.bytes.len());
            }
        }
        Some(next)
    }

    fn spell_unit(self, unit: &Unit<'_>, each: Each<'_>) {
        match (self, unit.c) {
            (Self::Json, Some(c)) => json(c, unit.bytes, each),
            (Self::Html, Some(c)) => html(c, unit.bytes, each),
            (Self::WholeJson(case), Some(c)) => each(Spelling::default().json(case, c).bytes()),
            (Self::Utf16(order), Some(c)) => each(Spelling::default().utf16(order, c).bytes()),
            _ => each(unit.bytes),
        }
    }
}

impl Before {
    fn bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

impl<'v> Unit<'v> {
    fn at(value: &'v [u8], at: usize) -> Option<Self> {
        let rest = value.get(at..)?;
        // No character is longer than four bytes: nothing behind them is looked at.
        let near = rest.get(..4).unwrap_or(rest);
        let c = near.utf8_chunks().next()?.valid().chars().next();
        Some(Self { bytes: near.get(..c.map_or(1, char::len_utf8))?, c })
    }
}

/// The base64 digit at `at`, as a number, of `before` zero bytes and `value`.
fn digit(value: &[u8], at: usize, before: Before) -> u8 {
    let bit = at.saturating_mul(6);
    let byte = |index: usize| index.checked_sub(before.bytes()).and_then(|index| value.get(index)).copied();
    let pair = [byte(bit / 8).unwrap_or(0), byte(bit / 8 + 1).unwrap_or(0)];
    let shifted = u16::from_be_bytes(pair) << (bit % 8);
    u8::try_from(shifted >> 10).unwrap_or(0)
}

fn percent(byte: u8, each: Each<'_>) {
    // Everywhere else it is the beginning of an escape.
    if byte != b'%' {
        each(&[byte]);
    }
    if byte == b' ' {
        each(b"+");
    }
    both_cases(|case| Spelling::of(b"%").hex(case, byte), each);
}

fn json(c: char, plain: &[u8], each: Each<'_>) {
    if c != '\\' {
        each(plain);
    }
    let short = match c {
        '"' | '\\' | '/' | '\'' => u8::try_from(c).ok(),
        '\t' => Some(b't'),
        '\n' => Some(b'n'),
        '\r' => Some(b'r'),
        '\u{8}' => Some(b'b'),
        '\u{c}' => Some(b'f'),
        _ => None,
    };
    if let Some(short) = short {
        each(&[b'\\', short]);
    }
    both_cases(|case| Spelling::default().json(case, c), each);
}

fn html(c: char, plain: &[u8], each: Each<'_>) {
    if c != '&' {
        each(plain);
    }
    let named: &[u8] = match c {
        '&' => b"&amp;",
        '<' => b"&lt;",
        '>' => b"&gt;",
        '"' => b"&quot;",
        '\'' => b"&apos;",
        _ => b"",
    };
    if !named.is_empty() {
        each(named);
    }
    each(Spelling::of(b"&#").decimal(c, 1).push(b';').bytes());
    if u32::from(c) < 100 {
        // PHP's `&#039;`.
        each(Spelling::of(b"&#").decimal(c, 3).push(b';').bytes());
    }
    both_cases(|case| Spelling::of(b"&#x").hex_number(case, c).push(b';'), each);
}

/// Both, if they differ.
fn both_cases(spell: impl Fn(Case) -> Spelling, each: Each<'_>) {
    let (upper, lower) = (spell(Case::Upper), spell(Case::Lower));
    each(upper.bytes());
    if upper.bytes() != lower.bytes() {
        each(lower.bytes());
    }
}

#[cfg(test)]
#[path = "forms_tests.rs"]
mod tests;
