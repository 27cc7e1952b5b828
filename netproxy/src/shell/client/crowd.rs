//! Requests under way, over all connections of the sandbox: counted until their answers are sent, and refused above
//! the limit. A head may have 64 KiB, and HTTP/2 a hundred of them on each of thousands of connections.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming as Http1, SizeHint};

use super::http1::Client;
use crate::refuse::{Refusal, shows_words_only};
use crate::shell::exchange;
use crate::shell::exchange::body::Reply;
use crate::shell::limiter::Slot;
use crate::shell::stream::incoming::Incoming;

/// Answers a request over HTTP/1.1, which counts until its answer is sent, and what goes on of it after that.
pub async fn answer(client: &Arc<Client>, request: Request<Http1>) -> Response<Counted> {
    let slot = match client.shared.limiter.under_way(&client.shared.limits) {
        Ok(slot) => slot,
        Err(refusal) => {
            let request = request.map(|body| Incoming::Http1(body, None));
            return turn_away(client, request, *refusal).map(|reply| Counted { reply, _place: Place::None });
        }
    };
    let (place, held) = if request.body().is_end_stream() {
        (Place::OfAnswer(slot), None)
    } else {
        let slot = Arc::new(slot);
        (Place::OfBoth(Arc::clone(&slot)), Some(slot as _))
    };
    let response = exchange::answer(client, request.map(|body| Incoming::Http1(body, held))).await;
    response.map(|reply| Counted { reply, _place: place })
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
    _place: Place,
}

#[expect(dead_code, reason = "they are held until they are dropped")]
enum Place {
    None,
    OfAnswer(Slot),
    /// Of the request's body, too.
    OfBoth(Arc<Slot>),
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
