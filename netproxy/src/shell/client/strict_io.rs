//! A stream that lets only well-formed HTTP/1.x through to whoever reads it. Each head is held back until
//! it is whole and judged; a bad head, or a `CONNECT`, looks like the end of the stream to the reader, and
//! is then found here by the front door.
//!
//! It never changes a byte and never gives out a byte of a message after a bad one.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::Uri;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use crate::limits::Limits;
use crate::shell::control::unless;
use crate::shell::stream::silence::Silence;
use crate::shell::stream::stall::Stall;
use crate::wire::framing::{Framer, Step};
use crate::wire::head::{Framing, HeadError};

/// Most bytes that one read of a body of known length asks for.
const DIRECT_READ_BYTES_MAX: usize = 64 * 1024;
/// Room made for bytes that have to be looked at.
const FILL_BYTES: usize = 8 * 1024;

/// A head at the front of the stream.
#[derive(Debug, Clone, Copy)]
pub struct HeadAhead {
    length: usize,
    framing: Framing,
    /// Whether it is a `CONNECT`.
    pub connect: bool,
}

/// Why there is no head.
#[derive(Debug)]
pub enum NoHead {
    /// The stream ended between two messages.
    End,
    /// The stream broke, ended inside a head, or fell silent there.
    Broken,
    /// The head or the body before it is not acceptable.
    Bad(HeadError),
}

pub struct StrictIo<S> {
    io: S,
    buffer: BytesMut,
    /// Bytes at the front of `buffer` that may be read.
    passed: usize,
    framer: Framer,
    ahead: Option<HeadAhead>,
    bad: Option<HeadError>,
    /// Nothing more is given to the reader.
    stopped: bool,
    ended: bool,
    /// The wait for a head to be whole.
    wait: Silence,
    stall: Stall,
}

impl<S: AsyncRead + Unpin> StrictIo<S> {
    pub fn new(io: S, limits: &Limits) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            passed: 0,
            framer: Framer::new(limits.header_bytes_max),
            ahead: None,
            bad: None,
            stopped: false,
            ended: false,
            wait: Silence::new(limits.header_timeout),
            stall: Stall::new(limits.idle_timeout),
        }
    }

    /// Bytes that were read and not given out yet.
    pub fn early(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads more of them; 0 at the end of the stream.
    pub async fn read_ahead(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Waits for a head, without taking it off the stream, for as long as one may take. Only between two messages.
    pub async fn head(&mut self) -> Result<HeadAhead, NoHead> {
        self.stopped = false;
        std::future::poll_fn(|cx| self.poll_head(cx)).await
    }

    /// The same, unless `stop` is done before anything of it has come: `None`.
    pub async fn head_unless(&mut self, stop: impl Future<Output = ()>) -> Option<Result<HeadAhead, NoHead>> {
        if self.buffer.is_empty() && self.ahead.is_none() {
            let read = timeout(self.wait.limit(), self.read_ahead());
            // What else comes of it is found again below.
            self.ended |= unless(stop, read).await?.is_err();
        }
        Some(self.head().await)
    }

    /// Whether the reader was stopped by something for the front door: a `CONNECT` or a bad message.
    pub fn has_news(&self) -> bool {
        self.stopped
    }

    /// Takes the head that [`StrictIo::head`] found off the stream.
    pub fn take_head(&mut self) -> Bytes {
        let length = self.ahead.take().map_or(0, |ahead| ahead.length).min(self.buffer.len());
        self.buffer.split_to(length).freeze()
    }

    /// The stream, and what was read of it and not taken.
    pub fn into_parts(self) -> (S, BytesMut) {
        (self.io, self.buffer)
    }

    pub fn io_mut(&mut self) -> &mut S {
        &mut self.io
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<HeadAhead, NoHead>> {
        if let Some(bad) = self.bad {
            return Poll::Ready(Err(NoHead::Bad(bad)));
        }
        loop {
            if let Some(ahead) = self.ahead {
                return Poll::Ready(Ok(ahead));
            }
            if !self.buffer.is_empty() {
                match self.framer.step(&self.buffer) {
                    Ok(Step::Head { length, framing, connect }) => {
                        self.wait.heard();
                        self.ahead = Some(HeadAhead { length, framing, connect });
                        continue;
                    }
                    Ok(Step::Need) => {}
                    // Not at a boundary: the reader left part of a body behind.
                    Ok(Step::Pass(_)) => return Poll::Ready(Err(NoHead::Broken)),
                    Err(error) => {
                        self.bad = Some(error);
                        return Poll::Ready(Err(NoHead::Bad(error)));
                    }
                }
            }
            let read = match self.poll_fill(cx) {
                Poll::Ready(read) => read,
                Poll::Pending => {
                    ready!(self.wait.poll_over(cx));
                    self.ended = true;
                    Ok(0)
                }
            };
            match read {
                Ok(0) if self.buffer.is_empty() => return Poll::Ready(Err(NoHead::End)),
                Ok(0) | Err(_) => return Poll::Ready(Err(NoHead::Broken)),
                Ok(_) => {}
            }
        }
    }

    /// Whether the HTTP library can read the target of the head at the front. It would answer others itself, without a word
    /// to us. Those of nearly all requests need no second look.
    fn has_uri(&self, length: usize) -> bool {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/%?=&+,;:@!$'()*".contains(byte);
        let mut words = self.buffer.get(..length).unwrap_or_default().split(|byte| *byte == b' ');
        let target = words.nth(1).unwrap_or_default();
        (target.starts_with(b"/") && target.iter().all(is_plain)) || Uri::try_from(target).is_ok()
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        self.buffer.reserve(FILL_BYTES);
        let count = ready!(pin!(self.io.read_buf(&mut self.buffer)).poll(cx)).map_err(cut_off)?;
        self.ended = count == 0;
        Poll::Ready(Ok(count))
    }

    /// Body bytes that need no looking at go straight to the reader.
    fn poll_direct(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let opaque = usize::try_from(self.framer.opaque_bytes()).unwrap_or(usize::MAX);
        let count = opaque.min(out.remaining()).min(DIRECT_READ_BYTES_MAX);
        if count == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut part = ReadBuf::new(out.initialize_unfilled_to(count));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut part)).map_err(cut_off)?;
        let count = part.filled().len();
        out.advance(count);
        self.ended = count == 0;
        self.framer.passed(u64::try_from(count).unwrap_or(u64::MAX));
        Poll::Ready(Ok(()))
    }

    /// Finds out how many bytes may be read next; `false` if none will ever be.
    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.framer.at_boundary() {
            let go_on = match ready!(self.poll_head(cx)) {
                Ok(ahead) if !ahead.connect && !self.has_uri(ahead.length) => {
                    self.bad = Some(HeadError::Target);
                    self.stopped = true;
                    false
                }
                Ok(ahead) if !ahead.connect => {
                    self.framer.accept_head(ahead.framing);
                    self.passed = ahead.length;
                    self.ahead = None;
                    true
                }
                Ok(_) | Err(NoHead::Bad(_)) => {
                    self.stopped = true;
                    false
                }
                Err(_) => false,
            };
            return Poll::Ready(Ok(go_on));
        }
        match self.framer.step(&self.buffer) {
            Ok(Step::Pass(count)) => self.passed = count,
            Ok(Step::Need | Step::Head { .. }) => {
                return Poll::Ready(Ok(ready!(self.poll_fill(cx))? > 0));
            }
            Err(error) => {
                self.bad = Some(error);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }
        Poll::Ready(Ok(true))
    }
}

/// TLS that ends without saying so is told from an end inside a message, which has the same name in the HTTP library.
fn cut_off(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(io::ErrorKind::ConnectionAborted, error),
        _ => error,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.passed > 0 {
                let count = this.passed.min(out.remaining());
                out.put_slice(this.buffer.get(..count).unwrap_or_default());
                this.buffer.advance(count);
                this.passed = this.passed.saturating_sub(count);
                return Poll::Ready(Ok(()));
            }
            if this.stopped {
                return Poll::Ready(Ok(()));
            }
            if this.buffer.is_empty() && this.framer.opaque_bytes() > 0 {
                return this.poll_direct(cx, out);
            }
            if !ready!(this.poll_pass(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StrictIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.stall.judge(cx, written)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.stall.judge(cx, flushed)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The end of the stream is the front door's: it lingers, or finds a `CONNECT` or an upgrade.
        self.poll_flush(cx)
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
