//! How one character is written: a few bytes on the stack.

use super::forms::{Case, Order};

/// The longest is a character outside the first plane as two `\uXXXX`.
const BYTES_MAX: usize = 12;

/// One way to write one character.
#[derive(Clone, Copy, Default)]
pub(super) struct Spelling {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

impl Spelling {
    pub(super) fn of(begin: &[u8]) -> Self {
        begin.iter().fold(Self::default(), |spelling, &byte| spelling.push(byte))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(super) fn push(mut self, byte: u8) -> Self {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
        self
    }

    fn nibble(self, case: Case, nibble: u8) -> Self {
        let digit = match (nibble & 0x0f, case) {
            (n @ 0..=9, _) => b'0' + n,
            (n, Case::Upper) => b'A' + (n - 10),
            (n, Case::Lower) => b'a' + (n - 10),
        };
        self.push(digit)
    }

    pub(super) fn hex(self, case: Case, byte: u8) -> Self {
        self.nibble(case, byte >> 4).nibble(case, byte)
    }

    /// `\uXXXX`, twice outside the first plane.
    pub(super) fn json(mut self, case: Case, c: char) -> Self {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let [high, low] = unit.to_be_bytes();
            self = self.push(b'\\').push(b'u').hex(case, high).hex(case, low);
        }
        self
    }

    pub(super) fn utf16(self, order: Order, c: char) -> Self {
        c.encode_utf16(&mut [0; 2]).iter().fold(self, |spelling, unit| {
            let [first, second] = match order {
                Order::Little => unit.to_le_bytes(),
                Order::Big => unit.to_be_bytes(),
            };
            spelling.push(first).push(second)
        })
    }

    /// Without leading zeros.
    pub(super) fn hex_number(self, case: Case, c: char) -> Self {
        let digits = (32 - u32::from(c).leading_zeros()).div_ceil(4).max(1);
        (0..digits).rev().fold(self, |spelling, place| {
            let nibble = u8::try_from((u32::from(c) >> (4 * place)) & 0x0f).unwrap_or(0);
            spelling.nibble(case, nibble)
        })
    }

    /// With at least so many digits.
    pub(super) fn decimal(self, c: char, digits_min: u32) -> Self {
        let digits = u32::from(c).checked_ilog10().unwrap_or(0).saturating_add(1).max(digits_min);
        (0..digits).rev().fold(self, |spelling, place| {
            let digit = u32::from(c) / 10_u32.saturating_pow(place) % 10;
            spelling.push(b'0' + u8::try_from(digit).unwrap_or(0))
        })
    }
}
