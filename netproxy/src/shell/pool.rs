//! Upstream connections between two requests, shared by all client connections of one sandbox: a client that
//! connects anew for every request does not cost the upstream a handshake each.
//!
//! Only a connection whose last exchange ended whole comes back, and it serves only the same place. It was
//! dialled to an address that was judged, and is closed soon enough that a changed name is asked for again.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::body::RequestBody;
use super::shared::Shared;
use super::silence::Silence;
use super::unanswered::Patience;
use crate::authority::Authority;
use crate::hooks::Scheme;
use crate::limits::{UPSTREAM_IDLE, UPSTREAMS_IDLE_MAX};

/// An open connection, and the task that reads and writes it.
pub struct Sender {
    sender: SendRequest<RequestBody>,
    patience: Patience,
    /// The wait for an answer.
    silence: Silence,
    task: AbortHandle,
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
    /// An answer may take as long as `longest`.
    pub fn new(
        sender: SendRequest<RequestBody>,
        (patience, longest): (Patience, Duration),
        task: AbortHandle,
    ) -> Self {
        Self { sender, patience, silence: Silence::new(longest), task }
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    pub async fn ready(&mut self) -> Result<(), hyper::Error> {
        self.sender.ready().await
    }

    /// Sends, and waits for the head of the answer, for as long as one may take and as [`Patience`] lasts. The
    /// connection does not outlive this future if it is dropped before there is an answer.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, Unanswered> {
        let mut unanswered = EndUnanswered(Some(&self.task));
        self.patience.begin();
        let mut answer = pin!(self.sender.try_send_request(request));
        let answer = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => self.silence.poll_over(cx).map(|()| None),
        });
        let answer = answer.await.ok_or(Unanswered::TooLate)?;
        self.silence.heard();
        if answer.is_ok() {
            // From now on the body holds the connection, or what comes after `101` does.
            unanswered.0 = None;
            self.patience.end();
        }
        answer.map_err(|error| why(error, &self.patience))
    }
}

fn why(mut error: TrySendError<Request<RequestBody>>, patience: &Patience) -> Unanswered {
    match error.take_message() {
        Some(unsent) => Unanswered::Unsent(Box::new(unsent)),
        None if patience.is_over() => Unanswered::TooManyBytes,
        None => Unanswered::Broken(error.into_error()),
    }
}

/// Ends the task of a connection when dropped.
struct EndUnanswered<'a>(Option<&'a AbortHandle>);

impl Drop for EndUnanswered<'_> {
    fn drop(&mut self) {
        if let Some(task) = self.0 {
            task.abort();
        }
    }
}

/// Where a connection leads, by which upstream proxy, and since which [`Pool::clear`].
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    pub scheme: Scheme,
    pub authority: Authority,
    /// The name of an upstream proxy.
    pub via: Option<Arc<str>>,
    /// [`Pool::epoch`] when the request was taken: what was dialled before a clearing serves nobody after it, also
    /// if it was in use meanwhile.
    pub epoch: u64,
}

struct Kept {
    place: Place,
    sender: Sender,
    since: Instant,
}

/// The connections, the one kept longest first. The lock is held for moments, never over I/O.
#[derive(Default)]
pub struct Pool {
    kept: Mutex<Vec<Kept>>,
    epoch: AtomicU64,
    /// There is a task that closes those kept too long.
    watched: AtomicBool,
}

impl Pool {
    /// How often the pool was cleared.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The connection to `place` that was used last.
    pub fn take(&self, place: &Place) -> Option<Sender> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let at = kept.iter().rposition(|one| one.place == *place)?;
            let found = kept.remove(at);
            if !found.sender.is_closed() && found.since.elapsed() < UPSTREAM_IDLE {
                return Some(found.sender);
            }
        }
    }

    /// Closes all of them: the policy that allowed them may have changed.
    pub fn clear(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn put(&self, place: Place, sender: Sender) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= UPSTREAMS_IDLE_MAX {
            kept.remove(0);
        }
        kept.push(Kept { place, sender, since: Instant::now() });
    }

    /// Closes those kept too long; whether any is left. Where none is, nobody watches any more.
    fn expire(&self) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|one| one.since.elapsed() < UPSTREAM_IDLE && !one.sender.is_closed());
        self.watched.store(!kept.is_empty(), Ordering::Release);
        !kept.is_empty()
    }
}

/// Gives a connection back after an exchange that ended whole on both sides.
pub fn give_back(shared: &Arc<Shared>, place: Place, sender: Sender) {
    let current = place.epoch == shared.pool.epoch();
    if current && !sender.is_closed() {
        shared.pool.put(place, sender);
        // Not one for each time that the pool was empty: a client that asks again and again empties it each time.
        if !shared.pool.watched.swap(true, Ordering::AcqRel) {
            tokio::spawn(expire(Arc::downgrade(shared)));
        }
    }
}

/// Runs while something is kept.
async fn expire(shared: Weak<Shared>) {
    let mut broken_off = BrokenOff(Some(shared));
    loop {
        sleep(UPSTREAM_IDLE).await;
        match broken_off.0.as_ref().and_then(Weak::upgrade) {
            Some(shared) if shared.pool.expire() => {}
            _ => {
                broken_off.0 = None;
                return;
            }
        }
    }
}

/// The runtime of the task that watches has ended before the proxy: another one may watch.
struct BrokenOff(Option<Weak<Shared>>);

impl Drop for BrokenOff {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take().and_then(|shared| shared.upgrade()) {
            shared.pool.watched.store(false, Ordering::Release);
        }
    }
}
