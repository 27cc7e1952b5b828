//! One client connection of HTTP/2, served by hyper inside TLS. Each stream is a request with a decision of
//! its own; a refusal ends its stream and not the connection.
//!
//! It never waits for ever: a connection without streams is told to go, and then closed.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use super::body::Reply;
use super::exchange;
use super::http1::Client;
use super::shared::Shared;
use super::stall::Stalling;
use crate::limits::{
    HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_LOCAL_RESETS_MAX, HTTP2_PENDING_RESETS_MAX,
    HTTP2_SEND_BUFFER_BYTES_MAX, HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS_MAX, Limits,
};

/// What TLS calls it (RFC 9113 §3.1).
pub const ALPN: &[u8] = b"h2";

/// Serves requests until the client is done, is told to go, or is idle for too long.
pub async fn serve<S>(io: S, client: &Arc<Client>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = |request| {
        let client = Arc::clone(client);
        async move { exchange::answer(&client, request).await }
    };
    drive(io, &client.shared, client.gone(client.shared.control.alarm()), answer).await;
}

/// Answers every stream by `answer`, until `stop`; then finishes what is under way.
pub async fn drive<S, A, F>(io: S, shared: &Shared, stop: impl Future<Output = ()>, answer: A)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Reply>> + Send + 'static,
{
    let streams = Arc::new(Streams::default());
    let service = service_fn(|request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut connection = pin!(
        Builder::new(StreamTasks(Arc::clone(&streams)))
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES_MAX)
            .max_header_list_size(u32::try_from(shared.limits.header_bytes_max).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS_MAX)
            .max_local_error_reset_streams(HTTP2_LOCAL_RESETS_MAX)
            .serve_connection(TokioIo::new(Stalling::new(io, shared.limits.idle_timeout)), service)
    );
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop => {}
        () = streams.idle_for(shared.limits.header_timeout) => {}
        () = streams.stuck(&shared.limits) => return,
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        // The client does not close, although it was told to go and nothing is under way.
        () = streams.idle_for(shared.limits.linger_timeout) => {}
        () = streams.stuck(&shared.limits) => {}
    }
}

/// How many streams there are and were, and how often one of them could do something.
#[derive(Default)]
struct Streams {
    open: AtomicUsize,
    all: AtomicU64,
    turns: AtomicU64,
}

impl Streams {
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

    /// Returns when streams are open and none of them could do anything for longer than any of our own waits: their
    /// client gives no room for an answer.
    async fn stuck(&self, limits: &Limits) {
        let longest = limits.idle_timeout.max(limits.response_timeout).saturating_add(limits.connect_timeout);
        loop {
            let before = self.turns.load(Ordering::Relaxed);
            sleep(longest).await;
            if self.open.load(Ordering::Relaxed) > 0 && self.turns.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

/// Runs each stream as a task, and counts them.
#[derive(Clone)]
struct StreamTasks(Arc<Streams>);

impl<F> Executor<F> for StreamTasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.all.fetch_add(1, Ordering::Relaxed);
        self.0.open.fetch_add(1, Ordering::Relaxed);
        let open = Open(Arc::clone(&self.0));
        tokio::spawn(async move {
            let mut stream = pin!(stream);
            poll_fn(|cx| {
                open.0.turns.fetch_add(1, Ordering::Relaxed);
                stream.as_mut().poll(cx)
            })
            .await;
        });
    }
}

struct Open(Arc<Streams>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
