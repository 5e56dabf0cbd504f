//! Turns at the database for what connections read by themselves: opening, pages, looks.
//!
//! The pool has a queue of its own, but what waits there has its statement ready, some 4 KB of it. When thousands of
//! clients come back at once they wait here instead, first come, first served, and the node stays as small as it was.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns of one node. Clones share them.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

/// Somebody's turn. It ends when this is dropped.
#[derive(Debug)]
pub struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// So many at once.
    pub fn new(at_once: u32) -> Self {
        Self(Arc::new(Semaphore::new(usize::try_from(at_once).unwrap_or(Semaphore::MAX_PERMITS).max(1))))
    }

    /// Waits for a turn.
    pub async fn take(&self) -> Turn {
        // The semaphore is never closed; if it were, nobody should wait for ever.
        Turn { _permit: Arc::clone(&self.0).acquire_owned().await.ok() }
    }
}
