//! Connections that have sent no request yet. They hold a place for a limited time; where all places are taken, the oldest of them gives
//! its place to the next client that comes, so that somebody who only connects keeps nobody out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A connection keeps its place for this time at least: a client's first request may be that long under way.
const KEEPS_ITS_PLACE: Duration = Duration::from_secs(2);

/// The silent connections of a listener, the oldest first. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Silent(Arc<Mutex<Connections>>);

#[derive(Debug, Default)]
struct Connections {
    next_no: u64,
    by_age: BTreeMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    since: Instant,
    leaves: Arc<Notify>,
}

/// A connection that is silent. Dropped, it has spoken, or has ended.
#[derive(Debug)]
pub(super) struct Silence {
    all: Silent,
    no: u64,
    leaves: Arc<Notify>,
}

impl Silent {
    /// A connection that has just come.
    pub(super) fn enter(&self) -> Silence {
        let leaves = Arc::new(Notify::new());
        let mut connections = self.lock();
        connections.next_no += 1;
        let no = connections.next_no;
        connections.by_age.insert(no, Connection { since: Instant::now(), leaves: Arc::clone(&leaves) });
        drop(connections);
        Silence { all: self.clone(), no, leaves }
    }

    /// Sends the oldest one away. False: there is none, or it has only just come.
    pub(super) fn send_oldest_away(&self) -> bool {
        let mut connections = self.lock();
        match connections.by_age.first_entry() {
            Some(oldest) if oldest.get().since.elapsed() >= KEEPS_ITS_PLACE => {
                oldest.remove().leaves.notify_one();
                true
            }
            Some(_) | None => false,
        }
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Silence {
    /// Ends when the connection is to give up its place.
    pub(super) async fn sent_away(&self) {
        self.leaves.notified().await;
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.all.lock().by_age.remove(&self.no);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_that_is_silent_leaves_first_and_none_before_its_time() {
        let silent = Silent::default();
        let (first, spoken, second) = (silent.enter(), silent.enter(), silent.enter());
        assert!(!silent.send_oldest_away(), "a request may be under way");
        drop(spoken);
        tokio::time::advance(KEEPS_ITS_PLACE).await;
        let late = silent.enter();
        assert!(silent.send_oldest_away() && first.sent_away().now_or_never().is_some());
        assert!(second.sent_away().now_or_never().is_none());
        assert!(silent.send_oldest_away() && second.sent_away().now_or_never().is_some());
        assert!(!silent.send_oldest_away() && late.sent_away().now_or_never().is_none());
        drop((first, second, late));
        assert!(silent.lock().by_age.is_empty());
    }
}
