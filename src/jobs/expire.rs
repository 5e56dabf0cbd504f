//! Expire: messages whose `expiresAt` has passed are no longer delivered, and their senders are told.
//!
//! Most sweeps look at what has expired since the one before. Once in a while one looks back further: a message may be
//! committed after its time has come, and what somebody held is left for later. A sweep is a page or more, each a pass of the job. How far
//! the sweeps that look back have got is the cursor, so a node that takes the job over looks at what is new, and not at everything
//! that ever expired.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{DoneBy, Job, Passed, Rest};
use crate::delivery::Delivery;
use crate::domain::{Class, Status};
use crate::store::{self, ExpiredPage, ExpiryCursor, Store};

/// The interval between two passes. A message expires at most this late.
const EVERY: Duration = Duration::from_secs(2);
/// Messages in one transaction,
const MESSAGES_AT_ONCE: i32 = 500;
/// and rows of their recipients.
const ROWS_AT_ONCE: i32 = 2_000;
/// A commit that is under way takes less, as a rule.
const LOOK_BACK: Duration = Duration::from_secs(5);
/// The interval between two sweeps that look back further,
const FAR_EVERY: Duration = Duration::from_secs(60);
/// and the time that they look back.
const FAR_LOOK_BACK: Duration = Duration::from_secs(120);
/// The first sweep of a node begins this long before the kept cursor. A commit may have waited that long for a standby.
const FIRST_LOOK_BACK: Duration = Duration::from_secs(600);

/// The job.
#[derive(Debug)]
pub(super) struct Expire {
    store: Store,
    delivery: Delivery,
    /// None: this node has just taken the job over.
    sweep: Option<Sweep>,
    underway: Option<Underway>,
}

impl Expire {
    pub(super) const fn new(store: Store, delivery: Delivery) -> Self {
        Self { store, delivery, sweep: None, underway: None }
    }

    /// Senders are told of the rows that ended. Of events nobody is.
    fn tell(&self, page: &ExpiredPage) {
        for ended in page.rows.iter().filter(|ended| ended.row.class == Class::Chat) {
            let reason = Some("its time had come".to_owned());
            self.delivery.receipts().moved(&[&ended.row], Status::Expired, ended.at, reason, |_| Some(ended.member.clone()));
        }
    }
}

impl Job for Expire {
    fn name(&self) -> &'static str {
        "expire"
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::OneNode
    }

    /// One page of a sweep. After an error the sweep goes on at the page that failed.
    async fn pass(&mut self, cursor: &str) -> store::Result<Passed> {
        let sweep = self.sweep.get_or_insert_with(|| Sweep::starting(kept_of(cursor)));
        let mut underway = match self.underway.take() {
            Some(underway) => underway,
            None => Underway::begin(sweep, Instant::now(), self.store.clock().await?),
        };
        let asked = self.store.expire(underway.next, underway.swept.horizon, MESSAGES_AT_ONCE, ROWS_AT_ONCE).await;
        let page = match asked {
            Ok(page) => page,
            Err(cause) => {
                self.underway = Some(underway);
                return Err(cause);
            }
        };
        underway.swept.held = underway.swept.held.or(page.held);
        let rest = match page.next {
            Some(next) => {
                underway.next = next;
                sweep.came_to(&underway);
                self.underway = Some(underway);
                Rest::More
            }
            None => {
                sweep.swept(underway.began, &underway.swept);
                Rest::Nothing
            }
        };
        let cursor = text_of(sweep.kept);
        if !page.rows.is_empty() {
            info!(rows = page.rows.len(), "messages expired before they were delivered");
        }
        self.tell(&page);
        Ok(Passed { rows: page.rows.len(), rest, cursor })
    }

    fn forget(&mut self) {
        self.sweep = None;
        self.underway = None;
    }
}

/// The instant that a cursor names; the beginning, if it is empty or no instant.
fn kept_of(cursor: &str) -> OffsetDateTime {
    if cursor.is_empty() {
        return OffsetDateTime::UNIX_EPOCH;
    }
    OffsetDateTime::parse(cursor, &Rfc3339).unwrap_or_else(|error| {
        warn!(%error, "the cursor of the job expire is no instant; the job begins with the first message that expired");
        OffsetDateTime::UNIX_EPOCH
    })
}

/// The cursor that names an instant; none where no cursor can: the one before is kept.
fn text_of(kept: OffsetDateTime) -> Option<String> {
    kept.format(&Rfc3339).ok()
}

/// The places at which sweeps begin.
#[derive(Debug)]
struct Sweep {
    near: OffsetDateTime,
    far: OffsetDateTime,
    /// Everything that expired up to here has ended. It never goes back.
    kept: OffsetDateTime,
    /// The last one that looked back far. The first does.
    looked_far: Option<Instant>,
}

impl Sweep {
    /// At a node that takes the job over, where everything that expired up to here has ended.
    fn starting(kept: OffsetDateTime) -> Self {
        let far = kept - FIRST_LOOK_BACK;
        Self { near: far, far, kept, looked_far: None }
    }

    fn is_far(&self, now: Instant) -> bool {
        self.looked_far.is_none_or(|last| now.duration_since(last) >= FAR_EVERY)
    }

    fn from(&self, now: Instant) -> OffsetDateTime {
        if self.is_far(now) { self.far } else { self.near }
    }

    /// A sweep that began at [`Self::from`] goes on with its next page.
    fn came_to(&mut self, underway: &Underway) {
        if self.is_far(underway.began) {
            let ended = underway.swept.held_before().unwrap_or(underway.next.at);
            self.kept = self.kept.max(ended.min(underway.next.at));
        }
    }

    /// A sweep that began at [`Self::from`] has come to its end.
    fn swept(&mut self, began: Instant, swept: &Swept) {
        let (held, is_far) = (swept.held_before(), self.is_far(began));
        if is_far {
            self.looked_far = Some(began);
            self.far = swept.horizon - FAR_LOOK_BACK;
        }
        self.far = self.far.min(held.unwrap_or(self.far));
        self.near = swept.horizon - LOOK_BACK;
        if is_far {
            self.kept = self.kept.max(self.far);
        }
    }
}

/// A sweep that has not come to its end.
#[derive(Debug)]
struct Underway {
    began: Instant,
    /// The place at which its next page begins.
    next: ExpiryCursor,
    swept: Swept,
}

impl Underway {
    fn begin(sweep: &Sweep, now: Instant, horizon: OffsetDateTime) -> Self {
        Self { began: now, next: ExpiryCursor::at(sweep.from(now)), swept: Swept { horizon, held: None } }
    }
}

/// The progress of a sweep.
#[derive(Debug)]
struct Swept {
    /// Up to when it looks. The database's clock counts: this node's may be off.
    horizon: OffsetDateTime,
    /// When the first message expired of which somebody held something.
    held: Option<OffsetDateTime>,
}

impl Swept {
    /// A cursor behind which the first message stands that was held.
    fn held_before(&self) -> Option<OffsetDateTime> {
        self.held.map(|at| at - time::Duration::MICROSECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_000_000 + seconds).unwrap()
    }

    fn swept(horizon: i64, held: Option<i64>) -> Swept {
        Swept { horizon: at(horizon), held: held.map(at) }
    }

    #[test]
    fn passes_begin_shortly_before_the_last_and_once_a_minute_further_back() {
        let (mut sweep, start) = (Sweep::starting(at(-1_000)), Instant::now());
        assert_eq!(sweep.from(start), at(-1_600), "shortly before what was kept");
        for second in (0..60).step_by(2) {
            let now = start + Duration::from_secs(second);
            sweep.swept(now, &swept(i64::try_from(second).unwrap(), None));
            assert_eq!(sweep.from(now), at(i64::try_from(second).unwrap() - 5));
        }
        let far = start + Duration::from_secs(60);
        assert_eq!(sweep.from(far), at(-120));
        sweep.swept(far, &swept(60, None));
        assert_eq!(sweep.from(far), at(55));
        assert_eq!(sweep.from(far + FAR_EVERY), at(-60));
    }

    #[test]
    fn what_is_held_is_looked_for_again_until_it_is_not() {
        let (mut sweep, start) = (Sweep::starting(at(-1_000)), Instant::now());
        let held = at(-200) - time::Duration::MICROSECOND;
        sweep.swept(start, &swept(0, Some(-200)));
        assert_eq!(sweep.from(start + EVERY), at(-5), "not by each pass");
        sweep.swept(start + EVERY, &swept(2, None));
        assert_eq!(sweep.from(start + FAR_EVERY), held);
        sweep.swept(start + FAR_EVERY, &swept(60, Some(-200)));
        assert_eq!(sweep.from(start + 2 * FAR_EVERY), held);
        sweep.swept(start + 2 * FAR_EVERY, &swept(120, None));
        assert_eq!(sweep.from(start + 3 * FAR_EVERY), at(0));
    }

    #[test]
    fn what_a_near_pass_found_held_is_looked_for_by_the_next_far_one() {
        let (mut sweep, start) = (Sweep::starting(at(-1_000)), Instant::now());
        sweep.swept(start, &swept(1_000, None));
        sweep.swept(start + EVERY, &swept(1_002, Some(800)));
        assert_eq!(sweep.from(start + FAR_EVERY), at(800) - time::Duration::MICROSECOND);
    }

    fn underway(sweep: &Sweep, began: Instant, next: i64, held: Option<i64>) -> Underway {
        Underway { next: ExpiryCursor::at(at(next)), swept: swept(0, held), ..Underway::begin(sweep, began, at(0)) }
    }

    #[test]
    fn a_sweep_that_looks_back_keeps_how_far_its_pages_have_got_and_one_that_does_not_keeps_nothing() {
        let (mut sweep, start) = (Sweep::starting(at(-10_000)), Instant::now());
        let page = |sweep: &Sweep, next, held| underway(sweep, start, next, held);
        sweep.came_to(&page(&sweep, -10_300, None));
        assert_eq!(sweep.kept, at(-10_000), "it never goes back");
        sweep.came_to(&page(&sweep, -9_000, None));
        assert_eq!((sweep.kept, sweep.far), (at(-9_000), at(-10_600)), "the sweep itself goes on");
        sweep.came_to(&page(&sweep, -8_000, Some(-8_500)));
        assert_eq!(sweep.kept, at(-8_500) - time::Duration::MICROSECOND, "not past what is held");
        sweep.swept(start, &swept(0, None));
        assert_eq!(sweep.kept, at(-120));
        let near = Underway { next: ExpiryCursor::at(at(1)), swept: swept(2, None), ..Underway::begin(&sweep, start + EVERY, at(2)) };
        sweep.came_to(&near);
        sweep.swept(start + EVERY, &swept(2, None));
        assert_eq!(sweep.kept, at(-120));
    }

    #[test]
    fn a_cursor_reads_back_to_the_microsecond_and_one_that_is_no_instant_means_the_beginning() {
        let kept = at(5) + time::Duration::microseconds(123_456);
        assert_eq!(kept_of(&text_of(kept).unwrap()), kept);
        assert_eq!([kept_of(""), kept_of("yesterday")], [OffsetDateTime::UNIX_EPOCH; 2]);
    }
}
