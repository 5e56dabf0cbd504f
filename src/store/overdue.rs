//! Statements whose answer is overdue: does the server still work on them, or is their connection dead without a word?
//!
//! A host that goes away without closing its connections (power, a firewall that forgets) leaves them open at this end. What
//! was asked over them is never answered, and nothing else says so. A statement may take long all the same: somebody holds
//! what it needs, or a commit waits for a standby. So whoever waits for long asks the server over a new connection. Where it
//! works on nothing that old, the connection is given up; whether the statement was done is then not known, as with any
//! connection that breaks. Where it does, or where it does not answer, there is nothing to do but to wait.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

/// So long a statement is waited for before the server is asked, and again before it is asked again.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the server has worked on for less may be somebody else's. A statement may have been under way to it for the rest.
const WORKED_ON: Duration = Duration::from_secs(1);
/// For the question.
const QUESTION: Duration = Duration::from_secs(5);

/// Waits for answers, and knows which do not come any more. Clones share it.
#[derive(Debug, Clone)]
pub struct Overdue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: PgConnectOptions,
    /// When the server was asked last whether it works on anything, and what it said. Those who wait ask once for all.
    asked: tokio::sync::Mutex<Option<(Instant, bool)>>,
    /// Connections that were made before are not to be used again.
    renewed: Mutex<Option<Instant>>,
}

impl Overdue {
    /// Asks over connections that are made with these options: those with which the statements' own were made.
    pub fn new(options: PgConnectOptions) -> Self {
        Self(Arc::new(Inner { options, asked: tokio::sync::Mutex::default(), renewed: Mutex::default() }))
    }

    /// The answer of a statement, or that there will be none ([`sqlx::Error::Io`], `TimedOut`): the connection is then to be closed.
    pub async fn answer<T, E: From<sqlx::Error>>(&self, statement: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut statement = pin!(statement);
        tokio::select! {
            biased;
            answer = &mut statement => answer,
            () = self.given_up(Instant::now()) => Err(no_answer().into()),
        }
    }

    /// Ends when what was asked then will not be answered.
    async fn given_up(&self, since: Instant) {
        loop {
            sleep(PATIENCE).await;
            if !self.may_be_worked_on(since).await {
                warn!(
                    "a statement has no answer, and the server works on none: its connection is given up, and so are all that are as old"
                );
                self.renew();
                return;
            }
        }
    }

    /// `true` also where the server does not say.
    async fn may_be_worked_on(&self, since: Instant) -> bool {
        let mut asked = self.0.asked.lock().await;
        if let Some((at, is_busy)) = *asked
            && at >= since + PATIENCE
            && at.elapsed() < PATIENCE
        {
            return is_busy;
        }
        let at = Instant::now();
        let is_busy = matches!(timeout(QUESTION, self.ask()).await, Err(_) | Ok(Err(_) | Ok(true)));
        *asked = Some((at, is_busy));
        is_busy
    }

    async fn ask(&self) -> Result<bool, sqlx::Error> {
        let mut connection = self.0.options.connect().await?;
        let is_busy = sqlx::query_file_scalar!("src/store/sql/is_busy.sql", WORKED_ON.as_secs_f64()).fetch_one(&mut connection).await?;
        // The server cleans up after a connection that just goes; this only keeps its log quiet.
        let _ = connection.close().await;
        Ok(is_busy)
    }

    /// From now on only connections are to be used that are made from now on.
    pub(super) fn renew(&self) {
        *self.0.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Was a connection of this age made since?
    pub(super) fn is_good(&self, age: Duration) -> bool {
        self.0.renewed.lock().unwrap_or_else(PoisonError::into_inner).is_none_or(|at| at.elapsed() > age)
    }
}

fn no_answer() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the statement has no answer, and the server works on none"))
}
