//! A task whose owner may go before it.

use tokio::task::AbortHandle;

/// Ends the task when it is dropped.
pub struct Leash(Option<AbortHandle>);

impl Leash {
    pub fn on(task: AbortHandle) -> Self {
        Self(Some(task))
    }

    /// The task goes on alone.
    pub fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
