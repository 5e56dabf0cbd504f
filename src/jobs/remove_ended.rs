//! Rows that have ended by themselves, and that nothing looks at any more: removes them, a page a pass. One job a kind of row.

use std::time::Duration;

use super::{DoneBy, Job, Passed, Rest};
use crate::store::{self, Store};

/// The interval between two passes. Nothing waits for them.
const EVERY: Duration = Duration::from_secs(60);
/// Rows that one pass removes.
const ROWS_AT_ONCE: u16 = 1_000;

/// The job of one kind.
#[derive(Debug)]
pub(super) struct RemoveEnded {
    kind: EndedRows,
    store: Store,
}

/// A kind of rows.
#[derive(Debug, Clone, Copy)]
pub(super) enum EndedRows {
    /// Invitations to groups that have expired. They count no more by then.
    Invitations,
    /// Logins of accounts that have ended by themselves. Their refresh tokens are worth nothing by then, and their access tokens have expired or soon
    /// will.
    Logins,
    /// Revocations whose tokens have expired. Nodes have forgotten them by then.
    Revocations,
}

impl EndedRows {
    pub(super) const ALL: [Self; 3] = [Self::Invitations, Self::Logins, Self::Revocations];
}

impl RemoveEnded {
    pub(super) const fn new(kind: EndedRows, store: Store) -> Self {
        Self { kind, store }
    }
}

impl Job for RemoveEnded {
    fn name(&self) -> &'static str {
        match self.kind {
            EndedRows::Invitations => "invitations",
            EndedRows::Logins => "logins",
            EndedRows::Revocations => "revocations",
        }
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::AnyNode
    }

    async fn pass(&mut self, _cursor: &str) -> store::Result<Passed> {
        let rows = match self.kind {
            EndedRows::Invitations => self.store.purge_invitations(ROWS_AT_ONCE).await?,
            EndedRows::Logins => self.store.purge_logins(ROWS_AT_ONCE).await?,
            EndedRows::Revocations => self.store.purge_revocations(ROWS_AT_ONCE).await?,
        };
        let rest = if rows >= usize::from(ROWS_AT_ONCE) { Rest::More } else { Rest::Nothing };
        Ok(Passed { rows, rest, cursor: None })
    }
}
