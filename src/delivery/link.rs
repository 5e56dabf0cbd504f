//! A lane's own connection to the database: made when needed, made anew when it broke.

use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::notifier::Notifier;
use crate::store::{Epoch, Error, Loan, StallDetector, Store};
use crate::telemetry::Metrics;

/// The database to which lanes connect: the options and the epoch.
#[derive(Debug, Clone)]
pub struct ConnectTo {
    options: PgConnectOptions,
    epoch: Epoch,
}

impl ConnectTo {
    /// Lanes connect with these options, to a database of this epoch.
    pub fn new(options: PgConnectOptions, epoch: Epoch) -> Self {
        Self { epoch, options }
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        self.epoch.admit(&mut connection).await?;
        Ok(connection)
    }
}

/// The parts that every lane has beside its queue.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) notifier: Notifier,
    pub(super) metrics: Arc<Metrics>,
    pub(super) store: Store,
    pub(super) stop: CancellationToken,
}

/// A connection, or the wish for one.
#[derive(Debug)]
pub(super) struct Link {
    to: ConnectTo,
    connection: Option<Held>,
    store: Store,
    stop: CancellationToken,
    /// Outages before the connection was made.
    made_after: u64,
}

/// A lane's own connection or, where the server has no more of them, one that it shares.
#[derive(Debug)]
enum Held {
    Own(PgConnection),
    Lent(Loan),
}

/// A connection that is there, and who waits for its answers: a statement is asked by `overdue.answer(…(connection))`.
pub(super) struct Line<'l> {
    pub(super) connection: &'l mut PgConnection,
    pub(super) stall_detector: &'l StallDetector,
}

impl Link {
    pub(super) fn new(to: ConnectTo, shared: &Shared) -> Self {
        let (store, stop) = (shared.store.clone(), shared.stop.clone());
        Self { to, connection: None, store, stop, made_after: 0 }
    }

    /// The connection, made now if there is none. An error says that nothing was sent.
    pub(super) async fn get(&mut self) -> Result<Line<'_>, Error> {
        // A connection from before an outage would fail, and its failure would look like another outage.
        let outages = self.store.health().outages();
        if std::mem::replace(&mut self.made_after, outages) != outages {
            self.connection = None;
        }
        let held = match self.connection.take() {
            Some(held) => held,
            None => self.make().await?,
        };
        let connection = match self.connection.insert(held) {
            Held::Own(connection) => connection,
            Held::Lent(loan) => loan.connection()?,
        };
        Ok(Line { connection, stall_detector: self.store.stall_detector() })
    }

    async fn make(&self) -> Result<Held, Error> {
        if !self.store.slots().are_taken()
            && let Some(made) = self.store.connected(self.to.connect()).await?
        {
            return Ok(Held::Own(made));
        }
        self.lent().await.map(Held::Lent)
    }

    /// However long all of them are in use: what is to be written waits in the lane's queue meanwhile.
    async fn lent(&self) -> Result<Loan, Error> {
        loop {
            match self.store.lend().await {
                Err(Error::Busy(_)) if !self.stop.is_cancelled() => {}
                lent => return lent,
            }
        }
    }

    /// For now there is nothing to write: what is shared goes back.
    pub(super) fn pause(&mut self) {
        self.connection.take_if(|held| matches!(held, Held::Lent(_)));
    }

    /// Drops a connection that failed, or does not answer, so that the next [`Link::get`] makes another.
    pub(super) fn broken(&mut self) {
        if let Some(Held::Lent(loan)) = self.connection.take() {
            loan.broken();
        }
    }

    pub(super) async fn close(self) {
        if let Some(Held::Own(connection)) = self.connection {
            // The server cleans up after a connection that just goes; this only keeps its log quiet.
            let _ = connection.close().await;
        }
    }
}
