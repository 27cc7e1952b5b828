//! `CONNECT`: decided at once, answered inside. Whatever the verdict, the client gets `200` and its TLS
//! handshake, and then an answer that it can read: a refused `CONNECT` is retried or hidden by most clients.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::answer;
use super::front::refuse_bad;
use super::passage::Passage;
use super::rewind::Rewind;
use super::shared::Shared;
use super::strict_io::StrictIo;
use crate::audit::Layer;
use crate::flow;
use crate::hooks::ConnectFacts;
use crate::refuse::Subject;
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
    let (mut stream, early) = io.into_parts();
    if stream.write_all(ESTABLISHED).await.is_err() || stream.flush().await.is_err() {
        return;
    }
    let passage = Passage { shared, decision, authority, layer: Layer::Connect };
    Box::pin(passage.serve(Rewind::new(stream, early), verdict)).await;
}
