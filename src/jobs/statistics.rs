//! Statistics: adds what has happened to the figures of its hour, and of its event. Transactions that move rows leave a line each in a
//! journal; a pass takes a page of lines out and counts them, in one transaction. So a pass that is killed has counted nothing, and one that
//! is made twice finds the lines gone.
//!
//! A pass looks behind the newest line that was counted before, and a little further back. A line of a transaction that took longer is found
//! by a look from the beginning, now and then: to make that each time would pass the dead lines that a long snapshot keeps. Old figures
//! are removed here too.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{DoneBy, Job, Passed, Rest};
use crate::store::{self, JournalPage, Store};
use crate::telemetry::Metrics;

/// The interval between two passes that find less than a page.
const EVERY: Duration = Duration::from_secs(1);
/// A pass looks so far behind the newest line that was counted.
const LOOK_BACK: Duration = Duration::from_secs(30);
/// The interval between two looks from the beginning, and between two looks for old figures.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// The longest pause after a full page. It is as long as the page took: half the time of one processor is for others.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The job.
#[derive(Debug)]
pub(super) struct Statistics {
    store: Store,
    /// Days for which figures of hours are kept. None: for ever.
    days: Option<i32>,
    metrics: Arc<Metrics>,
    /// The newest line that was counted. None: this node has just taken the job over.
    counted_to: Option<OffsetDateTime>,
    /// The next look from the beginning. None: it is due.
    looks_at: Option<Instant>,
    /// The next look for old figures. None: it is due.
    purges_at: Option<Instant>,
}

impl Statistics {
    pub(super) fn new(store: Store, days: u16, metrics: Arc<Metrics>) -> Self {
        Self { store, days: (days > 0).then(|| i32::from(days)), metrics, counted_to: None, looks_at: None, purges_at: None }
    }

    /// The time behind which this pass looks. None: from the beginning.
    fn place(&mut self) -> Option<OffsetDateTime> {
        if self.looks_at.is_none_or(|at| at <= Instant::now()) {
            self.looks_at = Some(Instant::now() + LOOK_EVERY);
            return None;
        }
        self.counted_to.and_then(|at| at.checked_sub(LOOK_BACK.try_into().ok()?))
    }

    fn note(&mut self, page: &JournalPage) {
        self.counted_to = self.counted_to.max(page.last_at);
        self.metrics.statistics_lag.set(page.late_ms.map_or(0, |ms| ms / 1_000));
        if page.lost > 0 {
            warn!(rows = page.lost, "messages were removed before what became of them was counted; it is in no figure");
        }
    }

    /// Removes a page of old figures, if that is due.
    async fn purge(&mut self) -> store::Result<()> {
        if self.purges_at.is_some_and(|at| at > Instant::now()) {
            return Ok(());
        }
        let has_more = self.store.purge_statistics(self.days).await?;
        self.purges_at = (!has_more).then(|| Instant::now() + LOOK_EVERY);
        if has_more {
            info!("old figures were removed, and there are more");
        }
        Ok(())
    }
}

impl Job for Statistics {
    fn name(&self) -> &'static str {
        "statistics"
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::OneNode
    }

    async fn pass(&mut self, _cursor: &str) -> store::Result<Passed> {
        let began = Instant::now();
        let after = self.place();
        let page = self.store.count_journal(after).await.inspect_err(|_| self.looks_at = None)?;
        self.note(&page);
        let rest = if page.is_full { Rest::Later(began.elapsed().min(PAUSE_MAX)) } else { Rest::Nothing };
        self.purge().await?;
        Ok(Passed { rows: page.moves, rest, cursor: None })
    }

    fn forget(&mut self) {
        self.counted_to = None;
        self.looks_at = None;
        self.purges_at = None;
        self.metrics.statistics_lag.set(0);
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
    use time::macros::datetime;

    use super::*;

    fn counted(at: Option<OffsetDateTime>) -> JournalPage {
        JournalPage { lines: 1, moves: 1, is_full: false, lost: 0, last_at: at, late_ms: Some(2_500) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_goes_back_a_little_and_now_and_then_to_the_beginning() {
        let store = Store::new(PgPoolOptions::new().connect_lazy_with(PgConnectOptions::new()));
        let metrics = Arc::<Metrics>::default();
        let mut job = Statistics::new(store, 90, Arc::clone(&metrics));
        assert_eq!(job.place(), None, "a node that takes the job over knows of no line");
        job.note(&counted(Some(datetime!(2026-11-29 12:01 UTC))));
        job.note(&counted(Some(datetime!(2026-11-29 12:00 UTC))));
        job.note(&counted(None));
        assert_eq!(metrics.statistics_lag.get(), 2);
        let before = Some(datetime!(2026-11-29 12:00:30 UTC));
        assert_eq!([job.place(), job.place()], [before, before]);
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!([job.place(), job.place()], [None, before], "what committed late is found");
        job.forget();
        assert_eq!((job.place(), metrics.statistics_lag.get()), (None, 0));
    }
}
