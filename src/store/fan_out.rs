//! Fan-out: the statement that writes the rows of listed users that were left when their events were published. The order of the pages
//! is the caller's.

use super::feeds::setting;
use super::{Result, Store, enums};
use crate::domain::{Class, UserId, limits};

/// Inboxes that were written to, and the place behind which the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FannedOut {
    /// Inboxes in which something waits now that did not before.
    pub inboxes: Vec<(UserId, Class)>,
    /// Users of whom something that waited was superseded by what was written.
    pub superseded: Vec<UserId>,
    /// Rows that were taken from the list.
    pub rows: usize,
    /// The place at which the next page begins. None: this was the last one.
    pub next: Option<(UserId, Class)>,
}

impl Store {
    /// Writes rows of listed users in inboxes behind `after`, about `rows_max` of them, and waits for nobody: what somebody holds is left.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn fan_out(&self, after: (UserId, Class), rows_max: i32) -> Result<FannedOut> {
        let (user, class) = after;
        let class = enums::Class::from(class);
        let max = setting(limits::EVENTS_PER_USER_MAX);
        let asked = sqlx::query_file!("src/store/sql/fan_out.sql", user.0, class as enums::Class, rows_max, max);
        let row = asked.fetch_one(self.database()).await?;
        let written = row.users.unwrap_or_default().into_iter().zip(row.classes.unwrap_or_default());
        let inboxes = written.map(|(user, class)| (UserId(user), Class::from(class))).collect();
        let next = row.next_user.zip(row.next_class).map(|(user, class)| (UserId(user), class.into()));
        let superseded = row.superseded.unwrap_or_default().into_iter().map(UserId).collect();
        Ok(FannedOut { inboxes, superseded, rows: usize::try_from(row.rows_done).unwrap_or_default(), next })
    }

    /// The number of rows of listed users that are still to be written, counted up to 10,000.
    ///
    /// # Errors
    /// As [`Self::fan_out`].
    pub async fn fan_out_waiting(&self) -> Result<i64> {
        Ok(sqlx::query_file_scalar!("src/store/sql/fan_out_waiting.sql").fetch_one(self.database()).await?)
    }
}
