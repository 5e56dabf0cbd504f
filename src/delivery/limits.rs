//! Rate limits of a user: messages in a period, new direct chats in an hour. Each node keeps its own, in memory.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Refusal;
use crate::domain::UserId;

/// `SEND_RATE` is messages in this time.
const RATE_PERIOD: Duration = Duration::from_secs(10);
/// The interval at which users with a full allowance are removed from memory.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The rates.
#[derive(Debug, Clone, Copy)]
pub struct RateSettings {
    /// Messages in 10 s, with bursts of twice as many; 0: as many as they like, and as many new chats.
    pub sends: u32,
    /// New direct chats in an hour.
    pub direct_chats: u32,
}

/// The limits of one node. Clones share them.
#[derive(Debug, Clone)]
pub struct Limits {
    both: Option<Arc<Both>>,
    clock: DefaultClock,
}

#[derive(Debug)]
struct Both {
    sends: DefaultKeyedRateLimiter<UserId>,
    chats: DefaultKeyedRateLimiter<UserId>,
    /// The time in which a user's allowance grows by one message.
    pace: Duration,
}

impl Limits {
    /// Limits with these rates.
    pub fn start(rates: RateSettings, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let both = NonZeroU32::new(rates.sends).map(|sends| {
            let burst = sends.saturating_mul(NonZeroU32::MIN.saturating_add(1));
            let chats = NonZeroU32::new(rates.direct_chats).unwrap_or(NonZeroU32::MIN);
            let pace = RATE_PERIOD / sends.get();
            Arc::new(Both {
                pace,
                sends: DefaultKeyedRateLimiter::keyed(quota(pace, burst)),
                chats: DefaultKeyedRateLimiter::keyed(quota(Duration::from_secs(3600) / chats.get(), chats)),
            })
        });
        if let Some(both) = both.clone() {
            tasks.spawn(stop.clone().run_until_cancelled_owned(forget(both)));
        }
        Self { both, clock: DefaultClock::default() }
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
        self.check(|both| &both.sends, user)
    }

    /// The time that the rate leaves between two messages of a user; zero without a limit.
    pub fn pace(&self) -> Duration {
        self.both.as_ref().map_or(Duration::ZERO, |both| both.pace)
    }

    /// Checks that this user may begin a direct chat now, and counts the chat.
    ///
    /// # Errors
    /// [`Refusal::TooManyChats`]: the user has begun too many direct chats. It carries the time to wait.
    pub fn check_direct_chat(&self, user: UserId) -> Result<(), Refusal> {
        self.check(|both| &both.chats, user).map_err(Refusal::TooManyChats)
    }

    fn check(&self, which: impl Fn(&Both) -> &DefaultKeyedRateLimiter<UserId>, user: UserId) -> Result<(), Duration> {
        let Some(both) = &self.both else { return Ok(()) };
        which(both).check_key(&user).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

fn quota(period: Duration, burst: NonZeroU32) -> Quota {
    let period = period.max(Duration::from_nanos(1));
    Quota::with_period(period).map_or_else(|| Quota::per_second(burst), |quota| quota.allow_burst(burst))
}

async fn forget(both: Arc<Both>) {
    let mut every = tokio::time::interval(FORGET_EVERY);
    loop {
        every.tick().await;
        both.sends.retain_recent();
        both.chats.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(sends: u32) -> Limits {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        stop.cancel();
        Limits { ..Limits::start_for_test(RateSettings { sends, direct_chats: 2 }, &tasks, &stop) }
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
    fn zero_lifts_both_limits() {
        let limits = limits(0);
        for _ in 0..1_000 {
            limits.check_send(UserId(1)).unwrap();
            limits.check_direct_chat(UserId(1)).unwrap();
        }
    }
}
