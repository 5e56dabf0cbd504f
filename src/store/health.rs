//! Knows if the database answers. The store learns it where an answer arrives or stays away: from each statement, each connection
//! that is lent or made, and each ping. Nobody else reports anything.
//!
//! It only keeps the state. Asking a database that is away until it is back is a task of its own, which says so here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::error::Failure;

/// The state of the database as this node knows it. Clones share it.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    away: watch::Sender<bool>,
    /// The reason of the latest failure.
    reason: Mutex<String>,
    outages: AtomicU64,
    /// A failure of this outage was one that only new connections have.
    is_of_new_connections: AtomicBool,
}

impl Health {
    /// The state of a database that nobody has asked yet: it counts as there.
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            away: watch::Sender::new(false),
            reason: Mutex::default(),
            outages: AtomicU64::new(0),
            is_of_new_connections: AtomicBool::new(false),
        }))
    }

    /// Takes notice of an answer, and passes it on. Beside the store only the task that pings calls it. A failure counts only where it
    /// says that the database is away: a pool without a free connection does not.
    pub fn learn<T, E: Failure>(&self, answer: Result<T, E>) -> Result<T, E> {
        if let Err(failure) = &answer
            && let Some(reason) = failure.outage()
        {
            self.0.is_of_new_connections.fetch_or(failure.is_of_new_connections(), Ordering::AcqRel);
            *self.0.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
            self.0.away.send_if_modified(|away| !std::mem::replace(away, true));
        }
        answer
    }

    /// The reason of the latest failure, in words for the log.
    pub fn reason(&self) -> String {
        self.0.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether the outage is one that connections from before do not have: asked over one of those, the database seems to be there.
    pub fn is_of_new_connections(&self) -> bool {
        self.0.is_of_new_connections.load(Ordering::Acquire)
    }

    /// Returns whether the database is away.
    pub fn is_away(&self) -> bool {
        *self.0.away.borrow()
    }

    /// Outages that have ended. A connection from before the last of them is of no use.
    pub fn outages(&self) -> u64 {
        self.0.outages.load(Ordering::Acquire)
    }

    /// Follows the state: the value is true while the database is away.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.away.subscribe()
    }

    /// Waits until the database answers: returns at once unless it is away.
    pub async fn back(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.subscribe().wait_for(|away| !away).await;
    }

    /// Waits until the database is away: returns at once while it is.
    pub async fn gone(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.subscribe().wait_for(|away| *away).await;
    }

    /// The outage is over. Only the task that has asked the database says so.
    pub fn recovered(&self) {
        self.0.outages.fetch_add(1, Ordering::Release);
        self.0.is_of_new_connections.store(false, Ordering::Release);
        self.0.away.send_replace(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Error;

    fn failed(error: sqlx::Error) -> Result<(), Error> {
        Err(error.into())
    }

    #[test]
    fn an_outage_is_learned_from_a_failure_and_a_busy_pool_is_none() {
        let health = Health::new();
        let _ = health.learn(failed(sqlx::Error::PoolTimedOut));
        let _ = health.learn(failed(sqlx::Error::RowNotFound));
        assert!(!health.is_away());
        let gone = || sqlx::Error::Io(std::io::Error::other("gone"));
        let _ = health.learn(failed(gone()));
        assert_eq!((health.is_away(), health.outages(), health.reason()), (true, 0, "gone".to_owned()));
        health.recovered();
        assert_eq!((health.is_away(), health.outages()), (false, 1));
        let _ = health.learn(Err::<(), _>(gone()));
        assert!(health.is_away(), "sqlx's own errors say the same");
    }
}
