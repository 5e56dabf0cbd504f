//! A node of the service inside the test process, on a port of its own.

use std::net::SocketAddr;

use restante::app::{App, Database};
use restante::auth::TokenSigner;
use restante::config::{Config, ConfigArgs};
use restante::domain::{Clock, ExternalId};
use sqlx::postgres::PgConnectOptions;

use super::socket::{Connect, Socket};

/// The secret that every test's tokens are signed with.
pub const SECRET: &str = "a secret that only tests know, of 32 bytes or more";

/// A running node.
pub struct Node {
    app: App,
}

/// The default settings, with a free port and without limits on how much a user may send.
pub fn config() -> Config {
    let mut config = ConfigArgs::default().check().unwrap();
    config.listen_addr = "127.0.0.1:0".parse().unwrap();
    config.send_rate = 0;
    config
}

impl Node {
    /// Starts a node with the default settings.
    pub async fn start(database: PgConnectOptions) -> Self {
        Self::with(database, |_| {}).await
    }

    /// Starts a node with some settings changed.
    pub async fn with(database: PgConnectOptions, change: impl FnOnce(&mut Config)) -> Self {
        Self::on(Database::new(database), change).await
    }

    /// Starts a node that reaches its database in two ways.
    pub async fn on(database: Database, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        Self { app: App::start(&config, database, Some(&SECRET.into())).await.unwrap() }
    }

    /// Starts a node with a clock of its own.
    pub async fn by(clock: Clock, database: PgConnectOptions, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        Self { app: App::start_by(clock, &config, Database::new(database), Some(&SECRET.into())).await.unwrap() }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.app.addr()
    }

    /// For what only the inside tells.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// The address of its HTTP side.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// A connection of this user, past `ready`.
    pub async fn connect(&self, user: &str) -> Socket {
        self.open(Connect::user(user)).await
    }

    /// A connection with wishes, past `ready`.
    pub async fn open(&self, connect: Connect) -> Socket {
        Socket::open(self.addr(), connect).await
    }

    /// Stops it as SIGTERM would.
    pub async fn stop(self) {
        self.app.stop().await;
    }
}

/// A token that is good for an hour.
pub fn token(user: &str) -> String {
    token_for(user, time::Duration::HOUR)
}

/// A token that is valid for this time.
pub fn token_for(user: &str, ttl: time::Duration) -> String {
    let user = ExternalId::try_from(user.to_owned()).unwrap();
    TokenSigner::new(&SECRET.into()).sign(&user, None, ttl, time::OffsetDateTime::now_utc())
}

/// A token of an operator that is good for an hour.
pub fn admin_token() -> String {
    scoped_token("operator", "admin")
}

/// A token with this scope that is good for an hour.
pub fn scoped_token(user: &str, scope: &str) -> String {
    let user = ExternalId::try_from(user.to_owned()).unwrap();
    TokenSigner::new(&SECRET.into()).sign(&user, Some(scope), time::Duration::HOUR, time::OffsetDateTime::now_utc())
}

/// The secret that every test's tokens are signed with, as `JWT_SECRET`.
pub fn secret() -> &'static str {
    SECRET
}
