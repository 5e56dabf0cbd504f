//! Clients in a crash loop: connections that end without one ack, counted per user and device.
//!
//! A message that crashes its client would otherwise be emitted, with a whole window around it, at every reconnect
//! for ever. After three such ends in a row the first envelope goes out alone, so that it is found. Kept in memory
//! only: a client that crashes again fills it again. Bounded per user, so that names of devices that a user makes up push out its own only,
//! and in users, of whom the one goes that did not crash for longest.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashlink::LruCache;

use crate::domain::{DeviceId, UserId, limits};
use crate::telemetry::Metrics;

/// After this number of ends in a row, the next connection emits its first envelope alone.
const ENDS: u8 = 3;
/// Users of whom clients are remembered.
const USERS_MAX: usize = 10_000;
/// Clients of a user: its devices, and one without a device.
const CLIENTS_MAX: usize = limits::DEVICES_PER_USER_MAX + 1;

/// The counts of one node.
#[derive(Debug)]
pub struct CrashLoops {
    users: Mutex<LruCache<UserId, Vec<Client>>>,
    metrics: Arc<Metrics>,
}

/// A client, and its ends in a row.
#[derive(Debug)]
struct Client {
    device: Option<DeviceId>,
    ends: u8,
}

impl CrashLoops {
    /// Nothing is counted yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { users: Mutex::new(LruCache::new(USERS_MAX)), metrics }
    }

    /// Returns whether the next connection of this client emits its first envelope alone.
    pub fn emit_alone(&self, user: UserId, device: Option<&DeviceId>) -> bool {
        let users = self.users();
        users.peek(&user).is_some_and(|clients| clients.iter().any(|client| client.device.as_ref() == device && client.ends >= ENDS))
    }

    /// A connection ended: envelopes had been emitted, and some were acked or none.
    pub fn ended(&self, user: UserId, device: Option<&DeviceId>, anything_acked: bool) {
        let mut users = self.users();
        let mut clients = users.remove(&user).unwrap_or_default();
        let known = clients.iter().position(|client| client.device.as_ref() == device).map(|place| clients.remove(place));
        if !anything_acked {
            let ends = known.map_or(1, |client| client.ends.saturating_add(1));
            // The last one is that which crashed last.
            clients.push(Client { device: device.cloned(), ends });
            clients.drain(..clients.len().saturating_sub(CLIENTS_MAX));
        }
        if !clients.is_empty() {
            users.insert(user, clients);
        }
        self.metrics.crash_loops_known.set(i64::try_from(users.len()).unwrap_or(i64::MAX));
    }

    /// A panic in one of these few lines would lose the counts of one user at worst.
    fn users(&self) -> MutexGuard<'_, LruCache<UserId, Vec<Client>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: impl ToString) -> DeviceId {
        DeviceId::try_from(name.to_string()).unwrap()
    }

    fn crashes(loops: &CrashLoops, user: UserId, device: Option<&DeviceId>, times: u8) {
        (0..times).for_each(|_| loops.ended(user, device, false));
    }

    #[test]
    fn three_ends_without_an_ack_make_the_next_connection_emit_alone_until_one_acks() {
        let loops = CrashLoops::new(Arc::default());
        let user = UserId(1);
        for _ in 0..3 {
            assert!(!loops.emit_alone(user, None));
            loops.ended(user, None, false);
        }
        assert!(loops.emit_alone(user, None) && !loops.emit_alone(user, Some(&device("phone"))));
        loops.ended(user, None, true);
        assert!(!loops.emit_alone(user, None));
        assert_eq!(loops.metrics.crash_loops_known.get(), 0);
    }

    #[test]
    fn however_many_devices_one_user_makes_up_others_are_counted_and_kept() {
        let loops = CrashLoops::new(Arc::default());
        crashes(&loops, UserId(1), None, ENDS);
        for n in 0..150_000 {
            loops.ended(UserId(2), Some(&device(n)), false);
        }
        crashes(&loops, UserId(3), None, ENDS);
        assert!(loops.emit_alone(UserId(1), None) && loops.emit_alone(UserId(3), None));
        assert_eq!(loops.metrics.crash_loops_known.get(), 3);
        assert_eq!(loops.users().peek(&UserId(2)).unwrap().len(), CLIENTS_MAX);
    }

    #[test]
    fn however_many_users_crash_a_newcomer_is_counted_and_the_bound_holds() {
        let loops = CrashLoops::new(Arc::default());
        for n in 0..3 * USERS_MAX {
            loops.ended(UserId(i64::try_from(n).unwrap()), None, false);
        }
        crashes(&loops, UserId(-1), None, ENDS);
        assert!(loops.emit_alone(UserId(-1), None));
        assert_eq!(loops.users().len(), USERS_MAX);
    }
}
