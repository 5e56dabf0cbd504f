//! The request budget of a user: how much it may ask of all nodes together in a time, however many connections and requests it uses for that.
//!
//! Each request of a user is counted in points, after it was taken in. A user who has used up its points owes. Until the debt is paid by time
//! nothing more is read from its connections, and its HTTP requests wait. So a client that asks without a pause is slowed, its
//! frames stay in its own sockets, and nobody else waits for them. It knows nothing of what is asked.

use std::time::Duration;

use super::Limits;
use super::meter::Conditions;
use crate::domain::ExternalId;

/// The budget of one user. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    limits: Limits,
    user: ExternalId,
}

impl Budget {
    pub(super) const fn new(limits: Limits, user: ExternalId) -> Self {
        Self { limits, user }
    }

    /// Counts points. Returns the time that the user owes afterwards, 10 s at most; zero: it may go on.
    pub fn count(&self, points: u32) -> Duration {
        let Some(requests) = &self.limits.0.meters.requests else { return Duration::ZERO };
        requests.charge(&self.user, points, self.conditions())
    }

    /// The time that the user owes, 10 s at most; zero: it may go on.
    pub fn debt(&self) -> Duration {
        let Some(requests) = &self.limits.0.meters.requests else { return Duration::ZERO };
        requests.debt(&self.user, self.conditions())
    }

    fn conditions(&self) -> Conditions {
        self.limits.conditions(self.limits.0.raised.of_name(&self.user))
    }
}
