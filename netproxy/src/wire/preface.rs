//! The line before the bytes of a transparent TCP connection: where the program in the sandbox wanted to go.
//!
//! ```text
//! preface = "TCP1" SP host ":" port LF         at most 300 bytes; an IPv6 address in brackets
//! answer  = "TCP1" SP "OK" LF                  the bytes of the connection follow, both ways
//!         / "TCP1" SP "NO" SP code SP id LF    refused; the connection ends
//! ```
//!
//! The digit is the version of this grammar. The bytes of the client may follow the preface at once. A refusal
//! is given as an answer line only where the client could not be told in its own language: for TLS and HTTP,
//! `OK` is followed by a refusal inside.

use crate::authority::{Authority, AuthorityError};
use crate::id::DecisionId;
use crate::limits::PREFACE_BYTES_MAX;

/// How a preface starts. No HTTP request line does: its target would lack a scheme.
pub const START: &[u8] = b"TCP1 ";
/// The answer to a preface whose bytes will be looked at.
pub const ACCEPTED: &[u8] = b"TCP1 OK\n";

/// Why a preface is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrefaceError {
    /// Another first word.
    #[error("the connection does not start with 'TCP1 host:port'")]
    Start,
    /// No line feed within the limit.
    #[error("the line 'TCP1 host:port' is too long")]
    TooLong,
    /// CR before LF.
    #[error("the line 'TCP1 host:port' ends with a line feed alone, without a carriage return")]
    LineEnd,
    /// Host or port.
    #[error("the place after TCP1 is not usable: {0}")]
    Authority(#[from] AuthorityError),
}

/// Reads the preface: where to, and how long it was; `None` for too few bytes.
///
/// # Errors
/// [`PrefaceError`], as soon as it is certain.
pub fn parse(bytes: &[u8]) -> Result<Option<(Authority, usize)>, PrefaceError> {
    let start = bytes.get(..START.len()).unwrap_or(bytes);
    if !START.starts_with(start) {
        return Err(PrefaceError::Start);
    }
    let seen = bytes.get(..PREFACE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return if seen.len() < PREFACE_BYTES_MAX { Ok(None) } else { Err(PrefaceError::TooLong) };
    };
    let place = seen.get(START.len()..end).unwrap_or_default();
    if place.ends_with(b"\r") {
        return Err(PrefaceError::LineEnd);
    }
    // Stricter than an authority elsewhere: A-labels only, since an agent copies and never types.
    if !place.is_ascii() {
        return Err(AuthorityError::BadCharacter.into());
    }
    let text = std::str::from_utf8(place).map_err(|_| AuthorityError::BadCharacter)?;
    Ok(Some((Authority::parse(text, None)?, end.saturating_add(1))))
}

/// The preface for `authority`, as an agent writes it.
#[must_use]
pub fn write(authority: &Authority) -> String {
    format!("TCP1 {authority}\n")
}

/// The answer line of a refusal.
#[must_use]
pub fn refused(code: &str, id: &DecisionId) -> String {
    format!("TCP1 NO {code} {id}\n")
}
