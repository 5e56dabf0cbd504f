//! The request budgets: how much each user may ask of this node in a time, however many connections and requests it uses for that.
//!
//! Each request of a user is counted in points, after it was taken in. A user who has used up its points owes. Until the debt is paid by time
//! nothing more is read from its connections, and its HTTP requests wait. So a client that asks without a pause is slowed, its
//! frames stay in its own sockets, and nobody else waits for them. It knows nothing of what is asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ExternalId;

/// `REQUEST_RATE` is points in this time.
const RATE_PERIOD: Duration = Duration::from_secs(10);
/// The time in which a user's allowance becomes full.
const BURST: Duration = Duration::from_secs(5);
/// No user owes more. So a connection that owes is read again in time.
const DEBT_MAX: Duration = Duration::from_secs(10);
/// Users that are remembered at least before those who owe nothing are forgotten.
const USERS_MIN: usize = 1_024;

/// Names or rows that cost one point.
const ROWS_OF_A_POINT: usize = 25;

/// Bytes of a frame or a request that cost one point.
const BYTES_OF_A_POINT: usize = 1_024;

/// The points of a frame or a request of so many bytes.
pub fn points_of_bytes(bytes: usize) -> u32 {
    u32::try_from(1 + bytes / BYTES_OF_A_POINT).unwrap_or(u32::MAX)
}

/// The points of a question for so many names or rows.
pub(super) fn points_of_rows(rows: usize) -> u32 {
    u32::try_from(1 + rows / ROWS_OF_A_POINT).unwrap_or(u32::MAX)
}

/// The budgets of one node. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Budgets {
    /// The time that pays for one point. None: nothing is counted.
    point: Option<Duration>,
    began: Instant,
    users: Arc<Mutex<Users>>,
}

#[derive(Debug)]
struct Users {
    accounts: HashMap<ExternalId, Arc<Account>>,
    /// At so many users those who owe nothing are forgotten.
    sweep_at: usize,
}

/// When all points of a user are paid: in nanoseconds since the budgets began.
#[derive(Debug, Default)]
struct Account(AtomicU64);

/// The budget of one user. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    point: Option<Duration>,
    began: Instant,
    account: Arc<Account>,
}

impl Budgets {
    /// Budgets of `rate` points in 10 s, with bursts of half as many; 0: nothing is counted.
    pub(super) fn new(rate: u32) -> Self {
        let users = Users { accounts: HashMap::new(), sweep_at: USERS_MIN };
        let point = (rate > 0).then(|| RATE_PERIOD / rate);
        Self { point, began: Instant::now(), users: Arc::new(Mutex::new(users)) }
    }

    /// The budget of this user.
    pub(super) fn of(&self, user: &ExternalId) -> Budget {
        let (point, began) = (self.point, self.began);
        if point.is_none() {
            return Budget { point, began, account: Arc::default() };
        }
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.accounts.len() >= users.sweep_at {
            let now = nanoseconds(began.elapsed());
            users.accounts.retain(|_, account| Arc::strong_count(account) > 1 || account.0.load(Ordering::Relaxed) > now);
            users.sweep_at = (2 * users.accounts.len()).max(USERS_MIN);
        }
        let account = Arc::clone(users.accounts.entry(user.clone()).or_default());
        Budget { point, began, account }
    }
}

impl Budget {
    /// Counts points. Returns the time that the user owes afterwards, 10 s at most; zero: it may go on.
    pub fn count(&self, points: u32) -> Duration {
        let Some(point) = self.point else { return Duration::ZERO };
        let (now, price) = (nanoseconds(self.began.elapsed()), nanoseconds(point.saturating_mul(points)));
        let limit = now.saturating_add(nanoseconds(BURST + DEBT_MAX));
        let counted = |paid_at: u64| paid_at.max(now).saturating_add(price).min(limit);
        let before = self.account.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_at| Some(counted(paid_at)));
        debt(counted(before.unwrap_or_default()), now)
    }

    /// The time that the user owes, 10 s at most; zero: it may go on.
    pub fn debt(&self) -> Duration {
        debt(self.account.0.load(Ordering::Relaxed), nanoseconds(self.began.elapsed()))
    }
}

/// The rest of the time until all is paid beyond the allowance.
const fn debt(paid_at: u64, now: u64) -> Duration {
    Duration::from_nanos(paid_at.saturating_sub(now)).saturating_sub(BURST)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> ExternalId {
        ExternalId::try_from(name.to_owned()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_half_the_rate_and_time_pays_for_what_is_beyond_it() {
        let budgets = Budgets::new(1_000);
        let (anna, ben) = (budgets.of(&user("anna")), budgets.of(&user("ben")));
        assert_eq!(anna.count(500), Duration::ZERO);
        assert_eq!(budgets.of(&user("anna")).count(30), Duration::from_millis(300), "all connections of a user share it");
        assert_eq!(ben.debt(), Duration::ZERO);
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(anna.debt(), Duration::from_millis(100));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(anna.count(501), Duration::from_millis(10), "what is not used is kept for 5 s and no longer");
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_each_pause_for_what_is_owed_are_together_as_fast_as_the_rate() {
        let (budgets, began) = (Budgets::new(1_000), Instant::now());
        let callers = (0..20).map(|_| async {
            let budget = budgets.of(&user("anna"));
            for _ in 0..50 {
                tokio::time::sleep(budget.count(10)).await;
            }
        });
        futures_util::future::join_all(callers).await;
        // 10,000 points at 100 in a second, less the burst.
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(94) && took <= Duration::from_secs(96), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_owes_without_bound_and_zero_lifts_the_limit() {
        let (budgets, free) = (Budgets::new(1), Budgets::new(0));
        for _ in 0..100 {
            assert!(budgets.of(&user("anna")).count(u32::MAX) <= DEBT_MAX);
            assert_eq!(free.of(&user("anna")).count(u32::MAX), Duration::ZERO);
        }
        assert!(free.users.lock().unwrap().accounts.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn users_who_owe_nothing_and_are_gone_are_forgotten() {
        let budgets = Budgets::new(1_000);
        let (kept, _) = (budgets.of(&user("kept")), budgets.of(&user("owes")).count(600));
        for n in 0..10 * USERS_MIN {
            budgets.of(&user(&format!("user-{n}")));
        }
        let known = budgets.users.lock().unwrap().accounts.len();
        assert!(known <= USERS_MIN, "{known}");
        kept.count(501);
        assert!(budgets.of(&user("kept")).debt() > Duration::ZERO && budgets.of(&user("owes")).debt() > Duration::ZERO);
    }
}
