//! A stream with some of its bytes read already.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Gives `early` first, then what `io` gives.
pub struct Rewind<S> {
    early: BytesMut,
    io: S,
}

impl<S: AsyncRead + Unpin> Rewind<S> {
    pub fn new(io: S, early: BytesMut) -> Self {
        Self { early, io }
    }

    /// What is below it.
    pub fn io(&self) -> &S {
        &self.io
    }

    /// What was read and not yet given out.
    pub fn early(&self) -> &[u8] {
        &self.early
    }

    /// Takes `count` bytes off the front of what was read.
    pub fn skip(&mut self, count: usize) {
        self.early.advance(count.min(self.early.len()));
    }

    /// Reads more to look at; 0 at the end of the stream.
    pub async fn read_ahead(&mut self) -> io::Result<usize> {
        self.io.read_buf(&mut self.early).await
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewind<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, out);
        }
        let count = self.early.len().min(out.remaining());
        out.put_slice(&self.early.split_to(count));
        if !self.early.has_remaining() {
            self.early = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewind<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
