//! The batcher: questions of many sessions as one statement. Whatever was asked while the last one ran is in the next.
//!
//! It knows nothing of what is asked; `fallback_poll` and `low_watermark` do.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{AdmissionQueue, Purpose};
use crate::store;

/// Something that can be asked for many at once.
pub(super) trait Question: Copy + Send + Sync + 'static {
    /// The answer to each of them.
    type Answer: Send + 'static;
    /// For the log, when it fails.
    const NAME: &'static str;

    /// Answers in the order of the questions. None: there is no such thing.
    fn answer(questions: &[Self], store: &store::Store) -> impl Future<Output = store::Result<Vec<Option<Self::Answer>>>> + Send;
}

/// The size and the pause of the statements that answer questions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Questions in one statement, and waiting for the next.
    pub(super) at_once: usize,
    /// Between two statements; none: the next begins with what has come meanwhile.
    pub(super) pause: Duration,
}

/// The way in for the questions. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Batcher<Q: Question>(mpsc::Sender<Asked<Q>>);

#[derive(Debug)]
struct Asked<Q: Question> {
    question: Q,
    answer: oneshot::Sender<Q::Answer>,
}

/// The task behind it.
struct Asker<Q: Question> {
    store: store::Store,
    admission: AdmissionQueue,
    asked: mpsc::Receiver<Asked<Q>>,
    pace: Pace,
}

impl<Q: Question> Batcher<Q> {
    /// Starts the task; it ends when `stop` is cancelled.
    pub(super) fn start(store: store::Store, admission: AdmissionQueue, pace: Pace, tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let (ask, asked) = mpsc::channel(pace.at_once);
        tasks.spawn(stop.clone().run_until_cancelled_owned(Asker { store, admission, asked, pace }.run()));
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
                // No session is left that could ask.
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
            // The session that asked may be gone.
            let _ = found.map(|found| answer.send(found));
        }
        asked.clear();
    }

    async fn answers(&self, questions: &[Q]) -> Vec<Option<Q::Answer>> {
        loop {
            let answered = {
                let _admission = self.admission.admit(Purpose::Live, None).await;
                Q::answer(questions, &self.store).await
            };
            match answered {
                Ok(answers) => return answers,
                Err(error) if error.could_not_run() => self.store.health().back().await,
                Err(cause) => {
                    warn!(?cause, "{} failed for {} inboxes at once", Q::NAME, questions.len());
                    return Vec::new();
                }
            }
        }
    }
}
