//! Connections that end without one ack, counted per user and device.
//!
//! A message that crashes its client would otherwise be emitted, with a whole window around it, at every reconnect
//! for ever. After three such ends in a row the first envelope goes out alone, so that it is found. Kept in memory
//! only: a client that crashes again fills it again.

use dashmap::DashMap;

use crate::domain::{DeviceId, UserId};

/// After this number of ends in a row, the next connection emits its first envelope alone.
const ENDS: u8 = 3;
/// The largest number of entries. Beyond it no new client is counted until entries have been removed.
const ENTRIES_MAX: usize = 100_000;

/// The counts of one node.
#[derive(Debug, Default)]
pub struct Crashes {
    ends: DashMap<(UserId, Option<DeviceId>), u8>,
}

impl Crashes {
    /// Whether the next connection of this client emits its first envelope alone.
    pub fn emit_alone(&self, user: UserId, device: Option<&DeviceId>) -> bool {
        self.ends.get(&(user, device.cloned())).is_some_and(|ends| *ends >= ENDS)
    }

    /// A connection ended: envelopes had been emitted, and some were acked or none.
    pub fn ended(&self, user: UserId, device: Option<&DeviceId>, anything_acked: bool) {
        let key = (user, device.cloned());
        if anything_acked {
            self.ends.remove(&key);
        } else if self.ends.len() < ENTRIES_MAX || self.ends.contains_key(&key) {
            let mut ends = self.ends.entry(key).or_insert(0);
            *ends = ends.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ends_without_an_ack_make_the_next_connection_emit_alone_until_one_acks() {
        let crashes = Crashes::default();
        let user = UserId(1);
        for _ in 0..3 {
            assert!(!crashes.emit_alone(user, None));
            crashes.ended(user, None, false);
        }
        assert!(crashes.emit_alone(user, None));
        crashes.ended(user, None, true);
        assert!(!crashes.emit_alone(user, None));
    }
}
