//! A WebSocket, from the upstream's `101` to its end. Nothing that the client sends after its handshake goes
//! anywhere before that (CVE-2026-2833 in another proxy): it is held back as what would be the next request.
//!
//! Where answers are searched for secrets, extensions are not offered, and the server's frames are written
//! anew, message by message: a secret cut over two messages is not found, as one that the application encodes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_EXTENSIONS, TE, UPGRADE};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::flow;
use crate::hooks::{Allow, Decided, ResponseFilter, Verdict};
use crate::id::DecisionId;
use crate::shell::asking::still_holds;
use crate::shell::client::strict_io::StrictIo;
use crate::shell::ledger::{Ledger, Sent};
use crate::shell::stream::rewind::Rewind;
use crate::shell::stream::tunnel;
use crate::shell::upstream::http1::Stream;
use crate::shell::upstream::reach;
use crate::wire::websocket::{MessageFilter, ServerFrames, write_frame};

/// Makes the head of a request, or of its answer, that of a WebSocket.
pub fn put(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.remove(TE);
}

/// Compressed frames cannot be searched.
pub fn without_extensions(headers: &mut HeaderMap) {
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
}

/// An upgrade that both sides agreed to.
pub struct Session {
    pub request: flow::Request,
    pub allow: Allow,
    pub id: DecisionId,
    pub ledger: Ledger,
    /// `None` where the connection is not this exchange's alone.
    pub upstream: Option<Rewind<Box<dyn Stream>>>,
    /// That of the handshake's answer: the server's messages are searched.
    pub filter: Option<Box<dyn ResponseFilter>>,
}

impl Session {
    /// Relays until the end. `io` stands after the handshake.
    pub async fn relay<S>(mut self, io: StrictIo<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Not before: one whose client or proxy is gone is never relayed.
        self.ledger.answered(StatusCode::SWITCHING_PROTOCOLS.as_u16());
        let (stream, early) = io.into_parts();
        let mut client = Rewind::new(stream, early);
        let Some(mut upstream) = self.upstream else {
            return self.ledger.fail("upstream_broke_off");
        };
        let shared = Arc::clone(self.ledger.shared());
        let (request, allow) = (&self.request, &self.allow);
        let peer = reach::peer(upstream.io().socket(), (&request.authority, allow));
        let in_a_name =
            shared.client_certificates.has(request.authority.host()) || self.ledger.credential().is_some();
        let still_allowed = || {
            let verdict = shared.authorize.request(&request.facts());
            // What is refused now, and only recorded, has neither a certificate nor a key.
            let in_the_same_name = !in_a_name
                || matches!(&verdict, Verdict::Allow(now) if now.would_deny.is_none() == allow.would_deny.is_none());
            in_the_same_name
                && still_holds(allow, &verdict)
                && reach::still_admits(&shared, &request.authority, peer)
        };
        if let Some(filter) = self.filter {
            let sent = self.ledger.sent();
            // A session may outlast its secrets: what was known at its beginning is known to its end.
            let decided = Decided { request: request.facts(), allow, decision_id: &self.id };
            let controls = Message::new(shared.redact.filter(&decided), &sent);
            let frames = ServerFrames::new(Message::new(Some(filter), &sent), controls);
            let mut upstream = Searched { io: upstream, frames, out: BytesMut::new(), ended: false };
            tunnel::relay(&mut client, &mut upstream, &mut self.ledger, still_allowed).await;
        } else {
            tunnel::relay(&mut client, &mut upstream, &mut self.ledger, still_allowed).await;
        }
    }
}

/// A filter of messages, one after the other.
struct Message {
    filter: Option<Box<dyn ResponseFilter>>,
    /// What of its finds is counted.
    before: u64,
    sent: Arc<Sent>,
}

impl Message {
    fn new(filter: Option<Box<dyn ResponseFilter>>, sent: &Arc<Sent>) -> Self {
        let before = filter.as_ref().map_or(0, |filter| filter.redactions());
        Self { filter, before, sent: Arc::clone(sent) }
    }

    fn count(&mut self) {
        let found = self.filter.as_ref().map_or(0, |filter| filter.redactions());
        self.sent.redactions.fetch_add(found.saturating_sub(self.before), Ordering::Relaxed);
        self.before = found;
    }
}

impl MessageFilter for Message {
    fn piece(&mut self, piece: &[u8]) -> Vec<u8> {
        match &mut self.filter {
            Some(filter) => {
                let clean = filter.body(Bytes::copy_from_slice(piece)).into();
                self.count();
                clean
            }
            None => piece.to_vec(),
        }
    }

    fn end(&mut self) -> Vec<u8> {
        let Some(filter) = &mut self.filter else { return Vec::new() };
        let rest = filter.finish().into();
        self.count();
        rest
    }
}

/// Close, with status 1002: the server broke the protocol (RFC 6455 §7.4.1).
const CLOSE_PROTOCOL_ERROR: &[u8] = &[0x03, 0xea];

/// A stream whose reading side is the server's frames, searched.
struct Searched<S> {
    io: S,
    frames: ServerFrames<Message>,
    out: BytesMut,
    ended: bool,
}

impl<S> Searched<S> {
    /// Takes what was read; nothing is the end.
    fn search(&mut self, read: &[u8]) {
        self.ended = read.is_empty();
        let mut passes = Vec::new();
        if self.frames.push(read, &mut passes).is_err() {
            write_frame(0x88, CLOSE_PROTOCOL_ERROR, &mut passes);
            self.ended = true;
        }
        self.out.extend_from_slice(&passes);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Searched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.out.is_empty() && !this.ended {
            let mut buffer = tunnel::take_buffer();
            let mut read = ReadBuf::new(&mut buffer);
            let polled = Pin::new(&mut this.io).poll_read(cx, &mut read);
            if let Poll::Ready(Ok(())) = polled {
                this.search(read.filled());
            }
            tunnel::give_back(buffer);
            ready!(polled)?;
        }
        let count = this.out.len().min(out.remaining());
        out.put_slice(this.out.get(..count).unwrap_or_default());
        this.out.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Searched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
