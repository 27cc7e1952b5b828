//! One client connection of HTTP/2, inside TLS. Each stream is a request with a decision of its own; a refusal
//! ends its stream and not the connection.
//!
//! The `h2` library does frames, windows and header compression; it is driven here without hyper on top, whose
//! tasks and channels for each stream cost more than the stream.
//!
//! It never waits for ever: a connection without streams is told to go, and then closed; so is a stream whose
//! client takes nothing of its answer.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use http::header::EXPECT;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::crew::Crew;
use super::crowd;
use super::http1::Client;
use crate::audit::Layer;
use crate::limits::{
    HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_LOCAL_RESETS_MAX, HTTP2_PENDING_RESETS_MAX,
    HTTP2_SEND_BUFFER_BYTES_MAX, HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS_MAX, HTTP2_TASKS_WAITING_MAX,
};
use crate::refuse::{Kind, Refusal};
use crate::shell::control::unless;
use crate::shell::exchange;
use crate::shell::exchange::body::Reply;
use crate::shell::limiter::Slot;
use crate::shell::shared::Shared;
use crate::shell::stream::incoming::{self, Incoming};
use crate::shell::stream::outgoing::{self, Cut, Take};
use crate::shell::stream::stall::Stalling;

/// What TLS calls it (RFC 9113 §3.1).
pub const ALPN: &[u8] = b"h2";

/// Serves requests until the client is done, is told to go, or is idle for too long.
pub async fn serve<S>(io: S, client: &Arc<Client>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ours = Arc::clone(client);
    let answer = move |request, room: Option<Box<Refusal>>| {
        let client = Arc::clone(&ours);
        async move {
            match room {
                None => exchange::answer(&client, request).await,
                Some(refusal) => crowd::turn_away(&client, request, *refusal),
            }
        }
    };
    if let Err(broken) = drive(io, &client.shared, client.gone(), answer).await {
        let refusal = broken.refusal().about(client.subject());
        client.shared.record_refusal(&client.shared.begin(), &refusal, false);
    }
}

/// The client broke the protocol, so the library ended the connection.
#[derive(Debug, Clone, Copy)]
pub struct Broken(h2::Reason);

impl Broken {
    /// `None` of a connection that broke otherwise, or that the client ended.
    fn of(error: &h2::Error) -> Option<Self> {
        error.reason().filter(|_| error.is_library()).map(Self)
    }

    /// GOAWAY is all that the client was answered.
    fn refusal(self) -> Refusal {
        let code = u32::from(self.0);
        let detail =
            format!("the connection breaks HTTP/2, or asks for too much of it: code {code}, {}", self.0);
        Refusal::new(Kind::Malformed, Layer::Http, detail)
    }
}

/// Answers every stream by `answer`, until `stop`; then finishes what is under way. `answer` is given the refusal of
/// those for which there is no room.
pub async fn drive<S, A, F>(
    io: S,
    shared: &Shared,
    stop: impl Future<Output = ()>,
    answer: A,
) -> Result<(), Broken>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>, Option<Box<Refusal>>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Reply>> + Send + 'static,
{
    let handshake = builder(shared).handshake::<_, Bytes>(Stalling::new(io, shared.limits.idle_timeout));
    let handshake = timeout(shared.limits.header_timeout, handshake);
    let mut stop = pin!(stop);
    let mut connection = match unless(stop.as_mut(), handshake).await {
        Some(Ok(Ok(connection))) => connection,
        Some(Ok(Err(error))) => return Broken::of(&error).map_or(Ok(()), Err),
        Some(Err(_)) | None => return Ok(()),
    };
    let (streams, stuck) = (Arc::new(Streams::default()), shared.limits.idle_timeout);
    let room = (Arc::clone(&shared.limiter.waiting), HTTP2_TASKS_WAITING_MAX);
    let crew = Crew::new(move |stream| serve_stream(stream, answer.clone(), stuck), room);
    let mut idle = pin!(streams.idle_for(shared.limits.header_timeout));
    let mut told = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let (request, respond) = match accepted {
                    Some(Ok(accepted)) => accepted,
                    Some(Err(error)) => return Broken::of(&error).map_or(Ok(()), Err),
                    None => return Ok(()),
                };
                let (slot, refusal) = match shared.limiter.under_way(&shared.limits) {
                    Ok(slot) => (Some(slot), None),
                    Err(refusal) => (None, Some(refusal)),
                };
                let held: Held = Arc::new((streams.open(), slot));
                let (request, wanted) = take(request, &held);
                crew.give(Stream { request, refusal, respond, wanted, _held: held });
            }
            () = &mut stop, if !told => {
                told = true;
                connection.graceful_shutdown();
                idle.set(streams.idle_for(shared.limits.linger_timeout));
            }
            () = &mut idle => {
                // The client does not close, although it was told to go and nothing is under way.
                if told {
                    return Ok(());
                }
                told = true;
                connection.graceful_shutdown();
                idle.set(streams.idle_for(shared.limits.linger_timeout));
            }
        }
    }
}

fn builder(shared: &Shared) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .initial_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(HTTP2_SEND_BUFFER_BYTES_MAX)
        .max_header_list_size(u32::try_from(shared.limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS_MAX)
        .max_local_error_reset_streams(Some(HTTP2_LOCAL_RESETS_MAX));
    builder
}

/// The request with its body, and who is told when the body is wanted, if the client waits for that.
fn take(request: Request<h2::RecvStream>, held: &Held) -> (Request<Incoming>, Option<Arc<Notify>>) {
    let (parts, stream) = request.into_parts();
    let mut body = incoming::Http2::new(stream, &parts.headers);
    body.hold(Arc::clone(held) as _);
    let waits =
        parts.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let wanted = waits.then(|| {
        let wanted = Arc::new(Notify::new());
        body.announce(Arc::clone(&wanted));
        wanted
    });
    (Request::from_parts(parts, Incoming::Http2(body)), wanted)
}

/// A stream with its request.
struct Stream {
    request: Request<Incoming>,
    /// There is no room for it.
    refusal: Option<Box<Refusal>>,
    respond: SendResponse<Bytes>,
    wanted: Option<Arc<Notify>>,
    _held: Held,
}

/// A stream counts until its answer is sent, and its request, which may go on after that.
type Held = Arc<(Open, Option<Slot>)>;

/// One stream, to its end or until the client resets it.
async fn serve_stream<A, F>(stream: Stream, answer: A, stuck: Duration)
where
    A: Fn(Request<Incoming>, Option<Box<Refusal>>) -> F,
    F: Future<Output = Response<Reply>>,
{
    let Stream { request, refusal, mut respond, wanted, _held } = stream;
    let wants_head_only = request.method() == Method::HEAD;
    let mut answered = pin!(answer(request, refusal));
    let mut wanted = pin!(async {
        match wanted {
            Some(wanted) => wanted.notified().await,
            None => std::future::pending().await,
        }
    });
    let mut asked = false;
    let response = loop {
        tokio::select! {
            biased;
            _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
            response = &mut answered => break response,
            () = &mut wanted, if !asked => {
                asked = true;
                let mut go_on = Response::new(());
                *go_on.status_mut() = StatusCode::CONTINUE;
                // A stream that is over is found out above.
                let _ = respond.send_informational(go_on);
            }
        }
    };
    let (parts, mut body) = response.into_parts();
    // Whatever it is made of: a refusal has a body, and the length of it may be said.
    let ended = wants_head_only || body.is_end_stream();
    let Ok(mut stream) = respond.send_response(Response::from_parts(parts, ()), ended) else { return };
    if !ended {
        let sent = outgoing::send(&mut body, &mut stream, (Take::AtOnce, stuck)).await;
        match sent {
            // Why a body broke off it says itself.
            Ok(()) | Err(Cut::Broken) => {}
            Err(Cut::Stuck) => body.fail("client_took_nothing"),
            Err(Cut::Refused) => body.unheard(),
        }
    }
}

/// How many streams there are and were.
#[derive(Default)]
struct Streams {
    open: AtomicUsize,
    all: AtomicU64,
}

impl Streams {
    /// Counts one until it is dropped.
    fn open(self: &Arc<Self>) -> Open {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    /// Returns when no stream was open for all of `limit`, and for at most twice as long.
    async fn idle_for(&self, limit: Duration) {
        loop {
            let before = self.all.load(Ordering::Relaxed);
            sleep(limit).await;
            if self.open.load(Ordering::Relaxed) == 0 && self.all.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

/// One stream that is open.
struct Open(Arc<Streams>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
