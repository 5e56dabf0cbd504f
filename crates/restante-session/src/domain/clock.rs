//! The node's wall clock: the one place that reads it. What must be right for everybody is by the database's clock
//! (acceptance, expiry, leases, when somebody was last seen); the node's own decides over tokens, whose times come from
//! outside, and nothing else. It may be wrong by minutes, and in tests it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// A clock, and what is known of the database's. Clones share what they know; two nodes have two.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// So much this clock is ahead of the machine's: only tests make it anything but zero.
    off_by: Duration,
    /// So many microseconds the database's clock is ahead of this one, as it was last seen.
    database_ahead_us: Arc<AtomicI64>,
}

/// The time by two clocks. The node's may be wrong by minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// By the node's.
    pub here: OffsetDateTime,
    /// By the database's, as the node knows it.
    pub at_database: OffsetDateTime,
}

impl From<OffsetDateTime> for Now {
    /// Both clocks agree.
    fn from(now: OffsetDateTime) -> Self {
        Self { here: now, at_database: now }
    }
}

impl Clock {
    /// A clock that is ahead of the machine's by so much; behind it where that is negative. For tests.
    pub fn off_by(off_by: Duration) -> Self {
        Self { off_by, ..Self::default() }
    }

    /// The time by this clock.
    pub fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc().saturating_add(self.off_by)
    }

    /// The database has just said that it is so late.
    pub fn learn(&self, of_database: OffsetDateTime) {
        let ahead = (of_database - self.now()).whole_microseconds();
        self.database_ahead_us.store(i64::try_from(ahead).unwrap_or_default(), Ordering::Relaxed);
    }

    /// The time by both clocks.
    pub fn both(&self) -> Now {
        Now { here: self.now(), at_database: self.of_database() }
    }

    /// The time by the database's clock: as exact as the last answer was quick. For measuring, and for what is right by some seconds.
    pub fn of_database(&self) -> OffsetDateTime {
        self.now().saturating_add(Duration::microseconds(self.database_ahead_us.load(Ordering::Relaxed)))
    }

    /// A UUIDv7 by this clock. Those of one process are in order.
    pub fn uuid(&self) -> Uuid {
        // The upper 48 bits are milliseconds (RFC 9562 section 5.7).
        let off_by_ms = self.off_by.whole_milliseconds().cast_unsigned();
        Uuid::from_u128(Uuid::now_v7().as_u128().wrapping_add(off_by_ms << 80))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_MINUTES: Duration = Duration::minutes(10);

    fn is_about(one: OffsetDateTime, other: OffsetDateTime) -> bool {
        (one - other).abs() < Duration::SECOND
    }

    #[test]
    fn a_clock_that_is_off_is_off_in_times_and_ids_alike_and_learns_what_the_database_says() {
        for off_by in [TEN_MINUTES, -TEN_MINUTES, Duration::ZERO] {
            let (right, clock) = (Clock::default(), Clock::off_by(off_by));
            assert!(is_about(clock.now(), right.now() + off_by));
            let id = clock.uuid();
            let (seconds, _) = id.get_timestamp().unwrap().to_unix();
            assert!(is_about(
                OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap(),
                clock.now() - Duration::milliseconds(500)
            ));
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
            assert!(is_about(clock.of_database(), clock.now()), "nothing is known yet");
            clock.clone().learn(right.now());
            assert!(is_about(clock.of_database(), right.now()));
        }
    }
}
