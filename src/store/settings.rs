//! The settings of a connection: those that the service asks for when it connects, and prepared statements that
//! stay. A pooler that gives each transaction another server connection drops the first and may lose the second, so a
//! node looks for both before it serves anybody. It does not know which pooler that is.
//!
//! Settings of a role, a database or a server are kept where they are a choice. Where one would break the service it is
//! overridden; where it cannot be, the start is refused with the statements that help.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, Row};

use super::Error;

/// The settings with which every connection of the service plans its statements. A plan is made once for all values. A plan that
/// was made when tables were small (or empty) is still right when they have grown. Planning takes longer than most statements. No
/// bitmaps: what asks for the first few of many in their order must not fetch them all and sort.
pub const PLANNING: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
];

/// The settings of every connection, as PostgreSQL shows them. A statement that waits for a lock for a shorter time sets that
/// itself ([`LockTimeout`]).
pub const SETTINGS: [(&str, &str); 8] = [
    ("lock_timeout", "1s"),
    ("default_transaction_isolation", "read committed"),
    PLANNING[0],
    PLANNING[1],
    PLANNING[2],
    PLANNING[3],
    PLANNING[4],
    PLANNING[5],
];

/// Defaults of PostgreSQL that the service needs: connections that may be
/// idle, statements that may take their time, an error that ends a statement and nothing more, and plans by index.
pub const DEFAULTS: [(&str, &str); 5] = [
    ("idle_session_timeout", "0"),
    // A statement that is cancelled would count as an outage. The wait for a lock has a limit of its own.
    ("statement_timeout", "0"),
    ("exit_on_error", "off"),
    ("enable_indexscan", "on"),
    ("enable_nestloop", "on"),
];

/// The same, from this version of PostgreSQL on. An older one refuses a connection that asks for it.
const SINCE: [(u32, (&str, &str)); 1] = [(170_000, ("transaction_timeout", "0"))];

/// A node that is frozen in a transaction lets go of what it holds. None that lives is idle in one for longer than a moment.
const FROZEN: (&str, &str) = ("idle_in_transaction_session_timeout", "1min");

/// For migrations and LISTEN. They wait for locks as long as it takes, and make tables that PostgreSQL itself knows.
const DIRECT: [(&str, &str); 3] =
    [("default_transaction_isolation", "read committed"), ("lock_timeout", "0"), ("default_table_access_method", "heap")];

/// A setting that may have any value but some: one that a role may not change for itself, or that is somebody's choice.
#[derive(Debug, Clone, Copy)]
struct Choice {
    name: &'static str,
    /// The value to propose in the place of a refused one.
    value: &'static str,
    /// A regular expression.
    refused: &'static str,
}

/// On these rests what senders are told. With `off` a commit is answered before it is durable; as a `replica` none of the
/// triggers fires that guard the numbers.
const PROMISE: [Choice; 2] = [
    Choice { name: "synchronous_commit", value: "on", refused: "^off$" },
    Choice { name: "session_replication_role", value: "origin", refused: "^replica$" },
];

/// The timeout must be ten seconds at least.
const FROZEN_CHOICE: Choice = Choice { name: FROZEN.0, value: FROZEN.1, refused: "^([0-9]+ms|[0-9]s)$" };

/// The version of the server, as in `server_version_num`: 170002 is 17.2. 0: the server did not say.
///
/// # Errors
/// [`sqlx::Error`]: the connection could not be made.
pub async fn server_version(options: &PgConnectOptions) -> Result<u32, sqlx::Error> {
    let connection = options.connect().await?;
    let version = connection.server_version_num();
    // The server cleans up after a connection that just goes; this only keeps its log quiet.
    let _ = connection.close().await;
    Ok(version.unwrap_or_default())
}

/// For lanes and the pool: connections made with these options ask for [`SETTINGS`] and [`DEFAULTS`].
pub fn with_settings(options: PgConnectOptions, version: u32) -> PgConnectOptions {
    with_defaults(options, version).options(SETTINGS)
}

/// For migrations and LISTEN: connections made with these options ask for [`DEFAULTS`] and wait as long as it takes.
pub fn with_direct_settings(options: PgConnectOptions, version: u32) -> PgConnectOptions {
    with_defaults(options, version).options(DIRECT)
}

fn with_defaults(options: PgConnectOptions, version: u32) -> PgConnectOptions {
    let newer = SINCE.into_iter().filter(|(since, _)| version >= *since).map(|(_, setting)| setting);
    options.options(DEFAULTS).options(newer).options([FROZEN])
}

/// The time that a statement of a lane waits for a lock of another session. It is passed with the statement and counts for
/// its transaction, because a lane may not have the same server connection twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockTimeout {
    /// 100 ms. Items that are still held then are deferred.
    Usual,
    /// 5 ms, for items that are known to be held.
    Retry,
    /// The `lock_timeout` that the connection began with.
    OfConnection,
}

impl LockTimeout {
    /// A value of `lock_timeout`; none: what the connection began with.
    pub(super) const fn value(self) -> Option<&'static str> {
        match self {
            Self::Usual => Some("100ms"),
            Self::Retry => Some("5ms"),
            Self::OfConnection => None,
        }
    }
}

/// The reason why connections cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CannotUse {
    /// They lack settings; each statement gives one to the role.
    #[error(
        "the connections of DATABASE_URL lack settings that the service asked for, as behind a pooler. \
         Run this in PostgreSQL, then make the pooler connect anew (docs/operations.md, Poolers):{}",
        lines(.0)
    )]
    LacksSettings(Vec<String>),
    /// The same past the pooler.
    #[error(
        "the connections of DATABASE_DIRECT_URL, or of DATABASE_URL where it is not set, lack settings that the service asked for, \
         as behind a pooler. Run this in PostgreSQL, then make the pooler connect anew (docs/operations.md, Settings of PostgreSQL):{}",
        lines(.0)
    )]
    DirectLacksSettings(Vec<String>),
    /// Settings of the role or the server might lose messages that are confirmed.
    #[error(
        "with the settings that the role, the database or the server has, messages that are confirmed might be lost. \
         Run this in PostgreSQL as a superuser, and make a pooler connect anew (docs/operations.md, Settings of PostgreSQL):{}",
        lines(.0)
    )]
    BreaksThePromise(Vec<String>),
    /// A standby, or an operator's lock.
    #[error(
        "the database takes no writes: it is a standby, or default_transaction_read_only is on for the server, the database or the role \
         (docs/operations.md, Settings of PostgreSQL)"
    )]
    ReadOnly,
    /// A statement that was prepared is not known any more, or another connection's.
    #[error(
        "the pooler of DATABASE_URL does not keep prepared statements apart: it needs max_prepared_statements = 200 \
         (PgBouncer 1.21 or newer), or pool_mode = session (docs/operations.md, Poolers)"
    )]
    LosesStatements(#[source] sqlx::Error),
    /// Something else.
    #[error(transparent)]
    Database(#[from] Error),
}

fn lines(statements: &[String]) -> String {
    statements.iter().map(|statement| format!("\n  {statement};")).collect()
}

/// Checks whether connections made with these options can be used. It asks two at once, and then the first again. Behind a pooler
/// they may share a server connection, and then a statement prepared for one is in the way of the other. Returns one of them.
///
/// # Errors
/// [`CannotUse`]: settings are missing or dangerous, or prepared statements are lost. [`CannotUse::Database`]: a connection or a
/// statement failed.
pub async fn check_connections(options: &PgConnectOptions) -> Result<PgConnection, CannotUse> {
    let mut one = options.connect().await.map_err(Error::from)?;
    let mut other = options.connect().await.map_err(Error::from)?;
    for connection in [&mut one, &mut other] {
        lacks(lacking(connection, &SETTINGS, &[FROZEN_CHOICE]).await?, CannotUse::LacksSettings)?;
    }
    lacks(lacking(&mut one, &SETTINGS, &[]).await?, CannotUse::LacksSettings)?;
    keeps_the_promise(&mut one).await?;
    Ok(one)
}

/// Checks whether this connection, past any pooler, can be used for migrations and LISTEN.
///
/// # Errors
/// [`CannotUse`]: settings are missing or dangerous, prepared statements are lost, or the database takes no writes.
/// [`CannotUse::Database`]: a statement failed.
pub async fn check_direct(connection: &mut PgConnection) -> Result<(), CannotUse> {
    lacks(lacking(connection, &[], &[FROZEN_CHOICE]).await?, CannotUse::DirectLacksSettings)?;
    let row = sqlx::query_file!("src/store/sql/ping.sql").fetch_one(&mut *connection).await.map_err(lost_statement)?;
    if row.is_read_only { Err(CannotUse::ReadOnly) } else { keeps_the_promise(connection).await }
}

async fn keeps_the_promise(connection: &mut PgConnection) -> Result<(), CannotUse> {
    let promise = PROMISE.iter().map(|choice| (choice.name, choice.value, Some(choice.refused)));
    lacks(statements(connection, promise).await?, CannotUse::BreaksThePromise)
}

fn lacks(statements: Vec<String>, error: fn(Vec<String>) -> CannotUse) -> Result<(), CannotUse> {
    if statements.is_empty() { Ok(()) } else { Err(error(statements)) }
}

/// The statements that give a connection these settings and the defaults, and replace refused choices.
async fn lacking(connection: &mut PgConnection, settings: &[(&str, &str)], choices: &[Choice]) -> Result<Vec<String>, CannotUse> {
    let newer = SINCE.iter().map(|(_, setting)| setting);
    let exact = settings.iter().chain(&DEFAULTS).chain(newer).map(|(name, value)| (*name, *value, None));
    let choices = choices.iter().map(|choice| (choice.name, choice.value, Some(choice.refused)));
    statements(connection, exact.chain(choices)).await
}
/// The statements for these settings. Each has a name, a value and, where other values are allowed, a pattern of refused ones.
async fn statements<'s>(
    connection: &mut PgConnection,
    wanted: impl Iterator<Item = (&'s str, &'s str, Option<&'s str>)>,
) -> Result<Vec<String>, CannotUse> {
    let (mut names, mut values, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value, pattern) in wanted {
        names.push(name.to_owned());
        values.push(value.to_owned());
        // An empty one would match everything.
        refused.push(pattern.unwrap_or_default().to_owned());
    }
    let asked = sqlx::query_file_scalar!("src/store/sql/settings.sql", &names, &values, &refused);
    asked.fetch_all(connection).await.map_err(lost_statement)
}

/// 26000: there is no statement of this name; 42P05: there is one already.
fn lost_statement(cause: sqlx::Error) -> CannotUse {
    let code = cause.as_database_error().and_then(|refusal| refusal.code()).unwrap_or_default().into_owned();
    if matches!(code.as_str(), "26000" | "42P05") { CannotUse::LosesStatements(cause) } else { CannotUse::Database(cause.into()) }
}

/// Returns whether connections made with these options share server connections, as behind a pooler in transaction mode. LISTEN and the
/// lock of the migrations need a session, so they must not use such connections. The answer for a busy pooler may be a wrong `false`.
///
/// # Errors
/// [`Error::Unavailable`]: the database is away. [`Error::Failed`]: a defect.
pub async fn is_shared(options: &PgConnectOptions) -> Result<bool, Error> {
    let (mut one, mut other) = (options.connect().await?, options.connect().await?);
    let backends = [backend(&mut one).await?, backend(&mut other).await?, backend(&mut one).await?];
    Ok(backends[0] == backends[1] || backends[0] != backends[2])
}

/// Without a prepared statement: it is not known yet whether there can be any.
async fn backend(connection: &mut PgConnection) -> Result<i32, Error> {
    let row = sqlx::raw_sql("select pg_backend_pid()").fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}
