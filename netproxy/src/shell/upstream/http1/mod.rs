//! One connection to an upstream over HTTP/1.1, and the exchange over it.
//!
//! It has no task: whoever waits for something from the upstream reads and writes meanwhile, and nobody does so between
//! two exchanges. Only what is left of a request when its answer has begun gets one: the client may read nothing before it
//! has sent all, and the upstream may take its time.
//!
//! Must never send over a connection on which something came that was not asked for, or send anything of a request twice.
//!
//! ```text
//! Sender ─ send ─▶ Response<Incoming::Upstream(Receiving)> ─ at the end of the body ─▶ Sender ─▶ Pool
//! ```

pub mod receiving;
mod upload;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use http::{Method, Request, Response, StatusCode};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::coop::{has_budget_remaining, unconstrained};
use tokio_rustls::client::TlsStream;

use self::receiving::{Reading, Receiving};
use self::upload::{NotSent, Upload};
use crate::limits::{HTTP1_BUFFER_BYTES, HTTP1_UNANSWERED_BYTES_MAX, Limits};
use crate::shell::exchange::body::RequestBody;
use crate::shell::stream::buffer::Buffer;
use crate::shell::stream::incoming::Incoming;
use crate::shell::stream::rewind::Rewind;
use crate::shell::stream::silence::Silence;
use crate::shell::stream::stall::Stalling;
use crate::wire::answer::{Answer, AnswerError, Heads};

/// A stream to an upstream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// What is below it.
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

impl<S: Stream> Stream for Stalling<S> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().socket()
    }
}

/// An open connection on which no request is under way.
pub struct Sender {
    io: Box<dyn Stream>,
    buffer: Buffer,
    head_bytes_max: usize,
    /// The wait for an answer.
    silence: Silence,
    /// An answer came over it.
    used: bool,
}

/// Why there is no answer.
pub enum Unanswered {
    /// Nothing was sent: the request is as it was.
    Unsent(Box<Request<RequestBody>>),
    /// More bytes came before its head was whole than are borne.
    TooManyBytes,
    /// It did not come in time.
    TooLate,
    /// The request's body broke off.
    BrokenBody,
    /// It is none.
    Bad(AnswerError),
    /// The connection broke off.
    Broken,
}

impl Sender {
    /// The head of an answer may have `header_bytes_max`, or 64 KiB.
    pub fn over(io: impl Stream + 'static, limits: &Limits) -> Self {
        Self {
            io: Box::new(Stalling::new(io, limits.idle_timeout)),
            buffer: Buffer::new(),
            head_bytes_max: HTTP1_BUFFER_BYTES.max(limits.header_bytes_max),
            silence: Silence::new(limits.response_timeout),
            used: false,
        }
    }

    /// Sends, and waits for the head of the answer. The connection comes back from its body.
    pub async fn send(mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, Unanswered> {
        // What came since the last read is known only by a look of our own. To a connection that was opened just now, TLS has
        // more to say.
        if !poll_fn(|cx| self.poll_quiet(cx)).await || (self.used && !is_empty(self.io.socket())) {
            self.close();
            return Err(Unanswered::Unsent(Box::new(request)));
        }
        let (method, mut heads) = (request.method().clone(), Heads::new(self.head_bytes_max));
        let (mut upload, mut sent) = (Upload::new(request), None);
        let mut unanswered = HTTP1_UNANSWERED_BYTES_MAX;
        let answer = poll_fn(|cx| {
            if sent.is_none()
                && let Poll::Ready(done) = upload.poll(Pin::new(&mut self.io), cx)
            {
                if done == Err(NotSent::Body) {
                    return Poll::Ready(Err(Unanswered::BrokenBody));
                }
                // An upstream that takes no more may have said why.
                sent = Some(done);
            }
            match self.poll_head(cx, (&method, &mut heads, &mut unanswered)) {
                Poll::Ready(answer) => Poll::Ready(answer),
                // An upload may take longer.
                Poll::Pending if sent.is_none() => Poll::Pending,
                Poll::Pending => self.silence.poll_over(cx).map(|()| Err(Unanswered::TooLate)),
            }
        });
        let answer = answer.await?;
        self.silence.heard();
        Ok(self.answered(answer, (upload, sent)))
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        (method, heads, unanswered): (&Method, &mut Heads, &mut u64),
    ) -> Poll<Result<Answer, Unanswered>> {
        loop {
            let count = ready!(self.buffer.poll_fill(&mut self.io, cx));
            let count = count.map_err(|_| Unanswered::Broken)?;
            if count == 0 {
                return Poll::Ready(Err(Unanswered::Broken));
            }
            *unanswered = unanswered.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
            match heads.take(&mut self.buffer.bytes, method) {
                Ok(Some(answer)) => return Poll::Ready(Ok(answer)),
                Err(error) => return Poll::Ready(Err(Unanswered::Bad(error))),
                Ok(None) if *unanswered == 0 => return Poll::Ready(Err(Unanswered::TooManyBytes)),
                Ok(None) => {}
            }
        }
    }

    fn answered(
        self,
        answer: Answer,
        (upload, sent): (Upload<RequestBody>, Option<Result<(), NotSent>>),
    ) -> Response<Incoming> {
        let mut response = Response::new(());
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        let receiving = match sent {
            None if answer.status != StatusCode::SWITCHING_PROTOCOLS => {
                let (read, write) = tokio::io::split(self.io);
                let (over, answered) = oneshot::channel();
                tokio::spawn(send_rest(upload, write, answered));
                Receiving::beside(over, (read, self.buffer), answer.body)
            }
            _ => Receiving::alone(self, answer.body, answer.persists && sent == Some(Ok(()))),
        };
        response.map(|()| Incoming::Upstream(Box::new(receiving)))
    }

    /// After an exchange that ended whole: nobody is woken for what comes over this connection any more. Whether it can be
    /// used again.
    pub fn rest(&mut self) -> bool {
        self.silence.wake_nobody();
        self.used = true;
        // Where this turn is over, it is found by the next request.
        self.poll_quiet(&mut Context::from_waker(Waker::noop())) != Poll::Ready(false)
    }

    /// Whether nothing came after the last answer, and not the end. Pending only where the turn of this task is over.
    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        // Not into the buffer: what is left of the last answer may still be in that memory.
        let read = Pin::new(&mut self.io).poll_read(cx, &mut ReadBuf::new(&mut [0]));
        if read.is_pending() && !has_budget_remaining() {
            return Poll::Pending;
        }
        Poll::Ready(self.buffer.bytes.is_empty() && read.is_pending())
    }

    pub fn reader(&mut self) -> (&mut (dyn AsyncRead + Unpin), &mut Buffer) {
        (&mut self.io, &mut self.buffer)
    }

    pub fn into_stream(self) -> Rewind<Box<dyn Stream>> {
        Rewind::new(self.io, self.buffer.bytes)
    }

    /// Ends a connection that rests, as its protocol wants it: in TLS, an end is announced.
    pub fn close(mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        // Once is enough, unless the other side takes nothing any more.
        let shutdown = unconstrained(poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)));
        let _ = pin!(shutdown).poll(&mut nobody);
    }
}

/// Whether the system has nothing for whoever reads next, and no end.
fn is_empty(socket: &TcpStream) -> bool {
    let peeked = rustix::net::recv(socket, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    peeked.is_err_and(|error| error == Errno::AGAIN)
}

/// Sends the rest of a request beside and after its answer, while that comes and the upstream stays.
async fn send_rest(
    upload: Upload<RequestBody>,
    write: WriteHalf<Box<dyn Stream>>,
    answered: oneshot::Receiver<Reading>,
) {
    let gone = async {
        if let Ok(mut read) = answered.await {
            // Whatever comes after an answer, nothing is read from here any more.
            let _ = read.read(&mut [0]).await;
        }
    };
    tokio::select! {
        () = upload.finish(write) => {}
        () = gone => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// What comes between two looks of the runtime would else be taken for the answer to the next request.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "to its own listener")]
    async fn what_came_since_the_last_read_is_seen_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(stream).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let mut sender = Sender::over(stream, &Limits::default());
        assert!(sender.rest());
        other.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        // The runtime has no turn meanwhile.
        let send = sender.send(Request::new(RequestBody::none()));
        let sent = pin!(send).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(sent, Poll::Ready(Err(Unanswered::Unsent(_)))));
    }
}
