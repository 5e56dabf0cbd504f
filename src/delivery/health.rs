//! Asks the database whether it answers, over a connection of its own, and says in the log when it does not. What the others know of
//! it is in [`Health`]: the store learns of a failure by itself.
//!
//! The connection is none of the pool's: a pool whose connections are all in use says nothing of the database.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::link::{Line, Link};
use crate::store::{Error, Health, Store, fair_timeout};
use crate::telemetry::Metrics;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The interval between two pings of a database that has not failed. A database does not report by itself that it can no longer
/// store, and a node that nobody uses asks it nothing else.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The time in which a ping must be answered.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Asks, and keeps the connection for it.
#[derive(Debug)]
pub(super) struct Watch {
    link: Link,
    store: Store,
    metrics: Arc<Metrics>,
}

impl Watch {
    /// Asks over this link, which nobody else uses.
    pub(super) const fn new(link: Link, store: Store, metrics: Arc<Metrics>) -> Self {
        Self { link, store, metrics }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let health = self.store.health().clone();
        loop {
            self.fails(&health).await;
            warn!(reason = health.reason(), "the database does not answer: sends are refused, acks wait");
            self.metrics.database_away.set(1);
            if health.is_of_new_connections() {
                self.store.renew();
                // A ping may succeed at once where a single file is missing. The next statement that needs it fails again.
                sleep(LONGEST_PAUSE).await;
            }
            self.answers_again(&health).await;
            info!("the database answers again");
            // A connection from before the outage could still lead to the old server.
            self.store.renew();
            self.metrics.database_away.set(0);
            health.recovered();
        }
    }

    /// Waits until something has failed: what others have asked, or a ping.
    async fn fails(&mut self, health: &Health) {
        while timeout(LOOK_INTERVAL, health.gone()).await.is_err() {
            tokio::select! {
                biased;
                () = health.gone() => {}
                // The store learns of a failure.
                _ = self.ping() => {}
            }
        }
        // A ping may be under way on it.
        self.link.broken();
    }

    /// Waits until the database answers. Each new reason is logged once.
    async fn answers_again(&mut self, health: &Health) {
        let (mut pause, mut reason) = (FIRST_PAUSE, health.reason());
        while let Err(error) = self.ping().await
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

    /// One ping. A connection that says nothing may be dead by itself, so another one is asked before it counts.
    async fn ping(&mut self) -> Result<(), Error> {
        match self.try_ping().await? {
            Some(()) => Ok(()),
            None => match self.try_ping().await? {
                Some(()) => Ok(()),
                None => self.store.health().learn(Err(no_answer())),
            },
        }
    }

    /// None: no answer within the time. Where it fails or says nothing, the next one is over another connection.
    async fn try_ping(&mut self) -> Result<Option<()>, Error> {
        let Line { connection, .. } = self.link.get().await?;
        let answer = fair_timeout(ANSWER_TIME_MAX, self.store.ping_over(connection)).await;
        if !matches!(answer, Some(Ok(()))) {
            self.link.broken();
        }
        answer.transpose()
    }
}

fn no_answer() -> Error {
    Error::Unavailable(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))
}
