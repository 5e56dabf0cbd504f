//! Seal: encrypts what stands there as plain text, and what is under a data key that a rotation replaces. It also removes data keys that no
//! message names.
//!
//! A sweep visits all messages, a page a pass. Its number and its place are the cursor, so the next node goes on there. A node that has
//! done a whole sweep knows which keys are named. After a change of nodes in the middle the removal waits for the next sweep.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::{DoneBy, Job, Passed, Rest};
use crate::domain::MessageId;
use crate::store::{self, SealedPage, Store, SweepState};

/// The interval between two looks for something to do.
const EVERY: Duration = Duration::from_secs(2);
/// Messages of a page. Each may have 40 KiB.
const PAGE: u16 = 200;
/// A pass rests for as long as it took, so that a sweep uses half of one connection, and for this long at least.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// The job.
#[derive(Debug)]
pub struct Seal {
    store: Store,
    sweep: Option<Sweep>,
}

/// A sweep that this node has done all of, so far.
#[derive(Debug)]
struct Sweep {
    /// Keys that were used by no node any more when it began.
    unused: Vec<String>,
    /// Keys that messages name.
    named: HashSet<String>,
    sealed: usize,
}

/// The place of a sweep. The next page begins behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// The number of the sweep.
    number: i64,
    after: MessageId,
}

impl Seal {
    /// A job that has not begun.
    pub const fn new(store: Store) -> Self {
        Self { store, sweep: None }
    }

    /// The place of the sweep that is under way, or of one that begins now. None: there is nothing to do.
    async fn place(&mut self, cursor: &str) -> store::Result<Option<Place>> {
        if let Some(place) = Place::of(cursor) {
            return Ok(Some(place));
        }
        let SweepState { is_on, wanted, done, may_begin } = self.store.sweep_state().await?;
        if !is_on || wanted <= done || !may_begin {
            return Ok(None);
        }
        self.store.begin_sweep(wanted).await?;
        self.sweep = Some(Sweep { unused: self.unused_keys().await?, named: HashSet::new(), sealed: 0 });
        Ok(Some(Place { number: wanted, after: MessageId(Uuid::nil()) }))
    }

    /// Keys older than one that every node has used for some time.
    async fn unused_keys(&self) -> store::Result<Vec<String>> {
        let settled = self.store.keys().times().settled;
        let stored = self.store.stored_keys().await?;
        let in_use = stored.iter().position(|stored| stored.age >= settled).map_or(stored.len(), |newest| newest + 1);
        Ok(stored.into_iter().skip(in_use).map(|stored| stored.key.id).collect())
    }

    async fn end(&mut self, number: i64) -> store::Result<()> {
        if let Some(Sweep { unused, named, sealed }) = self.sweep.take() {
            let unused: Vec<_> = unused.into_iter().filter(|id| !named.contains(id)).collect();
            if !unused.is_empty() {
                self.store.forget_data_keys(&unused).await?;
            }
            info!(
                sweep = number,
                messages = sealed,
                keys_removed = unused.len(),
                "all messages were looked at, and sealed where they were to be"
            );
        }
        self.store.end_sweep(number).await
    }
}

impl Job for Seal {
    fn name(&self) -> &'static str {
        "seal"
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::OneNode
    }

    async fn pass(&mut self, cursor: &str) -> store::Result<Passed> {
        let began = Instant::now();
        let noted = self.store.seal_noted(PAGE).await?;
        if noted == usize::from(PAGE) {
            return Ok(Passed { rows: noted, rest: Rest::More, cursor: None });
        }
        let Some(Place { number, after }) = self.place(cursor).await? else {
            return Ok(Passed { rows: noted, rest: Rest::Nothing, cursor: None });
        };
        let SealedPage { rows, keys, next } = self.store.seal_page(after, PAGE).await?;
        if let Some(sweep) = &mut self.sweep {
            sweep.sealed += rows;
            sweep.named.extend(keys);
        }
        let (rest, cursor) = match next {
            Some(after) => (Rest::Later(began.elapsed().max(PAUSE_MIN)), Place { number, after }.text()),
            None => {
                self.end(number).await?;
                (Rest::Nothing, String::new())
            }
        };
        Ok(Passed { rows: noted + rows, rest, cursor: Some(cursor) })
    }

    fn forget(&mut self) {
        self.sweep = None;
    }
}

impl Place {
    /// The place that a cursor names. None: no sweep is under way.
    fn of(cursor: &str) -> Option<Self> {
        let place = cursor
            .split_once(' ')
            .and_then(|(number, after)| Some(Self { number: number.parse().ok()?, after: MessageId(Uuid::parse_str(after).ok()?) }));
        if place.is_none() && !cursor.is_empty() {
            warn!("the cursor of the job seal is no place; the sweep begins anew");
        }
        place
    }

    fn text(self) -> String {
        format!("{} {}", self.number, self.after.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_one_that_is_no_place_means_that_no_sweep_is_under_way() {
        let place = Place { number: 7, after: MessageId(Uuid::from_u128(9)) };
        assert_eq!(Place::of(&place.text()), Some(place));
        for none in ["", "7", "x 00000000-0000-0000-0000-000000000009", "7 x"] {
            assert_eq!(Place::of(none), None, "{none}");
        }
    }
}
