//! The schema of a node's database: looked at, and brought up to date under the lock of sqlx's migrator, which
//! `sqlx migrate run` takes too. Nothing is waited for without end, and who is waited for is named.

use std::pin::pin;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tracing::info;

use super::{Database, StartError};
use crate::store::{self, LockHolder, SchemaState, Shape, ToDo};

/// The migrations of this version; `sqlx migrate run` applies the same.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// Under which name others see the session that migrates.
const APPLICATION: &str = "restante migrate";
/// Time between two looks for the sessions that hold the locks of a migration that waits.
const UNNOTICED: Duration = Duration::from_millis(500);

/// The times for which migrations wait.
#[derive(Debug, Clone, Copy)]
pub struct MigrationLockTimeouts {
    /// For another process that migrates the same database now.
    pub lock: Duration,
    /// For a table that another session uses. While a migration waits for a table, later statements wait behind the migration.
    pub table: Duration,
}

impl Default for MigrationLockTimeouts {
    fn default() -> Self {
        Self { lock: Duration::from_secs(30), table: Duration::from_secs(5) }
    }
}

/// The sessions that held the locks when the migrations gave up, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolders(pub Vec<LockHolder>);

impl std::fmt::Display for LockHolders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(first) = self.0.first() else { return f.write_str("held by a session that was not seen; try again") };
        f.write_str("held by ")?;
        for (n, holder) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{holder}")?;
        }
        write!(f, "; wait for it, or end it with `select pg_terminate_backend({})`, and try again", first.pid)
    }
}

/// Applies the migrations that are missing, and makes the schema where it is missing. May be called at any time, by any number of
/// processes at once.
pub async fn migrate(database: &Database) -> Result<(), StartError> {
    migrate_within(database, MigrationLockTimeouts::default()).await
}

/// The same with other time-outs.
pub async fn migrate_within(database: &Database, timeouts: MigrationLockTimeouts) -> Result<(), StartError> {
    let database = database.clone().with_settings().await?;
    let mut connection = direct(&database).await?;
    bring_up_to_date(&mut connection, &database, timeouts).await
}

/// Returns whether the database lacks migrations of this version, or the whole schema. Nothing is changed.
///
/// # Errors
/// As [`migrate`].
pub async fn needs_migration(database: &Database) -> Result<bool, StartError> {
    let database = database.clone().with_settings().await?;
    let mut connection = direct(&database).await?;
    Ok(look(&mut connection).await? != ToDo::Nothing)
}

/// A way past any pooler. The migrations take a lock of their session: one that is shared would keep it.
pub(super) async fn direct(database: &Database) -> Result<PgConnection, StartError> {
    let mut connection = database.direct.connect().await.map_err(StartError::Database)?;
    if store::is_shared(&database.direct).await? {
        return Err(StartError::NotDirect);
    }
    store::check_direct(&mut connection).await?;
    Ok(connection)
}

/// Looks, and takes the lock only where something is to be done. An error leaves the lock to the end of the connection.
pub(super) async fn bring_up_to_date(
    connection: &mut PgConnection,
    database: &Database,
    timeouts: MigrationLockTimeouts,
) -> Result<(), StartError> {
    let to_do = look(connection).await?;
    store::judge_collations(store::changed_collations(connection).await?)?;
    if to_do == ToDo::Nothing {
        return catch_up(connection, database, timeouts).await;
    }
    lock(connection, database, timeouts).await?;
    // The node that held the lock before may have migrated already.
    let to_do = look(connection).await?;
    if let ToDo::MakeSchema(name) = &to_do {
        info!(schema = name, "the schema is missing, and is made");
        store::make_schema(connection, name).await?;
    }
    if to_do != ToDo::Nothing {
        let pid = store::set_lock_timeout(connection, timeouts.table, APPLICATION).await?;
        watched(&database.direct, pid, timeouts.table, quietly(&MIGRATIONS).run_direct(None, connection, false)).await?;
    }
    unlock(connection).await?;
    catch_up(connection, database, timeouts).await
}

/// Waits for nothing, and changes nothing.
async fn look(connection: &mut PgConnection) -> Result<ToDo, StartError> {
    let state = SchemaState::read(connection, &MIGRATIONS).await?;
    let to_do = state.judge(&MIGRATIONS)?;
    let unknown = state.unknown(&MIGRATIONS);
    if unknown > 0 {
        info!(migrations = unknown, "the schema is newer than this program, of the same release line");
    }
    Ok(to_do)
}

/// Moves up the sequences that are behind.
pub(super) async fn catch_up(
    connection: &mut PgConnection,
    database: &Database,
    timeouts: MigrationLockTimeouts,
) -> Result<(), StartError> {
    if store::sequences_behind(connection).await?.is_empty() {
        return Ok(());
    }
    lock(connection, database, timeouts).await?;
    for sequence in store::sequences_behind(connection).await? {
        sequence.catch_up(connection).await?;
    }
    unlock(connection).await
}

async fn lock(connection: &mut PgConnection, database: &Database, timeouts: MigrationLockTimeouts) -> Result<(), StartError> {
    let pid = store::set_lock_timeout(connection, timeouts.lock, APPLICATION).await?;
    watched(&database.direct, pid, timeouts.lock, connection.lock()).await
}

async fn unlock(connection: &mut PgConnection) -> Result<(), StartError> {
    connection.unlock().await.map_err(StartError::Migrate)
}

/// The same migrations for a caller that holds the lock, and has judged those that it does not know.
fn quietly(migrations: &Migrator) -> Migrator {
    let mut migrator = Migrator::with_migrations(migrations.iter().cloned().collect());
    migrator.set_ignore_missing(true).set_locking(false);
    migrator
}

/// Runs work that may wait for a lock. Meanwhile it looks, over another connection, for the sessions that hold the lock.
async fn watched<T>(
    options: &PgConnectOptions,
    pid: i32,
    lock_timeout: Duration,
    work: impl Future<Output = Result<T, MigrateError>>,
) -> Result<T, StartError> {
    let mut holders = Vec::new();
    let done = {
        let (work, watch) = (pin!(work), pin!(watch(options, pid, &mut holders)));
        tokio::select! {
            done = work => done,
            never = watch => match never {},
        }
    };
    done.map_err(|cause| match waited_in_vain(&cause) {
        true => StartError::Waited { seconds: lock_timeout.as_secs_f32(), held: LockHolders(holders) },
        false => StartError::Migrate(cause),
    })
}

async fn watch(options: &PgConnectOptions, pid: i32, holders: &mut Vec<LockHolder>) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(UNNOTICED).await;
        // Without an answer there is no name to tell, that is all.
        let Ok(mut connection) = options.connect().await else { continue };
        while let Ok(seen) = store::lock_holders(&mut connection, pid).await {
            if !seen.is_empty() {
                *holders = seen;
            }
            tokio::time::sleep(UNNOTICED).await;
        }
    }
}

/// 55P03: the lock was not there in time.
fn waited_in_vain(cause: &MigrateError) -> bool {
    let (MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) = cause else { return false };
    cause.as_database_error().and_then(|refusal| refusal.code()).is_some_and(|code| code == "55P03")
}

/// Returns whether the database covers the earlier shape, and every migration of this version is applied.
pub(super) async fn is_whole(connection: &mut PgConnection, before: &Shape) -> Result<bool, StartError> {
    if !Shape::of(connection).await?.covers(before) {
        return Ok(false);
    }
    let applied = connection.list_applied_migrations(&MIGRATIONS.table_name).await.map_err(StartError::Migrate)?;
    let is_applied = |version: i64| applied.iter().any(|migration| migration.version == version);
    Ok(MIGRATIONS.iter().all(|migration| is_applied(migration.version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_holder_is_told_with_what_ends_it() {
        let holder = |pid| LockHolder { pid, application: "psql".into(), role: None, since: None };
        let told = LockHolders(vec![holder(7), holder(8)]).to_string();
        assert!(
            told.starts_with("held by process 7 (psql), process 8 (psql); wait for it, or end it with `select pg_terminate_backend(7)`")
        );
    }
}
