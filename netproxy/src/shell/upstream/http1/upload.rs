//! A request on its way to an upstream over HTTP/1.1: its head, and its body as that comes. Must never end a body that broke
//! off, or is not as long as was said, as if it were whole: the upstream would act on it.

use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Request};
use hyper::body::{Body, Frame};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::wire::bytes::parse_decimal;

/// Most heads are shorter.
const USUAL_HEAD_BYTES: usize = 512;

/// What of a request is not sent yet.
pub struct Upload<B> {
    /// The head, or the size of a chunk.
    before: Vec<u8>,
    written: usize,
    data: Bytes,
    /// What ends a chunk.
    after: &'static [u8],
    /// `None` once its end is in hand.
    body: Option<B>,
    framing: Framing,
    /// Fields that may follow the body.
    announced: Vec<HeaderName>,
}

enum Framing {
    Length(u64),
    Chunked,
}

/// Why a request is not sent to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSent {
    /// Its body broke off, or is not as long as was said.
    Body,
    /// The upstream takes no more.
    Connection,
}

impl<B: Body<Data = Bytes> + Unpin> Upload<B> {
    pub fn new(request: Request<B>) -> Self {
        let (parts, body) = request.into_parts();
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| parse_decimal(length.as_bytes()));
        let framing = match length {
            None if parts.headers.contains_key(TRANSFER_ENCODING) => Framing::Chunked,
            length => Framing::Length(length.unwrap_or(0)),
        };
        Self {
            before: head(&parts),
            written: 0,
            data: Bytes::new(),
            after: b"",
            announced: announced(&parts.headers),
            body: Some(body),
            framing,
        }
    }

    /// Sends what can be sent at once. Ready when all of it is with the system.
    pub fn poll(
        &mut self,
        mut io: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), NotSent>> {
        loop {
            // Before the head is written: it goes with what is here of the body.
            let more = self.poll_more(cx)?;
            while self.unwritten() > 0 {
                let slices =
                    [IoSlice::new(self.head_left()), IoSlice::new(&self.data), IoSlice::new(self.after)];
                let count = ready!(io.as_mut().poll_write_vectored(cx, &slices));
                match count {
                    Ok(count) if count > 0 => self.advance(count),
                    _ => return Poll::Ready(Err(NotSent::Connection)),
                }
            }
            match more {
                Poll::Ready(true) => {}
                Poll::Ready(false) => {
                    return io.poll_flush(cx).map_err(|_| NotSent::Connection);
                }
                Poll::Pending => {
                    // What there is goes out; the rest is waited for.
                    return match io.poll_flush(cx) {
                        Poll::Ready(Err(_)) => Poll::Ready(Err(NotSent::Connection)),
                        _ => Poll::Pending,
                    };
                }
            }
        }
    }

    /// Sends the rest. Where the body breaks off, the upstream is told that no more comes.
    pub async fn finish(mut self, mut io: impl AsyncWrite + Unpin) {
        if poll_fn(|cx| self.poll(Pin::new(&mut io), cx)).await.is_err() {
            let _ = io.shutdown().await;
        }
    }

    /// The next piece of the body, framed; whether there may be more.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, NotSent>> {
        if !self.data.is_empty() || !self.after.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(false)) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        let is_last = body.is_end_stream();
        match frame {
            None => self.end(&HeaderMap::new())?,
            Some(Err(_)) => return Poll::Ready(Err(NotSent::Body)),
            Some(Ok(frame)) => match frame.into_data().map_err(Frame::into_trailers) {
                Ok(data) => {
                    self.frame(data)?;
                    if is_last {
                        self.end_after_data()?;
                    }
                }
                Err(trailers) => self.end(&trailers.unwrap_or_default())?,
            },
        }
        Poll::Ready(Ok(true))
    }

    fn frame(&mut self, data: Bytes) -> Result<(), NotSent> {
        match &mut self.framing {
            Framing::Length(left) => {
                let count = u64::try_from(data.len()).unwrap_or(u64::MAX);
                *left = left.checked_sub(count).ok_or(NotSent::Body)?;
            }
            // An empty one would be the end.
            Framing::Chunked if data.is_empty() => {}
            Framing::Chunked => {
                self.before.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                self.after = b"\r\n";
            }
        }
        self.data = data;
        Ok(())
    }

    /// The last piece of the body is in hand, and nothing follows it.
    fn end_after_data(&mut self) -> Result<(), NotSent> {
        if self.after.is_empty() {
            return self.end(&HeaderMap::new());
        }
        self.after = b"\r\n0\r\n\r\n";
        self.body = None;
        Ok(())
    }

    fn end(&mut self, trailers: &HeaderMap) -> Result<(), NotSent> {
        self.body = None;
        match self.framing {
            Framing::Length(0) => {}
            Framing::Length(_) => return Err(NotSent::Body),
            Framing::Chunked => {
                self.before.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.iter().filter(|(name, _)| self.announced.contains(name)) {
                    push_field(&mut self.before, name, value.as_bytes());
                }
                self.before.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    fn head_left(&self) -> &[u8] {
        self.before.get(self.written..).unwrap_or_default()
    }

    fn unwritten(&self) -> usize {
        self.head_left().len().saturating_add(self.data.len()).saturating_add(self.after.len())
    }

    fn advance(&mut self, mut count: usize) {
        let head = count.min(self.head_left().len());
        self.written = self.written.saturating_add(head);
        count = count.saturating_sub(head);
        if self.head_left().is_empty() {
            self.before.clear();
            self.written = 0;
        }
        let data = count.min(self.data.len());
        self.data.advance(data);
        if data > 0 && self.data.is_empty() {
            // Its memory may be a buffer that is read into again.
            self.data = Bytes::new();
        }
        self.after = self.after.get(count.saturating_sub(data)..).unwrap_or_default();
    }
}

fn head(parts: &Parts) -> Vec<u8> {
    let mut head = Vec::with_capacity(USUAL_HEAD_BYTES);
    head.extend_from_slice(parts.method.as_str().as_bytes());
    head.push(b' ');
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    head.extend_from_slice(target.as_bytes());
    head.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &parts.headers {
        push_field(&mut head, name, value.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn push_field(head: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    head.extend_from_slice(name.as_str().as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// RFC 9110 §6.6.2.
fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(TRAILER).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

#[cfg(test)]
#[path = "upload_tests.rs"]
mod tests;
