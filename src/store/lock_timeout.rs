//! The time that migrations wait for locks, and the sessions that they wait for. A migration that waits for ever and logs nothing
//! looks the same as one that works.

use std::fmt;
use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::Result;

/// A session that holds what another waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Its process, for `pg_terminate_backend()`.
    pub pid: i32,
    /// Its application name.
    pub application: String,
    /// Its role.
    pub role: Option<String>,
    /// The time at which its transaction began, or else it connected; not shown to every role.
    pub since: Option<OffsetDateTime>,
}

/// Sets the time that this session waits for a lock, and its application name unless it has one. Returns the number of its process.
///
/// # Errors
/// [`Unavailable`](super::Error::Unavailable): the database is away. [`Invalid`](super::Error::Invalid): PostgreSQL refuses a value.
/// [`Failed`](super::Error::Failed): a defect.
pub async fn set_lock_timeout(connection: &mut PgConnection, lock_timeout: Duration, name: &str) -> Result<i32> {
    let lock_timeout = format!("{}ms", lock_timeout.as_millis());
    Ok(sqlx::query_file!("src/store/sql/lock_timeout.sql", lock_timeout, name).fetch_one(connection).await?.pid)
}

/// The sessions that the process `of` waits for now, at most three, the oldest first.
///
/// # Errors
/// [`Unavailable`](super::Error::Unavailable): the database is away. [`Failed`](super::Error::Failed): a defect.
pub async fn lock_holders(connection: &mut PgConnection, of: i32) -> Result<Vec<LockHolder>> {
    let rows = sqlx::query_file!("src/store/sql/lock_holders.sql", of).fetch_all(connection).await?;
    let holder = rows.into_iter().map(|row| LockHolder { pid: row.pid, application: row.application, role: row.role, since: row.since });
    Ok(holder.collect())
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({}", self.pid, self.application)?;
        if let Some(role) = &self.role {
            write!(f, ", role {role}")?;
        }
        if let Some(since) = self.since {
            write!(f, ", since {}", since.truncate_to_second())?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_told_with_what_is_known_of_it() {
        let since = OffsetDateTime::from_unix_timestamp(1_795_000_000).ok();
        let known = LockHolder { pid: 7, application: "psql".into(), role: Some("ann".into()), since };
        assert_eq!(known.to_string(), "process 7 (psql, role ann, since 2026-11-18 11:06:40.0 +00:00:00)");
        let hidden = LockHolder { pid: 7, application: "without a name".into(), role: None, since: None };
        assert_eq!(hidden.to_string(), "process 7 (without a name)");
    }
}
