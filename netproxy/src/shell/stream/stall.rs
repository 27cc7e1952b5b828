//! Clients and upstreams that do not take what they are sent. A write waits for them as long as a tunnel may be silent, and
//! then fails, so that nobody holds a connection, its memory and what it leads to for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::silence::Silence;

/// The wait for somebody who takes nothing.
pub struct Stall(Silence);

impl Stall {
    pub fn new(limit: Duration) -> Self {
        Self(Silence::new(limit))
    }

    /// What came of a write, or `TimedOut` once the other side has taken nothing for too long.
    pub fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.0.heard();
            return written;
        }
        self.0.poll_over(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// A stream whose writes are judged.
pub struct Stalling<S> {
    io: S,
    stall: Stall,
}

impl<S> Stalling<S> {
    pub fn new(io: S, limit: Duration) -> Self {
        Self { io, stall: Stall::new(limit) }
    }

    pub fn get_ref(&self) -> &S {
        &self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.stall.judge(cx, written)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.stall.judge(cx, flushed)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.io).poll_shutdown(cx);
        self.stall.judge(cx, ended)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.stall.judge(cx, written)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
