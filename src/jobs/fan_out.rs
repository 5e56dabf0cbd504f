//! Fan-out: writes rows of events to listed users that were left when the events were published: too many users were listed, or
//! somebody held an inbox, or too much waited there.
//!
//! A pass is a page of inboxes, in the order of their users. The place behind it is the cursor. A row is written in the transaction that takes
//! it from the list, so a pass that is made twice, or killed, writes none twice.

use std::time::Duration;

use tracing::warn;

use super::{DoneBy, Job, Passed, Rest};
use crate::domain::{Class, UserId};
use crate::presence::Node;
use crate::store;

/// The interval between two sweeps. A row that could not be written is tried again after it.
const EVERY: Duration = Duration::from_secs(1);
/// Rows that one pass writes, about: some 20 ms.
const ROWS_AT_ONCE: i32 = 500;
/// The place before all inboxes.
const FIRST: (UserId, Class) = (UserId(0), Class::Chat);

/// The job.
#[derive(Debug)]
pub(super) struct FanOut {
    node: Node,
}

impl FanOut {
    pub(super) const fn new(node: Node) -> Self {
        Self { node }
    }
}

impl Job for FanOut {
    fn name(&self) -> &'static str {
        "fan_out"
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::OneNode
    }

    async fn pass(&mut self, cursor: &str) -> store::Result<Passed> {
        // As a rule there is nothing.
        let waiting = self.node.store.fan_out_waiting().await?;
        self.node.metrics.fan_out_waiting.set(waiting);
        if waiting == 0 {
            return Ok(Passed { rows: 0, rest: Rest::Nothing, cursor: Some(String::new()) });
        }
        let page = self.node.store.fan_out(place_of(cursor), ROWS_AT_ONCE).await?;
        for (user, class) in &page.inboxes {
            self.node.notifier.wake(*user, *class);
        }
        page.superseded.iter().for_each(|user| self.node.notifier.rows_ended(*user));
        // A page that has written nothing met inboxes that somebody holds.
        let rest = if page.next.is_some() || page.rows > 0 { Rest::More } else { Rest::Nothing };
        Ok(Passed { rows: page.rows, rest, cursor: Some(page.next.map_or_else(String::new, text_of)) })
    }

    fn forget(&mut self) {
        self.node.metrics.fan_out_waiting.set(0);
    }
}

/// The place that a cursor names. The beginning, if it is empty or no place.
fn place_of(cursor: &str) -> (UserId, Class) {
    let parse = || {
        let (user, word) = cursor.split_once(' ')?;
        let class = Class::ALL.into_iter().find(|class| class.as_str() == word)?;
        Some((UserId(user.parse().ok()?), class))
    };
    parse().unwrap_or_else(|| {
        if !cursor.is_empty() {
            warn!("the cursor of the job fan_out is no place; the sweep begins anew");
        }
        FIRST
    })
}

/// The cursor that names it.
fn text_of((user, class): (UserId, Class)) -> String {
    format!("{} {class}", user.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_one_that_is_no_place_means_the_beginning() {
        for place in [FIRST, (UserId(7), Class::Event), (UserId(i64::MAX), Class::Alert)] {
            assert_eq!(place_of(&text_of(place)), place);
        }
        for none in ["", "7", "7 events", "x event", "7 event 8"] {
            assert_eq!(place_of(none), FIRST, "{none}");
        }
    }
}
