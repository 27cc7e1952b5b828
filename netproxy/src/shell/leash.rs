//! A task whose owner may go before it.

use tokio::task::AbortHandle;

/// Ends the task when it is dropped.
pub struct Leash(pub AbortHandle);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.abort();
    }
}
