//! Bodies that are held whole, or in part, before they are sent: within a budget that all requests of the sandbox
//! share, so that a guest cannot fill the host's memory with bodies that never end.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use hyper::body::Body;
use tokio::time::timeout;

use crate::audit::Layer;
use crate::refuse::{Kind, Refusal};
use crate::shell::exchange::body_too_large;
use crate::shell::ledger::Sent;
use crate::shell::shared::Shared;
use crate::shell::stream::incoming::Incoming;
use crate::shell::upstream::{body_broke_off, body_too_quiet, malformed_body};

/// What all requests hold together, in bytes.
#[derive(Default)]
pub struct Budget(AtomicUsize);

/// One request's part of the budget; free again when dropped.
pub struct Room {
    budget: Arc<Budget>,
    most: usize,
    taken: usize,
}

impl Room {
    /// None of it yet; `most` is the whole budget.
    pub fn of(budget: &Arc<Budget>, most: usize) -> Self {
        Self { budget: Arc::clone(budget), most, taken: 0 }
    }

    /// Takes or gives back, so that it is `bytes`; whether there is room for that many.
    pub fn set(&mut self, bytes: usize) -> bool {
        let (old, most) = (self.taken, self.most);
        let fits = |all: usize| {
            let new = all.saturating_sub(old).saturating_add(bytes);
            (bytes <= old || new <= most).then_some(new)
        };
        let done = self.budget.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if done {
            self.taken = bytes;
        }
        done
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A body in hand.
pub struct Held {
    pub bytes: Bytes,
    pub trailers: Option<HeaderMap>,
    /// What it takes up, for as long as it is here.
    pub(super) _room: Option<Room>,
}

/// No room for another body.
pub fn no_room() -> Refusal {
    let detail = "as many request bodies as may be are held at once, to be signed or looked into";
    Refusal::new(Kind::TooManyHeldBodies, Layer::Http, detail)
}

/// Reads a body to its end. `most` is the limit of the sandbox and the rule, if there is one.
pub async fn hold(
    shared: &Shared,
    incoming: &mut Incoming,
    (most, sent): (Option<u64>, &Sent),
) -> Result<Held, Box<Refusal>> {
    let most = most.unwrap_or(u64::MAX).min(shared.limits.held_body_bytes_max);
    if incoming.size_hint().lower() > most {
        return Err(Box::new(body_too_large(most)));
    }
    let mut room = Room::of(&shared.held, shared.limits.held_bytes_max);
    let (mut bytes, mut trailers) = (BytesMut::new(), None);
    while !incoming.is_end_stream() {
        let frame = poll_fn(|cx| Pin::new(&mut *incoming).poll_frame(cx));
        let frame = match timeout(shared.limits.idle_timeout, frame).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Box::new(malformed_body()));
            }
            Ok(Some(Err(error))) => {
                sent.break_off(&error);
                return Err(Box::new(body_broke_off()));
            }
            Err(_) => return Err(Box::new(body_too_quiet())),
        };
        match frame.into_data() {
            Ok(data) => {
                let length = bytes.len().saturating_add(data.len());
                if u64::try_from(length).unwrap_or(u64::MAX) > most {
                    return Err(Box::new(body_too_large(most)));
                }
                if !room.set(length) {
                    return Err(Box::new(no_room()));
                }
                bytes.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok(Held { bytes: bytes.freeze(), trailers, _room: Some(room) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_shared_and_comes_back() {
        let budget = Arc::new(Budget::default());
        let (mut one, mut two) = (Room::of(&budget, 10), Room::of(&budget, 10));
        assert!(one.set(6) && two.set(4));
        assert!(!two.set(5), "one byte more than there is");
        assert!(two.set(4) && two.set(1) && one.set(9));
        drop(one);
        assert!(two.set(10) && !two.set(11));
        drop(two);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}
