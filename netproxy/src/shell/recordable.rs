//! Nothing is let through that could not be recorded.

use tokio::time::{Instant, sleep};

use super::shared::Shared;
use crate::audit::Layer;
use crate::limits::AUDIT_LOOK_EVERY;
use crate::refuse::{Kind, Refusal};

impl Shared {
    /// Returns once the log can take a record. A refusal where it cannot for longer than
    /// [`Limits::audit_wait`](crate::limits::Limits::audit_wait).
    pub async fn recordable(&self, layer: Layer) -> Result<(), Box<Refusal>> {
        // Most logs can at once: no look at the clock.
        let mut since = None;
        while let Err(error) = self.audit.ready() {
            let waited = since.get_or_insert_with(Instant::now).elapsed();
            let left = self.limits.audit_wait.saturating_sub(waited);
            if left.is_zero() {
                return Err(Box::new(Refusal::new(Kind::AuditUnavailable, layer, error.to_string())));
            }
            sleep(left.min(AUDIT_LOOK_EVERY)).await;
        }
        Ok(())
    }
}
