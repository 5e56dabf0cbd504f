//! Raised limits: the statement that multiplies the rates of a user, and the one that reads those of all.

use super::{Result, Store, audit};
use crate::domain::{ExternalId, Operator, RaisedLimit, UserId};

/// The outcome of setting a user's factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitSet {
    /// It counts.
    Set,
    /// There is no such user.
    NoSuchUser,
    /// Too many users have one already.
    TooMany,
}

impl Store {
    /// Multiplies all rates of a user by `factor`, 1 to 1,000, notes it in the audit, and tells every node with the commit. May be repeated.
    /// Without an operator it is an act of the connection's role.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Invalid`](super::Error::Invalid): PostgreSQL refuses a value.
    pub async fn set_limit(&self, user: &ExternalId, factor: u16, operator: Option<&Operator>) -> Result<LimitSet> {
        let (actor, node) = audit::columns(operator);
        let asked = sqlx::query_file!("src/store/sql/set_limit.sql", user.as_str(), i32::from(factor), actor, node);
        Ok(match asked.fetch_one(self.database()).await?.outcome.as_str() {
            "not_found" => LimitSet::NoSuchUser,
            "too_many" => LimitSet::TooMany,
            _ => LimitSet::Set,
        })
    }

    /// A page of users whose rates are raised, in the order of their numbers, behind this one.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Failed`](super::Error::Failed): a defect.
    pub async fn raised_limits(&self, after: UserId, rows_max: u16) -> Result<Vec<RaisedLimit>> {
        let rows = sqlx::query_file!("src/store/sql/raised_limits.sql", after.0, i64::from(rows_max)).fetch_all(self.database()).await?;
        let raised = rows.into_iter().filter_map(|row| {
            let external = ExternalId::try_from(row.external_id).ok()?;
            Some(RaisedLimit { user: UserId(row.user_id), external, factor: u32::try_from(row.factor).ok()?, set_at: row.set_at })
        });
        Ok(raised.collect())
    }
}
