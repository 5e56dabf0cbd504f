//! `settled_seq` of many inboxes moved in one statement: after a crowd has come back and drained, each of them has one to
//! move, and nobody waits for it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Turns;
use super::gathered::{Gathered, Pace, Question};
use crate::domain::{Class, InboxSeq, UserId};
use crate::store::{self, Health, Inbox, Store};

/// Inboxes in one statement. It holds their rows for that long: 64 take about 10 ms.
const ADVANCES_AT_ONCE: usize = 64;

/// Where sessions ask. Clones share it.
#[derive(Debug, Clone)]
pub struct Advances(Gathered<Inbox>);

impl Question for Inbox {
    type Answer = InboxSeq;
    const NAME: &'static str = "advancing settled_seq";

    fn answer(inboxes: &[Self], store: &Store) -> impl Future<Output = store::Result<Vec<Option<InboxSeq>>>> + Send {
        store.advance_settled(inboxes)
    }
}

impl Advances {
    /// Starts to advance, until `stop` is cancelled.
    pub fn start(store: Store, health: Health, turns: Turns, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let pace = Pace { at_once: ADVANCES_AT_ONCE, pause: Duration::ZERO };
        Self(Gathered::start(store, health, turns, pace, tasks, stop))
    }

    /// Moves it, and returns where it stands. Only a hint for where to begin next time: zero, which is always true,
    /// where it could not be moved.
    pub(super) async fn advance(&self, user: UserId, class: Class) -> InboxSeq {
        self.0.ask(Inbox { user, class }).await.unwrap_or(InboxSeq(0))
    }
}
