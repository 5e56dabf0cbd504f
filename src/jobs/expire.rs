//! Expire: messages whose `expiresAt` has passed are no longer delivered, and their senders are told.
//!
//! Most passes look at what has expired since the one before. Once in a while one looks back further: a message may be
//! committed after its time has come, and what somebody held is left for later. How far it has got is kept in the database, so a
//! node that starts looks at what is new, and not at everything that ever expired.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info};

use crate::delivery::Delivery;
use crate::domain::Status;
use crate::store::{self, ExpiryCursor, Store};

/// How late a message may expire.
const EVERY: Duration = Duration::from_secs(2);
/// Messages in one transaction,
const MESSAGES_AT_ONCE: i32 = 500;
/// and rows of their recipients.
const ROWS_AT_ONCE: i32 = 2_000;
/// A commit that is under way takes less, as a rule.
const LOOK_BACK: Duration = Duration::from_secs(5);
/// How often a pass looks back further,
const FAR_EVERY: Duration = Duration::from_secs(60);
/// and how far.
const FAR_LOOK_BACK: Duration = Duration::from_secs(120);
/// How far behind what was kept a node begins: a commit may have waited for a standby that long.
const FIRST_LOOK_BACK: Duration = Duration::from_secs(600);

/// Runs until it is dropped.
pub async fn run(store: Store, delivery: Delivery) {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweep = None;
    loop {
        let now = every.tick().await;
        if let Err(cause) = sweep_once(&store, &delivery, &mut sweep, now).await {
            debug!(?cause, "expired messages could not be swept; the next pass begins where this one did");
        }
    }
}

async fn sweep_once(store: &Store, delivery: &Delivery, sweep: &mut Option<Sweep>, now: Instant) -> store::Result<()> {
    let sweep = match sweep {
        Some(sweep) => sweep,
        None => sweep.insert(Sweep::starting(store.expiry_horizon().await?)),
    };
    let passed = pass(store, delivery, sweep.from(now)).await?;
    if passed.rows > 0 {
        info!(rows = passed.rows, "messages expired before they were delivered");
    }
    if sweep.passed(now, &passed) == Reach::Far {
        store.keep_expiry_horizon(sweep.far).await?;
    }
    Ok(())
}

/// How far back a pass looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Shortly before the last one.
    Near,
    /// Further.
    Far,
}

/// Where passes begin.
#[derive(Debug)]
struct Sweep {
    near: OffsetDateTime,
    far: OffsetDateTime,
    /// The last one that looked back far. The first does.
    looked_far: Option<Instant>,
}

impl Sweep {
    /// At the start of a node, where everything that expired up to here has ended.
    fn starting(kept: OffsetDateTime) -> Self {
        let far = kept - FIRST_LOOK_BACK;
        Self { near: far, far, looked_far: None }
    }

    fn is_far(&self, now: Instant) -> bool {
        self.looked_far.is_none_or(|last| now.duration_since(last) >= FAR_EVERY)
    }

    fn from(&self, now: Instant) -> OffsetDateTime {
        if self.is_far(now) { self.far } else { self.near }
    }

    /// A pass that began at [`Self::from`] has come to its end.
    fn passed(&mut self, now: Instant, passed: &Passed) -> Reach {
        // The cursor is behind what it names.
        let held = passed.held.map(|at| at - time::Duration::MICROSECOND);
        let reach = if self.is_far(now) { Reach::Far } else { Reach::Near };
        if reach == Reach::Far {
            self.looked_far = Some(now);
            self.far = passed.horizon - FAR_LOOK_BACK;
        }
        self.far = self.far.min(held.unwrap_or(self.far));
        self.near = passed.horizon - LOOK_BACK;
        reach
    }
}

/// What a pass has done.
#[derive(Debug)]
struct Passed {
    /// Up to when it looked. The database's clock counts: this node's may be off.
    horizon: OffsetDateTime,
    /// Rows that ended.
    rows: usize,
    /// When the first message expired of which somebody held something.
    held: Option<OffsetDateTime>,
}

async fn pass(store: &Store, delivery: &Delivery, after: OffsetDateTime) -> store::Result<Passed> {
    let mut passed = Passed { horizon: store.clock().await?, rows: 0, held: None };
    let mut cursor = ExpiryCursor::at(after);
    loop {
        let page = store.expire(cursor, passed.horizon, MESSAGES_AT_ONCE, ROWS_AT_ONCE).await?;
        for ended in &page.rows {
            let reason = Some("its time had come".to_owned());
            delivery.receipts().moved(&[&ended.row], Status::Expired, ended.at, reason, |_| Some(ended.member.clone()));
        }
        passed.rows += page.rows.len();
        passed.held = passed.held.or(page.held);
        let Some(next) = page.next else { return Ok(passed) };
        cursor = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_000_000 + seconds).unwrap()
    }

    fn passed(horizon: i64, held: Option<i64>) -> Passed {
        Passed { horizon: at(horizon), rows: 0, held: held.map(at) }
    }

    #[test]
    fn passes_begin_shortly_before_the_last_and_once_a_minute_further_back() {
        let (mut sweep, start) = (Sweep::starting(at(-1_000)), Instant::now());
        assert_eq!(sweep.from(start), at(-1_600), "shortly before what was kept");
        for second in (0..60).step_by(2) {
            let now = start + Duration::from_secs(second);
            sweep.passed(now, &passed(i64::try_from(second).unwrap(), None));
            assert_eq!(sweep.from(now), at(i64::try_from(second).unwrap() - 5));
        }
        let far = start + Duration::from_secs(60);
        assert_eq!(sweep.from(far), at(-120));
        sweep.passed(far, &passed(60, None));
        assert_eq!(sweep.from(far), at(55));
        assert_eq!(sweep.from(far + FAR_EVERY), at(-60));
    }

    #[test]
    fn what_is_held_is_looked_for_again_until_it_is_not() {
        let (mut sweep, start) = (Sweep::starting(at(-1_000)), Instant::now());
        let held = at(-200) - time::Duration::MICROSECOND;
        sweep.passed(start, &passed(0, Some(-200)));
        assert_eq!(sweep.from(start + EVERY), at(-5), "not by each pass");
        sweep.passed(start + EVERY, &passed(2, None));
        assert_eq!(sweep.from(start + FAR_EVERY), held);
        sweep.passed(start + FAR_EVERY, &passed(60, Some(-200)));
        assert_eq!(sweep.from(start + 2 * FAR_EVERY), held);
        sweep.passed(start + 2 * FAR_EVERY, &passed(120, None));
        assert_eq!(sweep.from(start + 3 * FAR_EVERY), at(0));
    }

    #[test]
    fn what_a_near_pass_found_held_is_looked_for_by_the_next_far_one() {
        let (mut sweep, start) = (Sweep::starting(at(-1_000)), Instant::now());
        sweep.passed(start, &passed(1_000, None));
        sweep.passed(start + EVERY, &passed(1_002, Some(800)));
        assert_eq!(sweep.from(start + FAR_EVERY), at(800) - time::Duration::MICROSECOND);
    }
}
