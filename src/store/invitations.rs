//! Invitations to groups, as those who are invited have them. Making and withdrawing them is adding and removing members (`membership`).

use time::OffsetDateTime;

use super::rows::profile;
use super::{Error, Result, Store};
use crate::domain::{ChatId, ChatSeq, ExternalId, Profile, UserId, limits};

/// An invitation that waits.
#[derive(Debug, Clone)]
pub struct InvitationView {
    /// The group.
    pub chat: ChatId,
    /// Its title.
    pub title: Option<String>,
    /// The admin that has made it.
    pub inviter: Profile,
    /// When, by the database's clock.
    pub at: OffsetDateTime,
    /// From then on it counts no more.
    pub expires_at: OffsetDateTime,
}

/// A user that is invited to a group, as its members see it.
#[derive(Debug, Clone)]
pub struct InvitedUser {
    /// The user.
    pub profile: Profile,
    /// The admin that has invited it.
    pub by: ExternalId,
    /// When.
    pub at: OffsetDateTime,
    /// The end of the invitation.
    pub expires_at: OffsetDateTime,
}

/// The outcome of accepting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepting {
    /// The user is a member now.
    Done(Acceptance),
    /// It is a member already, and gets messages above this number.
    Again(ChatSeq),
    /// No invitation waits for it.
    NotFound,
    /// The group has as many members as it may.
    TooManyMembers,
}

/// An invitation that was just accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// The title of the group.
    pub title: Option<String>,
    /// The user gets messages above this number.
    pub joined_seq: ChatSeq,
    /// The admin that had invited it.
    pub by: ExternalId,
}

impl Store {
    /// The invitations that wait for a user, in the order of their chats, those behind `after`, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn invitations(&self, user: UserId, after: Option<ChatId>, limit: u16) -> Result<Vec<InvitationView>> {
        let after = after.map(|chat| chat.0);
        let rows = sqlx::query_file!("src/store/sql/invitations.sql", user.0, after, i64::from(limit)).fetch_all(self.database()).await?;
        rows.into_iter()
            .map(|row| {
                let inviter = profile(row.inviter_id, row.inviter, row.name, row.picture)?;
                let (chat, at, expires_at) = (ChatId(row.chat_id), row.invited_at, row.expires_at);
                Ok(InvitationView { chat, title: row.title, inviter, at, expires_at })
            })
            .collect()
    }

    /// The users who are invited to a chat, for a member of it, in the order in which the service met them, those behind `after`, at most
    /// `limit`; nobody where it is no member.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn invited(&self, member: UserId, chat: ChatId, after: Option<&ExternalId>, limit: u16) -> Result<Vec<InvitedUser>> {
        let after = after.map(ExternalId::as_str);
        let asked = sqlx::query_file!("src/store/sql/invited.sql", member.0, chat.0, after, i64::from(limit));
        asked
            .fetch_all(self.database())
            .await?
            .into_iter()
            .map(|row| {
                let by = ExternalId::try_from(row.inviter).map_err(|_| unexpected())?;
                let profile = profile(row.user_id, row.external_id, row.name, row.picture)?;
                Ok(InvitedUser { profile, by, at: row.invited_at, expires_at: row.expires_at })
            })
            .collect()
    }

    /// A user accepts an invitation. May be repeated.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn accept_invitation(&self, user: UserId, chat: ChatId) -> Result<Accepting> {
        let members_max = i32::try_from(limits::MEMBERS_MAX).unwrap_or(i32::MAX);
        let row = sqlx::query_file!("src/store/sql/take_invitation.sql", user.0, chat.0, members_max).fetch_one(self.database()).await?;
        match (row.outcome.as_str(), row.joined_seq.map(ChatSeq), row.inviter) {
            ("done", Some(joined_seq), Some(by)) => {
                let by = ExternalId::try_from(by).map_err(|_| unexpected())?;
                Ok(Accepting::Done(Acceptance { title: row.title, joined_seq, by }))
            }
            ("again", Some(joined_seq), _) => Ok(Accepting::Again(joined_seq)),
            ("not_found", _, _) => Ok(Accepting::NotFound),
            ("too_many_members", _, _) => Ok(Accepting::TooManyMembers),
            _ => Err(unexpected()),
        }
    }

    /// A user declines an invitation. May be repeated. False: it has none.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn decline_invitation(&self, user: UserId, chat: ChatId) -> Result<bool> {
        let asked = sqlx::query_file_scalar!("src/store/sql/turn_down_invitation.sql", user.0, chat.0);
        match asked.fetch_one(self.database()).await?.as_str() {
            "done" | "again" => Ok(true),
            "not_found" => Ok(false),
            _ => Err(unexpected()),
        }
    }

    /// Removes invitations that have expired, at most so many. Returns how many.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn purge_invitations(&self, rows_max: u16) -> Result<usize> {
        let done = sqlx::query_file!("src/store/sql/purge_invitations.sql", i64::from(rows_max)).execute(self.database()).await?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }
}

/// The function and this file do not agree.
fn unexpected() -> Error {
    Error::Failed(sqlx::Error::RowNotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_and_the_service_mean_the_same_bounds() {
        let schema = include_str!("../../migrations/20261128000028_invitations.sql");
        let (waiting, made) = (limits::INVITATIONS_MAX, limits::INVITATIONS_MADE_MAX);
        assert!(schema.contains(&format!("n.waiting >= {waiting} or")));
        assert!(schema.contains(&format!("return {made} - (")) && schema.contains(&format!("limit {made}) x);")));
        assert!(schema.contains(&format!("interval '{} days'", limits::INVITATION_DAYS)));
        assert!(schema.contains(&format!("p_users, true, {}, true)", limits::MEMBERS_MAX)));
    }
}
