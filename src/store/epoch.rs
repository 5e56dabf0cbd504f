//! The epoch of a database tells it from any other database, and from itself before a restore or a promotion.
//!
//! Numbers of users, inboxes and chats mean something within one epoch only: in another, number 7 of an inbox may be another
//! message, and user 7 somebody else. So a node belongs to the epoch it began with. Each connection it makes is asked
//! before it is used, and one that leads elsewhere is refused: what was meant for the one world never happens in the other.

use std::sync::Arc;

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::Result;

/// The epoch of a node. Clones share it.
#[derive(Debug, Clone)]
pub struct Epoch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    is_over: CancellationToken,
}

impl Epoch {
    /// Reads the epoch of the database that a connection leads to.
    ///
    /// # Errors
    /// [`Unavailable`](super::Error::Unavailable): the database is away. [`Failed`](super::Error::Failed): a defect.
    pub async fn of(connection: &mut PgConnection) -> Result<Self> {
        Ok(Self(Arc::new(Inner { name: read(connection).await?, is_over: CancellationToken::new() })))
    }

    /// The name of the epoch: 16 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0.name
    }

    /// Refuses a connection to a database of another epoch, which ends the epoch of the node. Refuses a connection to a standby too.
    ///
    /// # Errors
    /// [`sqlx::Error::Io`]: the database is of another epoch, or a standby. Else the error of the statement.
    pub async fn admit(&self, connection: &mut PgConnection) -> std::result::Result<(), sqlx::Error> {
        if read(connection).await? == self.0.name {
            return Ok(());
        }
        self.0.is_over.cancel();
        Err(unusable("the database is another one than this node began with, or has been restored or promoted since"))
    }

    /// Returns whether a connection was refused because it led to a database of another epoch.
    pub fn is_over(&self) -> bool {
        self.0.is_over.is_cancelled()
    }

    /// Waits until a connection was refused so.
    pub async fn over(&self) {
        self.0.is_over.cancelled().await;
    }
}

async fn read(connection: &mut PgConnection) -> std::result::Result<String, sqlx::Error> {
    let epoch = sqlx::query_file_scalar!("src/store/sql/epoch.sql").fetch_one(connection).await?;
    epoch.ok_or_else(|| unusable("the server is a standby and takes no writes"))
}

fn unusable(why: &'static str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other(why))
}
