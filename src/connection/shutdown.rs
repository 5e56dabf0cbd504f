//! The planned stop, as connections see it. Each is told at once when to come back, goes on as before, and has a
//! moment of its own at which it is closed, so that a crowd does not arrive at the other nodes all at once.
//!
//! A stop begins once and is never called off. A connection may close before its moment.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::domain::SessionId;
use crate::protocol::{Code, Fault};

/// Clients that are sent to other nodes in a second: by the moments at which they are closed as far as there is time,
/// and for the rest by what they are told to wait.
const CLIENTS_A_SECOND: u32 = 500;
/// The lower and the upper bound of [`Plan::spread`].
const RECONNECT_SPREAD_MIN: Duration = Duration::from_millis(100);
const RECONNECT_SPREAD_MAX: Duration = Duration::from_secs(30);
/// Connections that knock meanwhile are to try again within this time: another node answers, or this one's successor.
const REFUSAL_MS: u64 = 1_000;

/// Knows if this node has begun to stop. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    begun: CancellationToken,
    plan: OnceLock<Plan>,
    next: AtomicU32,
}

/// The schedule by which a stop closes the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    begun: Instant,
    connections: u32,
    /// Connections are closed one after the other within this time.
    pub pace: Duration,
    /// The longest time for which clients are told to wait before they connect again.
    pub spread: Duration,
    /// The time for which a connection waits for the last acks of its client, once its moment has come.
    pub drain_time: Duration,
}

/// When and how one connection is closed by the stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlannedClose {
    /// The time that its client is told to wait after the close.
    pub(super) reconnect_after: Duration,
    /// From then on nothing new is emitted, and it is closed as soon as nothing is under way.
    pub(super) at: Instant,
    /// Then it is closed in any case.
    pub(super) deadline: Instant,
}

impl Plan {
    /// A plan for this number of connections, with two fifths of the grace for the pace and one for the last acks. Without
    /// connections it takes no time.
    pub fn new(begun: Instant, connections: usize, grace: Duration) -> Self {
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        let wanted = Duration::from_secs(1) * connections / CLIENTS_A_SECOND;
        let pace = wanted.min(grace * 2 / 5);
        let spread = (wanted - pace).clamp(RECONNECT_SPREAD_MIN, RECONNECT_SPREAD_MAX);
        Self { begun, connections, pace, spread, drain_time: grace / 5 }
    }

    /// The place of a connection in the row gives its moment, chance what its client is told.
    fn planned_close(&self, place: u32, chance: u16) -> PlannedClose {
        // A connection that was opened after the count is closed with the last one.
        let place = place.min(self.connections);
        let at = self.begun + self.pace * place / self.connections.max(1);
        let reconnect_after = self.spread * u32::from(chance) / u32::from(u16::MAX);
        PlannedClose { reconnect_after, at, deadline: at + self.drain_time }
    }
}

impl Shutdown {
    /// Begins. Only the first call counts.
    pub fn begin(&self, connections: usize, grace: Duration) -> Plan {
        let plan = *self.0.plan.get_or_init(|| Plan::new(Instant::now(), connections, grace));
        self.0.begun.cancel();
        plan
    }

    /// Returns whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.0.begun.is_cancelled()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        self.0.begun.cancelled().await;
    }

    /// When this connection leaves; none before the stop has begun. Asked once by each.
    pub(super) fn planned_close(&self, session: SessionId) -> Option<PlannedClose> {
        let plan = self.0.plan.get()?;
        Some(plan.planned_close(self.0.next.fetch_add(1, Ordering::Relaxed), chance(session)))
    }

    /// The fault for a connection that comes too late.
    pub(super) fn refusal(&self) -> Fault {
        let chance = u64::from(chance(SessionId::generate()));
        Fault::plain(Code::Restart).retry_after_ms(REFUSAL_MS / 4 + REFUSAL_MS * 3 / 4 * chance / u64::from(u16::MAX))
    }
}

/// The end of an id is chance enough.
pub(super) fn chance(session: SessionId) -> u16 {
    let [.., one, other] = *session.0.as_bytes();
    u16::from_be_bytes([one, other])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    #[test]
    fn an_empty_node_and_one_without_grace_take_no_time() {
        let now = Instant::now();
        let empty = Plan::new(now, 0, GRACE);
        // Somebody comes while the connections are counted.
        assert_eq!((empty.pace, empty.planned_close(0, 0).at), (Duration::ZERO, now));
        let leave = Plan::new(now, 5_000, Duration::ZERO).planned_close(4_999, 0);
        assert_eq!((leave.at, leave.deadline), (now, now));
    }

    #[test]
    fn few_connections_leave_quickly_and_many_within_their_part_of_the_grace() {
        let now = Instant::now();
        let few = Plan::new(now, 50, GRACE);
        assert_eq!((few.pace, few.spread), (Duration::from_millis(100), RECONNECT_SPREAD_MIN));
        let crowd = Plan::new(now, 50_000, GRACE);
        assert_eq!((crowd.pace, crowd.spread), (Duration::from_secs(4), RECONNECT_SPREAD_MAX));
        let last = crowd.planned_close(49_999, u16::MAX);
        assert!(last.deadline <= now + GRACE * 3 / 5 && last.reconnect_after <= RECONNECT_SPREAD_MAX);
    }

    #[test]
    fn connections_leave_one_after_the_other_and_latecomers_with_the_last() {
        let plan = Plan::new(Instant::now(), 1_000, GRACE);
        let moments: Vec<Instant> = (0..1_000).map(|place| plan.planned_close(place, 0).at).collect();
        assert!(moments.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(2)));
        assert_eq!(plan.planned_close(5_000, 0).at, plan.begun + plan.pace);
    }

    #[test]
    fn a_stop_begins_once() {
        let shutdown = Shutdown::default();
        assert!(!shutdown.has_begun() && shutdown.planned_close(SessionId::generate()).is_none());
        let plan = shutdown.begin(10, GRACE);
        assert_eq!(shutdown.begin(10_000, GRACE), plan);
        assert!(shutdown.has_begun() && shutdown.planned_close(SessionId::generate()).is_some());
    }

    #[test]
    fn a_refusal_says_when_to_try_again_and_not_to_all_the_same() {
        let refusals: std::collections::HashSet<Option<u64>> = (0..50).map(|_| Shutdown::default().refusal().retry_after_ms).collect();
        assert!(refusals.len() > 10 && refusals.iter().flatten().all(|ms| (250..=1_000).contains(ms)));
    }
}
