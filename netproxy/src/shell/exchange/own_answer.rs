//! An answer that a hook gives in the upstream's place: got to its end, whatever becomes of the client.

use http::header::{CONTENT_LENGTH, TRAILER};
use http::{HeaderMap, Response};

use super::body::{Reply, joined, redact_fields};
use crate::hooks::{Decided, OwnAnswer};
use crate::refuse::{Kind, Refusal};
use crate::shell::exchange::clean_headers;
use crate::shell::ledger::Ledger;
use crate::shell::trace::Span;
use crate::shell::upstream::failure;

/// Waits for it, as long as the client does.
pub async fn give(
    answer: OwnAnswer,
    decided: &Decided<'_>,
    mut ledger: Ledger,
) -> Result<Response<Reply>, Box<Refusal>> {
    // Dropping the handle does not end the task.
    let (mut parts, body) = match tokio::spawn(Span::current().around(answer)).await {
        Ok(answer) if !answer.status().is_informational() => answer.into_parts(),
        _ => {
            let detail = "there is no answer: what was to give it broke off";
            let mut refusal = failure(Kind::UpstreamProtocol, detail);
            ledger.give_up(&mut refusal.before);
            return Err(refusal);
        }
    };
    ledger.head_is_here();
    ledger.answered(parts.status.as_u16());
    let mut headers: HeaderMap = clean_headers(&mut parts.headers, &mut None, &mut ledger);
    // Framing is the server's, and nothing comes after the body.
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRAILER);
    // Not before: what the hook has learned meanwhile must not pass either.
    let filter = ledger.shared().redact.filter(decided);
    let body = match filter {
        None => body,
        Some(mut filter) => {
            redact_fields(filter.as_mut(), &mut headers);
            let body = joined(filter.body(body), filter.finish());
            ledger.redactions(filter.redactions());
            body
        }
    };
    ledger.down(body.len());
    let mut back = Response::new(Reply::Whole(Some(body).filter(|body| !body.is_empty())));
    *back.status_mut() = parts.status;
    *back.headers_mut() = headers;
    Ok(back)
}
