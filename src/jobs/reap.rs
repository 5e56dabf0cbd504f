//! Reap: takes out nodes that have gone without leaving, with the leases of their users, whose contacts are told that they are offline.

use std::time::Duration;

use super::{DoneBy, Job, Passed, Rest};
use crate::presence::Node;
use crate::store;

/// The interval between two passes. A node that has gone is noticed at most this late.
const EVERY: Duration = Duration::from_secs(2);
/// Leases that one pass takes out.
const USERS_AT_ONCE: i32 = 1_000;

/// The job.
#[derive(Debug)]
pub(super) struct Reap {
    node: Node,
}

impl Reap {
    pub(super) const fn new(node: Node) -> Self {
        Self { node }
    }
}

impl Job for Reap {
    fn name(&self) -> &'static str {
        "reap"
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::OneNode
    }

    /// There is no cursor: what is taken out is gone.
    async fn pass(&mut self, _cursor: &str) -> store::Result<Passed> {
        // As a rule no node has, and nobody who comes or goes has to wait for the lock.
        if !self.node.store.any_node_gone().await? {
            return Ok(Passed { rows: 0, rest: Rest::Nothing, cursor: None });
        }
        let rows = self.node.reap(USERS_AT_ONCE).await?;
        Ok(Passed { rows, rest: Rest::More, cursor: None })
    }
}
