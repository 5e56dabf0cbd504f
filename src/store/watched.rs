//! A statement on a connection of the pool, given up when its answer will not come.

use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::Store;

/// The pool as statements see it: each has a connection for itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched<'s>(pub(super) &'s Store);

/// So long a connection has to show, when it is given back, that it can go on: nothing is said if it is dead.
const RETURN_TIME_MAX: Duration = Duration::from_secs(5);

/// A connection of the pool with a statement under way.
struct Borrowed(Option<PoolConnection<Postgres>>);

impl Watched<'_> {
    async fn borrow(self) -> Result<Borrowed, sqlx::Error> {
        Ok(Borrowed(Some(self.0.pool.acquire().await?)))
    }

    async fn all<'q>(self, query: impl Execute<'q, Postgres> + 'q) -> Result<Vec<Either<PgQueryResult, PgRow>>, sqlx::Error> {
        let mut borrowed = self.borrow().await?;
        let answer = self.0.overdue.answer(borrowed.connection()?.fetch_many(query).try_collect()).await;
        borrowed.answered(answer)
    }
}

impl Borrowed {
    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.0.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    fn answered<T>(mut self, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if matches!(answer, Err(sqlx::Error::Io(_))) {
            // Closed at once, and its place in the pool is free.
            drop(self.0.take().map(PoolConnection::detach));
        }
        answer
    }
}

/// Whether the statement has its answer or nobody waits for it any more, the pool asks the connection whether it can go on,
/// for as long as that takes. One that does not say is closed here.
impl Drop for Borrowed {
    fn drop(&mut self) {
        if let (Some(mut connection), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(timeout(RETURN_TIME_MAX, connection.return_to_pool()));
        }
    }
}

impl<'s> Executor<'s> for Watched<'s> {
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
            let answer = self.0.overdue.answer(borrowed.connection()?.fetch_optional(query)).await;
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
