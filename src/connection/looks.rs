//! Slow looks of many sessions, as one statement. Nearly all of them find nothing: what an idle connection costs the
//! database is its share of a statement, and only where something waits is a page read for it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Turns;
use super::gathered::{Gathered, Pace, Question};
use crate::domain::{Class, InboxSeq, Page, UserId};
use crate::store::{self, Glance, Health, Place, Store};

/// Looks in one statement.
const LOOKS_AT_ONCE: usize = 1_000;
/// Looks are gathered for this part of the interval at which each session looks.
const GATHERED_PART: u32 = 32;

/// Where sessions ask. Clones share it.
#[derive(Debug, Clone)]
pub struct Looks(Gathered<Place>);

impl Question for Place {
    type Answer = Glance;
    const NAME: &'static str = "a glance";

    fn answer(places: &[Self], store: &Store) -> impl Future<Output = store::Result<Vec<Option<Glance>>>> + Send {
        store.glance(places)
    }
}

impl Looks {
    /// Starts to look for sessions that look for themselves at this interval, until `stop` is cancelled.
    pub fn start(store: Store, health: Health, turns: Turns, interval: Duration, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let pace = Pace { at_once: LOOKS_AT_ONCE, pause: interval / GATHERED_PART };
        Self(Gathered::start(store, health, turns, pace, tasks, stop))
    }

    /// The page of an inbox above `after`, if it is empty. None: something waits, or nobody could tell.
    pub(super) async fn empty_page(&self, user: UserId, class: Class, after: InboxSeq) -> Option<Page> {
        let Glance { last_seq, waits } = self.0.ask(Place { user, class, after }).await?;
        (!waits).then(|| Page { class, after, rows: Vec::new(), is_last: true, last_seq })
    }
}
