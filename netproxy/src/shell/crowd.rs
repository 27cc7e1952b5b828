//! Requests under way, over all connections of the sandbox: counted until their answers are sent, and refused above
//! the limit. A head may have 64 KiB, and HTTP/2 a hundred of them on each of thousands of connections.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, SizeHint};

use super::body::Reply;
use super::exchange;
use super::http1::Client;
use super::incoming::Incoming;
use super::limiter::Slot;
use crate::refuse::{Refusal, shows_words_only};

/// Answers a request over HTTP/1.1, which counts until its body is sent.
pub async fn answer(client: &Arc<Client>, request: Request<Incoming>) -> Response<Counted> {
    let slot = client.shared.limiter.under_way(&client.shared.limits);
    let (response, slot) = match slot {
        Ok(slot) => (exchange::answer(client, request).await, Some(slot)),
        Err(refusal) => (turn_away(client, request, *refusal), None),
    };
    response.map(|reply| Counted { reply, _slot: slot })
}

/// Answers a request for which there is no room, without keeping any of it.
pub fn turn_away(client: &Client, request: Request<Incoming>, mut refusal: Refusal) -> Response<Reply> {
    client.count_request(true);
    let (parts, _) = request.into_parts();
    refusal.words = shows_words_only(&parts.headers);
    let subject = match exchange::understand(client, &parts) {
        Ok(request) => request.subject(),
        Err(refusal) => refusal.subject,
    };
    exchange::refuse(client, &refusal.about(subject), (&client.shared.begin(), parts.version))
}

/// The body of an answer, with the place that its request has.
pub struct Counted {
    reply: Reply,
    _slot: Option<Slot>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = <Reply as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.reply).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.reply.size_hint()
    }
}
