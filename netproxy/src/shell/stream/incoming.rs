//! A body as it comes in, from a client or an upstream, over either version of HTTP.

use std::any::Any;
use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use hyper::body::{Body, Frame, Incoming as Http1, SizeHint};
use tokio::sync::Notify;

use crate::shell::client::leash::Leash;
use crate::shell::upstream::http1::receiving::Receiving;
use crate::wire::bytes::parse_decimal;

/// The bytes and trailers of a request or a response.
pub enum Incoming {
    /// Of a client, and what its request counts as, until this body is gone, too.
    Http1(Http1, Option<Arc<dyn Any + Send + Sync>>),
    Http2(Http2),
    /// Of an upstream over HTTP/1.1.
    Upstream(Box<Receiving>),
}

/// Of one HTTP/2 stream. What was read makes room for more only when it is asked for: the other side sends as
/// fast as we pass on.
pub struct Http2 {
    stream: RecvStream,
    /// What is still to come, if the head said so; the library holds the sender to it.
    left: Option<u64>,
    data_ended: bool,
    ended: bool,
    /// The client waits for `100 Continue` before it sends anything.
    wanted: Option<Arc<Notify>>,
    /// The task that sends the request's body.
    upload: Option<Leash>,
    /// What the stream counts as, until this body is gone, too.
    _held: Option<Arc<dyn Any + Send + Sync>>,
}

impl Http2 {
    pub fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let left = headers.get(CONTENT_LENGTH).and_then(|length| parse_decimal(length.as_bytes()));
        Self { stream, left, data_ended: false, ended: false, wanted: None, upload: None, _held: None }
    }

    /// Of an answer that has none, whatever its head says of the length.
    pub fn end_here(&mut self) {
        self.ended = true;
    }

    /// Tells `wanted` when the body is first asked for.
    pub fn announce(&mut self, wanted: Arc<Notify>) {
        self.wanted = Some(wanted);
    }

    /// Ends with this body, unless that comes to its own end: the upstream may want the rest of the request all the same.
    pub fn keep(&mut self, upload: Leash) {
        self.upload = Some(upload);
    }

    pub fn hold(&mut self, held: Arc<dyn Any + Send + Sync>) {
        self._held = Some(held);
    }

    fn is_over(&self) -> bool {
        self.ended || self.stream.is_end_stream()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(wanted) = self.wanted.take() {
            wanted.notify_one();
        }
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Fails only for more than was taken.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    let count = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    self.left = self.left.map(|left| left.saturating_sub(count));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return self.end(error),
                None => self.data_ended = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => {
                self.ended = true;
                Poll::Ready(trailers.map(|fields| Ok(Frame::trailers(fields))))
            }
            Err(error) => self.end(error),
        }
    }

    /// Whatever the other side calls it: a server that wants no more of the request after all of its answer has ended that
    /// before (RFC 9113 §8.1).
    fn end(&mut self, error: h2::Error) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.ended = true;
        self.upload = None;
        Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::ConnectionReset, error))))
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        if self.is_over()
            && let Some(upload) = self.upload.take()
        {
            upload.let_go();
        }
    }
}

/// Whether what came from somebody has broken off since nobody is there any more: over HTTP/2 that is known of a stream. Over
/// HTTP/1.1 a client may have ended only what it sends, and read on.
pub fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    [Kind::ConnectionReset, Kind::ConnectionAborted, Kind::BrokenPipe].contains(&error.kind())
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Http1(body, _) => Pin::new(body).poll_frame(cx).map_err(|error| {
                // What breaks the protocol, `StrictIo` finds. The library says nothing of an end where there may be one.
                let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
                io::Error::new(cause.map_or(io::ErrorKind::Other, io::Error::kind), error)
            }),
            Self::Http2(body) => body.poll(cx),
            Self::Upstream(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body, _) => body.is_end_stream(),
            Self::Http2(body) => body.is_over(),
            Self::Upstream(body) => body.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body, _) => body.size_hint(),
            Self::Http2(_) if self.is_end_stream() => SizeHint::with_exact(0),
            Self::Http2(body) => body.left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Upstream(body) => body.left().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
