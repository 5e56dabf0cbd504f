//! Statements whose answer is overdue. The server still works on them, or their connection is dead and nothing has said so.
//!
//! A host that goes away without closing its connections (power, a firewall that forgets) leaves them open at this end. What
//! was asked over them is never answered, and nothing else says so. A statement may take long all the same: somebody holds
//! what it needs, or a commit waits for a standby. So a caller that waits for long asks the server over a new connection. Where it
//! works on nothing that old, twice, the connection is given up; whether the statement was done is then not known, nor whether
//! it will be: what was under way may arrive yet, as with any connection that breaks. Where the server works on
//! something, or does not say, there is nothing to do but to wait.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::Health;
use super::error::Failure;

/// Time after which the server is asked about a statement that has not answered, and then between two questions.
const PATIENCE: Duration = Duration::from_secs(5);
/// A backend that has worked for less may work on another's statement, and a statement may be on its way for the rest of the time.
const WORKED_ON: Duration = Duration::from_secs(1);
/// Between two questions: a statement that had only just arrived has been worked on for long enough by the second one.
const ONCE_MORE: Duration = Duration::from_secs(2);
/// The time that the question may take.
const QUESTION: Duration = Duration::from_secs(5);

/// Waits for answers, and knows which do not come any more. Clones share it.
#[derive(Debug, Clone)]
pub struct StallDetector(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: PgConnectOptions,
    health: Health,
    /// The last question. Those who wait ask once for all.
    asked: tokio::sync::Mutex<Option<Question>>,
    /// Connections that were made before are not to be used again.
    renewed: Mutex<Option<Instant>>,
}

/// The server was asked whether it works on anything.
#[derive(Debug, Clone, Copy)]
struct Question {
    asked: Instant,
    /// The time of the answer, or of the end of the wait for it.
    answered: Instant,
    /// True if the server works on a statement. Also true where it has not said.
    is_busy: bool,
}

impl StallDetector {
    /// Asks over connections that are made with these options: those with which the statements' own were made.
    pub(super) fn new(options: PgConnectOptions, health: Health) -> Self {
        Self(Arc::new(Inner { options, health, asked: tokio::sync::Mutex::default(), renewed: Mutex::default() }))
    }

    /// Waits for the answer of a statement. What it says of the database is known from then on ([`Health`]).
    ///
    /// # Errors
    /// The statement's own, or that there will be no answer ([`sqlx::Error::Io`], `TimedOut`): the connection is then to be closed.
    pub async fn answer<T, E: Failure>(&self, statement: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut statement = pin!(statement);
        let answer = tokio::select! {
            biased;
            answer = &mut statement => answer,
            () = self.given_up(Instant::now()) => Err(no_answer().into()),
        };
        self.0.health.learn(answer)
    }

    /// Ends when a statement that was asked at `since` will get no answer.
    pub(super) async fn given_up(&self, since: Instant) {
        loop {
            sleep(PATIENCE).await;
            if self.is_busy(Instant::now()).await {
                continue;
            }
            sleep(ONCE_MORE).await;
            if !self.is_busy(Instant::now()).await {
                warn!("a statement has no answer, and the server works on none: its connection is given up, and those that are as old");
                self.renew(since);
                return;
            }
        }
    }

    /// Asks the server, or takes the answer to what somebody else asked from then on. `true` also where it does not say.
    async fn is_busy(&self, from: Instant) -> bool {
        let mut last = self.0.asked.lock().await;
        if let Some(Question { asked, answered, is_busy }) = *last
            && asked >= from
            && answered.elapsed() < PATIENCE
        {
            return is_busy;
        }
        let asked = Instant::now();
        let is_busy = matches!(timeout(QUESTION, self.ask()).await, Err(_) | Ok(Err(_) | Ok(true)));
        *last = Some(Question { asked, answered: Instant::now(), is_busy });
        is_busy
    }

    async fn ask(&self) -> Result<bool, sqlx::Error> {
        let mut connection = self.0.options.connect().await?;
        let is_busy = sqlx::query_file_scalar!("src/store/sql/is_busy.sql", WORKED_ON.as_secs_f64()).fetch_one(&mut connection).await?;
        // The server cleans up after a connection that just goes; this only keeps its log quiet.
        let _ = connection.close().await;
        Ok(is_busy)
    }

    /// Connections that were made before then are not to be used again.
    pub(super) fn renew(&self, then: Instant) {
        let mut renewed = self.0.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        *renewed = (*renewed).max(Some(then));
    }

    /// Returns whether a connection of this age may be used: it was made after the last [`renew`](Self::renew).
    pub(super) fn is_good(&self, age: Duration) -> bool {
        self.0.renewed.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|at| at.elapsed() > age)
    }
}

fn no_answer() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the statement has no answer, and the server works on none"))
}
