//! Devices of users: the node that each is connected to, and the removal of those that were not seen for long. A device is made
//! when it connects, see [`inbox`](super::inbox).

use std::time::Duration;

use super::{Result, Store};
use crate::domain::{DeviceId, NodeId, UserId};

/// A place in the list of all devices, which is in the order of users and names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DevicePlace {
    /// The number of the user.
    pub user: i64,
    /// The name of the device.
    pub device: String,
}

/// A page of devices that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicesPurged {
    /// Devices that were looked at.
    pub seen: usize,
    /// Devices that were removed.
    pub purged: usize,
    /// The last device that was looked at; none: the page was empty.
    pub last: Option<DevicePlace>,
}

impl Store {
    /// Notes that a connection of a device has ended. Does nothing where the device has a newer one.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn device_seen(&self, user: UserId, device: &DeviceId, session_no: i64) -> Result<()> {
        sqlx::query_file!("src/store/sql/device_seen.sql", user.0, device.as_str(), session_no).execute(self.database()).await?;
        Ok(())
    }

    /// Notes that only these devices of a user are connected to a node. It heals what [`Store::device_seen`] could not note.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn free_devices(&self, user: UserId, node: NodeId, connected: &[DeviceId]) -> Result<()> {
        let connected: Vec<String> = connected.iter().map(|device| device.as_str().to_owned()).collect();
        sqlx::query_file!("src/store/sql/free_devices.sql", user.0, node.0, &connected).execute(self.database()).await?;
        Ok(())
    }

    /// Looks at a page of at most `devices_max` devices behind a place, and removes those that are not connected and were not
    /// seen for `unseen`. May be repeated.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn purge_devices(&self, after: &DevicePlace, unseen: Duration, devices_max: i32) -> Result<DevicesPurged> {
        let asked = sqlx::query_file!("src/store/sql/purge_devices.sql", after.user, after.device, unseen.as_secs_f64(), devices_max);
        let row = asked.fetch_one(self.database()).await?;
        let last = row.last_user.zip(row.last_device).map(|(user, device)| DevicePlace { user, device });
        let count = |rows: i64| usize::try_from(rows).unwrap_or_default();
        Ok(DevicesPurged { seen: count(row.seen), purged: count(row.purged), last })
    }
}
