//! Readiness: whether clients may be sent to this node.

use super::{Refusal, Service};
use crate::protocol::{Code, Fault};

impl Service {
    /// Tells whether the database answers, as this node knows it. No statement is asked, so a load balancer, or anybody else, may ask as
    /// often as it likes. The node itself asks the database every two seconds, over a connection of its own. A pool whose connections are all
    /// in use is no reason not to be ready.
    ///
    /// # Errors
    /// `unavailable`: the database is away, or nodes encrypt with a data key that this one cannot read.
    pub fn check_ready(&self) -> Result<(), Fault> {
        if self.health().is_away() {
            return Err(Refusal::Unavailable.into());
        }
        match self.store.keys().lacking() {
            Some(_) => Err(Fault::new(Code::Unavailable, "this node lacks the master key of the data key in use")),
            None => Ok(()),
        }
    }
}
