//! Groups: making them, joining, leaving. The function that makes a change also checks the right to it, under the chat's row lock.

use time::OffsetDateTime;

use super::{Error, Result, StatusRow, Store, enums};
use crate::domain::{ChatId, ChatSeq, ExternalId, InboxSeq, MessageId, UserId, limits};

/// The constraint that lets one chat have an id.
const ONE_CHAT_OF_AN_ID: &str = "chats_are_known_by_their_id";

/// The reason why members were neither added nor removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAllowed {
    /// The caller is not in the chat, or there is no such chat.
    NotAMember,
    /// Direct chats and feeds have no members that come and go.
    NotAGroup,
    /// The caller is no admin.
    NoAdmin,
    /// It would have more than [`limits::MEMBERS_MAX`] members.
    TooMany,
    /// One of those who are named has blocked the caller, or has to be invited and cannot be.
    NotAccepted,
    /// As many invitations of the caller wait as may.
    InvitationsTooMany,
}

/// The outcome of making a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouping {
    /// It is made. These users are no members, and are invited: they are no contacts of its creator, and would have to be.
    Made(Vec<UserId>),
    /// There is a chat of this id, and nothing was done.
    IsThere,
    /// Nothing was done: [`NotAllowed::NotAccepted`] or [`NotAllowed::InvitationsTooMany`].
    Refused(NotAllowed),
}

/// The treatment of names that the service does not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownUsers {
    /// Nothing is changed, and their number is returned.
    Count,
    /// They are made, for a caller that may add them.
    Make,
}

/// The outcome of adding members.
#[derive(Debug)]
pub enum Adding {
    /// They are members.
    Done(Joined),
    /// Nothing was changed: the caller may add them, but the service does not know so many of the names.
    Unknown(usize),
    /// Nothing was changed.
    Refused(NotAllowed),
}

/// Users who have just joined.
#[derive(Debug)]
pub struct Joined {
    /// The users that joined, without those who were members already.
    pub users: Vec<(UserId, ExternalId)>,
    /// The users that are invited now, since they are no contacts of the caller, and would have to be.
    pub invited: Vec<ExternalId>,
    /// They get messages above this number.
    pub seq: ChatSeq,
    /// The group's title.
    pub title: Option<String>,
}

/// Users who have just left.
#[derive(Debug)]
pub struct Left {
    /// The users that left, without those who were no members.
    pub users: Vec<(UserId, ExternalId)>,
    /// The users who were invited, and are no more.
    pub withdrawn: Vec<ExternalId>,
    /// Messages above this number are not for them.
    pub seq: ChatSeq,
    /// Rows that waited for them and wait no more.
    pub ended: Vec<StatusRow>,
    /// The time of leaving, which is also the time at which the rows ended.
    pub at: OffsetDateTime,
}

/// The remainder that one transaction left.
#[derive(Debug, Clone, Copy)]
pub struct Unfinished {
    /// True if something waits for members that have left.
    pub departures: bool,
    /// True if marks have further to go.
    pub marks: bool,
}

/// The rows that have ended, of those that waited for a member that left, or that has blocked the other.
#[derive(Debug)]
pub struct EndedPart {
    /// The member.
    pub member: ExternalId,
    /// Rows that wait no more.
    pub rows: Vec<StatusRow>,
    /// The time at which the rows ended.
    pub at: OffsetDateTime,
    /// The member has blocked the other one, who is told nothing.
    pub by_a_block: bool,
}

impl Store {
    /// Makes this group, whose admin is `creator`. Where only contacts write to one another, others are invited.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Invalid`]: PostgreSQL refuses a value. [`Error::Taken`], [`Error::Failed`]: a defect.
    pub async fn create_group(&self, chat: ChatId, creator: UserId, title: Option<&str>, members: &[UserId]) -> Result<Grouping> {
        let making =
            sqlx::query_file!("src/store/sql/create_group.sql", chat.0, creator.0, title, &numbers(members), self.is_for_contacts());
        match making.fetch_one(self.database()).await.map_err(Error::from) {
            Ok(row) => match refusal(&row.outcome)? {
                None => Ok(Grouping::Made(row.invited.into_iter().map(UserId).collect())),
                Some(refused) => Ok(Grouping::Refused(refused)),
            },
            Err(cause) if cause.is_taken(ONE_CHAT_OF_AN_ID) => Ok(Grouping::IsThere),
            Err(cause) => Err(cause),
        }
    }

    /// Adds members to a group by their names. Where only contacts write to one another, others are invited. May be repeated: users who are
    /// in it or invited already are passed over.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Invalid`]: PostgreSQL refuses a value. [`Error::Failed`]: a defect.
    pub async fn add_members(&self, caller: UserId, chat: ChatId, names: &[ExternalId], unknown: UnknownUsers) -> Result<Adding> {
        let members_max = i32::try_from(limits::MEMBERS_MAX).unwrap_or(i32::MAX);
        let makes = unknown == UnknownUsers::Make;
        let (names, for_contacts) = (texts(names), self.is_for_contacts());
        let asked = sqlx::query_file!("src/store/sql/add_members.sql", chat.0, caller.0, &names, makes, members_max, for_contacts);
        let rows = asked.fetch_all(self.database()).await?;
        let first = rows.first().ok_or_else(unexpected)?;
        if first.outcome == "unknown" {
            return Ok(Adding::Unknown(rows.len()));
        }
        if let Some(refused) = refusal(&first.outcome)? {
            return Ok(Adding::Refused(refused));
        }
        let (seq, title) = (ChatSeq(first.joined_seq.unwrap_or_default()), first.title.clone());
        let (invited, joined): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.outcome == "invited");
        let users = joined.into_iter().filter_map(|row| user(row.user_id, row.external_id)).collect();
        let invited = invited.into_iter().filter_map(|row| ExternalId::try_from(row.external_id?).ok()).collect();
        Ok(Adding::Done(Joined { users, invited, seq, title }))
    }

    /// Takes members out of a group by their names, and ends what waits for them there; those who are invited are invited no more. May be repeated. Names that the service does
    /// not know count as others than the caller.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Invalid`]: PostgreSQL refuses a value. [`Error::Failed`]: a defect.
    pub async fn remove_members(
        &self,
        caller: UserId,
        chat: ChatId,
        names: &[ExternalId],
    ) -> Result<std::result::Result<Left, NotAllowed>> {
        let rows =
            sqlx::query_file!("src/store/sql/remove_members.sql", chat.0, caller.0, &texts(names)).fetch_all(self.database()).await?;
        let first = rows.first().ok_or_else(unexpected)?;
        if let Some(refused) = refusal(&first.outcome)? {
            return Ok(Err(refused));
        }
        let at = first.ended_at.ok_or_else(unexpected)?;
        let mut left = Left { users: Vec::new(), withdrawn: Vec::new(), seq: ChatSeq(0), ended: Vec::new(), at };
        for row in rows {
            left.seq = ChatSeq(row.left_seq.unwrap_or(left.seq.0));
            match (row.class, row.seq, row.message_id, row.chat_seq, row.sender_id) {
                (Some(class), Some(seq), Some(message), Some(chat_seq), Some(sender)) => {
                    left.ended.extend(row.user_id.map(|user| ended(user, class, seq, message, chat, chat_seq, sender)));
                }
                _ if row.outcome == "withdrawn" => left.withdrawn.extend(row.external_id.and_then(|name| ExternalId::try_from(name).ok())),
                _ => left.users.extend(user(row.user_id, row.external_id)),
            }
        }
        Ok(Ok(left))
    }

    /// Returns whether departures or marks are left for a job to finish.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn unfinished(&self) -> Result<Unfinished> {
        let row = sqlx::query_file!("src/store/sql/unfinished.sql").fetch_one(self.database()).await?;
        Ok(Unfinished { departures: row.departures, marks: row.marks })
    }

    /// Ends a part of the rows that wait for one member that has left, of at most `messages_max` messages of its chat. None: no such
    /// rows are left, or another node works on them.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn end_departures(&self, messages_max: i32) -> Result<Option<EndedPart>> {
        let found = sqlx::query_file!("src/store/sql/end_departures.sql", messages_max).fetch_all(self.database()).await?;
        let Some(first) = found.first() else { return Ok(None) };
        let member = ExternalId::try_from(first.member.clone()).map_err(|_| unexpected())?;
        let (at, by_a_block) = (first.ended_at, first.by_a_block);
        let rows = found.into_iter().filter_map(|row| {
            let (class, seq, message, chat_seq, sender) = (row.class?, row.seq?, row.message_id?, row.chat_seq?, row.sender_id?);
            Some(ended(row.user_id, class, seq, message, ChatId(row.chat_id), chat_seq, sender))
        });
        Ok(Some(EndedPart { member, rows: rows.collect(), at, by_a_block }))
    }
}

fn ended(user: i64, class: enums::Class, seq: i64, message: uuid::Uuid, chat: ChatId, chat_seq: i64, sender: i64) -> StatusRow {
    StatusRow {
        user: UserId(user),
        class: class.into(),
        seq: InboxSeq(seq),
        message: MessageId(message),
        chat,
        chat_seq: ChatSeq(chat_seq),
        sender: UserId(sender),
    }
}

fn user(id: Option<i64>, external: Option<String>) -> Option<(UserId, ExternalId)> {
    Some((UserId(id?), ExternalId::try_from(external?).ok()?))
}

fn refusal(outcome: &str) -> Result<Option<NotAllowed>> {
    match outcome {
        "done" => Ok(None),
        "not_a_member" => Ok(Some(NotAllowed::NotAMember)),
        "not_a_group" => Ok(Some(NotAllowed::NotAGroup)),
        "forbidden" => Ok(Some(NotAllowed::NoAdmin)),
        "not_accepted" => Ok(Some(NotAllowed::NotAccepted)),
        "too_many_members" => Ok(Some(NotAllowed::TooMany)),
        "too_many_invitations" => Ok(Some(NotAllowed::InvitationsTooMany)),
        _ => Err(unexpected()),
    }
}

fn numbers(users: &[UserId]) -> Vec<i64> {
    users.iter().map(|user| user.0).collect()
}

fn texts(names: &[ExternalId]) -> Vec<String> {
    names.iter().map(|name| name.as_str().to_owned()).collect()
}

/// The function and this file do not agree.
fn unexpected() -> Error {
    Error::Failed(sqlx::Error::RowNotFound)
}
