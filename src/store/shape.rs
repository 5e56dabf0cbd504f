//! The count of objects in a schema. While a database is being restored, only a part of the schema is there. Tables come before
//! their rows, and keys and triggers come last.

use sqlx::PgConnection;

use super::Result;

/// The numbers of relations, constraints, triggers and functions, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape([i64; 4]);

impl Shape {
    /// Counts the objects in the current schema of a connection. Without a schema all counts are 0.
    ///
    /// # Errors
    /// [`Unavailable`](super::Error::Unavailable): the database is away. [`Failed`](super::Error::Failed): a defect.
    pub async fn of(connection: &mut PgConnection) -> Result<Self> {
        // Without the schema there is nothing.
        let row = sqlx::query_file!("src/store/sql/shape.sql").fetch_optional(connection).await?;
        Ok(Self(row.map_or([0; 4], |row| [row.relations, row.constraints, row.triggers, row.functions])))
    }

    /// Returns whether each count is at least as high as in `other`.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(here, there)| *here >= there)
    }
}
