//! The backend of the commands for operators: a running service, or the database itself. Both have the same requests and answers; what they
//! are is with each command.

use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::PgPoolOptions;

use super::exit::UsageError;
use super::hints::program;
use super::host::{Host, data_dir};
use super::identity::token_for_admin;
use super::screen::say;
use super::serve::{checked, settings_of_environment};
use super::waiting;
use crate::app;
use crate::store::{self, PLANNING, Store};
use restante_client::Http;

/// The time that the command waits for a lock.
const LOCK_TIMEOUT: &str = "5s";

/// The source of what operators look at: a service or the database.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// A running service; without it the database is asked
    #[arg(long, global = true, env = "RESTANTE_URL", value_name = "URL")]
    url: Option<String>,
    /// A token with the scope admin, for --url
    #[arg(long, global = true, env = "RESTANTE_TOKEN", hide_env_values = true, value_name = "JWT", allow_hyphen_values = true)]
    token: Option<String>,
}

/// A backend.
pub(super) enum Backend {
    /// A running service, and the token for it.
    Service(Http, String),
    /// The database, and the server if this command has started it.
    Database(Store, Box<Host>),
}

impl Backend {
    pub(super) async fn open(source: &Source) -> anyhow::Result<Self> {
        if let Some(url) = &source.url {
            let token = source.token.clone().map_or_else(token_for_admin, Ok)?;
            return Ok(Self::Service(Http::new(url)?, token));
        }
        let config = checked(settings_of_environment())?;
        if config.database_url.is_none() && !restante_postgres::has_cluster(&data_dir(&config)?) {
            return Err(UsageError("there is no database here: set DATABASE_URL, or DATA_DIR, or name a service with --url".into()).into());
        }
        let host = Host::start(&config).await?;
        match Self::connect(&host).await {
            Ok(store) => Ok(Self::Database(store, Box::new(host))),
            Err(error) => {
                host.stop().await;
                Err(error)
            }
        }
    }

    /// The database of the host, if it has the schema.
    async fn connect(host: &Host) -> anyhow::Result<Store> {
        waiting::reach(&host.database, say).await?;
        if app::needs_migration(&host.database).await? {
            let why = format!(
                "the database has no schema of this version, so nothing can be looked at: run `{} migrate` with the same settings, or start the service",
                program()
            );
            return Err(UsageError(why).into());
        }
        let options = host.database.clone().with_settings().await?.direct.options([("lock_timeout", LOCK_TIMEOUT)]).options(PLANNING);
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(10)).connect_with(options).await;
        let pool = pool.context("cannot reach the database")?;
        store::check_direct(&mut *pool.acquire().await?).await?;
        Ok(Store::new(pool))
    }

    pub(super) async fn close(self) {
        if let Self::Database(store, host) = self {
            store.pool().close().await;
            host.stop().await;
        }
    }
}
