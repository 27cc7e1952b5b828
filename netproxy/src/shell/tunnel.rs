//! Bytes passed on unread, both ways, with half-close, counted, until both sides are done or silent.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::sleep;

use super::ledger::Ledger;

/// Relays until the end.
pub async fn relay<A, B>(client: &mut A, upstream: &mut B, idle: Duration, mut ledger: Ledger)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (up, down) = (ledger.sent(), AtomicU64::new(0));
    let mut client = Counted { io: client, read: &up.bytes };
    let mut upstream = Counted { io: upstream, read: &down };
    let error = tokio::select! {
        copied = copy_bidirectional(&mut client, &mut upstream) => copied.err().map(|_| "tunnel_broke_off"),
        () = silence(&up.bytes, &down, idle) => Some("tunnel_too_quiet"),
    };
    ledger.note(|record| record.bytes_down = down.load(Ordering::Relaxed));
    if let Some(error) = error {
        ledger.fail(error);
    }
}

/// Returns after a whole `idle` without a byte either way.
async fn silence(up: &AtomicU64, down: &AtomicU64, idle: Duration) {
    let seen = || (up.load(Ordering::Relaxed), down.load(Ordering::Relaxed));
    let mut before = seen();
    loop {
        sleep(idle).await;
        let now = seen();
        if now == before {
            return;
        }
        before = now;
    }
}

struct Counted<'a, S> {
    io: &'a mut S,
    read: &'a AtomicU64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut *self.io).poll_read(cx, out))?;
        let count = out.filled().len().saturating_sub(before);
        self.read.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}
