//! Data keys: each node reads them anew, so that it knows a new key before any node uses it; and one of the nodes makes the key of the
//! next day.

use std::time::Duration;

use super::{DoneBy, Job, Passed, Rest};
use crate::store::{self, Store};

/// The job.
#[derive(Debug)]
pub(super) struct DataKeys {
    store: Store,
}

impl DataKeys {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }
}

impl Job for DataKeys {
    fn name(&self) -> &'static str {
        "data_keys"
    }

    fn interval(&self) -> Duration {
        self.store.keys().times().refresh
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::AnyNode
    }

    async fn pass(&mut self, _: &str) -> store::Result<Passed> {
        self.store.keep_keys().await?;
        Ok(Passed { rows: 0, rest: Rest::Nothing, cursor: None })
    }
}
