//! How much of a schema is there. While a database is being restored it is there in part: tables before their rows, keys and
//! triggers last of all.

use sqlx::PgConnection;

use super::Result;

/// So many relations, constraints, triggers and functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape([i64; 4]);

impl Shape {
    /// That of the database at the other end.
    pub async fn of(connection: &mut PgConnection) -> Result<Self> {
        // Without the schema there is nothing.
        let row = sqlx::query_file!("src/store/sql/shape.sql").fetch_optional(connection).await?;
        Ok(Self(row.map_or([0; 4], |row| [row.relations, row.constraints, row.triggers, row.functions])))
    }

    /// Is everything there that was there in that one?
    pub fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(here, there)| *here >= there)
    }
}
