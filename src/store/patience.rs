//! How long the migrations wait for locks, and for whom: what waits for ever, without a word, cannot be told from what works.

use std::fmt;
use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::Result;

/// A session that holds what another waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process, for `pg_terminate_backend()`.
    pub pid: i32,
    /// Its application name.
    pub application: String,
    /// Its role.
    pub role: Option<String>,
    /// When its transaction began, or it connected; not shown to every role.
    pub since: Option<OffsetDateTime>,
}

/// From now on this session waits so long for a lock, and is seen under this name unless it has one. Returns its process.
pub async fn wait_at_most(connection: &mut PgConnection, patience: Duration, name: &str) -> Result<i32> {
    let patience = format!("{}ms", patience.as_millis());
    Ok(sqlx::query_file!("src/store/sql/patience.sql", patience, name).fetch_one(connection).await?.pid)
}

/// Whom this process waits for now: some of them, the oldest first.
pub async fn in_the_way(connection: &mut PgConnection, of: i32) -> Result<Vec<Holder>> {
    let rows = sqlx::query_file!("src/store/sql/in_the_way.sql", of).fetch_all(connection).await?;
    let holder = rows.into_iter().map(|row| Holder { pid: row.pid, application: row.application, role: row.role, since: row.since });
    Ok(holder.collect())
}

impl fmt::Display for Holder {
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
        let known = Holder { pid: 7, application: "psql".into(), role: Some("ann".into()), since };
        assert_eq!(known.to_string(), "process 7 (psql, role ann, since 2026-11-18 11:06:40.0 +00:00:00)");
        let hidden = Holder { pid: 7, application: "without a name".into(), role: None, since: None };
        assert_eq!(hidden.to_string(), "process 7 (without a name)");
    }
}
