//! Logins: removes those of accounts that have ended by themselves. Their refresh tokens are worth nothing by then, and their access tokens have expired
//! or soon will.

use std::time::Duration;

use super::{DoneBy, Job, Passed, Rest};
use crate::store::{self, Store};

/// The interval between two passes. Nothing waits for them.
const EVERY: Duration = Duration::from_secs(60);
/// Rows that one pass removes.
const ROWS_AT_ONCE: u16 = 1_000;

/// The job.
#[derive(Debug)]
pub(super) struct Logins {
    store: Store,
}

impl Logins {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }
}

impl Job for Logins {
    fn name(&self) -> &'static str {
        "logins"
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::AnyNode
    }

    async fn pass(&mut self, _cursor: &str) -> store::Result<Passed> {
        let rows = self.store.purge_logins(ROWS_AT_ONCE).await?;
        let rest = if rows >= usize::from(ROWS_AT_ONCE) { Rest::More } else { Rest::Nothing };
        Ok(Passed { rows, rest, cursor: None })
    }
}
