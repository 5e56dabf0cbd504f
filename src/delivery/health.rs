//! Is the database there? Whoever meets a failure says so; one task then asks until it answers again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::store::{Error, Store};
use crate::telemetry::Metrics;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often the database is asked although nobody has met a failure: by itself it does not say that it keeps nothing any more.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Whether the database answers, as this node knows it. Clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    away: Arc<watch::Sender<bool>>,
    /// Why it was reported so last.
    reason: Arc<Mutex<String>>,
    outages: Arc<AtomicU64>,
}

impl Health {
    pub(super) fn start(store: Store, metrics: Arc<Metrics>, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let health = Self { away: Arc::new(watch::Sender::new(false)), reason: Arc::default(), outages: Arc::default() };
        tasks.spawn(stop.run_until_cancelled_owned(watch_over(health.clone(), store, metrics)));
        health
    }

    /// A statement failed so. Only where that says that the database is away it counts as away: not where it is busy.
    pub fn report(&self, error: &Error) {
        if error.is_away() {
            *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = error.reason();
            self.away.send_if_modified(|away| !std::mem::replace(away, true));
        }
    }

    fn reason(&self) -> String {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does it not answer?
    pub fn is_away(&self) -> bool {
        *self.away.borrow()
    }

    /// Outages that have ended. A connection made before the last of them is not worth a try.
    pub fn outages(&self) -> u64 {
        self.outages.load(Ordering::Acquire)
    }

    /// Follows it: the value is true while the database is away.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.away.subscribe()
    }

    /// Ends when the database answers: at once, if nobody has said otherwise.
    pub async fn back(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.subscribe().wait_for(|away| !away).await;
    }
}

async fn watch_over(health: Health, store: Store, metrics: Arc<Metrics>) {
    loop {
        fails(&health, &store).await;
        warn!(reason = health.reason(), "the database does not answer: sends are refused, acks wait");
        metrics.database_away.set(1);
        answers_again(&health, &store).await;
        info!("the database answers again");
        // One from before could still lead to the server that was.
        store.renew();
        metrics.database_away.set(0);
        health.outages.fetch_add(1, Ordering::Release);
        health.away.send_replace(false);
    }
}

/// Until somebody has met a failure.
async fn fails(health: &Health, store: &Store) {
    let mut changes = health.subscribe();
    // The sender lives as long as `health`, so this cannot fail.
    while timeout(LOOK_INTERVAL, changes.wait_for(|away| *away)).await.is_err() {
        if let Err(error) = store.ping().await {
            health.report(&error);
        }
    }
}

/// Until it answers. Where it says something else than before, so does the log.
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
