//! A statement on a connection of the pool, given up when its answer will not come.

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, PgConnection, Postgres, SqlStr};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Overdue, Store};

/// The pool as statements see it: each has a connection for itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched<'s>(pub(super) &'s Store);

/// A connection of the pool with a statement under way.
struct Borrowed {
    connection: Option<PoolConnection<Postgres>>,
    overdue: Overdue,
}

impl Watched<'_> {
    async fn borrow(self) -> Result<Borrowed, sqlx::Error> {
        Ok(Borrowed { connection: Some(self.0.pool.acquire().await?), overdue: self.0.overdue.clone() })
    }

    async fn all<'q>(self, query: impl Execute<'q, Postgres> + 'q) -> Result<Vec<Either<PgQueryResult, PgRow>>, sqlx::Error> {
        let mut borrowed = self.borrow().await?;
        let answer = self.0.overdue.answer(borrowed.connection()?.fetch_many(query).try_collect()).await;
        borrowed.answered(answer)
    }
}

impl Borrowed {
    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    fn answered<T>(mut self, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if matches!(answer, Err(sqlx::Error::Io(_))) {
            // Closed at once, and its place in the pool is free.
            drop(self.connection.take().map(PoolConnection::detach));
        }
        answer
    }
}

/// Whether the statement has its answer or nobody waits for it any more, the pool asks the connection whether it can go on, and
/// its place is taken for as long as the server works on what it was asked. Of one that is given up the place is free.
impl Drop for Borrowed {
    fn drop(&mut self) {
        let (Some(mut connection), Ok(runtime)) = (self.connection.take(), Handle::try_current()) else { return };
        // What dropping it would do, and what can be dropped itself.
        let (back, overdue) = (connection.return_to_pool(), self.overdue.clone());
        runtime.spawn(async move {
            tokio::select! {
                () = back => {}
                () = overdue.given_up(Instant::now()) => {}
            }
        });
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
