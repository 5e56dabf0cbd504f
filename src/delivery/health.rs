//! Is the database there? Whoever meets a failure says so; one task then asks until it answers again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::store::Store;
use crate::telemetry::Metrics;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Whether the database answers, as this node knows it. Clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    away: Arc<watch::Sender<bool>>,
    outages: Arc<AtomicU64>,
}

impl Health {
    pub(super) fn start(store: Store, metrics: Arc<Metrics>, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let (away, changes) = watch::channel(false);
        let away = Arc::new(away);
        let outages = Arc::new(AtomicU64::new(0));
        tasks.spawn(stop.run_until_cancelled_owned(watch_over(store, metrics, Arc::clone(&away), Arc::clone(&outages), changes)));
        Self { away, outages }
    }

    /// It did not answer.
    pub fn report_away(&self) {
        self.away.send_if_modified(|away| !std::mem::replace(away, true));
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

async fn watch_over(
    store: Store,
    metrics: Arc<Metrics>,
    away: Arc<watch::Sender<bool>>,
    outages: Arc<AtomicU64>,
    mut changes: watch::Receiver<bool>,
) {
    while changes.wait_for(|away| *away).await.is_ok() {
        warn!("the database does not answer: sends are refused, acks wait");
        metrics.database_away.set(1);
        let mut pause = FIRST_PAUSE;
        while store.ping().await.is_err() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        info!("the database answers again");
        // One from before could still lead to the server that was.
        store.renew();
        metrics.database_away.set(0);
        outages.fetch_add(1, Ordering::Release);
        away.send_replace(false);
    }
}
