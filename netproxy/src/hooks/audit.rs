//! Who keeps the record.

use crate::audit::Record;

/// The audit sink cannot take another record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct AuditUnavailable;

/// Keeps one [`Record`] per refusal and per finished exchange.
pub trait Audit: Send + Sync {
    /// Asked before each exchange; an error refuses it, so that nothing happens unrecorded.
    ///
    /// # Errors
    /// [`AuditUnavailable`] while the sink cannot write.
    fn ready(&self) -> Result<(), AuditUnavailable> {
        Ok(())
    }
    /// Takes the record. Called from async code: must not block for long.
    fn record(&self, record: Record);
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct AuditNothing;

impl Audit for AuditNothing {
    fn record(&self, _: Record) {}
}
