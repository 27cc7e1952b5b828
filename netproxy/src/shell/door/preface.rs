//! The transparent door: one line that says where to (see [`crate::wire::preface`]), then the bytes of a program
//! that knows of no proxy. Judged as after `CONNECT`.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::socks::can_be_told_inside;
use crate::audit::Layer;
use crate::authority::Authority;
use crate::flow::subject_of;
use crate::hooks::{ConnectFacts, Verdict};
use crate::refuse::{Kind, Refusal};
use crate::shell::answer::{linger, write};
use crate::shell::passage::Passage;
use crate::shell::shared::{Decision, Shared};
use crate::shell::stream::rewind::Rewind;
use crate::wire::preface::{self, PrefaceError};

/// Serves one connection that starts with a preface.
pub async fn serve<S>(shared: &Arc<Shared>, mut stream: Rewind<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = timeout(shared.limits.header_timeout, read(&mut stream));
    let Some(asked) = shared.control.unless_draining(asked).await else { return };
    let decision = shared.begin();
    let authority = match asked {
        Ok(Some(Ok(authority))) => authority,
        Ok(Some(Err(error))) => {
            let refusal = Refusal::new(Kind::Malformed, Layer::Transparent, error.to_string());
            return refuse(shared, stream, &refusal, &decision).await;
        }
        Ok(None) | Err(_) => return,
    };
    let authority = match shared.dns.named(authority) {
        Ok(authority) => authority,
        Err(refusal) => return refuse(shared, stream, &refusal, &decision).await,
    };
    let facts = ConnectFacts { authority: &authority };
    let verdict = shared.authorize.connect(&facts);
    if let Verdict::Deny(deny) = &verdict
        && !can_be_told_inside(shared, &facts)
    {
        let refusal = Refusal::policy(Layer::Transparent, deny.clone()).about(subject_of(&authority));
        return refuse(shared, stream, &refusal, &decision).await;
    }
    let passage = Passage::new(shared, decision, (authority, Layer::Transparent), &verdict);
    passage.open(stream, verdict, preface::ACCEPTED).await;
}

/// `None` if the stream ended or broke.
async fn read<S: AsyncRead + Unpin>(stream: &mut Rewind<S>) -> Option<Result<Authority, PrefaceError>> {
    loop {
        match preface::parse(stream.early()) {
            Ok(Some((authority, length))) => {
                stream.skip(length);
                return Some(Ok(authority));
            }
            Ok(None) => {}
            Err(error) => return Some(Err(error)),
        }
        if stream.read_ahead().await.ok()? == 0 {
            return None;
        }
    }
}

async fn refuse<S>(shared: &Shared, mut stream: Rewind<S>, refusal: &Refusal, decision: &Decision)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let line = preface::refused(refusal.kind.code(), &decision.id);
    let sent = write(shared, &mut stream, line.as_bytes()).await;
    shared.record_refusal(decision, refusal, false);
    if sent {
        linger(shared, &mut stream).await;
    }
}
