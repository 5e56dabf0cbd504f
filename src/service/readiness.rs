//! Readiness: whether clients may be sent to this node.

use std::time::Duration;

use super::{Refusal, Service};

/// The time in which the database must answer.
const PING_TIME_MAX: Duration = Duration::from_secs(2);

impl Service {
    /// Asks the database whether it answers, takes writes and keeps them. Operators ask it, so it waits for no permit.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`]: it does not. [`Refusal::Busy`]: all connections to it are in use.
    pub async fn check_ready(&self) -> Result<(), Refusal> {
        self.store.ping_within(PING_TIME_MAX).await.map_err(|cause| Refusal::of(&cause, "asking the database whether it is there"))
    }
}
