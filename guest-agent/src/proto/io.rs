//! The protocol over a blocking stream: hello and whole frames. The only I/O of `proto`.
//!
//! Must never reserve memory for a length before bytes of that length arrive.

use std::io::{self, Read, Write};

use super::frame::{self, HEADER_BYTES, Kind, WireError};
use super::version::{HELLO_BYTES, Hello, VersionError};

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
    let [first, rest @ ..] = &mut head;
    loop {
        match stream.read(std::slice::from_mut(first)) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    stream.read_exact(rest).map_err(closed)?;
    let (kind, length) = frame::header(head)?;
    payload.clear();
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    // `take` grows the buffer as bytes come: a claimed length alone costs nothing.
    let got = stream.take(limit).read_to_end(payload)?;
    if got != length {
        return Err(StreamError::Closed);
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
