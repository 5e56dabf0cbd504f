//! Rate limits of a user: messages and events in a period, new direct chats and users that it makes by naming them in an hour. Each node
//! keeps its own, in memory.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Refusal;
use crate::domain::{UserId, limits};

/// `SEND_RATE` is messages in this time, `EVENT_RATE` events.
const RATE_PERIOD: Duration = Duration::from_secs(10);
/// Direct chats and named users are counted in this time.
const HOUR: Duration = Duration::from_secs(3_600);
/// More than any setting allows at once, and so few that their times can be multiplied.
const TOO_MANY_AT_ONCE: u32 = 1_000_001;
/// Users that one request may name.
const NAMED_AT_ONCE: u32 = limits::IDS_MAX as u32;
/// The interval at which users with a full allowance are removed from memory.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The rates.
#[derive(Debug, Clone, Copy)]
pub struct RateSettings {
    /// Messages in 10 s, with bursts of twice as many; 0: none of these limits is kept.
    pub sends: u32,
    /// Events in 10 s of a publisher without the scope for them, with bursts of twice as many; 0: as many as it likes.
    pub events: u32,
    /// New direct chats in an hour.
    pub direct_chats: u32,
    /// Users in an hour that are made because they are named; as many as one request may name at least.
    pub named_users: u32,
}

/// The limits of one node. Clones share them.
#[derive(Debug, Clone)]
pub struct Limits {
    rates: Option<Arc<Rates>>,
    clock: DefaultClock,
}

#[derive(Debug)]
struct Rates {
    sends: DefaultKeyedRateLimiter<UserId>,
    /// None: events have no limit.
    events: Option<DefaultKeyedRateLimiter<UserId>>,
    chats: DefaultKeyedRateLimiter<UserId>,
    named_users: DefaultKeyedRateLimiter<UserId>,
    /// The time in which a user's allowance grows by one message.
    pace: Duration,
}

impl Limits {
    /// Limits with these rates.
    pub fn start(rates: RateSettings, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let limiters = NonZeroU32::new(rates.sends).map(|sends| {
            let chats = NonZeroU32::new(rates.direct_chats).unwrap_or(NonZeroU32::MIN);
            let named = NonZeroU32::new(rates.named_users.max(NAMED_AT_ONCE)).unwrap_or(NonZeroU32::MIN);
            Arc::new(Rates {
                pace: RATE_PERIOD / sends.get(),
                sends: in_period(sends),
                events: NonZeroU32::new(rates.events).map(in_period),
                chats: DefaultKeyedRateLimiter::keyed(quota(HOUR / chats.get(), chats)),
                named_users: DefaultKeyedRateLimiter::keyed(quota(HOUR / named.get(), named)),
            })
        });
        if let Some(limiters) = limiters.clone() {
            tasks.spawn(stop.clone().run_until_cancelled_owned(forget(limiters)));
        }
        Self { rates: limiters, clock: DefaultClock::default() }
    }

    /// Checks that this user may send a message now, and counts the message.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]: the user has sent too many messages. It carries the time to wait.
    pub fn check_send(&self, user: UserId) -> Result<(), Refusal> {
        self.take_send(user).map_err(Refusal::RateLimited)
    }

    /// The same for a caller that waits.
    ///
    /// # Errors
    /// The time to wait.
    pub fn take_send(&self, user: UserId) -> Result<(), Duration> {
        self.check(|rates| Some(&rates.sends), user, NonZeroU32::MIN)
    }

    /// Checks that this user may publish an event now, and counts the event.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]: the user has published too many events. It carries the time to wait.
    pub fn check_event(&self, user: UserId) -> Result<(), Refusal> {
        self.check(|rates| rates.events.as_ref(), user, NonZeroU32::MIN).map_err(Refusal::RateLimited)
    }

    /// The time that the rate leaves between two messages of a user; zero without a limit.
    pub fn pace(&self) -> Duration {
        self.rates.as_ref().map_or(Duration::ZERO, |rates| rates.pace)
    }

    /// Checks that this user may begin a direct chat now, and counts the chat.
    ///
    /// # Errors
    /// [`Refusal::TooManyChats`]: the user has begun too many direct chats. It carries the time to wait.
    pub fn check_direct_chat(&self, user: UserId) -> Result<(), Refusal> {
        self.check(|rates| Some(&rates.chats), user, NonZeroU32::MIN).map_err(Refusal::TooManyChats)
    }

    /// Checks that this user may name so many users who are not known yet, and counts them. They are made afterwards.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]: the user has named too many. It carries the time to wait.
    pub fn check_named_users(&self, user: UserId, count: usize) -> Result<(), Refusal> {
        let count = NonZeroU32::new(u32::try_from(count).unwrap_or(u32::MAX).min(TOO_MANY_AT_ONCE));
        count.map_or(Ok(()), |count| self.check(|rates| Some(&rates.named_users), user, count).map_err(Refusal::RateLimited))
    }

    /// Counts these against the limiter that `which` finds; none: there is no limit.
    fn check(
        &self,
        which: impl Fn(&Rates) -> Option<&DefaultKeyedRateLimiter<UserId>>,
        user: UserId,
        count: NonZeroU32,
    ) -> Result<(), Duration> {
        let Some(limiter) = self.rates.as_deref().and_then(which) else { return Ok(()) };
        match limiter.check_key_n(&user, count) {
            Ok(checked) => checked.map_err(|not_until| not_until.wait_time_from(self.clock.now())),
            // More at once than ever fit. No request names so many.
            Err(_) => Err(HOUR),
        }
    }
}

/// A limiter for so many in [`RATE_PERIOD`], with bursts of twice as many.
fn in_period(count: NonZeroU32) -> DefaultKeyedRateLimiter<UserId> {
    let burst = count.saturating_mul(NonZeroU32::MIN.saturating_add(1));
    DefaultKeyedRateLimiter::keyed(quota(RATE_PERIOD / count.get(), burst))
}

fn quota(period: Duration, burst: NonZeroU32) -> Quota {
    let period = period.max(Duration::from_nanos(1));
    Quota::with_period(period).map_or_else(|| Quota::per_second(burst), |quota| quota.allow_burst(burst))
}

async fn forget(rates: Arc<Rates>) {
    let mut every = tokio::time::interval(FORGET_EVERY);
    loop {
        every.tick().await;
        rates.sends.retain_recent();
        rates.events.iter().for_each(DefaultKeyedRateLimiter::retain_recent);
        rates.chats.retain_recent();
        rates.named_users.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(sends: u32) -> Limits {
        with(RateSettings { sends, events: 5, direct_chats: 2, named_users: 600 })
    }

    fn with(rates: RateSettings) -> Limits {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        stop.cancel();
        Limits { ..Limits::start_for_test(rates, &tasks, &stop) }
    }

    impl Limits {
        fn start_for_test(rates: RateSettings, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _guard = runtime.enter();
            Self::start(rates, tasks, stop)
        }
    }

    #[test]
    fn a_burst_is_twice_the_rate_and_the_refusal_says_when_to_come_again() {
        let limits = limits(5);
        for _ in 0..10 {
            limits.check_send(UserId(1)).unwrap();
        }
        let refused = limits.check_send(UserId(1)).unwrap_err();
        assert!(matches!(refused, Refusal::RateLimited(wait) if wait <= Duration::from_secs(2)), "{refused:?}");
        limits.check_send(UserId(2)).unwrap();
    }

    #[test]
    fn events_have_a_rate_of_their_own_and_zero_lifts_it_alone() {
        let limits = limits(5);
        for _ in 0..10 {
            limits.check_send(UserId(1)).unwrap();
            limits.check_event(UserId(1)).unwrap();
        }
        let refused = limits.check_event(UserId(1)).unwrap_err();
        assert!(matches!(refused, Refusal::RateLimited(wait) if wait <= Duration::from_secs(2)), "{refused:?}");
        limits.check_event(UserId(2)).unwrap();
        let lifted = with(RateSettings { sends: 5, events: 0, direct_chats: 2, named_users: 600 });
        for _ in 0..1_000 {
            lifted.check_event(UserId(1)).unwrap();
        }
        (0..10).for_each(|_| lifted.check_send(UserId(1)).unwrap());
        assert!(lifted.check_send(UserId(1)).is_err());
    }

    #[test]
    fn users_that_are_named_are_counted_one_by_one_and_a_request_of_the_largest_size_always_fits_once() {
        let limits = limits(5);
        limits.check_named_users(UserId(1), 0).unwrap();
        limits.check_named_users(UserId(1), 500).unwrap();
        limits.check_named_users(UserId(1), 100).unwrap();
        let refused = limits.check_named_users(UserId(1), 1).unwrap_err();
        assert!(matches!(refused, Refusal::RateLimited(wait) if wait <= Duration::from_secs(6)), "{refused:?}");
        limits.check_named_users(UserId(2), 500).unwrap();
        assert!(limits.check_named_users(UserId(3), usize::MAX).is_err());
    }

    #[test]
    fn zero_lifts_all_limits() {
        let limits = limits(0);
        for _ in 0..1_000 {
            limits.check_send(UserId(1)).unwrap();
            limits.check_event(UserId(1)).unwrap();
            limits.check_direct_chat(UserId(1)).unwrap();
            limits.check_named_users(UserId(1), 500).unwrap();
        }
    }
}
