//! The credential and, where it has to do with that, the body. Must never send a body that a hook asked to see and did
//! not, nor one that is not as long as its head says.

use http::HeaderValue;

use super::body::{RequestBody, What, count};
use super::held::{Room, hold};
use crate::hooks::{Decided, RequestHead};
use crate::refuse::Refusal;
use crate::shell::ledger::Ledger;
use crate::shell::shared::Shared;
use crate::shell::stream::incoming::Incoming;

/// Puts the credential in; the body as it will be sent, and its length if that is known.
pub async fn inject(
    shared: &Shared,
    (decided, head): (&Decided<'_>, &mut RequestHead),
    (mut incoming, mut length, most): (Incoming, Option<HeaderValue>, Option<u64>),
    ledger: &mut Ledger,
) -> Result<(RequestBody, Option<HeaderValue>), Box<Refusal>> {
    // A handshake has no body; what comes after it is the WebSocket's.
    let reads = !decided.request.websocket && shared.inject.reads_body(decided, head);
    // Boxed: most requests do not carry its room about.
    let mut held = None;
    if reads {
        held = Some(Box::pin(hold(shared, &mut incoming, (most, &ledger.sent()))).await?);
    }
    head.body = held.as_ref().map(|held| held.bytes.clone());
    let injected = shared.inject.inject(decided, head).await;
    let injected = injected.map_err(|error| Box::new(Refusal::inject(&error)))?;
    ledger.note(|record| record.credential = injected.credential);
    if head.answer.is_some()
        && let Some(held) = &held
    {
        // Nobody else sends it.
        count(&ledger.sent().bytes, held.bytes.len());
    }
    if let Some(held) = &mut held
        && let Some(bytes) = head.body.take()
    {
        length = match &held.trailers {
            // Trailers need chunks.
            Some(_) => None,
            None if bytes.is_empty() && length.is_none() => None,
            None => Some(HeaderValue::from(bytes.len())),
        };
        held.bytes = bytes;
    }
    let what = match (held, head.body_filter.take()) {
        (Some(held), _) => What::Held(held),
        (None, Some(filter)) => What::Through(filter, Room::of(&shared.held, shared.limits.held_bytes_max)),
        (None, None) => What::Incoming,
    };
    let body = RequestBody::new((incoming, what), shared.limits.idle_timeout, (ledger.sent(), most));
    Ok((body, length))
}
