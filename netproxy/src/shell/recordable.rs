//! Nothing is let through that could not be recorded.

use tokio::time::{Instant, sleep};

use super::shared::Shared;
use crate::audit::Layer;
use crate::limits::AUDIT_LOOK_EVERY;
use crate::refuse::{Kind, Refusal};

/// The log can take a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recordable {
    AtOnce,
    /// What was decided before may be out of date.
    AfterWaiting,
}

impl Shared {
    /// Returns once the log can take a record. A refusal where it cannot for longer than
    /// [`Limits::audit_wait`](crate::limits::Limits::audit_wait), and where the proxy is to end.
    pub async fn recordable(&self, layer: Layer) -> Result<Recordable, Box<Refusal>> {
        // Most logs can at once: no look at the clock.
        let mut since = None;
        while let Err(refusal) = self.recordable_now(layer) {
            let waited = since.get_or_insert_with(Instant::now).elapsed();
            let left = self.limits.audit_wait.saturating_sub(waited);
            if left.is_zero() || self.control.is_draining() {
                return Err(refusal);
            }
            sleep(left.min(AUDIT_LOOK_EVERY)).await;
        }
        Ok(if since.is_some() { Recordable::AfterWaiting } else { Recordable::AtOnce })
    }

    /// For names: few are answered at a time, and one that waits would hold up others.
    pub fn recordable_now(&self, layer: Layer) -> Result<(), Box<Refusal>> {
        let unavailable = |error| Box::new(Refusal::new(Kind::AuditUnavailable, layer, format!("{error}")));
        self.audit.ready().map_err(unavailable)
    }
}
