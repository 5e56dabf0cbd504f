//! Slow looks of many sessions, as one statement. Nearly all of them find nothing: what an idle connection costs the
//! database is its share of a statement, and only where something waits is a page read for it.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::Turns;
use crate::delivery::Health;
use crate::domain::{Class, InboxSeq, Page, UserId};
use crate::store::{Glance, Place, Store};

/// Looks in one statement.
const LOOKS_AT_ONCE: usize = 1_000;
/// Looks are gathered for this part of the interval at which each session looks.
const GATHERED_PART: u32 = 32;

/// Where sessions ask. Clones share it.
#[derive(Debug, Clone)]
pub struct Looks(mpsc::Sender<Asked>);

#[derive(Debug)]
struct Asked {
    place: Place,
    answer: oneshot::Sender<Glance>,
}

/// The task behind it.
struct Looker {
    store: Store,
    health: Health,
    turns: Turns,
    asked: mpsc::Receiver<Asked>,
    pause: Duration,
}

impl Looks {
    /// Starts to look for sessions that look for themselves at this interval, until `stop` is cancelled.
    pub fn start(store: Store, health: Health, turns: Turns, interval: Duration, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let (looks, asked) = mpsc::channel(LOOKS_AT_ONCE);
        let looker = Looker { store, health, turns, asked, pause: interval / GATHERED_PART };
        tasks.spawn(stop.clone().run_until_cancelled_owned(looker.run()));
        Self(looks)
    }

    /// The page of an inbox above `after`, if it is empty. None: something waits, or nobody could tell.
    pub(super) async fn empty_page(&self, user: UserId, class: Class, after: InboxSeq) -> Option<Page> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Asked { place: Place { user, class, after }, answer }).await.ok()?;
        let Glance { last_seq, waits } = answered.await.ok()?;
        (!waits).then(|| Page { class, after, rows: Vec::new(), is_last: true, last_seq })
    }
}

impl Looker {
    async fn run(mut self) {
        let mut asked = Vec::new();
        loop {
            tokio::time::sleep(self.pause).await;
            while self.asked.recv_many(&mut asked, LOOKS_AT_ONCE).await == LOOKS_AT_ONCE {
                self.answer(&mut asked).await;
            }
            if asked.is_empty() {
                // Nobody is left who could ask.
                return;
            }
            self.answer(&mut asked).await;
        }
    }

    async fn answer(&self, asked: &mut Vec<Asked>) {
        asked.retain(|asked| !asked.answer.is_closed());
        let places: Vec<Place> = asked.iter().map(|asked| asked.place).collect();
        let glances = self.glance(&places).await;
        for (Asked { answer, .. }, glance) in asked.drain(..).zip(glances) {
            // Without an answer it reads a page, and with one nobody waits for nothing is lost.
            let _ = glance.map(|glance| answer.send(glance));
        }
    }

    /// However long the database is away, there is an answer.
    async fn glance(&self, places: &[Place]) -> Vec<Option<Glance>> {
        loop {
            let glanced = {
                let _turn = self.turns.take().await;
                self.store.glance(places).await
            };
            match glanced {
                Ok(glances) => return glances,
                Err(error) if error.is_unavailable() => {
                    self.health.report_away();
                    self.health.back().await;
                }
                Err(cause) => {
                    warn!(?cause, "inboxes could not be glanced at: each of their sessions looks by itself");
                    return vec![None; places.len()];
                }
            }
        }
    }
}
