//! A database with the migrations applied that is there for one command: on an embedded server that is thrown
//! away, or a scratch database on the server that `DATABASE_URL` names.

use std::path::Path;

use anyhow::Context;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use crate::run::Run;
use restante_postgres::{ServerOptions, Throwaway};

/// A migrated database and its server.
pub struct Scratch {
    name: String,
    /// A new run drops the databases of an earlier one that was killed.
    run: Run,
    /// Ends the server when it is dropped.
    _server: Option<Throwaway>,
}

impl Scratch {
    /// Makes the database and applies `migrations`.
    pub async fn new(migrations: &Path) -> anyhow::Result<Self> {
        let (admin, server) = server().await?;
        let run = Run::begin(&admin).await?;
        let scratch = Self { name: run.named("scratch"), run, _server: server };
        scratch.admin(&format!("create database {} encoding 'UTF8' template template0", scratch.name)).await?;
        match scratch.migrate(migrations).await {
            Ok(()) => Ok(scratch),
            Err(e) => {
                scratch.drop().await?;
                Err(e)
            }
        }
    }

    /// The database as sqlx's macros want it.
    pub fn url(&self) -> String {
        self.options().to_url_lossy().to_string()
    }

    /// The arguments with which `pg_dump` connects to it. A password, if there is one, is in `PGPASSWORD` or its file.
    pub fn pg_dump_args(&self) -> Vec<String> {
        let admin = self.run.admin();
        let host = admin.get_socket().map_or_else(|| admin.get_host().to_owned(), |socket| socket.display().to_string());
        let pairs = [("--host", host), ("--port", admin.get_port().to_string()), ("--username", admin.get_username().to_owned())];
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).chain([format!("--dbname={}", self.name)]).collect()
    }

    /// Drops the database. The server, if it is ours, ends with this value.
    pub async fn drop(self) -> anyhow::Result<()> {
        self.admin(&format!("drop database {} with (force)", self.name)).await
    }

    async fn migrate(&self, migrations: &Path) -> anyhow::Result<()> {
        let migrator = Migrator::new(migrations).await.context("cannot read the migrations")?;
        let mut connection = PgConnection::connect_with(&self.options()).await?;
        migrator.run(&mut connection).await.context("a migration failed")?;
        Ok(connection.close().await?)
    }

    fn options(&self) -> PgConnectOptions {
        self.run.admin().clone().database(&self.name)
    }

    async fn admin(&self, statement: &str) -> anyhow::Result<()> {
        self.run.execute(statement).await.with_context(|| statement.to_owned())
    }
}

async fn server() -> anyhow::Result<(PgConnectOptions, Option<Throwaway>)> {
    match std::env::var("DATABASE_URL") {
        Ok(url) if !url.is_empty() => Ok((url.parse().context("DATABASE_URL")?, None)),
        _ => {
            let server = tokio::task::spawn_blocking(|| Throwaway::start(&ServerOptions::disposable())).await??;
            Ok((server.server().options("postgres"), Some(server)))
        }
    }
}
