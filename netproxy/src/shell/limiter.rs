//! The limits of the sandbox and of its rules on how much happens at once and in a second. State is a number or
//! two for each limit; the locks are held for moments.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::audit::Layer;
use crate::hooks::Allow;
use crate::limits::{DNS_STREAMS_MAX, LIMITED_RULES_MAX, Limits, TURNED_AWAY_MAX};
use crate::rate::Rate;
use crate::refuse::{Kind, Refusal};

/// All limits of one sandbox.
#[derive(Default)]
pub struct Limiter {
    clients: Count,
    turned_away: Count,
    dns_streams: Count,
    under_way: Count,
    /// Tasks that wait for a stream.
    pub waiting: Count,
    requests: Mutex<Rate>,
    rules: Mutex<BTreeMap<Arc<str>, Rule>>,
    up: Mutex<Rate>,
    down: Mutex<Rate>,
}

#[derive(Default)]
struct Rule {
    requests: Rate,
    connections: Count,
}

/// What is open, and a place in it that is given back when it is dropped.
pub type Count = Arc<AtomicUsize>;
pub struct Slot(Count);

impl Slot {
    pub fn take(count: &Count, most: usize) -> Option<Self> {
        count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
                if open < most { open.checked_add(1) } else { None }
            })
            .ok()
            .map(|_| Self(Arc::clone(count)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What becomes of a new client connection.
pub enum Entry {
    /// It is served.
    In(Slot),
    /// It is told that there are too many.
    TurnedAway(Slot),
    /// Not even that: too many are being told.
    Closed,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    Up,
    Down,
}

impl Limiter {
    /// Client connections that are open.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    pub fn enter(&self, limits: &Limits) -> Entry {
        match Slot::take(&self.clients, limits.client_connections_max) {
            Some(slot) => Entry::In(slot),
            None => Slot::take(&self.turned_away, TURNED_AWAY_MAX).map_or(Entry::Closed, Entry::TurnedAway),
        }
    }

    /// One more DNS stream, if there is room for it.
    pub fn dns_stream(&self) -> Option<Slot> {
        Slot::take(&self.dns_streams, DNS_STREAMS_MAX)
    }

    /// Whether any request is under way.
    pub fn are_under_way(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// One more request that is under way until the slot is dropped.
    pub fn under_way(&self, limits: &Limits) -> Result<Slot, Box<Refusal>> {
        let most = limits.requests_at_once_max;
        Slot::take(&self.under_way, most).ok_or_else(|| {
            let detail = format!("the sandbox may have {most} requests under way at once");
            Box::new(Refusal::new(Kind::TooManyConnections, Layer::Http, detail))
        })
    }

    /// One more request in the sandbox, whatever its verdict.
    pub fn request(&self, limits: &Limits, now: Instant) -> Result<(), Box<Refusal>> {
        let Some(per_s) = limits.requests_per_s else { return Ok(()) };
        let taken = lock(&self.requests).take(per_s, now);
        taken.map_err(|_| too_fast(&format!("the sandbox may send {per_s} requests in a second")))
    }

    /// One more request that the rule allows.
    pub fn rule_request(&self, allow: &Allow, now: Instant) -> Result<(), Box<Refusal>> {
        let Some(per_s) = allow.limits.requests_per_s else { return Ok(()) };
        let detail = format!("the rule {} allows {per_s} requests in a second", allow.rule);
        match self.rule(allow, |rule| rule.requests.take(per_s, now)) {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(too_fast(&detail)),
        }
    }

    /// One more connection that the rule allows, counted until the slot is dropped.
    pub fn rule_connection(&self, allow: &Allow, layer: Layer) -> Result<Option<Slot>, Box<Refusal>> {
        let Some(most) = allow.limits.connections else { return Ok(None) };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        match self.rule(allow, |rule| Slot::take(&rule.connections, most)).flatten() {
            Some(slot) => Ok(Some(slot)),
            None => {
                let detail = format!("the rule {} allows {most} connections at once", allow.rule);
                let refusal = Refusal::new(Kind::TooManyConnections, layer, detail);
                Err(Box::new(refusal.after(allow)))
            }
        }
    }

    /// `None`: more rules than any policy has; nothing is allowed that could not be counted.
    fn rule<T>(&self, allow: &Allow, with: impl FnOnce(&mut Rule) -> T) -> Option<T> {
        let mut rules = lock(&self.rules);
        if !rules.contains_key(&allow.rule) && rules.len() >= LIMITED_RULES_MAX {
            return None;
        }
        Some(with(rules.entry(Arc::clone(&allow.rule)).or_default()))
    }

    /// `count` bytes went; how long to wait before more.
    pub fn bytes(&self, way: Way, (count, per_s): (usize, u64), now: Instant) -> Duration {
        let rate = match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        };
        lock(rate).pay(u64::try_from(count).unwrap_or(u64::MAX), per_s, now)
    }
}

fn too_fast(detail: &str) -> Box<Refusal> {
    Box::new(Refusal::new(Kind::RateLimited, Layer::Http, detail))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
