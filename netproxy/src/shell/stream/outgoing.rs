//! A body on its way out over one HTTP/2 stream, towards a client or an upstream.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::limits::{
    HTTP2_COPIED_BYTES, HTTP2_SMALL_FRAME_BYTES as SMALL_BYTES, HTTP2_SMALL_FRAMES_MAX as SMALL_FRAMES_MAX,
};

/// Why a body was not sent to its end.
pub enum Cut {
    /// The other side wants no more of it, or is gone.
    Refused,
    /// The other side took nothing for too long.
    Stuck,
    /// The body itself broke off.
    Broken,
}

/// When the next piece of a body is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// As soon as the last is handed over: the end of the body, and trailers, need no room (RFC 9113 §6.9.1).
    AtOnce,
    /// When there is room for some of it: until then the body is whole, and can be sent elsewhere.
    WithRoom,
}

/// Sends all of `body` and its trailers, a piece at a time, each as far as the window of the other side has room.
/// `stuck` is how long it may have none.
pub async fn send<B>(
    body: &mut B,
    stream: &mut SendStream<Bytes>,
    (take, stuck): (Take, Duration),
) -> Result<(), Cut>
where
    B: Body<Data = Bytes, Error = io::Error> + Unpin,
{
    let sent = pump(body, stream, (take, stuck)).await;
    match &sent {
        Ok(()) | Err(Cut::Refused) => {}
        Err(Cut::Stuck) => stream.send_reset(Reason::CANCEL),
        Err(Cut::Broken) => stream.send_reset(Reason::INTERNAL_ERROR),
    }
    sent
}

async fn pump<B>(
    body: &mut B,
    stream: &mut SendStream<Bytes>,
    (take, stuck): (Take, Duration),
) -> Result<(), Cut>
where
    B: Body<Data = Bytes, Error = io::Error> + Unpin,
{
    let places = Arc::new(Semaphore::new(SMALL_FRAMES_MAX));
    loop {
        if take == Take::WithRoom {
            room(stream, 1, stuck).await?;
        }
        let Some(frame) = next(body, stream).await? else {
            return stream.send_data(Bytes::new(), true).map_err(|_| Cut::Refused);
        };
        match frame.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                hand_over(data, last, stream, (&places, stuck)).await?;
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

/// Waits for a place for a small piece, which it has until it is sent. The library counts the bytes that it keeps of a stream,
/// and not what each frame of them takes, which is hundreds.
async fn counted(
    data: Bytes,
    places: &Arc<Semaphore>,
    stream: &mut SendStream<Bytes>,
    stuck: Duration,
) -> Result<Bytes, Cut> {
    let mut place = pin!(Arc::clone(places).acquire_owned());
    let place = poll_fn(|cx| {
        if stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Cut::Refused));
        }
        place.as_mut().poll(cx).map_err(|_| Cut::Refused)
    });
    let place = timeout(stuck, place).await.map_err(|_| Cut::Stuck)??;
    Ok(Bytes::from_owner(Placed { data, _place: place }))
}

/// A piece, and its place.
struct Placed {
    data: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Gives the library no more than there is room for: what it has been given it keeps, and nobody counts that any more.
async fn hand_over(
    mut data: Bytes,
    last: bool,
    stream: &mut SendStream<Bytes>,
    (places, stuck): (&Arc<Semaphore>, Duration),
) -> Result<(), Cut> {
    if data.is_empty() && last {
        return stream.send_data(data, true).map_err(|_| Cut::Refused);
    }
    while !data.is_empty() {
        let room = room(stream, data.len(), stuck).await?;
        let mut piece = data.split_to(room.min(data.len()));
        if piece.len() < HTTP2_COPIED_BYTES {
            piece = Bytes::copy_from_slice(&piece);
        }
        // Whether it came so, or the other side grants no more at a time.
        if piece.len() < SMALL_BYTES {
            piece = counted(piece, places, stream, stuck).await?;
        }
        stream.send_data(piece, last && data.is_empty()).map_err(|_| Cut::Refused)?;
    }
    Ok(())
}

/// Waits until the other side's window has room for some of `wanted` bytes, and gives how many it has.
async fn room(stream: &mut SendStream<Bytes>, wanted: usize, stuck: Duration) -> Result<usize, Cut> {
    stream.reserve_capacity(wanted);
    let room = stream.capacity();
    if room > 0 {
        return Ok(room);
    }
    let granted = poll_fn(|cx| {
        loop {
            return match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(0))) => continue,
                Poll::Ready(Some(Ok(room))) => Poll::Ready(Ok(room)),
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
