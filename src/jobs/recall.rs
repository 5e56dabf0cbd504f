//! Recall: goes on with recalls that have not come to all recipients of their message: there are many, somebody held something, the node
//! was killed, or the recall was made in SQL.
//!
//! A pass is a part of one recall. The recalls are taken in turn, so that one of which something is held keeps no other back. What a part
//! does is kept in its transaction, so a pass that is made twice tells nobody twice.

use std::time::Duration;

use tracing::warn;
use uuid::Uuid;

use super::{DoneBy, Job, Passed, Rest};
use crate::delivery::Delivery;
use crate::domain::MessageId;
use crate::store::{self, RECIPIENTS_AT_ONCE, RecallPart, Store};

/// The interval between two sweeps. What was held is tried again after it.
const EVERY: Duration = Duration::from_secs(1);

/// The job.
#[derive(Debug)]
pub(super) struct Recall {
    store: Store,
    delivery: Delivery,
}

impl Recall {
    pub(super) const fn new(store: Store, delivery: Delivery) -> Self {
        Self { store, delivery }
    }
}

impl Job for Recall {
    fn name(&self) -> &'static str {
        "recall"
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::OneNode
    }

    async fn pass(&mut self, cursor: &str) -> store::Result<Passed> {
        let after = place_of(cursor);
        let Some(part) = self.store.next_recall_part(after, RECIPIENTS_AT_ONCE).await? else {
            // The end of a sweep, or as a rule nothing at all.
            return Ok(Passed { rows: 0, rest: Rest::Nothing, cursor: Some(String::new()) });
        };
        self.delivery.receipts().recalled(&part, None);
        let cursor = if part.goes_on { cursor.to_owned() } else { part.message.to_string() };
        Ok(Passed { rows: rows_of(&part), rest: Rest::More, cursor: Some(cursor) })
    }

    fn forget(&mut self) {}
}

fn rows_of(part: &RecallPart) -> usize {
    part.ended.len() + part.noticed.len()
}

/// The message that a cursor names. The beginning, if it is empty or names none.
fn place_of(cursor: &str) -> MessageId {
    let id = Uuid::try_parse(cursor).unwrap_or_else(|_| {
        if !cursor.is_empty() {
            warn!("the cursor of the job recall is no message; the sweep begins anew");
        }
        Uuid::nil()
    });
    MessageId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_names_no_message_means_the_beginning() {
        let message = MessageId::generate();
        assert_eq!(place_of(&message.to_string()), message);
        assert_eq!([place_of(""), place_of("x")], [MessageId(Uuid::nil()); 2]);
    }
}
