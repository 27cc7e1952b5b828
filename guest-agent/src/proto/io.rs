//! The protocol over a blocking stream: hello and whole frames. The only I/O of `proto`.
//!
//! Must never reserve memory for a whole claimed length before its bytes arrive.

use std::io::{self, Read, Write};

use crate::limits;

use super::frame::{self, HEADER_BYTES, Kind, WireError};
use super::version::{HELLO_BYTES, Hello, VersionError};

/// Most that is reserved ahead of what has arrived.
const STEP_BYTES: usize = limits::STREAM_CHUNK_BYTES_MAX;

/// Why a message could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The stream itself.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// It ended inside a message or where one must come.
    #[error("the other side closed the connection")]
    Closed,
    /// What came is not the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The two sides do not speak a common generation.
    #[error(transparent)]
    Version(#[from] VersionError),
}

/// Says hello.
///
/// # Errors
/// The stream's.
pub fn send_hello(stream: &mut impl Write) -> Result<(), StreamError> {
    Ok(stream.write_all(&Hello::OURS.encode())?)
}

/// Reads the other side's hello and settles the generation.
///
/// # Errors
/// The stream's, or that there is no common generation.
pub fn receive_hello(stream: &mut impl Read) -> Result<u16, StreamError> {
    let mut bytes = [0; HELLO_BYTES];
    stream.read_exact(&mut bytes).map_err(closed)?;
    Ok(Hello::OURS.agree(Hello::decode(bytes)?)?)
}

/// Reads one frame into `payload`, whose old content is dropped; `None` if the stream ends before it.
///
/// # Errors
/// The stream's, the protocol's, or an end inside the frame.
pub fn receive(stream: &mut impl Read, payload: &mut Vec<u8>) -> Result<Option<Kind>, StreamError> {
    let mut head = [0; HEADER_BYTES];
    let first = loop {
        match stream.read(&mut head) {
            Ok(0) => return Ok(None),
            Ok(count) => break count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    };
    stream.read_exact(head.get_mut(first..).unwrap_or_default()).map_err(closed)?;
    let (kind, length) = frame::header(head)?;
    // Memory for one step at a time: a claimed length alone costs little. A fresh vector comes zeroed from the
    // system, which is cheaper than zeroing an old one.
    *payload = vec![0; length.min(STEP_BYTES)];
    stream.read_exact(payload).map_err(closed)?;
    while payload.len() < length {
        let start = payload.len();
        payload.extend_from_slice(&vec![0; STEP_BYTES.min(length.saturating_sub(start))]);
        stream.read_exact(payload.get_mut(start..).unwrap_or_default()).map_err(closed)?;
    }
    Ok(Some(kind))
}

fn closed(error: io::Error) -> StreamError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => StreamError::Closed,
        _ => StreamError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_hostile_stream_never_panics(bytes: Vec<u8>) {
            let mut stream = bytes.as_slice();
            let mut payload = Vec::new();
            while let Ok(Some(_)) = receive(&mut stream, &mut payload) {}
            let _ = receive_hello(&mut bytes.as_slice());
        }
    }

    #[test]
    fn a_frame_longer_than_a_step_arrives_whole() {
        let sent: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
        let mut wire = Vec::new();
        frame::append(&mut wire, Kind::Configure, &sent).unwrap();
        let mut payload = vec![1, 2, 3];
        assert!(matches!(receive(&mut &wire[..], &mut payload), Ok(Some(Kind::Configure))));
        assert_eq!(payload, sent);
    }

    #[test]
    fn an_end_inside_a_frame_is_told_from_an_end_between_frames() {
        let mut wire = Vec::new();
        frame::append(&mut wire, Kind::Stdin, b"abc").unwrap();
        let mut payload = Vec::new();
        assert!(matches!(receive(&mut &wire[..], &mut payload), Ok(Some(Kind::Stdin))));
        assert_eq!(payload, b"abc");
        assert!(matches!(receive(&mut &wire[..0], &mut payload), Ok(None)));
        for cut in 1..wire.len() {
            assert!(matches!(receive(&mut &wire[..cut], &mut payload), Err(StreamError::Closed)), "{cut}");
        }
    }
}
