//! Finish: goes on with what one transaction did not bring to its end, since others would have waited for it: what waits for members
//! that have left, and marks that have far to go.
//!
//! Any number of nodes may do it at once: each takes what no other works on.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use crate::delivery::Delivery;
use crate::domain::Status;
use crate::store::{self, Store};

/// How long something may lie.
const EVERY: Duration = Duration::from_secs(1);
/// Messages of a chat whose rows end in one transaction: some 20 ms.
const MESSAGES_AT_ONCE: i32 = 1_000;
/// Members whose marks move in one transaction, each past 5,000 messages at most.
const MEMBERS_AT_ONCE: i32 = 4;

/// Runs until it is dropped.
pub async fn run(store: Store, delivery: Delivery) {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if let Err(cause) = pass(&store, &delivery).await {
            debug!(?cause, "what was left unfinished could not be finished; the next pass goes on");
        }
    }
}

async fn pass(store: &Store, delivery: &Delivery) -> store::Result<()> {
    // As a rule there is nothing, and each of the pool's connections would otherwise make plans for it.
    let unfinished = store.unfinished().await?;
    while unfinished.departures
        && let Some(part) = store.end_departures(MESSAGES_AT_ONCE).await?
    {
        let rows: Vec<_> = part.rows.iter().collect();
        delivery.receipts().moved(&rows, Status::Expired, part.at, Some("left".to_owned()), |_| Some(part.member.clone()));
    }
    while unfinished.marks && store.catch_up_marks(MEMBERS_AT_ONCE).await? {}
    Ok(())
}
