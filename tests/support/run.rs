//! One run of a program that makes databases on a server that others use too: of a test binary, or of a command of xtask.
//!
//! Its databases and roles have the run's name, and so has a session that it keeps open until its process ends. A database or a role
//! whose run has no session was left by a run that was killed, and the next run drops it. Ages and process numbers are not used,
//! because a run may be slow, or on another machine.

use std::hash::{BuildHasher, Hasher, RandomState};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

/// The prefix of the names of all runs; 16 hex digits follow it.
const PREFIX: &str = "restante_test_";
const DEAD_DATABASES: &str = "\
select quote_ident(d.datname) from pg_database d
where d.datname ~ '^restante_test_[0-9a-f]{16}_' and pg_has_role(d.datdba, 'usage')
  and not exists (select from pg_stat_activity a where a.application_name = left(d.datname, 30))";
const DEAD_ROLES: &str = "\
select quote_ident(r.rolname) from pg_roles r
where r.rolname ~ '^restante_test_[0-9a-f]{16}_'
  and not exists (select from pg_stat_activity a where a.application_name = left(r.rolname, 30))";

/// A run that lives as long as this value, or this process.
pub struct Run {
    name: String,
    admin: PgConnectOptions,
    /// Never used again: a statement would need the runtime that it was made in.
    _session: PgConnection,
}

impl Run {
    /// Begins a run on this server, and drops what dead ones have left there.
    pub async fn begin(admin: &PgConnectOptions) -> sqlx::Result<Self> {
        let name = format!("{PREFIX}{:016x}", RandomState::new().build_hasher().finish());
        let session = admin.clone().application_name(&name).options([("idle_session_timeout", "0")]).connect().await?;
        clear(admin).await?;
        Ok(Self { name, admin: admin.clone(), _session: session })
    }

    /// A name for a database or a role of this run.
    pub fn named(&self, what: impl std::fmt::Display) -> String {
        format!("{}_{what}", self.name)
    }

    /// The name of its session.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Options to connect to the server.
    pub fn admin(&self) -> &PgConnectOptions {
        &self.admin
    }

    /// Runs a statement on the server. Its session is the run's too: PostgreSQL goes on with a `create database` whose client is
    /// gone, and until then the run is not over.
    pub async fn execute(&self, statement: &str) -> sqlx::Result<()> {
        execute(&self.admin.clone().application_name(&self.name), statement).await
    }
}

/// Drops the databases and roles of runs that are dead.
pub async fn clear(admin: &PgConnectOptions) -> sqlx::Result<()> {
    let mut connection = admin.connect().await?;
    for (dead, drop) in [(DEAD_DATABASES, "drop database if exists"), (DEAD_ROLES, "drop role if exists")] {
        let names: Vec<String> = sqlx::query_scalar(dead).fetch_all(&mut connection).await?;
        for name in names {
            let how = if drop.contains("database") { " with (force)" } else { "" };
            // Another run may do the same at this moment; and what is somebody else's stays.
            let _ = sqlx::raw_sql(AssertSqlSafe(format!("{drop} {name}{how}"))).execute(&mut connection).await;
        }
    }
    connection.close().await
}

/// Runs a statement on a connection of its own.
pub async fn execute(options: &PgConnectOptions, statement: &str) -> sqlx::Result<()> {
    let mut connection = options.connect().await?;
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
    connection.close().await
}
