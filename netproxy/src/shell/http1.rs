//! One client connection of HTTP/1.1, served by hyper behind [`StrictIo`].

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::exchange;
use super::shared::Shared;
use super::strict_io::StrictIo;
use crate::authority::Authority;
use crate::flow::Door;
use crate::hooks::Scheme;

/// One client connection, and where it leads.
pub struct Client {
    pub shared: Arc<Shared>,
    /// `Some` inside a connection to one place: intercepted, or in the clear.
    inside: Option<(Scheme, Authority)>,
    last: AtomicBool,
    requests: AtomicU64,
}

impl Client {
    pub fn plain(shared: Arc<Shared>) -> Self {
        Self { shared, inside: None, last: AtomicBool::new(false), requests: AtomicU64::new(0) }
    }

    pub fn inside(shared: Arc<Shared>, scheme: Scheme, authority: Authority) -> Self {
        Self { inside: Some((scheme, authority)), ..Self::plain(shared) }
    }

    pub fn door(&self) -> Door<'_> {
        match &self.inside {
            None => Door::Plain,
            Some((Scheme::Https, authority)) => Door::Inside(authority),
            Some((Scheme::Http, authority)) => Door::InsidePlain(authority),
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
