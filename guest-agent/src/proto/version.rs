//! The handshake: which generations of the protocol a side speaks.
//!
//! Must never be extended: it is what lets any two builds tell each other why they cannot talk.

/// The newest generation this build speaks.
pub const GENERATION: u16 = 1;
/// The oldest generation this build speaks.
const OLDEST: u16 = 1;
const MAGIC: [u8; 4] = *b"ASBX";
/// Length of an encoded [`Hello`].
pub const HELLO_BYTES: usize = 8;

/// What each side sends first, without waiting for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Newest generation the sender speaks.
    pub newest: u16,
    /// Oldest generation the sender speaks.
    pub oldest: u16,
}

/// Why two sides cannot talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// The first bytes are not of this protocol.
    #[error(
        "the other side does not speak the agent protocol (first bytes {0:02x?}); is this the agent's port?"
    )]
    NotOurs([u8; 4]),
    /// The sender's range is upside down.
    #[error("the other side claims generations {oldest} to {newest}, which is no range")]
    NoRange {
        /// Claimed newest.
        newest: u16,
        /// Claimed oldest.
        oldest: u16,
    },
    /// The ranges do not meet.
    #[error(
        "this side speaks protocol generations {our_oldest} to {our_newest}, the other {their_oldest} to \
         {their_newest}: rebuild the guest image with the agent of this version"
    )]
    NoCommon {
        /// Ours.
        our_newest: u16,
        /// Ours.
        our_oldest: u16,
        /// Theirs.
        their_newest: u16,
        /// Theirs.
        their_oldest: u16,
    },
}

impl Hello {
    /// What this build says.
    pub const OURS: Self = Self { newest: GENERATION, oldest: OLDEST };

    /// The bytes on the wire.
    #[must_use]
    pub fn encode(self) -> [u8; HELLO_BYTES] {
        let ([a, b], [c, d], [m0, m1, m2, m3]) =
            (self.newest.to_be_bytes(), self.oldest.to_be_bytes(), MAGIC);
        [m0, m1, m2, m3, a, b, c, d]
    }

    /// Reads the other side's bytes.
    ///
    /// # Errors
    /// Wrong magic or a range that is none.
    pub fn decode(bytes: [u8; HELLO_BYTES]) -> Result<Self, VersionError> {
        let [m0, m1, m2, m3, a, b, c, d] = bytes;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(VersionError::NotOurs([m0, m1, m2, m3]));
        }
        let (newest, oldest) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if oldest > newest {
            return Err(VersionError::NoRange { newest, oldest });
        }
        Ok(Self { newest, oldest })
    }

    /// The newest generation both speak.
    ///
    /// # Errors
    /// [`VersionError::NoCommon`] if there is none.
    pub fn agree(self, theirs: Self) -> Result<u16, VersionError> {
        let newest = self.newest.min(theirs.newest);
        if newest < self.oldest || newest < theirs.oldest {
            return Err(VersionError::NoCommon {
                our_newest: self.newest,
                our_oldest: self.oldest,
                their_newest: theirs.newest,
                their_oldest: theirs.oldest,
            });
        }
        Ok(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_survives_the_wire() {
        assert_eq!(Hello::decode(Hello::OURS.encode()), Ok(Hello::OURS));
    }

    #[test]
    fn a_stranger_is_named() {
        assert_eq!(Hello::decode(*b"HTTP/1.1"), Err(VersionError::NotOurs(*b"HTTP")));
        let upside_down = Hello { newest: 1, oldest: 2 }.encode();
        assert_eq!(Hello::decode(upside_down), Err(VersionError::NoRange { newest: 1, oldest: 2 }));
    }

    #[test]
    fn the_newest_common_generation_wins_or_both_ranges_are_told() {
        let old = Hello { newest: 2, oldest: 1 };
        let new = Hello { newest: 5, oldest: 2 };
        assert_eq!(old.agree(new), Ok(2));
        assert_eq!(new.agree(old), Ok(2));
        let newer = Hello { newest: 5, oldest: 3 };
        assert!(old.agree(newer).unwrap_err().to_string().contains("1 to 2, the other 3 to 5"));
        assert!(newer.agree(old).is_err());
    }
}
