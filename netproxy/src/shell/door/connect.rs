//! `CONNECT`: decided at once, answered inside. Whatever the verdict, the client gets `200` and its TLS
//! handshake, and then an answer that it can read: a refused `CONNECT` is retried or hidden by most clients. The
//! exception is a client that said of late that it does not trust the certificate: it could read nothing inside.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::front::refuse_bad;
use crate::audit::Layer;
use crate::flow::{self, subject_of};
use crate::hooks::{ConnectFacts, TlsMode, Verdict};
use crate::refuse::{Kind, Refusal, Subject};
use crate::shell::answer;
use crate::shell::client::strict_io::StrictIo;
use crate::shell::passage::Passage;
use crate::shell::shared::Shared;
use crate::shell::stream::rewind::Rewind;
use crate::wire::head;

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection Established\r\n\r\n";

/// Serves a stream whose next head is a `CONNECT`.
pub async fn serve<S>(shared: &Arc<Shared>, mut io: StrictIo<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let decision = shared.begin();
    // Not kept over an await: it holds on to the buffer that it was read into, as long as the tunnel lives.
    let understood = head::parse(&io.take_head())
        .map(|head| flow::understand_connect(&head).and_then(|authority| shared.dns.named(authority)));
    let authority = match understood {
        Ok(authority) => authority,
        Err(error) => return refuse_bad(shared, &mut io, error, Subject::default()).await,
    };
    let authority = match authority {
        Ok(authority) => authority,
        Err(refusal) => return answer::refuse(shared, io.io_mut(), &refusal, &decision).await,
    };
    let verdict = shared.authorize.connect(&ConnectFacts { authority: &authority });
    if shared.distrust.take(authority.host(), decision.started)
        && let Some(refusal) = in_the_clear(&verdict)
    {
        let subject = Subject { method: Some("CONNECT".into()), ..subject_of(&authority) };
        return answer::refuse(shared, io.io_mut(), &refusal.about(subject), &decision).await;
    }
    let (stream, early) = io.into_parts();
    let passage = Passage::new(shared, decision, (authority, Layer::Connect), &verdict);
    passage.open(Rewind::new(stream, early), verdict, ESTABLISHED).await;
}

/// What a client is told that could not read it inside; nothing where it gets the upstream's own certificate.
fn in_the_clear(verdict: &Verdict) -> Option<Refusal> {
    match verdict {
        Verdict::Deny(deny) => Some(Refusal::policy(Layer::Connect, deny.clone())),
        Verdict::Allow(allow) if allow.tls == TlsMode::Opaque => None,
        Verdict::Allow(allow) => {
            let detail = "a client ended its last TLS handshake for this host because it does not trust the certificate";
            Some(Refusal::new(Kind::AuthorityNotTrusted, Layer::Connect, detail).after(allow))
        }
    }
}
