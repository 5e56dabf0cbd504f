//! Tells whether another connection can be made. The server has `max_connections` of them for everybody. A role and a database may have
//! fewer. Above that number it refuses (53300) until a connection ends. This end needs a file and a port for each.
//!
//! A server that lacks either is no outage: connections that are there work, and are shared. It is said once, and once more when it is over. sqlx's
//! pool does not tell: it tries again until its time is up, and meanwhile takes no notice of connections that become free.

use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::open_files;

/// The time between two questions to a full server, and the time that an answer is good for.
const PAUSE: Duration = Duration::from_secs(1);

/// The time after which a connection is tried again where this end could not make one.
const SOON: Duration = Duration::from_millis(100);

/// The server's latest answer to a new connection. Clones share it.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: PgConnectOptions,
    is_full: watch::Sender<bool>,
    /// A connection has become free.
    returned: Notify,
    /// The time at which the server last took a connection or had none to give. One question serves all callers that wait.
    answered: tokio::sync::Mutex<Option<Instant>>,
}

impl Slots {
    /// Asks with connections that are made with these options.
    pub(super) fn new(options: PgConnectOptions) -> Self {
        let (is_full, answered) = (watch::Sender::new(false), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { options, is_full, returned: Notify::new(), answered }))
    }

    /// True where no more connections can be made, as far as this node knows: the server takes none, or this end has nothing to make one of.
    pub fn are_taken(&self) -> bool {
        *self.0.is_full.borrow()
    }

    /// A connection could not be made. True: because there is none to be had.
    pub fn report(&self, error: &sqlx::Error) -> bool {
        let Some(missing) = Missing::of(error) else { return false };
        if self.0.is_full.send_if_modified(|known| !std::mem::replace(known, true)) {
            missing.say(error);
            tokio::spawn(until_over(Arc::downgrade(&self.0)));
        }
        true
    }

    /// Asks whether the server is there, and no standby: it takes a connection, or has none to give. Otherwise says why it does not answer.
    pub(super) async fn ask(&self) -> Result<(), sqlx::Error> {
        let mut answered = self.0.answered.lock().await;
        if answered.is_none_or(|at| at.elapsed() > PAUSE) {
            match self.0.try_one().await {
                Err(error) if !self.report(&error) => return Err(error),
                _ => *answered = Some(Instant::now()),
            }
        }
        Ok(())
    }

    /// Ends when a connection has become free, while others cannot be made.
    pub(super) async fn returned(&self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.0.is_full.subscribe().wait_for(|is_full| *is_full).await;
        self.0.returned.notified().await;
    }

    /// A connection could not be made, and none is to be had: ends when one has become free, or when it is time to try again.
    pub(super) async fn returned_or_soon(&self) {
        // A connection that comes back between two waits is found by the next try.
        let _ = timeout(SOON, self.0.returned.notified()).await;
    }

    /// A connection is back in the pool.
    pub(super) fn one_is_back(&self) {
        self.0.returned.notify_one();
    }
}

/// The end at which a connection is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The server has none to give.
    There,
    /// This end lacks what a connection is made of.
    Here(&'static str),
}

impl Missing {
    /// None: the error has another cause.
    fn of(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::Database(refusal) if refusal.code().as_deref() == Some("53300") => Some(Self::There),
            sqlx::Error::Io(cause) => open_files::lacks(cause).map(Self::Here),
            _ => None,
        }
    }

    fn say(self, cause: &sqlx::Error) {
        match self {
            Self::There => warn!(
                %cause,
                "PostgreSQL takes no more connections (max_connections, or the limit of the role or the database): \
                 those that are there are shared, what finds none waits"
            ),
            Self::Here(lacks) => {
                warn!(lacks, "no connection to PostgreSQL can be made at this end: those that are there are shared, what finds none waits")
            }
        }
    }
}

impl Inner {
    async fn try_one(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.options.connect().await?;
        // A standby takes connections too, and the pool refuses each of them: that is not for want of room.
        if sqlx::query_file!("src/store/sql/ping.sql").fetch_one(&mut connection).await?.is_read_only {
            return Err(sqlx::Error::Io(std::io::Error::other("the database is read-only: a standby, or made so")));
        }
        // The server cleans up after a connection that just goes; this only keeps its log quiet.
        let _ = connection.close().await;
        Ok(())
    }
}

/// Ends with the node that asked, too.
async fn until_over(slots: Weak<Inner>) {
    loop {
        sleep(PAUSE).await;
        let Some(slots) = slots.upgrade() else { return };
        // A server that does not answer at all is no concern of this: others say so.
        if slots.try_one().await.is_ok() {
            info!("PostgreSQL takes connections again, and this end can make them");
            slots.is_full.send_replace(false);
            return;
        }
    }
}
