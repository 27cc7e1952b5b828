//! The audit record of an allowed exchange while it is under way. It is written when the ledger is dropped and nothing is
//! sent any more, whatever way the exchange ended: no path can forget it, and an upload that goes on after its answer is
//! counted to its end.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use super::shared::{Decision, Shared};
use super::stream::incoming::is_gone;
use super::trace::Span;
use super::upstream::reach::OpenTimes;
use crate::audit::{Layer, Outcome, Record, milliseconds};
use crate::hooks::Allow;
use crate::refuse::{Before, Kind, Refusal, Subject};

pub struct Ledger {
    shared: Arc<Shared>,
    /// Boxed: it is handed on with the answer.
    record: Option<Box<Record>>,
    started: Instant,
    up: Arc<Sent>,
    span: Span,
}

/// What went so far.
#[derive(Default)]
pub struct Sent {
    /// Towards the upstream.
    pub bytes: AtomicU64,
    /// Towards the client, through a tunnel or a WebSocket; and secrets removed from that.
    pub down: AtomicU64,
    pub redactions: AtomicU64,
    /// The client's side of it broke off.
    pub broken: AtomicBool,
    /// And nobody is there to hear of it.
    pub gone: AtomicBool,
    /// Why no more of it may go.
    pub cut: OnceLock<Box<Refusal>>,
    /// What is recorded when nobody sends any more.
    due: Mutex<Option<Due>>,
}

/// A record that lacks only what went up, and the time.
struct Due {
    shared: Arc<Shared>,
    record: Box<Record>,
    started: Instant,
    span: Span,
}

impl Sent {
    /// The client's side broke off with this.
    pub fn break_off(&self, error: &io::Error) {
        self.broken.store(true, Ordering::Relaxed);
        if is_gone(error) {
            self.gone.store(true, Ordering::Relaxed);
        }
    }
}

impl Ledger {
    pub fn open(
        shared: &Arc<Shared>,
        decision: &Decision,
        layer: Layer,
        (allow, subject): (&Allow, Subject),
    ) -> Self {
        let mut record = Box::new(Record::new(decision.time, decision.id.clone(), layer, Outcome::Allow));
        record.decided(allow);
        record.about(subject);
        Self {
            shared: Arc::clone(shared),
            record: Some(record),
            started: decision.started,
            up: Arc::default(),
            span: decision.span.clone(),
        }
    }

    /// The count of what goes.
    pub fn sent(&self) -> Arc<Sent> {
        Arc::clone(&self.up)
    }

    /// How many bytes went so far.
    pub fn sent_bytes(&self) -> u64 {
        self.up.bytes.load(Ordering::Relaxed)
    }

    /// What was put into the request.
    pub fn credential(&self) -> Option<Arc<str>> {
        self.record.as_ref().and_then(|record| record.credential.clone())
    }

    /// Why the request's body was cut off.
    pub fn body_cut(&self) -> Option<Box<Refusal>> {
        self.up.cut.get().cloned()
    }

    /// Whether nobody is there to hear of the end.
    pub fn is_unheard(&self) -> bool {
        self.up.gone.load(Ordering::Relaxed) || self.shared.control.has_ended()
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Changes the record.
    pub fn note(&mut self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            change(record);
        }
    }

    /// The head of the response is here. Whether the client gets it is not known yet.
    pub fn head_is_here(&mut self) {
        let elapsed = self.started.elapsed();
        self.note(|record| record.ms_first_byte = Some(milliseconds(elapsed)));
    }

    /// The client is given this.
    pub fn answered(&mut self, status: u16) {
        self.note(|record| record.status = Some(status));
    }

    /// A connection was opened for it.
    pub fn opened(&mut self, times: &OpenTimes) {
        self.span.opened(times);
        self.note(|record| {
            record.ms_dns = Some(milliseconds(times.dns));
            record.ms_connect = times.dial.map(milliseconds);
            record.ms_tls = times.tls.map(milliseconds);
        });
    }

    pub fn down(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.note(|record| record.bytes_down = record.bytes_down.saturating_add(bytes));
    }

    pub fn redactions(&mut self, count: u64) {
        self.note(|record| record.redactions = count);
    }

    /// The exchange was cut short; the first cause stays.
    pub fn fail(&mut self, error: &'static str) {
        self.note(|record| {
            failed(record);
            record.error.get_or_insert(error);
        });
    }

    /// The exchange was cut short, as its client is gone.
    pub fn unheard(&mut self) {
        self.fail(self.shared.control.who_is_gone());
    }

    /// Something else is recorded instead.
    pub fn discard(mut self) {
        self.record = None;
    }

    /// The exchange ends in a refusal, which has a record of its own and says there what had come of it.
    pub fn give_up(mut self, before: &mut Before) {
        before.bytes_up = self.sent_bytes();
        let Some(record) = self.record.take() else { return };
        before.credential = record.credential;
        // Where no connection was opened, the refusal knows how far that came.
        before.ms_dns = record.ms_dns.or(before.ms_dns);
        before.ms_connect = record.ms_connect.or(before.ms_connect);
        before.ms_tls = record.ms_tls.or(before.ms_tls);
        before.ms_first_byte = record.ms_first_byte;
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // Without a status nothing came back, and nobody said why: the client did not wait for it.
        if self.record.as_ref().is_some_and(|record| record.layer == Layer::Http && record.status.is_none()) {
            self.unheard();
        }
        if let Some(record) = self.record.take() {
            let (shared, span) = (Arc::clone(&self.shared), self.span.clone());
            let due = Due { shared, record, started: self.started, span };
            *self.up.due.lock().unwrap_or_else(PoisonError::into_inner) = Some(due);
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let due = self.due.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Due { shared, mut record, started, span }) = due {
            record.bytes_up = record.bytes_up.saturating_add(self.bytes.load(Ordering::Relaxed));
            record.bytes_down = record.bytes_down.saturating_add(self.down.load(Ordering::Relaxed));
            record.redactions = record.redactions.saturating_add(self.redactions.load(Ordering::Relaxed));
            record.ms_total = milliseconds(started.elapsed());
            if let Some(cut) = self.cut.get() {
                failed(&mut record);
                record.error = Some(cut.kind.code());
            } else if self.broken.load(Ordering::Relaxed) {
                failed(&mut record);
                record.error.get_or_insert(shared.control.who_is_gone());
            }
            if record.verdict == Outcome::WouldDeny {
                record.error.get_or_insert(Kind::Policy.code());
            }
            shared.record(&span, *record);
        }
    }
}

/// That the policy would refuse it says more than that it failed; the error tells of the latter.
fn failed(record: &mut Record) {
    if record.verdict != Outcome::WouldDeny {
        record.verdict = Outcome::Error;
    }
}
