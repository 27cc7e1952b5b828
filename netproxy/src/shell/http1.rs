//! One client connection of HTTP/1.1, served by hyper behind [`StrictIo`].

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::exchange;
use super::multiplex::Multiplex;
use super::shared::Shared;
use super::strict_io::StrictIo;
use crate::authority::Authority;
use crate::flow::{Door, subject_of};
use crate::hooks::Scheme;
use crate::refuse::Subject;

/// One client connection, and where it leads.
pub struct Client {
    pub shared: Arc<Shared>,
    /// `Some` inside a connection to one place: intercepted, or in the clear.
    inside: Option<(Scheme, Authority)>,
    /// `Some` where the client speaks HTTP/2.
    pub multiplex: Option<Multiplex>,
    last: AtomicBool,
    requests: AtomicU64,
}

impl Client {
    pub fn plain(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            inside: None,
            multiplex: None,
            last: AtomicBool::new(false),
            requests: AtomicU64::new(0),
        }
    }

    pub fn inside(shared: Arc<Shared>, scheme: Scheme, authority: Authority) -> Self {
        Self { inside: Some((scheme, authority)), ..Self::plain(shared) }
    }

    /// Inside an intercepted connection over which the client speaks HTTP/2.
    pub fn inside_http2(shared: Arc<Shared>, authority: Authority) -> Self {
        Self { multiplex: Some(Multiplex::default()), ..Self::inside(shared, Scheme::Https, authority) }
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
/// the stream back unless it broke.
pub async fn serve<S>(io: StrictIo<S>, client: &Arc<Client>) -> Option<StrictIo<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let client = Arc::clone(client);
        async move { Ok::<_, Infallible>(exchange::answer(&client, request).await) }
    });
    let connection = Builder::new()
        // The end of the stream may be StrictIo's: the answer in hand must still go out.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(client.shared.limits.header_timeout)
        .serve_connection(TokioIo::new(io), service);
    match connection.without_shutdown().await {
        Ok(parts) => Some(parts.io.into_inner()),
        Err(_) => None,
    }
}
