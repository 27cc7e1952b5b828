//! Bytes passed on unread, both ways, with half-close, counted, until both sides are done or silent.
//!
//! An idle tunnel holds no buffer: bytes are read into a spare one of its thread. Only where the other side does not take
//! all of them at once does the tunnel keep it, until it has. Must never write a byte that was not read into it last.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

use crate::limits::{TUNNEL_READ_BYTES, TUNNEL_SPARE_BUFFERS};
use crate::shell::control::{Control, Event};
use crate::shell::ledger::Ledger;

/// Relays until the end, or until the policy has changed and `still_allowed` says no.
pub async fn relay<A, B>(
    client: &mut A,
    upstream: &mut B,
    ledger: &mut Ledger,
    still_allowed: impl Fn() -> bool,
) where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let sent = ledger.sent();
    let (up, down) = (&sent.bytes, &sent.down);
    let shared = Arc::clone(ledger.shared());
    let idle = shared.limits.idle_timeout;
    let _open = shared.metrics.open_tunnel();
    let passing = async {
        tokio::select! {
            copied = copy_both(client, upstream, up, down) => copied.err().map(|_| "tunnel_broke_off"),
            () = silence(up, down, idle) => Some("tunnel_too_quiet"),
        }
    };
    if let Some(Some(error)) = while_allowed(ledger, still_allowed, passing).await {
        ledger.fail(error);
    }
}

/// What `wait` gives, or `None`, recorded, once the policy has changed and `still_allowed` says no. That is asked before
/// each turn of `wait`: no byte passes after a change that forbids it.
pub async fn while_allowed<T>(
    ledger: &mut Ledger,
    still_allowed: impl Fn() -> bool,
    wait: impl Future<Output = T>,
) -> Option<T> {
    let shared = Arc::clone(ledger.shared());
    let mut cut = Cut(Some(ledger));
    let done = tokio::select! {
        biased;
        () = forbidden(&shared.control, still_allowed) => None,
        done = wait => Some(done),
    };
    let ledger = cut.0.take();
    if let (Some(ledger), None) = (ledger, &done) {
        ledger.fail("policy_changed");
    }
    done
}

/// A tunnel that the embedder drops, as when the sandbox has ended, did not come to its own end.
struct Cut<'a>(Option<&'a mut Ledger>);

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if let Some(ledger) = &mut self.0 {
            ledger.fail("proxy_ended");
        }
    }
}

/// Returns once the policy does not allow it any more. A tunnel outlives a drain.
async fn forbidden(control: &Control, still_allowed: impl Fn() -> bool) {
    let mut alarm = control.alarm();
    // The policy may have changed while the upstream was dialled.
    while still_allowed() {
        while alarm.next().await != Event::Reauthorize {}
    }
}

async fn copy_both<A, B>(client: &mut A, upstream: &mut B, up: &AtomicU64, down: &AtomicU64) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut upwards, mut downwards) = (Half::default(), Half::default());
    poll_fn(|cx| {
        let up = upwards.poll_copy(cx, client, upstream, up)?;
        let down = downwards.poll_copy(cx, upstream, client, down)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
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

thread_local! {
    /// Buffers that no tunnel of this thread holds; empty of meaning.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// One of [`TUNNEL_READ_BYTES`], for the time of one read.
pub fn take_buffer() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; TUNNEL_READ_BYTES])
}

/// It is a spare one again.
pub fn give_back(buffer: Vec<u8>) {
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < TUNNEL_SPARE_BUFFERS {
            spare.push(buffer);
        }
    });
}

/// One direction.
#[derive(Default)]
struct Half {
    kept: Option<Kept>,
    stage: Stage,
}

/// Read and not yet taken by the other side.
struct Kept {
    buffer: Vec<u8>,
    /// What of the buffer is left.
    left: Range<usize>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The reader ended; what is kept, and the end, still have to be written.
    Ended,
    Done,
}

impl Half {
    /// Copies until one side has to be waited for. Ready when the end was passed on.
    fn poll_copy<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        count: &AtomicU64,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_write_kept(cx, to))?;
            match self.stage {
                Stage::Done => return Poll::Ready(Ok(())),
                Stage::Ended => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.stage = Stage::Done;
                }
                Stage::Open => {
                    let Poll::Ready(bytes) = self.poll_pass(cx, from, to)? else {
                        // Writers that buffer must not sit on the last bytes.
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        return Poll::Pending;
                    };
                    count.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
                }
            }
        }
    }

    fn poll_write_kept<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while let Some(Kept { buffer, left }) = &mut self.kept {
            let rest = buffer.get(left.clone()).unwrap_or_default();
            let count = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            left.start = left.start.saturating_add(count);
            if left.start >= left.end {
                give_back(std::mem::take(buffer));
                self.kept = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes what the other side takes now; keeps the rest. Gives the number of bytes read.
    fn poll_pass<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<usize>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut buffer = take_buffer();
        let passed = pass(cx, from, to, &mut buffer);
        match passed {
            Poll::Ready(Ok(left)) if left.start < left.end => {
                let bytes = left.end;
                self.kept = Some(Kept { buffer, left });
                return Poll::Ready(Ok(bytes));
            }
            _ => give_back(buffer),
        }
        let bytes = ready!(passed)?.end;
        if bytes == 0 {
            self.stage = Stage::Ended;
        }
        Poll::Ready(Ok(bytes))
    }
}

/// Reads once and writes what the other side takes now. Gives what is left; it ends where what was read does.
fn pass<R, W>(
    cx: &mut Context<'_>,
    from: &mut R,
    to: &mut W,
    buffer: &mut [u8],
) -> Poll<io::Result<Range<usize>>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut read = ReadBuf::new(buffer);
    ready!(Pin::new(from).poll_read(cx, &mut read))?;
    let bytes = read.filled();
    if bytes.is_empty() {
        return Poll::Ready(Ok(0..0));
    }
    let taken = match Pin::new(to).poll_write(cx, bytes)? {
        Poll::Ready(count) => count,
        Poll::Pending => 0,
    };
    Poll::Ready(Ok(taken..bytes.len()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// Far less room between the two than is sent, so that most of it is kept for a while.
    #[tokio::test]
    async fn every_byte_arrives_in_order_and_each_end_is_passed_on() {
        let (mut client, mut near) = duplex(1000);
        let (mut far, mut upstream) = duplex(300);
        let relay = tokio::spawn(async move {
            let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
            copy_both(&mut near, &mut far, &up, &down).await.map(|()| (up.into_inner(), down.into_inner()))
        });
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        let expected = sent.clone();
        let server = tokio::spawn(async move {
            let mut got = Vec::new();
            upstream.read_to_end(&mut got).await.unwrap();
            assert!(got == expected);
            // The other direction is still open.
            upstream.write_all(b"goodbye").await.unwrap();
        });
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"goodbye");
        server.await.unwrap();
        assert_eq!(relay.await.unwrap().unwrap(), (200_000, 7));
    }

    /// The buffer of the thread still holds what the first one read: the second one's short read, and what of it is
    /// kept for a slow peer, have nothing of that.
    #[tokio::test]
    async fn no_byte_of_one_tunnel_reaches_another() {
        let count = AtomicU64::new(0);
        let mut passed = Vec::new();
        for (sent, room) in [(vec![b'a'; TUNNEL_READ_BYTES], TUNNEL_READ_BYTES), (b"bbbbb".to_vec(), 2)] {
            let (mut client, mut near) = duplex(TUNNEL_READ_BYTES);
            let (mut far, mut upstream) = duplex(room);
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut half = Half::default();
            let copy = async {
                poll_fn(|cx| half.poll_copy(cx, &mut near, &mut far, &count)).await.unwrap();
                drop(far);
            };
            let mut got = Vec::new();
            let (read, ()) = tokio::join!(upstream.read_to_end(&mut got), copy);
            read.unwrap();
            passed.push(got == sent);
        }
        assert_eq!(passed, [true, true]);
        // Else this would show nothing.
        SPARE.with_borrow(|spare| assert!(spare.iter().any(|buffer| buffer.starts_with(b"bbbbba"))));
    }

    #[tokio::test]
    async fn an_idle_half_keeps_no_buffer() {
        let (mut client, mut near) = duplex(1000);
        let (mut far, mut upstream) = duplex(3);
        let (mut half, count) = (Half::default(), AtomicU64::new(0));
        client.write_all(b"hello").await.unwrap();
        let mut poll = |half: &mut Half| {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(half.poll_copy(&mut cx, &mut near, &mut far, &count).is_pending());
        };
        poll(&mut half);
        let kept = half.kept.as_ref().unwrap();
        assert_eq!(&kept.buffer[kept.left.clone()], b"lo");
        let mut got = [0; 3];
        upstream.read_exact(&mut got).await.unwrap();
        poll(&mut half);
        assert!(half.kept.is_none());
    }
}
