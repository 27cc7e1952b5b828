//! One connection to an upstream over HTTP/1.1, and the exchange over it.
//!
//! The library gives the reading and writing as a future of its own. It has no task here: each request would wake that
//! one, and be woken by it, more often than anything happens. Whoever waits for something from the upstream drives it
//! meanwhile, and nobody does so between two exchanges. Only where an upload goes on beside the answer, and after `101`,
//! does it get a task.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::unconstrained;

use super::bell::Bell;
use super::body::RequestBody;
use super::silence::Silence;
use super::unanswered::{Answering, Outbox, Patience};
use crate::limits::HTTP1_BUFFER_BYTES;

/// An open connection.
pub struct Sender {
    sender: SendRequest<RequestBody>,
    connection: Driven,
    patience: Patience,
    outbox: Outbox,
    /// The wait for an answer.
    silence: Silence,
}

/// Why there is no answer.
pub enum Unanswered {
    /// Nothing was sent: the request is as it was.
    Unsent(Box<Request<RequestBody>>),
    /// More bytes came before its head was whole than are borne.
    TooManyBytes,
    /// It did not come in time.
    TooLate,
    Broken(hyper::Error),
}

impl Sender {
    /// An answer may take as long as `longest`, and its head may have `head_bytes_max`, or 64 KiB.
    pub async fn over<S>(io: S, (longest, head_bytes_max): (Duration, usize)) -> Result<Self, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (io, patience, outbox) = Answering::new(io);
        let head_bytes_max = HTTP1_BUFFER_BYTES.max(head_bytes_max);
        let (sender, connection) = Builder::new()
            .max_buf_size(head_bytes_max)
            .max_header_size(head_bytes_max)
            .handshake(TokioIo::new(io))
            .await?;
        // Its error reaches the request.
        let connection = Driven::new(async move {
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender, connection, patience, outbox, silence: Silence::new(longest) })
    }

    /// Sends, and waits for the head of the answer, for as long as one may take and as [`Patience`] lasts. The
    /// connection is of no use where this ends without an answer, or is dropped before.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, Unanswered> {
        self.patience.begin();
        let Self { sender, connection, patience, silence, .. } = self;
        // Whatever the budget of our task is: the answer is here when it is, or nobody would look again.
        let mut answer = pin!(unconstrained(sender.try_send_request(request)));
        let answer = poll_fn(|cx| {
            connection.drive(cx);
            match answer.as_mut().poll(&mut nobody()) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => silence.poll_over(cx).map(|()| None),
            }
        });
        let answer = answer.await.ok_or(Unanswered::TooLate)?;
        silence.heard();
        if answer.is_ok() {
            patience.end();
        }
        answer.map_err(|error| why(error, patience))
    }

    /// Whether everything that was to be sent is with the system.
    pub fn has_sent_all(&self) -> bool {
        self.outbox.is_empty()
    }

    /// The next piece of the answer's body.
    pub fn poll_body(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut body = Pin::new(body);
        // Mostly it is here already, and to take it makes room for the next piece: that is asked for when it is wanted.
        self.connection.wake_nobody();
        if let Poll::Ready(frame) = body.as_mut().poll_frame(&mut nobody()) {
            return Poll::Ready(frame);
        }
        self.connection.drive(cx);
        body.poll_frame(&mut nobody())
    }

    /// After an exchange that ended whole: nobody is woken for this connection any more. Whether it can be used again.
    pub fn rest(&mut self) -> bool {
        if !self.sender.is_ready() {
            self.connection.drive(&mut nobody());
        }
        self.connection.wake_nobody();
        self.silence.wake_nobody();
        !self.sender.is_closed()
    }

    /// Whether a request can be sent at once.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether one can, as soon as what came before is dealt with.
    pub async fn becomes_ready(&mut self) -> bool {
        let ready = poll_fn(|cx| {
            self.connection.drive(cx);
            self.sender.poll_ready(&mut nobody())
        });
        ready.await.is_ok()
    }

    /// Goes on by itself, to the end of the exchange or of what comes after `101`.
    pub fn let_go(self) {
        if let Some(future) = self.connection.future {
            tokio::spawn(future);
        }
    }

    /// Ends a connection that rests, as its protocol wants it: in TLS, an end is announced.
    pub fn close(self) {
        drop(self.sender);
        if let Some(future) = self.connection.future {
            // Once is enough, unless the other side takes nothing any more.
            let _ = pin!(unconstrained(future)).poll(&mut nobody());
        }
    }
}

/// Reading and writing.
struct Driven {
    /// `None` when that is over.
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    bell: Arc<Bell>,
    /// Rings it.
    waker: Waker,
}

impl Driven {
    fn new(future: impl Future<Output = ()> + Send + 'static) -> Self {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        Self { future: Some(Box::pin(future)), bell, waker }
    }

    /// Reads and writes what can be at once. `cx` is woken when there is more.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(future) = &mut self.future {
            self.bell.wakes(Some(cx.waker()));
            if future.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready() {
                self.future = None;
            }
        }
    }

    /// Whoever drove it last has no more use for it, or comes back by itself.
    fn wake_nobody(&self) {
        self.bell.wakes(None);
    }
}

/// For what only changes while the connection is polled: whoever does that looks at it anyway.
fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn why(mut error: TrySendError<Request<RequestBody>>, patience: &Patience) -> Unanswered {
    match error.take_message() {
        Some(unsent) => Unanswered::Unsent(Box::new(unsent)),
        None if patience.is_over() => Unanswered::TooManyBytes,
        None => Unanswered::Broken(error.into_error()),
    }
}
