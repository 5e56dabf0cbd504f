//! The host of the service: the database of `DATABASE_URL`, or an embedded server in the data directory, and the secret for tokens.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;

use super::exit::UsageError;
use super::keeper::{self, Signals};
use super::sole::Sole;
use crate::address;
use crate::app::Database;
use crate::config::Config;
use crate::secret;
use crate::store::Store;
use restante_postgres::{Embedded, ServerOptions};

/// The embedded server's database.
const DATABASE: &str = "restante";
/// The file of the secret in the data directory, in embedded mode.
const SECRET_FILE: &str = "jwt-secret";

/// A database that answers, or should.
#[derive(Debug)]
pub struct Host {
    /// The database of the messages.
    pub database: Database,
    /// The secret that tokens are signed with, where it is known.
    secret: Option<SecretString>,
    /// The server of our own, and its data directory.
    pub embedded: Option<(Embedded, PathBuf)>,
    signals: Signals,
    /// The right to be the service of the data directory.
    sole: Mutex<Option<Sole>>,
}

impl Host {
    /// Takes the database of the settings, or starts the embedded server.
    ///
    /// # Errors
    /// When a setting is wrong, or the embedded server cannot be started. What was started is stopped again.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        match &config.database_url {
            Some(url) => Self::external(config, url),
            None => Self::embedded(config).await,
        }
    }

    /// The same for a service, of which a data directory has one. An embedded server that a service left unfit is started again.
    ///
    /// # Errors
    /// As [`Self::start`]; and when another service runs in the data directory.
    pub async fn start_for_service(config: &Config) -> anyhow::Result<Self> {
        let host = Self::start(config).await?;
        match host.become_the_service().await {
            Ok(()) => Ok(host),
            Err(error) => {
                host.stop().await;
                Err(error)
            }
        }
    }

    /// Lets another service begin in this data directory, while this one takes leave of its clients.
    pub fn let_successor_in(&self) {
        *self.sole.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn become_the_service(&self) -> anyhow::Result<()> {
        let Some((server, root)) = &self.embedded else { return Ok(()) };
        let sole = Sole::of(root).await?;
        *self.sole.lock().unwrap_or_else(PoisonError::into_inner) = Some(sole);
        Ok(keeper::mend(server).await?)
    }

    /// Keeps the server of our own running until it is dropped. A database of somebody else is left to them.
    pub async fn keep(&self) -> Infallible {
        match &self.embedded {
            Some((server, _)) => keeper::keep(server, &self.signals).await,
            None => std::future::pending().await,
        }
    }

    /// Passes on what a node and the keeper of its server find out, until it is dropped: the server is looked at when the database is
    /// away, and the node uses new connections only when the server is unfit.
    pub async fn pass_signals(&self, store: &Store) -> Infallible {
        loop {
            tokio::select! {
                () = store.health().gone() => {
                    self.signals.look.notify_one();
                    store.health().back().await;
                }
                () = self.signals.unfit.notified() => store.renew(),
            }
        }
    }

    /// The secret for tokens, as far as the service needs one: where the settings name other keys, it may have none.
    ///
    /// # Errors
    /// It needs one, and there is none.
    pub fn secret_if_needed(&self, config: &Config) -> anyhow::Result<Option<&SecretString>> {
        match &self.secret {
            None if config.has_other_keys() => Ok(None),
            Some(_) | None => self.secret().map(Some),
        }
    }

    /// The secret for tokens; with a database of one's own it has to be set.
    pub fn secret(&self) -> anyhow::Result<&SecretString> {
        let missing = || UsageError("JWT_SECRET must be set when DATABASE_URL is, or JWT_KEYS_FILE or JWKS_URL".to_owned());
        Ok(self.secret.as_ref().ok_or_else(missing)?)
    }

    /// Stops the embedded server, unless another process uses it. Close what is connected first.
    pub async fn stop(self) {
        if let Some((server, _)) = self.embedded
            && let Err(error) = server.stop_if_unused().await
        {
            tracing::warn!(%error, "the embedded PostgreSQL could not be stopped");
        }
    }

    fn external(config: &Config, url: &SecretString) -> anyhow::Result<Self> {
        let options = parse("DATABASE_URL", url)?;
        let direct = config.database_direct_url.as_ref().map(|url| parse("DATABASE_DIRECT_URL", url)).transpose()?;
        let database = Database { direct: direct.unwrap_or_else(|| options.clone()), options };
        Ok(Self { database, secret: config.jwt_secret.clone(), embedded: None, signals: Signals::default(), sole: Mutex::default() })
    }

    async fn embedded(config: &Config) -> anyhow::Result<Self> {
        let root = data_dir(config)?;
        let started = {
            let root = root.clone();
            tokio::task::spawn_blocking(move || Embedded::start(&root, &ServerOptions::default())).await?
        };
        let server = started.map_err(|error| unusable(&root, error))?;
        let database = Database::new(server.options(DATABASE));
        let mut host = Self { database, secret: None, embedded: Some((server, root)), signals: Signals::default(), sole: Mutex::default() };
        match host.prepare(config).await {
            Ok(()) => Ok(host),
            Err(error) => {
                host.stop().await;
                Err(error)
            }
        }
    }

    /// Makes what is missing beside the embedded server: the database, and the secret.
    async fn prepare(&mut self, config: &Config) -> anyhow::Result<()> {
        let Some((server, root)) = &self.embedded else { return Ok(()) };
        server.ensure_database(DATABASE).await?;
        self.secret = match &config.jwt_secret {
            Some(secret) => Some(secret.clone()),
            // With keys of an issuer no others should count.
            None if config.has_other_keys() => None,
            None => Some(secret::load_or_make(root, SECRET_FILE)?),
        };
        Ok(())
    }
}

/// The file system's words do not say that it is about a setting.
fn unusable(root: &Path, error: restante_postgres::Error) -> anyhow::Error {
    match error {
        restante_postgres::Error::Io { .. } => UsageError(format!("DATA_DIR {} cannot be used: {error}", root.display())).into(),
        error => error.into(),
    }
}

/// The data directory of the settings, or the usual one.
pub fn data_dir(config: &Config) -> anyhow::Result<PathBuf> {
    Ok(config.data_dir.clone().map_or_else(restante_postgres::default_data_dir, Ok)?)
}

/// The secret that a service with these settings uses, without starting anything.
pub fn known_secret(config: &Config) -> anyhow::Result<SecretString> {
    if let Some(secret) = config.jwt_secret().map_err(|error| UsageError(error.to_string()))? {
        return Ok(secret.clone());
    }
    let root = data_dir(config)?;
    if !root.join(SECRET_FILE).exists() {
        let why = format!("no secret in {}: start the service once, or set JWT_SECRET, or give a --token", root.display());
        return Err(UsageError(why).into());
    }
    Ok(secret::load_or_make(&root, SECRET_FILE)?)
}

fn parse(name: &str, url: &SecretString) -> anyhow::Result<PgConnectOptions> {
    // An error of the address never quotes it: it may hold a password.
    Ok(address::options(url.expose_secret()).map_err(|error| UsageError(format!("{name} {error}")))?)
}
