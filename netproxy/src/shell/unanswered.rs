//! Upstreams that send interim answers (1xx) and no answer. The library reads those on for ever, without a turn for
//! anybody else; here the bytes before an answer are counted, and too many are an error.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::HTTP1_UNANSWERED_BYTES_MAX;

/// No answer is waited for.
const ANY: u64 = u64::MAX;

/// How many bytes may still come. Shared by the stream and whoever sends over it.
#[derive(Clone)]
pub struct Patience(Arc<AtomicU64>);

impl Patience {
    /// An answer is waited for.
    pub fn begin(&self) {
        self.0.store(HTTP1_UNANSWERED_BYTES_MAX, Ordering::Release);
    }

    /// Its head is here.
    pub fn end(&self) {
        self.0.store(ANY, Ordering::Release);
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    fn read(&self, count: usize) -> io::Result<()> {
        let left = self.0.load(Ordering::Acquire);
        if left == ANY {
            return Ok(());
        }
        let left = left.saturating_sub(u64::try_from(count).unwrap_or(ANY));
        self.0.store(left, Ordering::Release);
        if left > 0 { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// A connection to an upstream.
pub struct Answering<S> {
    io: S,
    patience: Patience,
}

impl<S> Answering<S> {
    pub fn new(io: S) -> (Self, Patience) {
        let patience = Patience(Arc::new(AtomicU64::new(ANY)));
        (Self { io, patience: patience.clone() }, patience)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Answering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
        Poll::Ready(self.patience.read(out.filled().len().saturating_sub(before)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Answering<S> {
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
