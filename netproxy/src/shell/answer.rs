//! Refusals outside of an HTTP server, and the end of a connection.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::shared::{Decision, Shared};
use crate::limits::{LINGER_BYTES_MAX, LINGER_READ_BYTES};
use crate::refuse::{Refusal, http1_bytes};

/// Writes the refusal, records it and ends the connection.
pub async fn refuse<S>(shared: &Shared, io: &mut S, refusal: &Refusal, decision: &Decision)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let bytes = http1_bytes(refusal, &decision.id);
    let answered = write(shared, io, &bytes).await;
    shared.record_refusal(decision, refusal, answered);
    if answered {
        linger(shared, io).await;
    }
}

/// The same in a language that has no room for the refusal: `bytes` are all that is said.
pub async fn refuse_with<S>(shared: &Shared, io: &mut S, refusal: &Refusal, bytes: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let decision = shared.begin();
    let written = write(shared, io, bytes).await;
    shared.record_refusal(&decision, refusal, false);
    if written {
        linger(shared, io).await;
    }
}

/// Writes all of it; `false` where the client is gone, or takes it too slowly.
pub async fn write<S: AsyncWrite + Unpin>(shared: &Shared, io: &mut S, bytes: &[u8]) -> bool {
    let written = timeout(shared.limits.header_timeout, async {
        io.write_all(bytes).await?;
        io.flush().await
    });
    matches!(written.await, Ok(Ok(())))
}

/// Ends our side, then reads what the client is still sending: closing over unread bytes would reset the
/// connection, and the client would lose the answer.
pub async fn linger<S>(shared: &Shared, io: &mut S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let drain = async {
        io.shutdown().await?;
        // Not an array: every connection's future would be as large, from its start.
        let mut scratch = vec![0u8; LINGER_READ_BYTES];
        let mut seen = 0usize;
        while seen < LINGER_BYTES_MAX {
            match io.read(&mut scratch).await? {
                0 => break,
                count => seen = seen.saturating_add(count),
            }
        }
        io::Result::Ok(())
    };
    // Whatever happens now, the answer is out.
    let _ = timeout(shared.limits.linger_timeout, drain).await;
}
