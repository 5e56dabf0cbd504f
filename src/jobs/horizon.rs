//! Horizon: shows operators the oldest transaction of the cluster that writes and has not ended. It is often one that was forgotten, in
//! another database, and dead rows stay as long as it is open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::{DoneBy, Job, Passed, Rest};
use crate::store::{self, OldestTransaction, Store};
use crate::telemetry::Metrics;

const EVERY: Duration = Duration::from_secs(5);
/// A younger one is a transaction like any other, and is not named.
const NAMED_FROM: Duration = Duration::from_secs(1);
/// From this age on it is told in the log, once.
const TOLD_FROM: Duration = Duration::from_secs(300);

/// The job. Each node does it for its own metrics; it changes nothing.
#[derive(Debug)]
pub(super) struct Horizon {
    store: Store,
    metrics: Arc<Metrics>,
    /// The number of the transaction that was the oldest at the last pass, when it was first seen, and whether the log has told it.
    known: Option<(String, Instant, bool)>,
}

impl Horizon {
    pub(super) const fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics, known: None }
    }

    /// The role of the service may not see when a session of another role began its transaction: then the time since it was first seen counts.
    fn age(&mut self, oldest: &OldestTransaction) -> Duration {
        let seen = match &self.known {
            Some((number, seen, _)) if *number == oldest.number => *seen,
            _ => {
                let now = Instant::now();
                self.known = Some((oldest.number.clone(), now, false));
                now
            }
        };
        oldest.age.unwrap_or_default().max(seen.elapsed())
    }

    fn tell(&mut self, oldest: &OldestTransaction, age: Duration) {
        let Some((_, _, is_told)) = &mut self.known else { return };
        if age >= TOLD_FROM && !std::mem::replace(is_told, true) {
            let OldestTransaction { database, role, process, .. } = oldest;
            warn!(%database, %role, ?process, age_s = age.as_secs(), "a transaction that writes has been open for long: dead rows stay until it ends");
        }
    }
}

impl Job for Horizon {
    fn name(&self) -> &'static str {
        "horizon"
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::AnyNode
    }

    async fn pass(&mut self, _cursor: &str) -> store::Result<Passed> {
        match self.store.oldest_transaction().await? {
            Some(oldest) => {
                let age = self.age(&oldest);
                self.tell(&oldest, age);
                let process = oldest.process.map_or_else(String::new, |process| process.to_string());
                let named = if age >= NAMED_FROM { [oldest.database, oldest.role, process] } else { Default::default() };
                self.metrics.oldest_transaction_age.set(age, named);
            }
            None => {
                self.known = None;
                self.metrics.oldest_transaction_age.set(Duration::ZERO, Default::default());
            }
        }
        Ok(Passed { rows: 0, rest: Rest::Nothing, cursor: None })
    }
}
