//! Placeholders: what the guest holds in place of a secret.
//!
//! A placeholder keeps the look that SDKs check (`sk-ant-api03-…`, `ghp_…`), is random per sandbox, and
//! is worth nothing: only the vault that minted it turns it into a credential, and only at its service.
//! Must never be derived from the secret, not even its length.

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::limits::{PLACEHOLDER_BITS_MIN, PLACEHOLDER_BYTES_MAX, PLACEHOLDER_RANDOM_BYTES_MAX};

/// How placeholders of a service look: fixed text and runs of random characters.
///
/// Written as `sk-ant-api03-{93:word}AA`; a run is `{COUNT:ALPHABET}` with the alphabets `word`
/// (`A-Z a-z 0-9 _ -`), `alnum` (`A-Z a-z 0-9`), `upper` (`A-Z 0-9`), `base32` (`A-Z 2-7`),
/// `lower` (`a-z 0-9`), `hex` (`0-9 a-f`) and `digit`.
///
/// ```
/// let format: credvault::PlaceholderFormat = "ghp_{36:alnum}".parse()?;
/// assert!(format.mint(&mut credvault::os_random)?.as_str().starts_with("ghp_"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceholderFormat(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Random { count: usize, alphabet: &'static str },
}

/// A placeholder. Not a secret: it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Placeholder(String);

/// Why a format was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A brace without its partner, or a run that is not `{COUNT:ALPHABET}`.
    #[error("placeholder format has a bad run: write it as `{{COUNT:ALPHABET}}`, for example `{{36:alnum}}`")]
    BadRun,
    /// An alphabet nobody knows.
    #[error(
        "placeholder format names an unknown alphabet: use word, alnum, upper, base32, lower, hex or digit"
    )]
    UnknownAlphabet,
    /// Fixed text that is not a token: it must survive headers, URLs and shells unescaped.
    #[error("placeholder format has a character outside `A-Z a-z 0-9 _ - .`: remove it")]
    NotAToken,
    /// Too little randomness.
    #[error("placeholder format has less than {PLACEHOLDER_BITS_MIN} random bits: make a run longer")]
    TooPredictable,
    /// Too long.
    #[error("placeholder format gives more than {PLACEHOLDER_BYTES_MAX} bytes: make it shorter")]
    TooLong,
}

impl PlaceholderFormat {
    /// The look for a service that is not in the table: `sbx-` and 32 characters.
    #[must_use]
    pub fn generic() -> Self {
        Self(vec![Part::Text("sbx-".to_owned()), Part::Random { count: 32, alphabet: ALNUM }])
    }

    /// Makes a placeholder from a source of randomness, such as [`crate::os_random`].
    ///
    /// # Errors
    /// The source's error, or one that says that the source keeps returning the same useless bytes.
    pub fn mint(&self, random: &mut dyn FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<Placeholder> {
        let mut draw = Draw { random, pool: [0; 64], left: 0, budget: PLACEHOLDER_RANDOM_BYTES_MAX };
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Random { count, alphabet } => {
                    for _ in 0..*count {
                        out.push(draw.pick(alphabet)?);
                    }
                }
            }
        }
        Ok(Placeholder(out))
    }

    fn check(self) -> Result<Self, FormatError> {
        let (mut bits, mut bytes) = (0usize, 0usize);
        for part in &self.0 {
            match part {
                Part::Text(text) if !text.bytes().all(is_token_byte) => return Err(FormatError::NotAToken),
                Part::Text(text) => bytes = bytes.saturating_add(text.len()),
                Part::Random { count, alphabet } => {
                    bytes = bytes.saturating_add(*count);
                    let each = usize::try_from(alphabet.len().ilog2()).unwrap_or(0);
                    bits = bits.saturating_add(count.saturating_mul(each));
                }
            }
        }
        match () {
            () if bytes > PLACEHOLDER_BYTES_MAX => Err(FormatError::TooLong),
            () if bits < PLACEHOLDER_BITS_MIN => Err(FormatError::TooPredictable),
            () => Ok(self),
        }
    }
}

impl FromStr for PlaceholderFormat {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (fixed, after) = rest.split_once('{').unwrap_or((rest, ""));
            if !fixed.is_empty() {
                parts.push(Part::Text(fixed.to_owned()));
            }
            if fixed.len() == rest.len() {
                break;
            }
            let (run, after) = after.split_once('}').ok_or(FormatError::BadRun)?;
            let (count, alphabet) = run.split_once(':').ok_or(FormatError::BadRun)?;
            let alphabet = alphabet_named(alphabet).ok_or(FormatError::UnknownAlphabet)?;
            let count = match count.parse::<u16>() {
                Ok(count) if count > 0 && !count_has_sign(run) => usize::from(count),
                _ => return Err(FormatError::BadRun),
            };
            parts.push(Part::Random { count, alphabet });
            rest = after;
        }
        Self(parts).check()
    }
}

impl Placeholder {
    /// The text to put into the guest's environment.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes to look for.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

fn alphabet_named(name: &str) -> Option<&'static str> {
    Some(match name {
        "word" => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-",
        "alnum" => ALNUM,
        "upper" => "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        "base32" => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
        "lower" => "abcdefghijklmnopqrstuvwxyz0123456789",
        "hex" => "0123456789abcdef",
        "digit" => "0123456789",
        _ => return None,
    })
}

/// `"+5".parse::<u16>()` is `Ok(5)`.
fn count_has_sign(run: &str) -> bool {
    run.starts_with('+')
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)
}

/// Draws characters without bias: bytes past the last whole multiple of the alphabet are thrown away.
struct Draw<'a> {
    random: &'a mut dyn FnMut(&mut [u8]) -> io::Result<()>,
    pool: [u8; 64],
    left: usize,
    budget: usize,
}

impl Draw<'_> {
    fn pick(&mut self, alphabet: &'static str) -> io::Result<char> {
        let size = alphabet.len();
        let usable = 256 - 256 % size.max(1);
        loop {
            let byte = usize::from(self.byte()?);
            if byte < usable
                && let Some(&c) = alphabet.as_bytes().get(byte % size.max(1))
            {
                return Ok(char::from(c));
            }
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        if self.left == 0 {
            self.budget = self.budget.checked_sub(self.pool.len()).ok_or_else(|| {
                io::Error::other("the source of randomness gives the same unusable bytes again and again")
            })?;
            (self.random)(&mut self.pool)?;
            self.left = self.pool.len();
        }
        self.left -= 1;
        Ok(self.pool.get(self.left).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting() -> impl FnMut(&mut [u8]) -> io::Result<()> {
        let mut next = 0u8;
        move |buf: &mut [u8]| {
            for byte in buf {
                *byte = next;
                next = next.wrapping_add(37);
            }
            Ok(())
        }
    }

    #[test]
    fn keeps_the_look_of_its_service() {
        let format: PlaceholderFormat = "sk-ant-api03-{93:word}AA".parse().unwrap();
        let minted = format.mint(&mut counting()).unwrap();
        assert!(minted.as_str().starts_with("sk-ant-api03-") && minted.as_str().ends_with("AA"));
        assert_eq!(minted.as_str().len(), 13 + 93 + 2);
        assert!(minted.as_bytes().iter().all(|&byte| is_token_byte(byte)));
    }

    #[test]
    fn bad_formats_are_refused_with_their_reason() {
        for (format, error) in [
            ("", FormatError::TooPredictable),
            ("proxy-managed", FormatError::TooPredictable),
            ("sk-{10:alnum}", FormatError::TooPredictable),
            ("sk-{40", FormatError::BadRun),
            ("sk-{40}", FormatError::BadRun),
            ("sk-{+40:hex}", FormatError::BadRun),
            ("sk-{0:hex}", FormatError::BadRun),
            ("sk-{40:emoji}", FormatError::UnknownAlphabet),
            ("sk {40:hex}", FormatError::NotAToken),
            ("sk-}{40:hex}", FormatError::NotAToken),
            ("{513:hex}", FormatError::TooLong),
        ] {
            assert_eq!(format.parse::<PlaceholderFormat>().unwrap_err(), error, "{format}");
        }
        assert!("{512:hex}".parse::<PlaceholderFormat>().is_ok());
        assert!("{16:hex}".parse::<PlaceholderFormat>().is_ok());
        assert!("{15:hex}".parse::<PlaceholderFormat>().is_err());
    }

    #[test]
    fn two_sandboxes_never_share_one() {
        let format = PlaceholderFormat::generic();
        let mint = || format.mint(&mut crate::os_random).unwrap();
        assert_ne!(mint(), mint());
    }

    #[test]
    fn a_stuck_source_is_an_error_not_a_loop() {
        let mut stuck = |buf: &mut [u8]| {
            buf.fill(0xff);
            Ok(())
        };
        assert!(PlaceholderFormat::generic().mint(&mut stuck).is_err());
        let mut broken = |_: &mut [u8]| Err(io::Error::other("no entropy"));
        assert!(PlaceholderFormat::generic().mint(&mut broken).is_err());
    }
}
