//! Contacts: two users that both want to be. Nothing here tells anybody.

use time::OffsetDateTime;

use super::rows::profile;
use super::{Error, Result, Store};
use crate::domain::{ExternalId, Profile, UserId, limits};

/// A change that a user makes to what it is to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactChange {
    /// It requests the other one, or accepts its request.
    Request,
    /// It accepts the other one's request.
    Accept,
    /// It declines the other one's request.
    Decline,
    /// It removes the contact, or takes its request back, or declines the other one's.
    Remove,
}

/// The state of a user and another one after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactState {
    /// Neither has requested the other.
    None,
    /// It has requested the other one.
    Requested,
    /// They are contacts.
    Contact,
}

/// The outcome of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactOutcome {
    /// It is so now.
    Done {
        /// The state of the two.
        state: ContactState,
        /// Those who learn of it.
        audience: ContactAudience,
    },
    /// There is no request that could be accepted or declined.
    NotFound,
    /// The user has blocked the other one.
    Blocked,
    /// The user has as many contacts and requests as it may.
    TooMany,
}

/// Those who learn of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactAudience {
    /// Nobody: nothing has changed.
    Nobody,
    /// The sessions of the user alone: the other one has blocked it.
    Itself,
    /// The sessions of both.
    Both,
}

impl ContactAudience {
    pub(super) const fn of(has_changed: bool, is_told: bool) -> Self {
        match (has_changed, is_told) {
            (_, true) => Self::Both,
            (true, false) => Self::Itself,
            (false, false) => Self::Nobody,
        }
    }
}

/// A list of users that one of them sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContactRole {
    /// Its contacts.
    Contact,
    /// Those that it has requested.
    Requested,
    /// Those that have requested it.
    Incoming,
}

/// A user in such a list.
#[derive(Debug, Clone)]
pub struct ContactView {
    /// The user.
    pub profile: Profile,
    /// Since when they are contacts, or one has requested the other.
    pub since: OffsetDateTime,
}

impl Store {
    /// Changes what a user has with another one. May be repeated.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Invalid`]: both are the same user. [`Error::Failed`]: a defect.
    pub async fn change_contact(&self, user: UserId, other: UserId, change: ContactChange) -> Result<ContactOutcome> {
        let contacts_max = i32::try_from(limits::CONTACTS_MAX).unwrap_or(i32::MAX);
        let (outcome, audience) = match change {
            ContactChange::Request | ContactChange::Accept => {
                let accepts = change == ContactChange::Accept;
                let asked = sqlx::query_file!("src/store/sql/put_contact.sql", user.0, other.0, accepts, contacts_max);
                let row = asked.fetch_one(self.database()).await?;
                (row.outcome, ContactAudience::of(row.has_changed, row.is_told))
            }
            ContactChange::Decline | ContactChange::Remove => {
                let declines = change == ContactChange::Decline;
                let row = sqlx::query_file!("src/store/sql/drop_contact.sql", user.0, other.0, declines).fetch_one(self.database()).await?;
                (row.outcome, ContactAudience::of(row.has_changed, row.is_told))
            }
        };
        let done = |state| ContactOutcome::Done { state, audience };
        match outcome.as_str() {
            "none" => Ok(done(ContactState::None)),
            "requested" => Ok(done(ContactState::Requested)),
            "contact" => Ok(done(ContactState::Contact)),
            "not_found" => Ok(ContactOutcome::NotFound),
            "blocked" => Ok(ContactOutcome::Blocked),
            "too_many" => Ok(ContactOutcome::TooMany),
            other => Err(Error::Failed(sqlx::Error::Decode(format!("a change of contacts returned {other:?}").into()))),
        }
    }

    /// The users in a list of a user, in the order in which the service met them, those behind `after`, at most `limit`.
    ///
    /// # Errors
    /// As [`Self::change_contact`].
    pub async fn contacts(&self, user: UserId, role: ContactRole, after: Option<&ExternalId>, limit: u16) -> Result<Vec<ContactView>> {
        let (after, limit) = (after.map(ExternalId::as_str), i64::from(limit));
        let view = |user, external, name, picture, since| Ok(ContactView { profile: profile(user, external, name, picture)?, since });
        if role == ContactRole::Incoming {
            let rows = sqlx::query_file!("src/store/sql/contact_requests.sql", user.0, after, limit).fetch_all(self.database()).await?;
            return rows.into_iter().map(|row| view(row.user_id, row.external_id, row.name, row.picture, row.since)).collect();
        }
        let are_contacts = role == ContactRole::Contact;
        let rows = sqlx::query_file!("src/store/sql/contacts.sql", user.0, after, limit, are_contacts).fetch_all(self.database()).await?;
        rows.into_iter().map(|row| view(row.user_id, row.external_id, row.name, row.picture, row.since)).collect()
    }
}
