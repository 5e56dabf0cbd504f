//! What a connection has to be like: settings that the service asks for when it connects, and prepared statements that
//! stay. A pooler that gives each transaction another server connection drops the first and may lose the second, so a
//! node looks for both before it serves anybody. It does not know which pooler that is.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection, Row};

use super::Error;

/// How every connection of the service has its statements planned: once for all values, and so that a plan that was kept
/// from when tables were small (or empty) is still right when they have grown. Planning takes longer than most statements. No
/// bitmaps: what asks for the first few of many in their order must not fetch them all and sort.
pub const PLANNING: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
];

/// What every connection needs, in the words in which PostgreSQL shows it. What waits for a lock for a shorter time says so
/// itself ([`LockPatience`]).
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

/// Connections made with these options ask for [`SETTINGS`].
pub fn with_settings(options: PgConnectOptions) -> PgConnectOptions {
    options.options(SETTINGS)
}

/// How long a statement of a lane waits for a lock that somebody else holds. It is said with the statement and counts for
/// its transaction: a lane may not have the same server connection twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockPatience {
    /// 100 ms: what is held then is put aside.
    Usual,
    /// 5 ms, for what is known to be held.
    Retry,
    /// As long as the connection has been told when it was made.
    OfConnection,
}

impl LockPatience {
    /// A value of `lock_timeout`; none: what the connection began with.
    pub(super) const fn value(self) -> Option<&'static str> {
        match self {
            Self::Usual => Some("100ms"),
            Self::Retry => Some("5ms"),
            Self::OfConnection => None,
        }
    }
}

/// Why connections are not good enough.
#[derive(Debug, thiserror::Error)]
pub enum CannotUse {
    /// They lack settings; each statement gives one to the role.
    #[error(
        "the connections of DATABASE_URL lack settings that the service asked for, as behind a pooler. \
         Run this in PostgreSQL, then make the pooler connect anew (docs/operations.md, Poolers):{}",
        .0.iter().map(|statement| format!("\n  {statement};")).collect::<String>()
    )]
    LacksSettings(Vec<String>),
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

/// Are connections made with these options good enough? Asked on two at once, and on the first again: behind a pooler they
/// may share a server connection, and then a statement prepared for one is in the way of the other. Returns one of them.
pub async fn check_connections(options: &PgConnectOptions) -> Result<PgConnection, CannotUse> {
    let mut one = options.connect().await.map_err(Error::from)?;
    let mut other = options.connect().await.map_err(Error::from)?;
    lacking(&mut one).await?;
    lacking(&mut other).await?;
    lacking(&mut one).await?;
    Ok(one)
}

async fn lacking(connection: &mut PgConnection) -> Result<(), CannotUse> {
    let (names, values): (Vec<String>, Vec<String>) =
        SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).unzip();
    let statements = sqlx::query_file_scalar!("src/store/sql/settings.sql", &names, &values).fetch_all(connection).await;
    match statements {
        Ok(statements) if statements.is_empty() => Ok(()),
        Ok(statements) => Err(CannotUse::LacksSettings(statements)),
        Err(cause) => Err(lost_statement(cause)),
    }
}

/// 26000: there is no statement of this name; 42P05: there is one already.
fn lost_statement(cause: sqlx::Error) -> CannotUse {
    let code = cause.as_database_error().and_then(|refusal| refusal.code()).unwrap_or_default().into_owned();
    if matches!(code.as_str(), "26000" | "42P05") { CannotUse::LosesStatements(cause) } else { CannotUse::Database(cause.into()) }
}

/// Do connections made with these options share server connections, as behind a pooler in transaction mode? What needs a
/// session (LISTEN, the lock of the migrations) must not go through them. A pooler that has much to do may look as if not.
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
