//! Asks a database that is away until it answers again, and says so in the log. What the others know of it is in
//! [`Health`]: the store learns of a failure by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::store::{Health, Store};
use crate::telemetry::Metrics;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The interval between two pings of a database that has not failed. A database does not report by itself that it can no longer
/// store.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Runs until it is dropped.
pub(super) async fn watch_over(store: Store, metrics: Arc<Metrics>) {
    let health = store.health();
    loop {
        fails(health, &store).await;
        warn!(reason = health.reason(), "the database does not answer: sends are refused, acks wait");
        metrics.database_away.set(1);
        if health.is_of_new_connections() {
            store.renew();
            // A ping may succeed at once where a single file is missing. The next statement that needs it fails again.
            sleep(LONGEST_PAUSE).await;
        }
        answers_again(health, &store).await;
        info!("the database answers again");
        // One from before could still lead to the server that was.
        store.renew();
        metrics.database_away.set(0);
        health.recovered();
    }
}

/// Waits until something has failed.
async fn fails(health: &Health, store: &Store) {
    let mut changes = health.subscribe();
    // The sender lives as long as `health`, so this cannot fail.
    while timeout(LOOK_INTERVAL, changes.wait_for(|away| *away)).await.is_err() {
        // The store learns of a failure.
        let _ = store.ping().await;
    }
}

/// Waits until the database answers. Each new reason is logged once.
async fn answers_again(health: &Health, store: &Store) {
    let (mut pause, mut reason) = (FIRST_PAUSE, health.reason());
    while let Err(error) = store.ping().await
        && error.is_away()
    {
        if error.reason() != reason {
            reason = error.reason();
            warn!(reason, "the database does not answer yet");
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
