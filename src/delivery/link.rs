//! A lane's own connection to the database: made when needed, made anew when it broke.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use super::Health;
use crate::reach::Reach;
use crate::store::{Epoch, Error, Overdue, with_settings};
use crate::telemetry::Metrics;

/// Where lanes connect to.
#[derive(Debug, Clone)]
pub struct ConnectTo {
    options: PgConnectOptions,
    epoch: Epoch,
}

impl ConnectTo {
    /// Lanes connect with these options, to a database of this epoch.
    pub fn new(options: PgConnectOptions, epoch: Epoch) -> Self {
        Self { epoch, options: with_settings(options) }
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        self.epoch.admit(&mut connection).await?;
        Ok(connection)
    }
}

/// What every lane has beside its queue.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) reach: Reach,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Health,
    pub(super) overdue: Overdue,
    pub(super) stop: CancellationToken,
}

/// A connection, or the wish for one.
#[derive(Debug)]
pub(super) struct Link {
    to: ConnectTo,
    connection: Option<PgConnection>,
    health: Health,
    overdue: Overdue,
    /// Outages before the connection was made.
    made_after: u64,
}

/// A connection that is there, and who waits for its answers: a statement is asked by `overdue.answer(…(connection))`.
pub(super) struct Line<'l> {
    pub(super) connection: &'l mut PgConnection,
    pub(super) overdue: &'l Overdue,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Link {
    pub(super) fn new(to: ConnectTo, shared: &Shared) -> Self {
        Self { to, connection: None, health: shared.health.clone(), overdue: shared.overdue.clone(), made_after: 0 }
    }

    /// The connection, made now if there is none. An error says that nothing was sent.
    pub(super) async fn get(&mut self) -> Result<Line<'_>, Error> {
        // One from before an outage would fail, and its failure would look like another outage.
        let outages = self.health.outages();
        if std::mem::replace(&mut self.made_after, outages) != outages {
            self.connection = None;
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => match tokio::time::timeout(CONNECT_TIMEOUT, self.to.connect()).await {
                Ok(made) => made.map_err(Error::from)?,
                Err(_) => return Err(Error::Unavailable(sqlx::Error::PoolTimedOut)),
            },
        };
        Ok(Line { connection: self.connection.insert(connection), overdue: &self.overdue })
    }

    /// Drops a connection that failed, or does not answer, so that the next [`Link::get`] makes another.
    pub(super) fn broken(&mut self) {
        self.connection = None;
    }

    pub(super) async fn close(self) {
        if let Some(connection) = self.connection {
            // The server cleans up after a connection that just goes; this only keeps its log quiet.
            let _ = connection.close().await;
        }
    }
}
