//! What many sessions ask of the database, as one statement: whatever was asked while the last one ran is in the next.
//!
//! It knows nothing of what is asked; `looks` and `advances` do.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{Purpose, Turns};
use crate::store::{self, Health};

/// Something that can be asked for many at once.
pub(super) trait Question: Copy + Send + Sync + 'static {
    /// What each of them learns.
    type Answer: Send + 'static;
    /// For the log, when it fails.
    const NAME: &'static str;

    /// Answers in the order of the questions. None: there is no such thing.
    fn answer(questions: &[Self], store: &store::Store) -> impl Future<Output = store::Result<Vec<Option<Self::Answer>>>> + Send;
}

/// How it is gathered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Questions in one statement, and waiting for the next.
    pub(super) at_once: usize,
    /// Between two statements; none: the next begins with what has come meanwhile.
    pub(super) pause: Duration,
}

/// Where sessions ask. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Gathered<Q: Question>(mpsc::Sender<Asked<Q>>);

#[derive(Debug)]
struct Asked<Q: Question> {
    question: Q,
    answer: oneshot::Sender<Q::Answer>,
}

/// The task behind it.
struct Asker<Q: Question> {
    store: store::Store,
    health: Health,
    turns: Turns,
    asked: mpsc::Receiver<Asked<Q>>,
    pace: Pace,
}

impl<Q: Question> Gathered<Q> {
    /// Starts the task; it ends when `stop` is cancelled.
    pub(super) fn start(
        store: store::Store,
        health: Health,
        turns: Turns,
        pace: Pace,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let (ask, asked) = mpsc::channel(pace.at_once);
        tasks.spawn(stop.clone().run_until_cancelled_owned(Asker { store, health, turns, asked, pace }.run()));
        Self(ask)
    }

    /// Waits for the answer, however long the database is away. None: nobody could tell.
    pub(super) async fn ask(&self, question: Q) -> Option<Q::Answer> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Asked { question, answer }).await.ok()?;
        answered.await.ok()
    }
}

impl<Q: Question> Asker<Q> {
    async fn run(mut self) {
        let mut asked = Vec::new();
        loop {
            tokio::time::sleep(self.pace.pause).await;
            while self.asked.recv_many(&mut asked, self.pace.at_once).await == self.pace.at_once {
                self.answer(&mut asked).await;
            }
            if asked.is_empty() {
                // Nobody is left who could ask.
                return;
            }
            self.answer(&mut asked).await;
        }
    }

    async fn answer(&self, asked: &mut Vec<Asked<Q>>) {
        asked.retain(|asked| !asked.answer.is_closed());
        if asked.is_empty() {
            return;
        }
        let questions: Vec<Q> = asked.iter().map(|asked| asked.question).collect();
        let answers = self.answers(&questions).await;
        for (Asked { answer, .. }, found) in asked.drain(..).zip(answers) {
            // Whoever asked may be gone.
            let _ = found.map(|found| answer.send(found));
        }
        asked.clear();
    }

    async fn answers(&self, questions: &[Q]) -> Vec<Option<Q::Answer>> {
        loop {
            let answered = {
                let _turn = self.turns.take(Purpose::Live, None).await;
                Q::answer(questions, &self.store).await
            };
            match answered {
                Ok(answers) => return answers,
                Err(error) if error.is_unavailable() => self.health.back().await,
                Err(cause) => {
                    warn!(?cause, "{} failed for {} inboxes at once", Q::NAME, questions.len());
                    return Vec::new();
                }
            }
        }
    }
}
