//! Low watermarks: the number of an inbox at or below which nothing waits (`settled_seq`). Those of many inboxes are moved in one
//! statement: after a crowd has come back and drained, each of them has one to move, and nobody waits for it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::AdmissionQueue;
use super::batcher::{Batcher, Pace, Question};
use crate::domain::{Class, InboxSeq, UserId};
use crate::store::{self, Inbox, Store};

/// Inboxes in one statement. It holds their rows for that long: 64 take about 10 ms.
const ADVANCES_AT_ONCE: usize = 64;

/// The way in for moving them. Clones share it.
#[derive(Debug, Clone)]
pub struct LowWatermarks(Batcher<Inbox>);

impl Question for Inbox {
    type Answer = InboxSeq;
    const NAME: &'static str = "moving low watermarks";

    fn answer(inboxes: &[Self], store: &Store) -> impl Future<Output = store::Result<Vec<Option<InboxSeq>>>> + Send {
        store.advance_settled(inboxes)
    }
}

impl LowWatermarks {
    /// Starts to move them, until `stop` is cancelled.
    pub fn start(store: Store, admission: AdmissionQueue, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let pace = Pace { at_once: ADVANCES_AT_ONCE, pause: Duration::ZERO };
        Self(Batcher::start(store, admission, pace, tasks, stop))
    }

    /// Moves it, and returns where it stands. Only a hint for where to begin next time: zero, which is always true,
    /// where it could not be moved.
    pub async fn advance(&self, user: UserId, class: Class) -> InboxSeq {
        self.0.ask(Inbox { user, class }).await.unwrap_or(InboxSeq(0))
    }
}
