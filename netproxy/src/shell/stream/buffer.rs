//! What was read of a connection and is not taken yet.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::HTTP1_BUFFER_BYTES;

/// Bytes that one read asks for at first: most answers are shorter.
const READ_BYTES_MIN: usize = 8 * 1024;

/// Asks for more at a time while more comes.
pub struct Buffer {
    pub bytes: BytesMut,
    wanted: usize,
}

impl Buffer {
    pub fn new() -> Self {
        Self { bytes: BytesMut::new(), wanted: READ_BYTES_MIN }
    }

    /// Reads more; 0 at the end.
    pub fn poll_fill(
        &mut self,
        io: &mut (impl AsyncRead + Unpin + ?Sized),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.bytes.reserve(self.wanted);
        let count = ready!(pin!(io.read_buf(&mut self.bytes)).poll(cx))?;
        if count >= self.wanted {
            self.wanted = self.wanted.saturating_mul(2).min(HTTP1_BUFFER_BYTES);
        } else if count < self.wanted / 2 {
            self.wanted = (self.wanted / 2).max(READ_BYTES_MIN);
        }
        Poll::Ready(Ok(count))
    }
}
