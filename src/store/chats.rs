//! Chats as their members see them: lists with marks and unread counts, members, what became of a message. Their history is in
//! [`history`](super::history).
//!
//! The right of the asker to see something is part of the statement that reads it, so there is no moment in between.

use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::profile;
use super::{Result, Store, enums};
use crate::domain::{ChatId, ChatKind, ChatSeq, ExternalId, MessageId, Profile, Role, Status, UserId};

/// A chat as one of its members sees it.
#[derive(Debug, Clone)]
pub struct ChatView {
    /// The chat.
    pub chat: ChatId,
    /// Its kind.
    pub kind: ChatKind,
    /// Its title.
    pub title: Option<String>,
    /// The highest message number.
    pub last_seq: ChatSeq,
    /// The time at which it was made.
    pub created_at: OffsetDateTime,
    /// The member's role.
    pub role: Role,
    /// The member's numbers.
    pub marks: MemberMarks,
    /// Messages the member has not read, among the first 1,000 above its `read`.
    pub unread: u32,
    /// True if there are more messages above `read` than were looked at.
    pub unread_more: bool,
    /// The other member of a direct chat; none in other chats.
    pub other: Option<Profile>,
}

/// A member's numbers in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberMarks {
    /// It gets messages above this number.
    pub joined: ChatSeq,
    /// Nothing at or below it waits for the member.
    pub delivered: ChatSeq,
    /// Nothing at or below it is unread by the member.
    pub read: ChatSeq,
}

/// A member of a chat.
#[derive(Debug, Clone)]
pub struct Member {
    /// The member.
    pub profile: Profile,
    /// Its role.
    pub role: Role,
    /// Its numbers.
    pub marks: MemberMarks,
}

/// The status of a message for one recipient.
#[derive(Debug, Clone)]
pub struct StatusOf {
    /// The recipient.
    pub user: ExternalId,
    /// The status.
    pub status: Status,
    /// The time at which it was acked.
    pub delivered_at: Option<OffsetDateTime>,
    /// The time at which it was read.
    pub read_at: Option<OffsetDateTime>,
    /// The reason why it failed or expired, or was last rejected.
    pub reason: Option<String>,
}

impl Store {
    /// A user's chats in the order of their ids, those after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn chats(&self, user: UserId, after: Option<ChatId>, limit: u16) -> Result<Vec<ChatView>> {
        // PostgreSQL orders UUIDs by their bytes, as the number is ordered.
        let from = after.map_or(0, |chat| chat.0.as_u128().saturating_add(1));
        self.chats_between(user, Uuid::from_u128(from), Uuid::max(), limit).await
    }

    /// One chat of a user; none: the user is not in it, or there is no such chat.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn chat(&self, user: UserId, chat: ChatId) -> Result<Option<ChatView>> {
        Ok(self.chats_between(user, chat.0, chat.0, 1).await?.pop())
    }

    /// Returns whether anything has this id: a chat, or a stream of a feed. It checks no rights.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn chat_is_there(&self, chat: ChatId) -> Result<bool> {
        Ok(sqlx::query_file_scalar!("src/store/sql/chat_is_there.sql", chat.0).fetch_one(self.database()).await?)
    }

    async fn chats_between(&self, user: UserId, from: Uuid, to: Uuid, limit: u16) -> Result<Vec<ChatView>> {
        let rows = sqlx::query_file!("src/store/sql/chats.sql", user.0, from, to, i64::from(limit)).fetch_all(self.database()).await?;
        rows.into_iter()
            .map(|row| {
                let other = match (row.other_id, row.other) {
                    (Some(id), Some(external)) => Some(profile(id, external, row.other_name, row.other_picture)?),
                    (None, _) | (_, None) => None,
                };
                Ok(ChatView {
                    chat: ChatId(row.chat_id),
                    kind: row.kind.into(),
                    title: row.title,
                    last_seq: ChatSeq(row.last_seq),
                    created_at: row.created_at,
                    role: row.role.into(),
                    marks: marks(row.joined_seq, row.delivered_seq, row.read_seq),
                    unread: u32::try_from(row.unread).unwrap_or(u32::MAX),
                    unread_more: row.unread_more,
                    other,
                })
            })
            .collect()
    }

    /// Members of a chat in the order in which the service met them, those behind `after`, at most `limit`. Nobody when the
    /// asker is not one of them.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn members(&self, asker: UserId, chat: ChatId, after: Option<&ExternalId>, limit: u16) -> Result<Vec<Member>> {
        let rows = sqlx::query_file!("src/store/sql/members.sql", asker.0, chat.0, after.map(ExternalId::as_str), i64::from(limit))
            .fetch_all(self.database())
            .await?;
        rows.into_iter()
            .map(|row| {
                Ok(Member {
                    profile: profile(row.user_id, row.external_id, row.name, row.picture)?,
                    role: row.role.into(),
                    marks: marks(row.joined_seq, row.delivered_seq, row.read_seq),
                })
            })
            .collect()
    }

    /// The number of members of a chat. It checks no rights: the caller has found that the asker is a member.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn member_count(&self, chat: ChatId) -> Result<i64> {
        Ok(sqlx::query_file_scalar!("src/store/sql/member_count.sql", chat.0).fetch_one(self.database()).await?)
    }

    /// The number of rows of a chat's messages in each status. It checks no rights. A status without rows has no entry.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn status_counts(&self, chat: ChatId) -> Result<Vec<(Status, i64)>> {
        let rows = sqlx::query_file!("src/store/sql/status_counts.sql", chat.0).fetch_all(self.database()).await?;
        Ok(rows.into_iter().map(|row| (row.status.into(), row.rows)).collect())
    }

    /// The status of a message for each recipient; none: the asker neither sent nor got it, or there is no such message.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn statuses(&self, asker: UserId, message: MessageId) -> Result<Option<Vec<StatusOf>>> {
        let rows = sqlx::query_file!("src/store/sql/statuses.sql", asker.0, message.0).fetch_all(self.database()).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let statuses = rows.into_iter().filter_map(|row| {
            Some(StatusOf {
                user: ExternalId::try_from(row.user?).ok()?,
                status: row.status?.into(),
                delivered_at: row.delivered_at,
                read_at: row.read_at,
                reason: row.reason,
            })
        });
        Ok(Some(statuses.collect()))
    }
}

fn marks(joined: i64, delivered: i64, read: i64) -> MemberMarks {
    MemberMarks { joined: ChatSeq(joined), delivered: ChatSeq(delivered), read: ChatSeq(read) }
}
