//! One client connection of HTTP/1.1, served by hyper behind [`StrictIo`].

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use http::Request;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::crowd;
use super::leash::Leash;
use super::strict_io::StrictIo;
use crate::audit::Layer;
use crate::authority::Authority;
use crate::flow::{Door, subject_of};
use crate::hooks::{ConnectFacts, Scheme, Verdict};
use crate::limits::HTTP1_BUFFER_BYTES;
use crate::refuse::{Refusal, Subject};
use crate::shell::control::{Alarm, Event, Gate};
use crate::shell::exchange::websocket::Session;
use crate::shell::shared::Shared;
use crate::shell::trace::Span;
use crate::shell::upstream::http2::Multiplex;

/// One client connection, and where it leads.
pub struct Client {
    pub shared: Arc<Shared>,
    /// `Some` inside a connection to one place: intercepted, or in the clear.
    inside: Option<(Scheme, Authority)>,
    /// `Some` where the client speaks HTTP/2.
    pub multiplex: Option<Multiplex>,
    /// Set by an exchange whose answer is `101`.
    session: Mutex<Option<Box<Session>>>,
    last: AtomicBool,
    requests: AtomicU64,
    /// The policy that let the connection in last, as [`Control`](crate::shell::control::Control) counts.
    policy: AtomicU64,
}

impl Client {
    pub fn plain(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            inside: None,
            multiplex: None,
            session: Mutex::default(),
            last: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            policy: AtomicU64::new(0),
        }
    }

    /// `policy` is that of the decision that let it in.
    pub fn inside(shared: Arc<Shared>, place: (Scheme, Authority), policy: u64) -> Self {
        Self { inside: Some(place), policy: AtomicU64::new(policy), ..Self::plain(shared) }
    }

    /// Inside an intercepted connection over which the client speaks HTTP/2.
    pub fn inside_http2(shared: Arc<Shared>, authority: Authority, policy: u64) -> Self {
        let multiplex = Some(Multiplex::default());
        Self { multiplex, ..Self::inside(shared, (Scheme::Https, authority), policy) }
    }

    pub fn door(&self) -> Door<'_> {
        match &self.inside {
            None => Door::Plain,
            Some((Scheme::Https, authority)) => Door::Inside(authority),
            Some((Scheme::Http, authority)) => Door::InsidePlain(authority),
        }
    }

    /// What is known of a request that was not understood.
    pub fn subject(&self) -> Subject {
        match &self.inside {
            Some((scheme, authority)) => Subject { scheme: Some(*scheme), ..subject_of(authority) },
            None => Subject { scheme: Some(Scheme::Http), ..Subject::default() },
        }
    }

    /// What becomes of the connection after the answer in hand.
    pub fn set_session(&self, session: Session) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(session));
    }

    pub fn take_session(&self) -> Option<Box<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether nothing more may come over this connection. Where the policy has changed against it, that is
    /// recorded; a plain connection stays, since each of its requests is decided anyway.
    pub fn must_go(&self, event: Event) -> bool {
        let (Event::Reauthorize, Some((scheme, authority))) = (event, &self.inside) else {
            return event == Event::Drain;
        };
        let policy = self.shared.control.policy();
        match self.shared.authorize.connect(&ConnectFacts { authority }) {
            Verdict::Allow(_) => {
                self.policy.store(policy, Ordering::Relaxed);
                false
            }
            Verdict::Deny(deny) => {
                let subject = Subject { scheme: Some(*scheme), ..subject_of(authority) };
                let refusal = Refusal::policy(Layer::Connect, deny).about(subject);
                self.shared.record_refusal(&self.shared.begin(), &refusal, false);
                true
            }
        }
    }

    /// Hears of what has happened since the connection was let in.
    fn alarm(&self) -> Alarm {
        self.shared.control.alarm_since(self.policy.load(Ordering::Relaxed))
    }

    /// Returns when nothing new may come over this connection.
    pub async fn gone(&self) {
        let mut alarm = self.alarm();
        while !self.must_go(alarm.next().await) {}
    }

    /// Counts a request; `last` says that nothing may follow its answer.
    pub fn count_request(&self, last: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if last {
            self.close_after();
        }
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub fn close_after(&self) {
        self.last.store(true, Ordering::Relaxed);
    }

    pub fn is_last(&self) -> bool {
        self.last.load(Ordering::Relaxed)
    }
}

/// Serves requests until the client is done, the connection has to close, or [`StrictIo`] has news; gives
/// the stream back unless it broke. It has a task of its own: else each turn of a request would come down through every
/// future that led here. The task ends with this future. The stream is boxed: every future that it passes through would
/// have room for it.
pub fn serve<S>(
    io: Box<StrictIo<S>>,
    client: &Arc<Client>,
) -> impl Future<Output = Option<Box<StrictIo<S>>>> + use<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let task = tokio::spawn(Span::current().around(serve_here(io, Arc::clone(client))));
    let leash = Leash::on(task.abort_handle());
    async move {
        let _leash = leash;
        match task.await {
            Ok(back) => back,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime ends.
            Err(_) => None,
        }
    }
}

async fn serve_here<S>(io: Box<StrictIo<S>>, client: Arc<Client>) -> Option<Box<StrictIo<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let client = Arc::clone(&client);
        async move { Ok::<_, Infallible>(crowd::answer(&client, request).await) }
    });
    let mut connection = Builder::new()
        // The end of the stream may be StrictIo's: the answer in hand must still go out.
        .half_close(true)
        // StrictIo's, too.
        .header_read_timeout(None)
        .max_buf_size(HTTP1_BUFFER_BYTES.max(client.shared.limits.header_bytes_max))
        .serve_connection(TokioIo::new(io), service);
    let mut alarm = client.alarm();
    loop {
        let (mut next, mut gate) = (pin!(alarm.next()), Gate::default());
        let event = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(done) => Poll::Ready(Err(done)),
            Poll::Pending => gate.poll(cx, &client.shared.control, next.as_mut()).map(Ok),
        });
        match event.await {
            Ok(event) if client.must_go(event) => {
                client.close_after();
                Pin::new(&mut connection).graceful_shutdown();
                break;
            }
            Ok(_) => {}
            Err(done) => return done.ok().map(|()| connection.into_parts().io.into_inner()),
        }
    }
    // It goes: what is decided anew from here on is its last request.
    let done = poll_fn(|cx| Pin::new(&mut connection).poll(cx)).await;
    done.ok().map(|()| connection.into_parts().io.into_inner())
}
