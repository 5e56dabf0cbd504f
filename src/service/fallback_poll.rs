//! The fallback poll: a hint may have been lost, so each session looks for itself now and then. The polls of many sessions are
//! one statement. Nearly all of them find nothing: what an idle connection costs the database is its share of a statement, and only
//! where something waits is a page read for it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::AdmissionQueue;
use super::batcher::{Batcher, Pace, Question};
use crate::domain::{Class, InboxSeq, Page, UserId};
use crate::store::{self, Peek, Place, Store};

/// Polls in one statement.
const POLLS_AT_ONCE: usize = 1_000;
/// Polls come together for this part of the interval at which each session polls.
const BATCHED_PART: u32 = 32;

/// The way in for polls. Clones share it.
#[derive(Debug, Clone)]
pub struct FallbackPoll(Batcher<Place>);

impl Question for Place {
    type Answer = Peek;
    const NAME: &'static str = "a fallback poll";

    fn answer(places: &[Self], store: &Store) -> impl Future<Output = store::Result<Vec<Option<Peek>>>> + Send {
        store.peek(places)
    }
}

impl FallbackPoll {
    /// Starts to poll for sessions that do so at this interval, until `stop` is cancelled.
    pub fn start(store: Store, admission: AdmissionQueue, interval: Duration, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let pace = Pace { at_once: POLLS_AT_ONCE, pause: interval / BATCHED_PART };
        Self(Batcher::start(store, admission, pace, tasks, stop))
    }

    /// The page of an inbox above `after`, if it is empty. None: something waits, or it could not be told.
    pub(super) async fn empty_page(&self, user: UserId, class: Class, after: InboxSeq) -> Option<Page> {
        let Peek { last_seq, waits } = self.0.ask(Place { user, class, after }).await?;
        (!waits).then(|| Page { class, after, rows: Vec::new(), is_last: true, last_seq })
    }
}
