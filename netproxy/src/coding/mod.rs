//! Content codings (RFC 9110 §8.4.1): an encoded answer becomes bytes that can be searched. Without I/O: a chunk goes
//! in, what can be decoded of it comes out at once in pieces of bounded size, so that an event stream is not delayed
//! and a body that grows is held back by whoever reads it.
//!
//! What is refused: anything malformed, cut short or followed by other bytes, a wrong checksum, a body that grows
//! beyond [`CODING_RATIO_MAX`], and windows larger than their RFC lets an HTTP
//! sender use. Memory is taken from one [`Room`] before it is used.

mod brotli;
mod decoder;
mod fields;
mod gzip;
mod inflate;
mod room;
mod zstd;

use std::fmt;

pub use decoder::Decoder;
pub use fields::{accept_only_decodable, after_decoding, codings};
pub use room::{Lease, Room};

use crate::limits::{
    BROTLI_STATE_BYTES_MAX, BROTLI_WINDOW_BYTES_MAX, CODING_RATIO_MAX, INFLATE_BYTES_MAX,
    ZSTD_STATE_BYTES_MAX, ZSTD_WINDOW_BYTES_MAX,
};

/// A content coding that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 1952; members may follow each other.
    Gzip,
    /// RFC 1950. Bare RFC 1951 is taken too: some servers send that under this name, and all clients read it.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878 as limited by RFC 9659; frames may follow each other, dictionaries are unknown.
    Zstd,
}

impl Coding {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gzip, Self::Deflate, Self::Brotli, Self::Zstd];

    /// Its name in `Content-Encoding`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of this name, in any case; `x-gzip` is `gzip` (RFC 9110 §8.4.1.3).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Self::ALL.into_iter().find(|coding| coding.as_str().eq_ignore_ascii_case(name))
    }

    /// The most memory that decoding takes, in bytes.
    #[must_use]
    pub fn bytes_max(self) -> usize {
        match self {
            Self::Gzip | Self::Deflate => INFLATE_BYTES_MAX,
            Self::Brotli => BROTLI_WINDOW_BYTES_MAX + BROTLI_STATE_BYTES_MAX,
            Self::Zstd => ZSTD_WINDOW_BYTES_MAX + ZSTD_STATE_BYTES_MAX,
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an encoded body is not decoded any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodingError {
    /// Its bytes break the format, or a checksum is wrong.
    #[error("the {0} body is malformed, or its checksum is wrong")]
    Malformed(Coding),
    /// It stops before its own end.
    #[error("the {0} body ends too early")]
    Truncated(Coding),
    /// It goes on after its own end.
    #[error("other bytes follow the end of the {0} body")]
    Trailing(Coding),
    /// Its sender refers further back than a sender of HTTP may.
    #[error("the {0} body needs a larger window than HTTP allows")]
    WindowTooLarge(Coding),
    /// It is made to exhaust whoever decodes it.
    #[error("the body grows more than {CODING_RATIO_MAX} fold when it is decoded")]
    TooDense,
    /// It is made to keep us busy: bytes come and mean nothing.
    #[error("much of the encoded body decodes to nothing")]
    Barren,
    /// The memory for decoding is in use by other answers.
    #[error("too many encoded answers are being decoded at once")]
    NoRoom,
}

impl CodingError {
    /// The `error` code of audit records.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Truncated(_) | Self::Trailing(_) => "response_encoding_broken",
            Self::WindowTooLarge(_) | Self::TooDense | Self::Barren => "response_encoding_excessive",
            Self::NoRoom => "response_decoding_limit",
        }
    }
}

/// What one step of a decoder did. Neither means that it needs more input.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Bytes taken from the input.
    read: usize,
    /// Bytes put at the start of the output.
    written: usize,
}
