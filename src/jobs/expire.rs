//! Expire: messages whose `expiresAt` has passed are no longer delivered, and their senders are told.

use std::time::Duration;

use time::OffsetDateTime;
use tracing::{debug, info};

use crate::delivery::Delivery;
use crate::domain::Status;
use crate::store::{self, ExpiryCursor, Store};

/// How late a message may expire.
const EVERY: Duration = Duration::from_secs(2);
/// Messages in one transaction.
const MESSAGES_AT_ONCE: i32 = 500;
/// A message may be committed after its time has come; a pass looks back so far for those.
const LOOK_BACK: Duration = Duration::from_secs(120);

/// Runs until it is dropped.
pub async fn run(store: Store, delivery: Delivery) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first pass looks at everything there is: the node may have been away for long.
    let mut after = OffsetDateTime::UNIX_EPOCH;
    loop {
        every.tick().await;
        match pass(&store, &delivery, after).await {
            Ok((horizon, rows)) => {
                after = horizon - LOOK_BACK;
                if rows > 0 {
                    info!(rows, "messages expired before they were delivered");
                }
            }
            Err(cause) => debug!(?cause, "expired messages could not be swept; the next pass begins where this one did"),
        }
    }
}

/// Up to when it looked, and how many rows ended. The database's clock counts: this node's may be off.
async fn pass(store: &Store, delivery: &Delivery, after: OffsetDateTime) -> store::Result<(OffsetDateTime, usize)> {
    let horizon = store.clock().await?;
    let mut cursor = ExpiryCursor::at(after);
    let mut rows = 0;
    loop {
        let page = store.expire(cursor, horizon, MESSAGES_AT_ONCE).await?;
        for ended in &page.rows {
            let reason = Some("its time had come".to_owned());
            delivery.receipts().moved(&[&ended.row], Status::Expired, ended.at, reason, |_| Some(ended.member.clone()));
        }
        rows += page.rows.len();
        let Some(next) = page.next else { return Ok((horizon, rows)) };
        cursor = next;
    }
}
