//! Readiness: whether clients may be sent to this node.

use super::{Refusal, Service};

impl Service {
    /// Tells whether the database answers, as this node knows it. No statement is asked, so a load balancer, or anybody else, may ask as
    /// often as it likes. The node itself asks the database every two seconds, over a connection of its own. A pool whose connections are all
    /// in use is no reason not to be ready.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`]: the database is away.
    pub fn check_ready(&self) -> Result<(), Refusal> {
        if self.health().is_away() { Err(Refusal::Unavailable) } else { Ok(()) }
    }
}
