//! A body on its way out over one HTTP/2 stream, towards a client or an upstream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::body::{Body, Frame};
use tokio::time::timeout;

/// Why a body was not sent to its end.
pub enum Cut {
    /// The other side wants no more of it, or is gone.
    Refused,
    /// The other side took nothing for too long.
    Stuck,
    /// The body itself broke off.
    Broken,
}

/// Sends all of `body` and its trailers, a piece at a time: the next is asked for when the window of the other
/// side has room. `stuck` is how long that may take.
pub async fn send<B>(body: &mut B, stream: &mut SendStream<Bytes>, stuck: Duration) -> Result<(), Cut>
where
    B: Body<Data = Bytes, Error = io::Error> + Unpin,
{
    let sent = pump(body, stream, stuck).await;
    match &sent {
        Ok(()) | Err(Cut::Refused) => {}
        Err(Cut::Stuck) => stream.send_reset(Reason::CANCEL),
        Err(Cut::Broken) => stream.send_reset(Reason::INTERNAL_ERROR),
    }
    sent
}

async fn pump<B>(body: &mut B, stream: &mut SendStream<Bytes>, stuck: Duration) -> Result<(), Cut>
where
    B: Body<Data = Bytes, Error = io::Error> + Unpin,
{
    loop {
        room(stream, stuck).await?;
        let Some(frame) = next(body, stream).await? else {
            return stream.send_data(Bytes::new(), true).map_err(|_| Cut::Refused);
        };
        match frame.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                if last || !data.is_empty() {
                    stream.send_data(data, last).map_err(|_| Cut::Refused)?;
                }
                if last {
                    return Ok(());
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return stream.send_trailers(trailers).map_err(|_| Cut::Refused);
            }
        }
    }
}

/// Waits until the other side's window has room for at least a byte.
async fn room(stream: &mut SendStream<Bytes>, stuck: Duration) -> Result<(), Cut> {
    stream.reserve_capacity(1);
    if stream.capacity() > 0 {
        return Ok(());
    }
    let granted = poll_fn(|cx| {
        loop {
            return match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(0))) => continue,
                Poll::Ready(Some(Ok(_))) => Poll::Ready(Ok(())),
                Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Err(Cut::Refused)),
                Poll::Pending => Poll::Pending,
            };
        }
    });
    timeout(stuck, granted).await.map_err(|_| Cut::Stuck)?
}

/// The next piece of the body, unless the other side resets the stream first.
async fn next<B>(body: &mut B, stream: &mut SendStream<Bytes>) -> Result<Option<Frame<Bytes>>, Cut>
where
    B: Body<Data = Bytes, Error = io::Error> + Unpin,
{
    poll_fn(|cx| {
        if stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Cut::Refused));
        }
        Pin::new(&mut *body).poll_frame(cx).map(|frame| frame.transpose().map_err(|_| Cut::Broken))
    })
    .await
}
