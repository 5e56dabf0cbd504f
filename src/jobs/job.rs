//! The description of a job: its name, its interval, the nodes that may do it, and one pass. It knows nothing of leases,
//! metrics and the clock. Those belong to the runner.

use std::future::Future;
use std::time::Duration;

use crate::store;

/// Work that is done again and again, beside everything else.
///
/// A pass may be made twice, and by two nodes at once: a node that hangs in the middle of one loses its lease and goes on later.
/// So a pass changes only what is still to be changed, each time by a statement that is right by itself.
pub trait Job: Send {
    /// Its name in the table `jobs`, in metrics and in log lines.
    fn name(&self) -> &'static str;

    /// The time from the beginning of a pass that left nothing, or failed, to the beginning of the next.
    fn interval(&self) -> Duration;

    /// The nodes that may do it at once.
    fn done_by(&self) -> DoneBy;

    /// One pass: a page of work that takes far less than a lease lasts, as a rule milliseconds.
    ///
    /// `cursor` is what the last pass of any node has stored, and empty in the beginning, or where any node may do the job.
    ///
    /// # Errors
    /// When a statement fails. The pass is made again after the interval, from the same cursor.
    fn pass(&mut self, cursor: &str) -> impl Future<Output = store::Result<Passed>> + Send;

    /// Another node may have made passes since the last one here: what this node remembers of its own is outdated.
    fn forget(&mut self) {}
}

/// The nodes that may do a job at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoneBy {
    /// One node for all, under a lease.
    OneNode,
    /// Any number of nodes: each takes what no other works on (`skip locked`). There is no lease and no cursor.
    AnyNode,
}

/// A pass that has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Rows that were worked off.
    pub rows: usize,
    /// Says if it has left rows.
    pub rest: Rest,
    /// The place at which the next pass begins. None: the same place as this pass. At most 1,000 characters.
    pub cursor: Option<String>,
}

/// Says if a pass has left rows for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Its page was full: the next pass follows at once.
    More,
    /// There is more, and the next pass follows after this pause, so that others get their turn.
    Later(Duration),
    /// The next pass follows after the interval.
    Nothing,
}
