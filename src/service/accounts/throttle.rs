//! Throttles: how often something may be tried under one key, such as the name of an account or the address of a client, at this node. Memory is
//! bounded by construction: keys share a fixed number of places, by a hash that nobody outside can compute. Two keys that meet in a place share its rate,
//! so a throttle may be too strict once in a long while, and is never too lax.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

const PLACES: usize = 1 << 15;

/// A throttle. Clones share its places.
#[derive(Debug, Clone)]
pub(super) struct Throttle {
    /// The time that pays for one try. None: nothing is counted.
    each: Option<Duration>,
    burst: Duration,
    began: Instant,
    hasher: RandomState,
    /// When all tries are paid for, in nanoseconds since the beginning.
    places: Arc<[AtomicU64]>,
}

impl Throttle {
    /// So many tries at once, and then one in each `each`. Without tries nothing is counted.
    pub(super) fn new(tries: u32, each: Duration) -> Self {
        let places = if tries > 0 { PLACES } else { 0 };
        Self {
            each: (tries > 0).then_some(each),
            burst: each * tries,
            began: Instant::now(),
            hasher: RandomState::new(),
            places: (0..places).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Counts a try.
    ///
    /// # Errors
    /// There were too many: the time after which one is allowed. It was not counted.
    pub(super) fn take(&self, key: &impl Hash) -> Result<(), Duration> {
        let Some(each) = self.each else { return Ok(()) };
        let (now, each, burst) = (nanoseconds(self.began.elapsed()), nanoseconds(each), nanoseconds(self.burst));
        let counted = |paid_at: u64| Some(paid_at.max(now) + each).filter(|paid_at| *paid_at <= now + burst);
        let taken = self.place(key).fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
        taken.map(|_| ()).map_err(|paid_at| Duration::from_nanos(paid_at + each - now - burst))
    }

    /// Takes one back that was counted.
    pub(super) fn give_back(&self, key: &impl Hash) {
        if let Some(each) = self.each {
            let given = |paid_at: u64| Some(paid_at.saturating_sub(nanoseconds(each)));
            let _ = self.place(key).fetch_update(Ordering::Relaxed, Ordering::Relaxed, given);
        }
    }

    fn place(&self, key: &impl Hash) -> &AtomicU64 {
        let hash = usize::try_from(self.hasher.hash_one(key) % PLACES as u64).unwrap_or_default();
        &self.places[hash]
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_allowed_and_then_one_at_a_time() {
        let throttle = Throttle::new(3, SECOND * 10);
        assert!((0..3).all(|_| throttle.take(&"anna").is_ok()));
        assert_eq!(throttle.take(&"anna"), Err(SECOND * 10));
        assert_eq!(throttle.take(&"ben"), Ok(()), "another key");
        tokio::time::advance(SECOND * 9).await;
        assert_eq!(throttle.clone().take(&"anna"), Err(SECOND), "one that was refused was not counted");
        tokio::time::advance(SECOND).await;
        assert_eq!((throttle.take(&"anna"), throttle.take(&"anna")), (Ok(()), Err(SECOND * 10)));
        tokio::time::advance(SECOND * 3_600).await;
        assert!((0..3).all(|_| throttle.take(&"anna").is_ok()), "no more than a burst is saved up");
        assert!(throttle.take(&"anna").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_given_back_was_not_counted() {
        let throttle = Throttle::new(1, SECOND);
        tokio::time::advance(SECOND).await;
        for _ in 0..5 {
            assert_eq!(throttle.take(&"anna"), Ok(()));
            throttle.give_back(&"anna");
        }
        throttle.give_back(&"anna");
        assert_eq!((throttle.take(&"anna"), throttle.take(&"anna").is_err()), (Ok(()), true));
    }

    #[test]
    fn without_tries_nothing_is_counted() {
        let throttle = Throttle::new(0, SECOND);
        assert!((0..1_000).all(|_| throttle.take(&"anna").is_ok()));
        throttle.give_back(&"anna");
    }
}
