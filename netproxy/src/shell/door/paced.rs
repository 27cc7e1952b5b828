//! A client's stream that is slowed down to so many bytes in a second, each way, together with all other streams
//! of its sandbox. Nothing is dropped, and nothing is kept: whoever is too fast waits.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::shell::limiter::Way;
use crate::shell::shared::Shared;

/// What passes before the next wait, at most: a stream must not run up a debt of minutes at once.
const PIECE_BYTES: usize = 16 * 1024;

pub struct Paced<S> {
    io: S,
    shared: Arc<Shared>,
    per_s: u64,
    up: Turn,
    down: Turn,
}

#[derive(Default)]
struct Turn(Option<Pin<Box<Sleep>>>);

impl Turn {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(wait) = &mut self.0 {
            ready!(wait.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

impl<S> Paced<S> {
    pub fn new(io: S, shared: Arc<Shared>, per_s: u64) -> Self {
        Self { io, shared, per_s, up: Turn::default(), down: Turn::default() }
    }

    fn pay(&mut self, way: Way, count: usize) {
        let now = Instant::now();
        let wait = self.shared.limiter.bytes(way, (count, self.per_s), now.into_std());
        let turn = match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        };
        turn.0 = now.checked_add(wait).map(|end| Box::pin(sleep_until(end)));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.up.poll(cx));
        let room = out.remaining().min(PIECE_BYTES);
        let mut part = ReadBuf::new(out.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
        let count = part.filled().len();
        out.advance(count);
        self.pay(Way::Up, count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.down.poll(cx));
        let piece = bytes.get(..PIECE_BYTES).unwrap_or(bytes);
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, piece))?;
        self.pay(Way::Down, count);
        Poll::Ready(Ok(count))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
