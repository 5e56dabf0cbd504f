//! A statement on a connection of the pool, given up when its answer will not come.

use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr};
use tokio::runtime::Handle;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

use super::{Error, Slots, StallDetector, Store, fair_timeout};

/// A connection that is not had by then may not be to be had, or all may be in use: it is time to ask.
const SUSPICIOUS: Duration = Duration::from_millis(300);
/// For making a connection beside the pool, and for the question that a new connection is.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pool as statements see it: each has a connection for itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct GuardedPool<'s>(pub(super) &'s Store);

/// A connection of the pool with a statement under way.
#[derive(Debug)]
struct Borrowed {
    connection: Option<PoolConnection<Postgres>>,
    stall_detector: StallDetector,
    slots: Slots,
}

/// A connection of the pool for a lane that cannot make its own. It goes back when this is dropped.
#[derive(Debug)]
pub struct Loan(Borrowed);

impl Loan {
    /// The connection.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the connection was closed.
    pub fn connection(&mut self) -> Result<&mut PgConnection, Error> {
        Ok(self.0.connection()?)
    }

    /// Takes the answer of a statement of this connection. After some answers the connection has to be closed.
    pub(super) fn answered<T>(self, answer: Result<T, Error>) -> Result<T, Error> {
        if matches!(answer, Err(Error::Unavailable(_))) {
            self.broken();
        }
        answer
    }

    /// It failed, or does not answer: it is closed, and goes nowhere.
    pub fn broken(mut self) {
        self.0.close();
    }
}

impl Store {
    /// Lends a connection of the pool, as to a statement.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Failed`]: a defect.
    pub async fn lend(&self) -> Result<Loan, Error> {
        Ok(Loan(GuardedPool(self).borrow().await?))
    }

    /// Waits for a connection that somebody makes for itself, 5 s at most. None: the server has no more of them to give, and those
    /// of the pool are shared ([`Store::lend`]).
    ///
    /// # Errors
    /// The connection could not be made. What that says of the database is known from then on ([`Health`](super::Health)).
    pub async fn connected(
        &self,
        connecting: impl Future<Output = Result<PgConnection, sqlx::Error>>,
    ) -> Result<Option<PgConnection>, Error> {
        let made = fair_timeout(CONNECT_TIMEOUT, connecting).await;
        let made = made.unwrap_or_else(|| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
        match made {
            Err(error) if self.slots.report(&error) => Ok(None),
            made => Ok(Some(self.health.learn(made)?)),
        }
    }

    /// A connection of the pool. [`sqlx::Error::PoolTimedOut`] says that all connections that this node has are in use. Any other error
    /// is the server's own answer to a new connection, or says that a new connection got none. Time alone decides nothing: a node
    /// without a processor to run on finds its own wait over before it has asked anybody.
    async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        let mut acquiring = pin!(timeout(self.pool.options().get_acquire_timeout(), self.acquire_or_share()));
        tokio::select! {
            biased;
            acquired = &mut acquiring => return match in_time(acquired) {
                Some(acquired) => acquired,
                None => Err(self.why_none().await),
            },
            () = sleep(SUSPICIOUS) => {}
        }
        let asked = tokio::select! {
            biased;
            acquired = &mut acquiring => return match in_time(acquired) {
                Some(acquired) => acquired,
                None => Err(self.why_none().await),
            },
            asked = self.ask() => asked,
        };
        match asked {
            // It would have to be made.
            Err(cause) if self.may_grow() => Err(cause),
            Err(cause) => in_time(acquiring.await).unwrap_or(Err(cause)),
            Ok(()) => in_time(acquiring.await).unwrap_or(Err(sqlx::Error::PoolTimedOut)),
        }
    }

    /// The reason why no connection was had in time: asked of the server, where the pool might have made one.
    async fn why_none(&self) -> sqlx::Error {
        match self.may_grow() {
            true => self.ask().await.err().unwrap_or(sqlx::Error::PoolTimedOut),
            false => sqlx::Error::PoolTimedOut,
        }
    }

    /// Asks the server over a new connection, for 5 s at most.
    async fn ask(&self) -> Result<(), sqlx::Error> {
        fair_timeout(CONNECT_TIMEOUT, self.slots.ask()).await.unwrap_or_else(|| Err(not_in_time()))
    }

    fn may_grow(&self) -> bool {
        self.pool.size() < self.pool.options().get_max_connections()
    }

    /// While none can be made, one that becomes free is taken. The pool would go on trying to make one.
    async fn acquire_or_share(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        loop {
            tokio::select! {
                biased;
                acquired = self.pool.acquire() => match acquired {
                    // sqlx gives up at once where this end cannot make one.
                    Err(error) if self.slots.report(&error) => self.slots.returned_or_soon().await,
                    acquired => return acquired,
                },
                () = self.slots.returned() => {}
            }
        }
    }
}

/// The result; none where the time was over before there was one.
fn in_time<T>(acquired: Result<Result<T, sqlx::Error>, Elapsed>) -> Option<Result<T, sqlx::Error>> {
    match acquired {
        Err(_) | Ok(Err(sqlx::Error::PoolTimedOut)) => None,
        Ok(acquired) => Some(acquired),
    }
}

fn not_in_time() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection could be made in time"))
}

impl GuardedPool<'_> {
    async fn borrow(self) -> Result<Borrowed, sqlx::Error> {
        let connection = self.0.health.learn(self.0.acquire().await)?;
        let (stall_detector, slots) = (self.0.stall_detector.clone(), self.0.slots.clone());
        Ok(Borrowed { connection: Some(connection), stall_detector, slots })
    }

    async fn all<'q>(self, query: impl Execute<'q, Postgres> + 'q) -> Result<Vec<Either<PgQueryResult, PgRow>>, sqlx::Error> {
        let mut borrowed = self.borrow().await?;
        let answer = self.0.stall_detector.answer(borrowed.connection()?.fetch_many(query).try_collect()).await;
        borrowed.answered(answer)
    }
}

impl Borrowed {
    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    fn answered<T>(mut self, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if matches!(answer, Err(sqlx::Error::Io(_))) {
            self.close();
        }
        answer
    }

    /// Closes the connection at once. Its place in the pool is free.
    fn close(&mut self) {
        drop(self.connection.take().map(PoolConnection::detach));
    }
}

/// When the statement has its answer, and also when nobody waits for it any more, the pool asks the connection whether it can go on, and
/// its place is taken for as long as the server works on what it was asked. Of one that is given up the place is free.
impl Drop for Borrowed {
    fn drop(&mut self) {
        let (Some(mut connection), Ok(runtime)) = (self.connection.take(), Handle::try_current()) else { return };
        // The same as dropping the connection, as a future that can be dropped itself.
        let (back, stall_detector, slots) = (connection.return_to_pool(), self.stall_detector.clone(), self.slots.clone());
        runtime.spawn(async move {
            tokio::select! {
                () = back => slots.one_is_back(),
                () = stall_detector.given_up(Instant::now()) => {}
            }
        });
    }
}

impl<'s> Executor<'s> for GuardedPool<'s> {
    type Database = Postgres;

    /// Pages and lists are bounded, so all rows are fetched before the first is seen.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        's: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        stream::once(self.all(query)).map_ok(|rows| stream::iter(rows.into_iter().map(Ok))).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        's: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let mut borrowed = self.borrow().await?;
            let answer = self.0.stall_detector.answer(borrowed.connection()?.fetch_optional(query)).await;
            borrowed.answered(answer)
        })
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [PgTypeInfo]) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        's: 'e,
    {
        self.0.pool.prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        's: 'e,
    {
        self.0.pool.describe(sql)
    }
}
