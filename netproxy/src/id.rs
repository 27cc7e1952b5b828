//! Decision ids: one per decision, in the answer, in the audit record and in the DNS refusal, so that a
//! user can find the record of what their program was told. They name a decision and prove nothing.

use std::fmt;

/// Crockford's base 32: no I, L, O, U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 26 characters, ordered by time to the millisecond, then random (a ULID).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DecisionId([u8; 26]);

impl DecisionId {
    /// From milliseconds since 1970 (48 bits are kept) and 80 random bits.
    #[must_use]
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        let low = random.iter().fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
        let mut bits = (u128::from(unix_ms & 0xffff_ffff_ffff) << 80) | low;
        let mut text = [b'0'; 26];
        for place in text.iter_mut().rev() {
            let digit = usize::try_from(bits & 31).unwrap_or(0);
            *place = DIGITS.get(digit).copied().unwrap_or(b'0');
            bits >>= 5;
        }
        Self(text)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Every byte comes from DIGITS.
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecisionId({self})")
    }
}

/// Where decision ids come from; a test gives numbered ones.
pub trait IdSource: Send + Sync {
    /// A new id for a decision taken `unix_ms` milliseconds after 1970.
    fn mint(&self, unix_ms: u64) -> DecisionId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_by_time_and_26_characters_long() {
        let early = DecisionId::new(1, [0xff; 10]);
        let late = DecisionId::new(2, [0; 10]);
        assert!(early < late);
        assert_eq!(early.as_str(), "0000000001ZZZZZZZZZZZZZZZZ");
        assert_eq!(late.as_str().len(), 26);
    }
}
