//! The factors of users whose limits an operator has raised, as this node last read them; and the task that reads them.
//!
//! A node hears of a change when it is committed, from the database. Should it not, it finds it by its own read.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tracing::debug;

use crate::domain::{ExternalId, RaisedLimit, UserId};
use crate::notifier::Notifier;
use crate::store::{self, Store};

/// The interval between a node's own reads.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// Between two reads that are asked for: anybody who may connect to the database may ask.
const PAUSE: Duration = Duration::from_millis(250);
/// After a read that failed: it may have been the one that was asked for.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Rows of one read.
const ROWS_AT_ONCE: u16 = 1_000;
/// Users of whom a node keeps the factor, however many the table has.
const USERS_MAX: usize = 20_000;

/// The factors. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct RaisedLimits(Arc<RwLock<Factors>>);

#[derive(Debug, Default)]
struct Factors {
    by_number: HashMap<UserId, u32>,
    by_name: HashMap<ExternalId, u32>,
}

impl RaisedLimits {
    /// The factor of this user; 1 as a rule.
    pub(super) fn of(&self, user: UserId) -> u32 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_number.get(&user).copied().unwrap_or(1)
    }

    /// The same by its name.
    pub(super) fn of_name(&self, user: &ExternalId) -> u32 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_name.get(user).copied().unwrap_or(1)
    }

    /// From now on these count, and no others.
    pub(super) fn replace(&self, raised: Vec<RaisedLimit>) {
        let mut factors = Factors::default();
        for RaisedLimit { user, external, factor, .. } in raised {
            factors.by_number.insert(user, factor.max(1));
            factors.by_name.insert(external, factor.max(1));
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = factors;
    }

    /// Reads all whenever the node hears of a change, and now and then, until it is dropped. While the database is away those count that
    /// were read last.
    pub(super) async fn follow(self, store: Store, notifier: Notifier) {
        loop {
            match read(&store).await {
                Ok(raised) => self.replace(raised),
                Err(cause) => {
                    debug!(?cause, "raised limits could not be read; once more");
                    store.health().back().await;
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                }
            }
            tokio::time::sleep(PAUSE).await;
            let _ = tokio::time::timeout(LOOK_INTERVAL, notifier.limits_moved()).await;
        }
    }
}

async fn read(store: &Store) -> store::Result<Vec<RaisedLimit>> {
    let mut raised = Vec::new();
    loop {
        let after = raised.last().map_or(UserId(i64::MIN), |last: &RaisedLimit| last.user);
        let page = store.raised_limits(after, ROWS_AT_ONCE).await?;
        let is_last = page.len() < usize::from(ROWS_AT_ONCE);
        raised.extend(page);
        if is_last || raised.len() >= USERS_MAX {
            return Ok(raised);
        }
    }
}
