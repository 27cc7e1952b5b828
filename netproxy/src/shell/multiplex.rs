//! The upstream of one HTTP/2 client connection: one HTTP/2 connection that all its streams share where the
//! upstream speaks it, else HTTP/1.1 connections of their own.
//!
//! A request is sent a second time only where the upstream says that it did nothing with the first (RFC 9113
//! §8.7), and only once.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Scheme as UriScheme;
use http::{Request, Uri, Version};
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use super::body::RequestBody;
use super::http2::ALPN;
use super::pool::{Place, Sender as Http1};
use super::reach::OpenTimes;
use super::shared::Shared;
use super::upstream::{self, Arrived, broken, failure, malformed_body, wait_for_head};
use crate::authority::Authority;
use crate::hooks::Scheme;
use crate::limits::{
    HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_LOCAL_RESETS_MAX, HTTP2_SEND_BUFFER_BYTES_MAX,
    HTTP2_STREAM_WINDOW_BYTES, UPSTREAM_IDLE,
};
use crate::refuse::{Kind, Refusal};

type Http2 = http2::SendRequest<Returning>;

/// What is known of the upstream, by way of which upstream proxy. The lock is held while dialling: the other streams wait for the outcome.
#[derive(Default)]
pub struct Multiplex {
    known: Mutex<(Option<Arc<str>>, Known)>,
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
            let (mut sender, opened) = match self.way(shared, place, Instant::now()).await? {
                Way::Http2(sender, opened) => (sender, opened),
                Way::NewHttp1(sender, opened) => {
                    let request = Request::from_parts(parts, body);
                    return upstream::send_over(shared, sender, (request, Some(opened))).await;
                }
                Way::Http1 => {
                    let request = Request::from_parts(parts, body);
                    return upstream::send(shared, place, request).await;
                }
            };
            let (returning, home) = Returning::new(body);
            let request = Request::from_parts(http2_parts(&parts, &place.authority)?, returning);
            match wait_for_head(shared, sender.try_send_request(request)).await? {
                Ok(response) => return Ok(Arrived { response, opened, sender: None }),
                Err(mut error) => {
                    // Dropped, it comes home.
                    let unsent = error.take_message().is_some();
                    let error = error.into_error();
                    if second || !(unsent || was_not_processed(&error)) {
                        return Err(why(&error));
                    }
                    let untouched = timeout(shared.limits.connect_attempt_timeout, home).await;
                    let Ok(Ok(untouched)) = untouched else { return Err(why(&error)) };
                    body = untouched;
                }
            }
            self.forget().await;
            second = true;
        }
    }

    async fn way(&self, shared: &Shared, place: &Place, asked: Instant) -> Result<Way, Box<Refusal>> {
        let mut state = self.known.lock().await;
        let (via, known) = &mut *state;
        if *via != place.via {
            *via = place.via.clone();
            *known = Known::Nothing;
        }
        match known {
            Known::SpeaksHttp1 => return Ok(Way::Http1),
            Known::Open { sender, used, epoch }
                if !sender.is_closed() && used.elapsed() < UPSTREAM_IDLE && *epoch >= place.epoch =>
            {
                *used = Instant::now();
                return Ok(Way::Http2(sender.clone(), None));
            }
            // Found out while we waited: a hundred streams do not wait for a hundred timeouts.
            Known::Failed { at, refusal } if *at >= asked => return Err(refusal.clone()),
            _ => {}
        }
        match open(shared, place).await {
            Ok((Opened::Http2(sender), times)) => {
                *known = Known::Open { sender: sender.clone(), used: Instant::now(), epoch: place.epoch };
                Ok(Way::Http2(sender, Some(times)))
            }
            Ok((Opened::Http1(sender), times)) => {
                *known = Known::SpeaksHttp1;
                Ok(Way::NewHttp1(sender, times))
            }
            Err(refusal) => {
                *known = Known::Failed { at: Instant::now(), refusal: refusal.clone() };
                Err(refusal)
            }
        }
    }

    /// No new stream goes over the connection in hand; those on it go on.
    pub async fn forget(&self) {
        self.known.lock().await.1 = Known::Nothing;
    }
}

enum Opened {
    Http2(Http2),
    Http1(Http1),
}

async fn open(shared: &Shared, place: &Place) -> Result<(Opened, OpenTimes), Box<Refusal>> {
    let (stream, times) = upstream::open_tls(shared, place, &shared.upstream_tls_http2).await?;
    let opened = if stream.get_ref().1.alpn_protocol() == Some(ALPN) {
        Opened::Http2(handshake(shared, stream).await?)
    } else {
        Opened::Http1(upstream::handshake(stream).await?)
    };
    Ok((opened, times))
}

async fn handshake<S>(shared: &Shared, io: S) -> Result<Http2, Box<Refusal>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES_MAX)
        .max_header_list_size(u32::try_from(shared.limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_local_error_reset_streams(HTTP2_LOCAL_RESETS_MAX)
        .handshake(TokioIo::new(io));
    let (sender, connection) = handshake.await.map_err(|error| broken(&error))?;
    // Ends when the last sender and the last stream are gone; its error reaches the requests.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
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

fn http2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}

/// Whether the upstream says that it did nothing with the request (RFC 9113 §8.7). The library gives a GOAWAY
/// as the error of a stream only where that stream comes after the last one that the upstream took.
fn was_not_processed(error: &hyper::Error) -> bool {
    http2_error(error).is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (refused || error.is_go_away())
    })
}

fn why(error: &hyper::Error) -> Box<Refusal> {
    match http2_error(error) {
        // Reset by ourselves, since the body of the request failed.
        Some(reset) if reset.is_reset() && !reset.is_remote() && !reset.is_library() => malformed_body(),
        _ => broken(error),
    }
}

/// A body that comes home when it is dropped before anything of it was taken.
pub struct Returning {
    body: Option<RequestBody>,
    home: Option<oneshot::Sender<RequestBody>>,
}

impl Returning {
    fn new(body: RequestBody) -> (Self, oneshot::Receiver<RequestBody>) {
        let (home, wait) = oneshot::channel();
        (Self { body: Some(body), home: Some(home) }, wait)
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if let (Some(body), Some(home)) = (self.body.take(), self.home.take()) {
            // Mostly nobody waits for it any more.
            let _ = home.send(body);
        }
    }
}

impl Body for Returning {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if polled.is_ready() {
            self.home = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
