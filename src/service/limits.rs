//! Limits of single users, for operators: to raise those of a user, and to list them. Each act leaves a line in the log, and each change a row in
//! the audit. Nodes learn of a change from the database, whoever made it.

use tracing::info;

use super::{Refusal, Service};
use crate::domain::{ExternalId, RaisedLimit, UserId};
use crate::store::{LimitSet, page_of};

/// A part of the list, in the order of the users' numbers.
#[derive(Debug)]
pub struct RaisedLimitList {
    /// The users.
    pub raised: Vec<RaisedLimit>,
    /// More follow behind this user; none: these were the last.
    pub next: Option<UserId>,
}

impl Service {
    /// Multiplies all rates of this user by `factor`, 1 to 1,000; 1: they are those of others again.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]: there is no such user. [`Refusal::LimitsTooMany`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn set_limit(&self, admin: &ExternalId, user: &ExternalId, factor: u16) -> Result<(), Refusal> {
        let operator = self.operator(admin);
        let set = self.ask(admin, "raising a user's limits", self.store.set_limit(user, factor, Some(&operator))).await?;
        info!(admin.id = %admin, user.id = %user, factor, action = "set", "limits");
        match set {
            LimitSet::Set => Ok(()),
            LimitSet::NoSuchUser => Err(Refusal::NotFound),
            LimitSet::TooMany => Err(Refusal::LimitsTooMany),
        }
    }

    /// Users whose limits are raised, behind one, at most `limit`.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn raised_limits(&self, admin: &ExternalId, after: Option<UserId>, limit: u16) -> Result<RaisedLimitList, Refusal> {
        let after = after.unwrap_or(UserId(i64::MIN));
        let raised = self.ask_for(admin, limit.into(), "listing raised limits", self.store.raised_limits(after, limit + 1)).await?;
        let (raised, next) = page_of(raised, limit, |raised| raised.user);
        info!(admin.id = %admin, items = raised.len(), action = "list", "limits");
        Ok(RaisedLimitList { raised, next })
    }
}
