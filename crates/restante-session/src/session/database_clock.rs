//! The database's clock as a session knows it: messages expire by it. It is read once, when the session starts.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::domain::Envelope;

/// The database's clock, carried on by the session's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct DatabaseClock {
    at: Instant,
    time: OffsetDateTime,
}

impl DatabaseClock {
    pub(super) const fn new(at: Instant, time: OffsetDateTime) -> Self {
        Self { at, time }
    }

    /// The instant at which a message expires; none: it never does, or so late that nobody waits for it.
    pub(super) fn expiry(&self, envelope: &Envelope) -> Option<Instant> {
        let left = envelope.message.expires_at? - self.time;
        if left.is_negative() {
            return Some(self.at);
        }
        self.at.checked_add(Duration::try_from(left).ok()?)
    }
}
