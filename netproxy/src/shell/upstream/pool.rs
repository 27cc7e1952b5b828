//! Upstream connections between two requests, shared by all client connections of one sandbox: a client that
//! connects anew for every request does not cost the upstream a handshake each.
//!
//! Only a connection whose last exchange ended whole comes back, and it serves only the same place. It was
//! dialled to an address that was judged. A changed name is asked for again once nobody has used it for a while, or the policy
//! has changed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::time::{Instant, sleep};

use super::http1::Sender;
use crate::authority::Authority;
use crate::hooks::Scheme;
use crate::limits::{UPSTREAM_IDLE, UPSTREAMS_IDLE_MAX};
use crate::shell::shared::Shared;

/// Where a connection leads, by which upstream proxy, as whom, and since which [`Pool::clear`].
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    pub scheme: Scheme,
    pub authority: Authority,
    /// The name of an upstream proxy.
    pub via: Option<Arc<str>>,
    /// The upstream is shown the client certificate for it, if there is one.
    pub certified: bool,
    /// [`Pool::epoch`] when the request was taken: what was dialled before a clearing serves nobody after it, also
    /// if it was in use meanwhile.
    pub epoch: u64,
}

/// Nobody reads or writes it: that the upstream has closed it is found when it is used.
struct Kept {
    place: Place,
    sender: Sender,
    since: Instant,
}

impl Kept {
    fn is_old(&self) -> bool {
        self.since.elapsed() >= UPSTREAM_IDLE
    }
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
        let found = {
            let mut kept = self.lock();
            let at = kept.iter().rposition(|one| one.place == *place)?;
            kept.remove(at)
        };
        if found.is_old() {
            // All others to there are older.
            found.sender.close();
            return None;
        }
        Some(found.sender)
    }

    /// Closes all of them: the policy that allowed them may have changed.
    pub fn clear(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let all = std::mem::take(&mut *self.lock());
        all.into_iter().for_each(|one| one.sender.close());
    }

    fn put(&self, place: Place, sender: Sender) {
        let mut kept = self.lock();
        let oldest = (kept.len() >= UPSTREAMS_IDLE_MAX).then(|| kept.remove(0));
        kept.push(Kept { place, sender, since: Instant::now() });
        drop(kept);
        if let Some(oldest) = oldest {
            oldest.sender.close();
        }
    }

    /// Closes those kept too long; whether any is left. Where none is, nobody watches any more.
    fn expire(&self) -> bool {
        let mut kept = self.lock();
        let (old, young) = std::mem::take(&mut *kept).into_iter().partition(Kept::is_old);
        *kept = young;
        self.watched.store(!kept.is_empty(), Ordering::Release);
        let left = !kept.is_empty();
        drop(kept);
        Vec::into_iter(old).for_each(|one| one.sender.close());
        left
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a connection back after an exchange that ended whole on both sides.
pub fn give_back(shared: &Arc<Shared>, place: Place, mut sender: Sender) {
    if place.epoch != shared.pool.epoch() {
        return sender.close();
    }
    if !sender.rest() {
        return sender.close();
    }
    shared.pool.put(place, sender);
    // Not one for each time that the pool was empty: a client that asks again and again empties it each time.
    if !shared.pool.watched.swap(true, Ordering::AcqRel) {
        tokio::spawn(expire(Arc::downgrade(shared)));
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
