//! The token that a SOCKS client must name itself with. Compared in a time that does not depend on where two
//! differ; never shown.

use zeroize::Zeroizing;

pub struct Token(Zeroizing<Vec<u8>>);

impl Token {
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.as_bytes().to_vec()))
    }

    pub fn is(&self, given: &[u8]) -> bool {
        let differs = self.0.iter().zip(given).fold(0u8, |all, (own, other)| all | (own ^ other));
        self.0.len() == given.len() && differs == 0
    }
}
