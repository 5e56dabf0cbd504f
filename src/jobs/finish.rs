//! Finish: goes on with what one transaction did not bring to its end, since others would have waited for it: what waits for members
//! that have left or that have blocked the sender, and marks that have far to go.
//!
//! Any number of nodes may do it at once: each takes what no other works on.

use std::time::Duration;

use super::{DoneBy, Job, Passed, Rest};
use crate::delivery::Delivery;
use crate::domain::{Class, Status};
use crate::store::{self, Store};

/// The interval between two passes.
const EVERY: Duration = Duration::from_secs(1);
/// Messages of a chat whose rows end in one transaction: some 20 ms.
const MESSAGES_AT_ONCE: i32 = 1_000;
/// Members whose marks move in one transaction, past 5,000 messages of all together at most: some 20 ms.
const MEMBERS_AT_ONCE: i32 = 4;

/// The job.
#[derive(Debug)]
pub(super) struct Finish {
    store: Store,
    delivery: Delivery,
}

impl Finish {
    pub(super) const fn new(store: Store, delivery: Delivery) -> Self {
        Self { store, delivery }
    }

    /// Ends a part of what waits for one member that has left. None: nothing is left that no other node works on.
    async fn end_departures(&self) -> store::Result<Option<usize>> {
        let Some(part) = self.store.end_departures(MESSAGES_AT_ONCE).await? else { return Ok(None) };
        // Nobody is told of events, nor that it was blocked.
        let rows: Vec<_> = part.rows.iter().filter(|row| row.class == Class::Chat).collect();
        self.delivery
            .receipts()
            .moved(&rows, Status::Expired, part.at, Some("left".to_owned()), |_| Some(part.member.clone()).filter(|_| !part.by_a_block));
        Ok(Some(part.rows.len()))
    }
}

impl Job for Finish {
    fn name(&self) -> &'static str {
        "finish"
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::AnyNode
    }

    async fn pass(&mut self, _cursor: &str) -> store::Result<Passed> {
        // As a rule there is nothing, and each of the pool's connections would otherwise make plans for it.
        let unfinished = self.store.unfinished().await?;
        let ended = if unfinished.departures { self.end_departures().await? } else { None };
        let any_moved = unfinished.marks && self.store.catch_up_marks(MEMBERS_AT_ONCE).await?;
        let rest = if ended.is_some() || any_moved { Rest::More } else { Rest::Nothing };
        Ok(Passed { rows: ended.unwrap_or_default(), rest, cursor: None })
    }
}
