//! What is to be known of the bytes to and from an upstream, and the library does not tell.
//!
//! Upstreams that send interim answers (1xx) and no answer: those are read on for ever, without a turn for anybody else.
//! Here the bytes before an answer are counted, and too many are an error. Must never count those of an answer's body:
//! that may have any size.
//!
//! A request that was taken and is not sent yet, while its answer is here already.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
        let count = u64::try_from(count).unwrap_or(ANY);
        // In one step: whoever sends may end the wait meanwhile, on another thread, and that must stand.
        let counted = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
            (left != ANY).then(|| left.saturating_sub(count))
        });
        match counted {
            Ok(left) if left <= count => Err(io::ErrorKind::InvalidData.into()),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Whether something waits to be sent.
#[derive(Clone)]
pub struct Outbox(Arc<AtomicBool>);

impl Outbox {
    pub fn is_empty(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }

    fn holds(&self, something: bool) {
        self.0.store(something, Ordering::Relaxed);
    }
}

/// A connection to an upstream.
pub struct Answering<S> {
    io: S,
    patience: Patience,
    outbox: Outbox,
}

impl<S> Answering<S> {
    pub fn new(io: S) -> (Self, Patience, Outbox) {
        let patience = Patience(Arc::new(AtomicU64::new(ANY)));
        let outbox = Outbox(Arc::default());
        (Self { io, patience: patience.clone(), outbox: outbox.clone() }, patience, outbox)
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
        self.outbox.holds(true);
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.outbox.holds(false);
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.outbox.holds(true);
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::hint::spin_loop;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn patience() -> Patience {
        Answering::new(()).1
    }

    #[test]
    fn bytes_count_from_the_request_to_the_head_of_its_answer() {
        let patience = patience();
        let most = usize::try_from(HTTP1_UNANSWERED_BYTES_MAX).unwrap();
        assert!(patience.read(2 * most).is_ok(), "nothing is waited for");
        patience.begin();
        assert!(patience.read(most - 1).is_ok() && !patience.is_over());
        assert!(patience.read(1).is_err() && patience.is_over());
        patience.begin();
        assert!(patience.read(most - 1).is_ok(), "each request begins anew");
        patience.end();
        assert!(patience.read(2 * most).is_ok());
    }

    /// The end comes from another thread than the bytes: a wait that went on would cut off a long body.
    #[test]
    fn the_end_stands_while_bytes_are_counted() {
        let (patience, turn) = (patience(), AtomicUsize::new(0));
        let (rounds, mut lost) = (200_000, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..rounds {
                    while turn.load(Ordering::Acquire) != 2 * round + 1 {
                        spin_loop();
                    }
                    let _ = patience.read(1);
                    turn.store(2 * round + 2, Ordering::Release);
                }
            });
            for round in 0..rounds {
                patience.begin();
                turn.store(2 * round + 1, Ordering::Release);
                (0..round % 64).for_each(|_| spin_loop());
                patience.end();
                while turn.load(Ordering::Acquire) != 2 * round + 2 {
                    spin_loop();
                }
                lost += usize::from(patience.0.load(Ordering::Acquire) != ANY);
            }
        });
        assert_eq!(lost, 0, "of {rounds}");
    }
}
