//! The jobs that one node does for all: the holder of the lease, and the cursor of the job.
//!
//! A lease is numbered, and whatever its holder stores goes under that number: a holder whose lease ran out in the middle of a pass
//! changes nothing of its successor's. Leases end by the database's clock.

use std::time::Duration;

use super::{Result, Store, ms};
use crate::domain::NodeId;

/// A node's lease of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobLease {
    /// Its number; the next holder's is higher.
    pub number: i64,
    /// The start of the next pass, in the form of the job; empty: the beginning. At most 1,000 characters.
    pub cursor: String,
}

/// The answer to a node that asks for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acquired {
    /// The lease; none: another node holds the job.
    pub lease: Option<JobLease>,
    /// The time since a pass last succeeded, at whatever node; none: no pass has succeeded yet.
    pub passed_ago: Option<Duration>,
}

impl Store {
    /// Asks for a job, or renews the lease that the node has. The lease lasts `length` from now on, in whole milliseconds.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    /// After [`Unavailable`](super::Error::Unavailable) the node may hold the job until the lease runs out.
    pub async fn acquire_job(&self, name: &str, node: NodeId, length: Duration) -> Result<Acquired> {
        let row = sqlx::query_file!("src/store/sql/acquire_job.sql", name, node.0, ms(length)).fetch_one(self.database()).await?;
        let lease = row.lease_no.map(|number| JobLease { number, cursor: row.cursor });
        let passed_ago = row.passed_ms.map(|passed| Duration::from_millis(u64::try_from(passed).unwrap_or_default()));
        Ok(Acquired { lease, passed_ago })
    }

    /// Stores after a pass where the next one begins, and renews the lease for `length`. False, and nothing has changed: another node
    /// has taken the job since the lease of this number.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Invalid`](super::Error::Invalid): PostgreSQL refuses a value.
    /// [`Failed`](super::Error::Failed): a defect.
    /// After [`Unavailable`](super::Error::Unavailable) the cursor may be stored.
    pub async fn advance_job(&self, name: &str, node: NodeId, lease: &JobLease, length: Duration) -> Result<bool> {
        let JobLease { number, cursor } = lease;
        let asked = sqlx::query_file_scalar!("src/store/sql/advance_job.sql", name, node.0, number, cursor, ms(length));
        Ok(asked.fetch_one(self.database()).await?)
    }

    /// Gives a job back, so that another node need not wait for the end of the lease. False: the node has lost it already.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    /// The lease then ends by itself.
    pub async fn release_job(&self, name: &str, node: NodeId, number: i64) -> Result<bool> {
        Ok(sqlx::query_file_scalar!("src/store/sql/release_job.sql", name, node.0, number).fetch_one(self.database()).await?)
    }
}
