//! Cap: bounds how many events live in all. Beyond `EVENTS_MAX` the oldest end (`capped`). Messages of chats are none of them.
//!
//! A sweep counts living events from the newest down, a page a pass, and takes out those that live no more. So the count is that of the
//! moment in which the sweep began, less what has ended meanwhile. The place of the sweep and its count are the cursor. Between two pages it
//! pauses for longer than a page took. It waits for nobody: what is held is left for the next sweep.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{DoneBy, Job, Passed, Rest};
use crate::store::{self, CapPlace, Capped, Store};
use crate::telemetry::Metrics;

/// The interval between two passes while the job rests, and after a pass that failed.
const EVERY: Duration = Duration::from_secs(1);
/// The rest between two sweeps is this many times as long as the sweep,
const REST_FACTOR: u32 = 10;
/// at least this long,
const REST_MIN: Duration = Duration::from_secs(2);
/// and at most this long. While something is ending it is short.
const REST_MAX: Duration = Duration::from_secs(60);
/// The pause after a pass is this many times the time of the pass.
const PAUSE_FACTOR: u32 = 3;
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The job.
#[derive(Debug)]
pub(super) struct Cap {
    store: Store,
    events_max: u32,
    metrics: Arc<Metrics>,
    /// The next sweep begins then. None: one is under way, or this node has just taken the job over.
    rests_until: Option<Instant>,
    sweep: Option<Sweep>,
}

/// The findings of a sweep so far.
#[derive(Debug)]
struct Sweep {
    began: Instant,
    is_ending: bool,
}

impl Cap {
    pub(super) const fn new(store: Store, events_max: u32, metrics: Arc<Metrics>) -> Self {
        Self { store, events_max, metrics, rests_until: None, sweep: None }
    }

    fn note(&mut self, page: &Capped) {
        let sweep = self.sweep.get_or_insert_with(|| Sweep { began: Instant::now(), is_ending: false });
        sweep.is_ending |= page.is_ending;
        self.metrics.events_capped.inc_by(page.events);
        if page.events > 0 {
            info!(events = page.events, rows = page.rows, events_max = self.events_max, "too many events lived; the oldest have ended");
        }
    }

    fn end_sweep(&mut self, living: u64) {
        self.metrics.events_living.set(i64::try_from(living).unwrap_or(i64::MAX));
        let Some(Sweep { began, is_ending }) = self.sweep.take() else { return };
        let longest = if is_ending { REST_MIN } else { REST_MAX };
        self.rests_until = Some(Instant::now() + (began.elapsed() * REST_FACTOR).clamp(REST_MIN, longest));
    }
}

impl Job for Cap {
    fn name(&self) -> &'static str {
        "cap"
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::OneNode
    }

    async fn pass(&mut self, cursor: &str) -> store::Result<Passed> {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return Ok(Passed { rows: 0, rest: Rest::Nothing, cursor: None });
        }
        self.rests_until = None;
        let began = Instant::now();
        let page = self.store.cap_events(place_of(cursor), self.events_max).await?;
        self.note(&page);
        let rows = usize::try_from(page.rows).unwrap_or(usize::MAX);
        match page.next {
            Some(next) => {
                let pause = (began.elapsed() * PAUSE_FACTOR).min(PAUSE_MAX);
                Ok(Passed { rows, rest: Rest::Later(pause), cursor: Some(text_of(next)) })
            }
            None => {
                self.end_sweep(page.counted);
                Ok(Passed { rows, rest: Rest::Nothing, cursor: Some(String::new()) })
            }
        }
    }

    fn forget(&mut self) {
        self.rests_until = None;
        self.sweep = None;
        self.metrics.events_living.set(0);
    }
}

/// The place that a cursor names. The beginning, if it is empty or no place.
fn place_of(cursor: &str) -> CapPlace {
    let parse = || {
        let (before, counted) = cursor.split_once(' ')?;
        Some(CapPlace { before: before.parse().ok()?, counted: counted.parse().ok()? })
    };
    parse().unwrap_or_else(|| {
        if !cursor.is_empty() {
            warn!("the cursor of the job cap is no place; the sweep begins anew");
        }
        CapPlace::FIRST
    })
}

/// The cursor that names it.
fn text_of(CapPlace { before, counted }: CapPlace) -> String {
    format!("{before} {counted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_one_that_is_no_place_means_the_beginning() {
        for place in [CapPlace::FIRST, CapPlace { before: 7, counted: 100_000 }] {
            assert_eq!(place_of(&text_of(place)), place);
        }
        for none in ["", "7", "7 -1", "x 1", "7 8 9"] {
            assert_eq!(place_of(none), CapPlace::FIRST, "{none}");
        }
    }
}
