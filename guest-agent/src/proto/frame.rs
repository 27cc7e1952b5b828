//! Frames: one byte of kind, four of length, a payload whose largest size depends on the kind.
//!
//! Must never believe a length: it is compared with the kind's limit before a byte is kept.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits;

/// Bytes before each payload.
pub const HEADER_BYTES: usize = 5;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $max:expr;)*) => {
        /// What a frame carries. Numbers are never given a second meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $name = $number,)* }

        impl Kind {
            /// All kinds, in order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The kind with this number.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// Its number on the wire.
            #[must_use]
            pub fn number(self) -> u8 {
                match self { $(Self::$name => $number,)* }
            }

            /// Largest payload, in bytes.
            #[must_use]
            pub fn payload_bytes_max(self) -> usize {
                match self { $(Self::$name => $max,)* }
            }
        }
    };
}

kinds! {
    /// JSON [`Configure`](super::Configure), host to guest, once, first.
    Configure = 0x01, limits::CONFIGURE_BYTES_MAX;
    /// JSON [`Ready`](super::Ready), guest to host: programs can be run.
    Ready = 0x02, limits::ANSWER_BYTES_MAX;
    /// JSON [`Refused`](super::Refused), guest to host: the configuration could not be applied.
    Refused = 0x03, limits::ANSWER_BYTES_MAX;
    /// One byte [`Shutdown`](super::Shutdown), host to guest.
    Shutdown = 0x04, 1;

    /// JSON [`ExecRequest`](super::ExecRequest), host to guest, once, first.
    ExecRequest = 0x10, limits::EXEC_REQUEST_BYTES_MAX;
    /// Bytes for the program's standard input.
    Stdin = 0x11, limits::STREAM_CHUNK_BYTES_MAX;
    /// No more input. Empty.
    StdinEof = 0x12, 0;
    /// One byte: signal for the program's process group.
    Signal = 0x13, 1;
    /// Rows and columns, two bytes each.
    Resize = 0x14, 4;

    /// The program runs; four bytes of process id.
    Started = 0x20, 4;
    /// Bytes from the program's standard output, or from its terminal.
    Stdout = 0x21, limits::STREAM_CHUNK_BYTES_MAX;
    /// Bytes from the program's standard error.
    Stderr = 0x22, limits::STREAM_CHUNK_BYTES_MAX;
    /// Four bytes: so many more bytes of input may be sent.
    StdinCredit = 0x23, 4;
    /// The program closed its input; more is pointless. Empty. Not an end.
    StdinClosed = 0x24, 0;
    /// The program ended, all its output is out: how, value, flags. Last frame.
    Exited = 0x25, 3;
    /// JSON [`Failure`](super::Failure): it never ran. Last frame.
    Failed = 0x26, limits::ANSWER_BYTES_MAX;
}

/// What is wrong with received bytes, or with a message that does not fit a frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// No such kind in this generation.
    #[error("unknown frame kind {0:#04x} from the other side")]
    UnknownKind(u8),
    /// Longer than the kind allows.
    #[error("{kind:?} frame of {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// The frame.
        kind: Kind,
        /// Its claimed or real length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The payload does not have the kind's form.
    #[error("malformed {kind:?} frame: {what}")]
    Malformed {
        /// The frame.
        kind: Kind,
        /// What it should be.
        what: &'static str,
    },
    /// The payload is not the JSON it should be.
    #[error("malformed {kind:?} frame")]
    Json {
        /// The frame.
        kind: Kind,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A kind that has no place here.
    #[error("{kind:?} frame where {expected} was expected")]
    Misplaced {
        /// The frame.
        kind: Kind,
        /// What may come here.
        expected: &'static str,
    },
}

/// What the start of a buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// At least so many more bytes are needed.
    Need(usize),
    /// A whole frame.
    Frame {
        /// Its kind.
        kind: Kind,
        /// Its payload.
        payload: &'a [u8],
        /// Bytes of the buffer it takes, header included.
        used: usize,
    },
}

/// Checks a header: kind and payload length.
///
/// # Errors
/// Unknown kind or a length beyond its limit.
pub fn header(bytes: [u8; HEADER_BYTES]) -> Result<(Kind, usize), WireError> {
    let [number, a, b, c, d] = bytes;
    let kind = Kind::from_number(number).ok_or(WireError::UnknownKind(number))?;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    fits(kind, length)?;
    Ok((kind, length))
}

/// Takes the first frame off `buffer`, if it is whole.
///
/// # Errors
/// As [`header`]; told as soon as the header is there.
pub fn split(buffer: &[u8]) -> Result<Split<'_>, WireError> {
    let Some((head, rest)) = buffer.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(Split::Need(HEADER_BYTES.saturating_sub(buffer.len())));
    };
    let (kind, length) = header(*head)?;
    Ok(match rest.get(..length) {
        Some(payload) => Split::Frame { kind, payload, used: HEADER_BYTES.saturating_add(length) },
        None => Split::Need(length.saturating_sub(rest.len())),
    })
}

/// Header bytes for a payload of this length.
///
/// # Errors
/// The payload is too long for its kind.
pub fn header_for(kind: Kind, length: usize) -> Result<[u8; HEADER_BYTES], WireError> {
    fits(kind, length)?;
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    Ok([kind.number(), a, b, c, d])
}

/// Appends a frame to `out`.
///
/// # Errors
/// The payload is too long for its kind; `out` is then unchanged.
pub fn append(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) -> Result<(), WireError> {
    out.extend_from_slice(&header_for(kind, payload.len())?);
    out.extend_from_slice(payload);
    Ok(())
}

/// Appends a frame with a JSON payload.
///
/// # Errors
/// As [`append`].
pub fn append_json<T: Serialize>(out: &mut Vec<u8>, kind: Kind, value: &T) -> Result<(), WireError> {
    let payload = serde_json::to_vec(value).map_err(|source| WireError::Json { kind, source })?;
    append(out, kind, &payload)
}

/// Reads a JSON payload.
///
/// # Errors
/// Not the JSON of that type.
pub fn parse_json<T: DeserializeOwned>(kind: Kind, payload: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(payload).map_err(|source| WireError::Json { kind, source })
}

fn fits(kind: Kind, bytes: usize) -> Result<(), WireError> {
    let max = kind.payload_bytes_max();
    if bytes > max {
        return Err(WireError::TooLong { kind, bytes, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_unique_and_lead_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind.number()), Some(*kind));
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_from_the_header_alone() {
        let liar = [Kind::Stdout.number(), 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(split(&liar), Err(WireError::TooLong { kind: Kind::Stdout, .. })));
        let mut out = Vec::new();
        assert!(append(&mut out, Kind::Signal, &[1, 2]).is_err());
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_an_error_and_nothing_else(bytes: Vec<u8>) {
            match split(&bytes) {
                Ok(Split::Frame { kind, payload, used }) => {
                    let mut again = Vec::new();
                    append(&mut again, kind, payload).unwrap();
                    prop_assert_eq!(&again, &bytes[..used]);
                }
                Ok(Split::Need(more)) => prop_assert!(more > 0),
                Err(_) => {}
            }
        }

        #[test]
        fn cut_anywhere_asks_for_more(payload in prop::collection::vec(any::<u8>(), 0..200), cut: prop::sample::Index) {
            let mut wire = Vec::new();
            append(&mut wire, Kind::Stdin, &payload).unwrap();
            let at = cut.index(wire.len());
            prop_assert!(matches!(split(&wire[..at]), Ok(Split::Need(more)) if at + more <= wire.len()));
        }
    }
}
