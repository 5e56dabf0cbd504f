//! The registry of nodes, and the users who are online at each: leases that live as long as their node.
//!
//! Every instant is the database's: the clocks of nodes may differ by minutes.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store, ms};
use crate::domain::{ExternalId, NodeId, UserId};

/// The answer to a heartbeat.
#[derive(Clone)]
pub struct Beat {
    /// True if the node was not listed: it is new, or had been taken out together with its leases.
    pub came: bool,
    /// The number of this listing: another one each time that the node is listed anew.
    pub boot: Uuid,
    /// The nodes that live, this one too, with their boots.
    pub live: Vec<(NodeId, Uuid)>,
    /// The keys with which nodes may seal what they tell one another, by number.
    pub keys: Vec<(i64, [u8; 32])>,
    /// The number of the key with which this node seals now.
    pub sealing: i64,
}

/// Without the secrets.
impl fmt::Debug for Beat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { came, boot, live, keys: _, sealing } = self;
        let mut shown = formatter.debug_struct("Beat");
        shown.field("came", came).field("boot", boot).field("live", live).field("sealing", sealing).finish_non_exhaustive()
    }
}

/// A user who came online, or went offline: at the first node, from the last.
#[derive(Debug, Clone)]
pub struct Presented {
    /// Its number.
    pub user: UserId,
    /// Its id outside.
    pub external: ExternalId,
    /// The time at which it came online, or was last connected.
    pub at: OffsetDateTime,
}

/// The connections of the server, for all nodes together.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Connections of this role to this database.
    pub connections: i32,
    /// True if a crash of its machine may lose commits.
    pub is_fragile: bool,
}

impl Store {
    /// Counts the connections of this role to this database, and reads whether a crash may lose commits.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Failed`](super::Error::Failed): a defect.
    pub async fn room(&self) -> Result<Room> {
        let row = sqlx::query_file!("src/store/sql/room.sql").fetch_one(self.database()).await?;
        Ok(Room { connections: row.connections, is_fragile: row.is_fragile })
    }

    /// Records a heartbeat: this node lives for `lives`, in whole milliseconds, without another one. Makes a key where none is there
    /// or the newest is a day old.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn beat(&self, node: NodeId, lives: Duration) -> Result<Beat> {
        let row = sqlx::query_file!("src/store/sql/beat.sql", node.0, ms(lives)).fetch_one(self.database()).await?;
        let live = row.live.into_iter().map(NodeId).zip(row.boots).collect();
        let keys = row.key_numbers.into_iter().zip(row.secrets).filter_map(|(number, secret)| Some((number, secret.try_into().ok()?)));
        Ok(Beat { came: row.came, boot: row.boot, live, keys: keys.collect(), sealing: row.sealing })
    }

    /// This node ends as planned. Its users count as online for `grace`, in whole milliseconds, and may come to other nodes meanwhile.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn leave(&self, node: NodeId, grace: Duration) -> Result<()> {
        sqlx::query_file!("src/store/sql/leave.sql", node.0, ms(grace)).fetch_one(self.database()).await?;
        Ok(())
    }

    /// Users who are connected to this node. Returns those who were online nowhere before.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn arrive(&self, node: NodeId, users: &[UserId]) -> Result<Vec<Presented>> {
        let numbers: Vec<i64> = users.iter().map(|user| user.0).collect();
        let rows = sqlx::query_file!("src/store/sql/arrive.sql", node.0, &numbers).fetch_all(self.database()).await?;
        Ok(rows.into_iter().filter_map(|row| presented(row.user_id, row.external_id, row.at)).collect())
    }

    /// Users who left this node, each with the time since then. Returns those who are online nowhere now.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn depart(&self, node: NodeId, users: &[(UserId, Duration)]) -> Result<Vec<Presented>> {
        let numbers: Vec<i64> = users.iter().map(|(user, _)| user.0).collect();
        let ages: Vec<i64> = users.iter().map(|(_, age)| i64::try_from(age.as_millis()).unwrap_or(i64::MAX)).collect();
        let rows = sqlx::query_file!("src/store/sql/depart.sql", node.0, &numbers, &ages).fetch_all(self.database()).await?;
        Ok(rows.into_iter().filter_map(|row| presented(row.user_id, row.external_id, row.at)).collect())
    }

    /// True: a node has gone that is listed still. [`Self::reap`] takes it out.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn any_node_gone(&self) -> Result<bool> {
        Ok(sqlx::query_file_scalar!("src/store/sql/any_node_gone.sql").fetch_one(self.database()).await?)
    }

    /// Takes out a node that has gone, and at most so many of its leases. Returns those of its users who are online nowhere
    /// now; each is returned to one caller only.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn reap(&self, users_max: i32) -> Result<Vec<Presented>> {
        let rows = sqlx::query_file!("src/store/sql/reap.sql", users_max).fetch_all(self.database()).await?;
        Ok(rows.into_iter().filter_map(|row| presented(row.user_id, row.external_id, row.at)).collect())
    }

    /// Notifies each of these channels with the payload beside it, in this order and in a transaction of its own.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn notify(&self, notifications: impl IntoIterator<Item = (String, String)>) -> Result<()> {
        let (channels, payloads): (Vec<String>, Vec<String>) = notifications.into_iter().unzip();
        sqlx::query_file!("src/store/sql/notify.sql", &channels, &payloads).fetch_one(self.database()).await?;
        Ok(())
    }
}

fn presented(user: i64, external: String, at: OffsetDateTime) -> Option<Presented> {
    Some(Presented { user: UserId(user), external: ExternalId::try_from(external).ok()?, at })
}
