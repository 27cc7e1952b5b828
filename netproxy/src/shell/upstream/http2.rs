//! The upstream of one HTTP/2 client connection: one HTTP/2 connection that all its streams share where the
//! upstream speaks it, else HTTP/1.1 connections of their own.
//!
//! A request is sent a second time only where the upstream says that it did nothing with the first (RFC 9113
//! §8.7), and only once.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Scheme as UriScheme;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::http1::Sender as Http1;
use super::pool::Place;
use super::reach::OpenTimes;
use crate::authority::Authority;
use crate::hooks::Scheme;
use crate::limits::{
    HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_FAREWELL, HTTP2_INTERIM_ANSWERS_MAX, HTTP2_LOCAL_RESETS_MAX,
    HTTP2_SEND_BUFFER_BYTES_MAX, HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS_BEFORE_SETTINGS, UPSTREAM_IDLE,
};
use crate::refuse::{Kind, Refusal};
use crate::shell::client::http2::ALPN;
use crate::shell::client::leash::Leash;
use crate::shell::exchange::body::RequestBody;
use crate::shell::shared::Shared;
use crate::shell::stream::incoming::{self, Incoming};
use crate::shell::stream::outgoing::{self, Cut, Take};
use crate::shell::stream::stall::Stalling;
use crate::shell::upstream::{self, Arrived, body_broke_off, failure, too_late};

/// An open connection.
#[derive(Clone)]
struct Http2 {
    sender: SendRequest<Bytes>,
    connection: AbortHandle,
}

/// What is known of the upstream. The lock is held while dialling: the other streams wait for the outcome.
#[derive(Default)]
pub struct Multiplex {
    upstream: Mutex<Upstream>,
    /// Closed with it: what it dialled goes then, whatever that upstream does not take.
    alive: watch::Sender<()>,
}

#[derive(Default)]
struct Upstream {
    /// By way of which upstream proxy, and as whom: [`Place`].
    via: Option<Arc<str>>,
    certified: bool,
    known: Known,
}

#[derive(Default)]
enum Known {
    #[default]
    Nothing,
    SpeaksHttp1,
    Open {
        sender: Http2,
        used: Instant,
        /// Of the request that it was dialled for ([`Place::epoch`]): a changed policy dials anew.
        epoch: u64,
    },
    Failed {
        at: Instant,
        /// The same.
        epoch: u64,
        refusal: Box<Refusal>,
    },
}

/// A way to the upstream. Times are those that it took to open it.
enum Way {
    Http2(Http2, Option<OpenTimes>),
    /// The connection that told us.
    NewHttp1(Http1, OpenTimes),
    Http1,
}

impl Multiplex {
    /// Sends `request`, which is in the form for HTTP/1.1.
    pub async fn send(
        &self,
        shared: &Shared,
        place: &Place,
        request: Request<RequestBody>,
    ) -> Result<Arrived, Box<Refusal>> {
        let (parts, mut body) = request.into_parts();
        let mut second = false;
        loop {
            let (open, opened) = match self.way(shared, place, Instant::now()).await? {
                Way::Http2(open, opened) => (open, opened),
                Way::NewHttp1(sender, opened) => {
                    let request = Request::from_parts(parts, body);
                    return upstream::send_over(sender, request, opened).await;
                }
                Way::Http1 => {
                    let request = Request::from_parts(parts, body);
                    return upstream::send(shared, place, request).await;
                }
            };
            let head = Request::from_parts(http2_parts(&parts, &place.authority)?, ());
            match ask(shared, open.sender, (head, body)).await {
                Ok(response) => return Ok(Arrived { response, opened }),
                Err(Unanswered { error, untouched: Some(again), .. })
                    if !second && error.as_ref().is_none_or(was_not_processed) =>
                {
                    body = again;
                }
                Err(unanswered) => {
                    let why = unanswered.why();
                    return Err(match opened {
                        Some(times) => times.on(why),
                        None => why,
                    });
                }
            }
            self.forget().await;
            second = true;
        }
    }

    async fn way(&self, shared: &Shared, place: &Place, asked: Instant) -> Result<Way, Box<Refusal>> {
        let mut upstream = self.upstream.lock().await;
        if upstream.via != place.via || upstream.certified != place.certified {
            let (via, certified) = (place.via.clone(), place.certified);
            *upstream = Upstream { via, certified, known: Known::Nothing };
        }
        let known = &mut upstream.known;
        match known {
            Known::SpeaksHttp1 => return Ok(Way::Http1),
            Known::Open { sender, used, epoch }
                if !sender.connection.is_finished()
                    && used.elapsed() < UPSTREAM_IDLE
                    && *epoch >= place.epoch =>
            {
                *used = Instant::now();
                return Ok(Way::Http2(sender.clone(), None));
            }
            // Found out while we waited: a hundred streams do not wait for a hundred timeouts.
            Known::Failed { at, epoch, refusal } if *at >= asked && *epoch >= place.epoch => {
                return Err(refusal.of_another());
            }
            _ => {}
        }
        // Boxed: streams of an open connection do not carry its room about.
        match Box::pin(open(shared, place, self.alive.subscribe())).await {
            Ok((Opened::Http2(sender), times)) => {
                *known = Known::Open { sender: sender.clone(), used: Instant::now(), epoch: place.epoch };
                Ok(Way::Http2(sender, Some(times)))
            }
            Ok((Opened::Http1(sender), times)) => {
                *known = Known::SpeaksHttp1;
                Ok(Way::NewHttp1(sender, times))
            }
            Err(refusal) => {
                *known = Known::Failed { at: Instant::now(), epoch: place.epoch, refusal: refusal.clone() };
                Err(refusal)
            }
        }
    }

    /// No new stream goes over the connection in hand; those on it go on.
    pub async fn forget(&self) {
        self.upstream.lock().await.known = Known::Nothing;
    }
}

enum Opened {
    Http2(Http2),
    Http1(Http1),
}

async fn open(
    shared: &Shared,
    place: &Place,
    alive: watch::Receiver<()>,
) -> Result<(Opened, OpenTimes), Box<Refusal>> {
    let (stream, times) = upstream::open_tls(shared, place, &shared.upstream_tls_http2).await?;
    let opened = if stream.get_ref().1.alpn_protocol() == Some(ALPN) {
        Opened::Http2(handshake(shared, stream, alive).await.map_err(|refusal| times.on(refusal))?)
    } else {
        Opened::Http1(upstream::over(shared, stream))
    };
    Ok((opened, times))
}

async fn handshake<S>(shared: &Shared, io: S, mut alive: watch::Receiver<()>) -> Result<Http2, Box<Refusal>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = Builder::new()
        .enable_push(false)
        .initial_max_send_streams(HTTP2_STREAMS_BEFORE_SETTINGS)
        .initial_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(HTTP2_SEND_BUFFER_BYTES_MAX)
        .max_header_list_size(u32::try_from(shared.limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_local_error_reset_streams(Some(HTTP2_LOCAL_RESETS_MAX))
        .handshake::<_, Bytes>(Stalling::new(io, shared.limits.idle_timeout));
    let (sender, connection) = handshake.await.map_err(|_| no_http2())?;
    let task = tokio::spawn(async move {
        let mut connection = pin!(connection);
        tokio::select! {
            // When the last sender and the last stream are gone. Its error reaches the requests.
            _ = &mut connection => return,
            // Nobody ever sends: this is its end.
            _ = alive.changed() => {}
        }
        // To say so.
        let _ = timeout(HTTP2_FAREWELL, connection).await;
    });
    Ok(Http2 { sender, connection: task.abort_handle() })
}

/// The same head for HTTP/2: `:authority` instead of Host, and no framing fields (RFC 9113 §8.2.2, §8.3.1).
fn http2_parts(parts: &Parts, authority: &Authority) -> Result<Parts, Box<Refusal>> {
    let cannot = |_| failure(Kind::UpstreamProtocol, "the request cannot be written in HTTP/2");
    let mut uri = parts.uri.clone().into_parts();
    uri.scheme = Some(UriScheme::HTTPS);
    let host = authority.host_header(Scheme::Https.default_port());
    uri.authority = Some(host.parse().map_err(|_| failure(Kind::UpstreamProtocol, "bad host"))?);
    let (mut new, ()) = Request::new(()).into_parts();
    new.method = parts.method.clone();
    new.uri = Uri::from_parts(uri).map_err(cannot)?;
    new.version = Version::HTTP_2;
    new.headers = parts.headers.clone();
    for name in [HOST, TRANSFER_ENCODING, CONNECTION] {
        new.headers.remove(name);
    }
    Ok(new)
}

/// A request without an answer.
struct Unanswered {
    /// `None` if it was not sent.
    error: Option<h2::Error>,
    /// Its body, if nothing of that was taken.
    untouched: Option<RequestBody>,
    /// Why, where it is not the connection.
    why: Option<Box<Refusal>>,
}

impl Unanswered {
    fn unsent(body: RequestBody) -> Self {
        Self { error: None, untouched: Some(body), why: None }
    }

    /// It may have been acted upon.
    fn too_late() -> Self {
        Self { error: None, untouched: None, why: Some(too_late()) }
    }

    fn why(self) -> Box<Refusal> {
        self.why.unwrap_or_else(no_http2)
    }
}

fn no_http2() -> Box<Refusal> {
    failure(Kind::UpstreamProtocol, "the upstream broke the connection or did not answer in HTTP")
}

/// Sends one request, the body beside the wait for the answer.
async fn ask(
    shared: &Shared,
    sender: SendRequest<Bytes>,
    (head, body): (Request<()>, RequestBody),
) -> Result<Response<Incoming>, Unanswered> {
    let patience = shared.limits.response_timeout;
    let whole = body.is_end_stream();
    let wants_head_only = head.method() == Method::HEAD;
    let Ok(ready) = timeout(patience, sender.ready()).await else { return Err(Unanswered::too_late()) };
    let Ok(mut sender) = ready else { return Err(Unanswered::unsent(body)) };
    let Ok((response, stream)) = sender.send_request(head, whole) else {
        return Err(Unanswered::unsent(body));
    };
    drop(sender);
    let mut answered = pin!(answer(response, wants_head_only));
    if whole {
        return match timeout(patience, answered).await.map_err(|_| Unanswered::too_late())? {
            Ok(response) => Ok(response.map(Incoming::Http2)),
            Err(error) => Err(Unanswered { error: Some(error), untouched: Some(body), why: None }),
        };
    }
    let (upload, mut home) = upload(shared, body, stream);
    let mut back = None;
    let answer = tokio::select! {
        biased;
        answer = &mut answered => answer,
        // An upload may take longer than an answer.
        sent = &mut home => {
            back = sent.ok();
            timeout(patience, answered).await.map_err(|_| Unanswered::too_late())?
        }
    };
    match answer {
        Ok(mut response) => {
            response.body_mut().keep(upload);
            Ok(response.map(Incoming::Http2))
        }
        Err(error) => {
            if back.is_none() {
                // The upload finds out by itself that the stream is gone, and gives the body back.
                back = timeout(shared.limits.connect_attempt_timeout, home).await.ok().and_then(Result::ok);
            }
            let (untouched, why) = match back {
                Some(Back::Untouched(body)) => (Some(*body), None),
                Some(Back::Broken) => (None, Some(Box::new(body_broke_off()))),
                Some(Back::Taken) | None => (None, None),
            };
            Err(Unanswered { error: Some(error), untouched, why })
        }
    }
}

/// The answer, or why there is none. Interim answers (1xx) are dropped, and only so many are borne.
async fn answer(
    response: ResponseFuture,
    wants_head_only: bool,
) -> Result<Response<incoming::Http2>, h2::Error> {
    let (mut response, mut interim) = (pin!(response), 0usize);
    let response: Response<RecvStream> = poll_fn(|cx| {
        while let Poll::Ready(Some(got)) = response.poll_informational(cx) {
            got?;
            interim = interim.saturating_add(1);
            if interim > HTTP2_INTERIM_ANSWERS_MAX {
                return Poll::Ready(Err(h2::Reason::ENHANCE_YOUR_CALM.into()));
            }
        }
        response.as_mut().poll(cx)
    })
    .await?;
    let (parts, stream) = response.into_parts();
    let mut body = incoming::Http2::new(stream, &parts.headers);
    // RFC 9110 §6.4.1. The end of the stream may come later, in a frame of its own.
    if wants_head_only || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        body.end_here();
    }
    Ok(Response::from_parts(parts, body))
}

/// What is left of a body whose upload has ended.
enum Back {
    /// Nothing was taken from it.
    Untouched(Box<RequestBody>),
    Taken,
    Broken,
}

/// Starts to send the body. What comes back tells whether a second try is possible; nobody has to wait for it.
fn upload(
    shared: &Shared,
    body: RequestBody,
    mut stream: SendStream<Bytes>,
) -> (Leash, oneshot::Receiver<Back>) {
    let (back, home) = oneshot::channel();
    let stuck = shared.limits.idle_timeout;
    let task = tokio::spawn(async move {
        let mut body = Watched { body, touched: false };
        let sent = outgoing::send(&mut body, &mut stream, (Take::WithRoom, stuck)).await;
        let back_is = match sent {
            Err(Cut::Broken) => Back::Broken,
            Err(_) if !body.touched => Back::Untouched(Box::new(body.body)),
            _ => Back::Taken,
        };
        // Mostly nobody waits for it any more.
        let _ = back.send(back_is);
    });
    (Leash::on(task.abort_handle()), home)
}

/// Whether the upstream says that it did nothing with the request (RFC 9113 §8.7). The library gives a GOAWAY
/// as the error of a stream only where that stream comes after the last one that the upstream took.
fn was_not_processed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

/// A body that knows whether anything of it was taken.
struct Watched {
    body: RequestBody,
    touched: bool,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.touched |= polled.is_ready();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
