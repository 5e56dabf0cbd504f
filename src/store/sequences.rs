//! Sequences that are behind the column they number: logical replication carries rows and no sequences, so that after a cut-over
//! the first new user would get the number of an old one.

use sqlx::{AssertSqlSafe, PgConnection};
use tracing::{info, warn};

use super::Result;

/// A sequence of the schema, and the statements about it: they name its table, so they are put together by the database.
#[derive(Debug)]
pub struct Sequence {
    name: String,
    /// The role has the right to look at it.
    may_look: bool,
    /// The role has the right to move it.
    may_move: bool,
    is_behind: String,
    moves: String,
}

/// The sequences that number a column, and have given a smaller number last than is in it. Those that the role may not look at
/// are passed over, with a warning.
///
/// # Errors
/// [`Unavailable`](super::Error::Unavailable): the database is away. [`Held`](super::Error::Held): another session holds a lock.
/// [`Failed`](super::Error::Failed): a defect.
pub async fn sequences_behind(connection: &mut PgConnection) -> Result<Vec<Sequence>> {
    let rows = sqlx::query_file!("src/store/sql/sequences.sql").fetch_all(&mut *connection).await?;
    let mut behind = Vec::new();
    for row in rows {
        let sequence =
            Sequence { name: row.name, may_look: row.may_look, may_move: row.may_move, is_behind: row.is_behind, moves: row.moves };
        if sequence.is_behind(connection).await? {
            behind.push(sequence);
        }
    }
    Ok(behind)
}

impl Sequence {
    async fn is_behind(&self, connection: &mut PgConnection) -> Result<bool> {
        if !self.may_look {
            warn!(sequence = self.name, "not compared with its column: `grant select on sequence {}` to the service's role", self.name);
            return Ok(false);
        }
        Ok(sqlx::query_scalar(AssertSqlSafe(self.is_behind.clone())).fetch_one(connection).await?)
    }

    /// Moves it up to the largest number of its column, and never back. One that the role may not move stays, with a warning. The caller holds the lock of the migrations: of two that do
    /// this at once, the later may have looked before the earlier's node gave more numbers.
    ///
    /// # Errors
    /// [`Unavailable`](super::Error::Unavailable): the database is away. [`Held`](super::Error::Held): another session holds a lock.
    /// [`Failed`](super::Error::Failed): a defect.
    pub async fn catch_up(&self, connection: &mut PgConnection) -> Result<()> {
        if !self.may_move {
            warn!(
                sequence = self.name,
                "behind its column, as after logical replication, and this role may not move it: run `restante migrate` as its owner"
            );
            return Ok(());
        }
        let moved: Option<i64> = sqlx::query_scalar(AssertSqlSafe(self.moves.clone())).fetch_optional(connection).await?;
        if let Some(to) = moved {
            info!(sequence = self.name, to, "was behind its column, as after logical replication; it goes on from there");
        }
        Ok(())
    }
}
