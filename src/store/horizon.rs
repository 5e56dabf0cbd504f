//! The oldest transaction of the cluster that writes and has not ended. As long as it is open, in whatever database, every snapshot
//! has to remember it.

use std::time::Duration;

use super::{Result, Store};

/// A transaction that writes and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldestTransaction {
    /// Its number as PostgreSQL shows it for a session; it wraps around.
    pub number: String,
    /// Its database; empty where it has none.
    pub database: String,
    /// Its role.
    pub role: String,
    /// The process of its session; none: it is prepared, and has no session.
    pub process: Option<i32>,
    /// The time since it began; none: the role of the service may not see it.
    pub age: Option<Duration>,
}

impl Store {
    /// The oldest transaction of the cluster that writes and has not ended, prepared ones too. None: there is none.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn oldest_transaction(&self) -> Result<Option<OldestTransaction>> {
        let row = sqlx::query_file!("src/store/sql/oldest_transaction.sql").fetch_optional(self.database()).await?;
        Ok(row.map(|row| OldestTransaction {
            number: row.number,
            database: row.database,
            role: row.role,
            process: row.process,
            age: row.age_ms.map(|age| Duration::from_millis(u64::try_from(age).unwrap_or(0))),
        }))
    }
}
