//! Erasing of users: the statement that begins it, how far it is, and the parts of the job. The place of an erasure stands in its row, and
//! each part moves it in its own transaction, so a part that is made twice finds nothing the second time.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Error, Result, StatusRow, Store, audit, enums};
use crate::domain::{ChatId, ChatSeq, ExternalId, InboxSeq, MessageId, Operator, Revocation, Revoked, UserId};

/// Recalls that may be under way before an erasure makes more.
const RECALLS_MAX: i64 = 1_000;
/// The place behind all messages of a chat.
const BEHIND_ALL: i64 = i64::MAX;
/// Blocks that pass on with the name in one transaction.
const BLOCKS: i32 = 1_000;
/// The second round goes on so long after the name has passed on. What was under way to the erased user then is stored.
const AFTER_PASSING: Duration = Duration::from_secs(2);

/// The treatment of what an erased user has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErasedContent {
    /// It stays.
    Keep,
    /// Its messages are recalled, its events emptied.
    Empty,
}

/// The outcome of the wish to erase a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erasing {
    /// It is under way. With the revocation of the user's tokens.
    Begun(Revocation),
    /// There is no such user.
    NotFound,
}

/// An erasure, and how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erasure {
    /// The treatment of what the user has said.
    pub content: ErasedContent,
    /// The time at which it was asked for, the last time.
    pub asked_at: OffsetDateTime,
    /// Messages and events that were emptied so far.
    pub emptied: u64,
    /// The time at which it was done. None: the job is at work.
    pub done_at: Option<OffsetDateTime>,
}

/// The part of an erasure that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErasureStage {
    /// Memberships and messages.
    Chats,
    /// Published events.
    Events,
    /// Rows that wait for the user.
    Inbox,
    /// Contacts, blocks, follows, devices.
    People,
    /// The name passes on to another user. The second round begins with it.
    Name,
}

/// The place at which an erasure goes on.
#[derive(Debug, Clone)]
pub struct ErasureStep {
    /// The user.
    pub user: UserId,
    /// Its id outside.
    pub external: ExternalId,
    /// The treatment of what it has said.
    pub content: ErasedContent,
    /// The stage.
    pub stage: ErasureStage,
    /// So many recalls are under way that no more should be made now.
    pub is_crowded: bool,
    asked_at: OffsetDateTime,
    round: i16,
    chat: ChatId,
    seq: ChatSeq,
}

/// A chat of a user that is erased.
#[derive(Debug, Clone, Copy)]
pub struct ErasedChat {
    /// The chat.
    pub chat: ChatId,
    /// The user is a member of it, and it is a group.
    pub may_leave: bool,
    /// The user is a member of it, and it is a direct chat.
    pub is_direct: bool,
    /// There are numbers that were not looked at.
    pub has_more: bool,
}

/// The rows of a page that have ended, of those that waited for a user that is erased.
#[derive(Debug)]
pub struct ErasedRows {
    /// Rows that wait no more.
    pub rows: Vec<StatusRow>,
    /// The time at which they ended.
    pub at: OffsetDateTime,
    /// Something is held, and the page is to be looked at again.
    pub is_held: bool,
}

impl ErasureStage {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Chats => "chats",
            Self::Events => "events",
            Self::Inbox => "inbox",
            Self::People => "people",
            Self::Name => "name",
        }
    }

    fn of(word: &str) -> Result<Self> {
        let stages = [Self::Chats, Self::Events, Self::Inbox, Self::People, Self::Name];
        stages.into_iter().find(|stage| stage.as_str() == word).ok_or_else(|| unexpected(word))
    }
}

impl ErasureStep {
    /// The erasure is at this chat.
    pub fn is_at(&self, chat: ChatId) -> bool {
        self.chat == chat
    }

    /// The name has passed on to another user: nothing new comes to this one.
    pub const fn has_no_name(&self) -> bool {
        self.round == 2
    }
}

impl ErasedContent {
    const fn of(empties: bool) -> Self {
        if empties { Self::Empty } else { Self::Keep }
    }
}

impl Store {
    /// Erases a user, and notes it: its profile and its tokens are worth nothing with the commit, the rest is the job's. The revocation is
    /// kept for as long as a token may live. Without an operator it is an act of the connection's role. Repeated while it is under way it
    /// goes on. Once the name has passed on, it erases the user that has it then.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn erase_user(&self, user: &ExternalId, content: ErasedContent, operator: Option<&Operator>) -> Result<Erasing> {
        let (actor, node) = audit::columns(operator);
        let empties = content == ErasedContent::Empty;
        let row = sqlx::query_file!("src/store/sql/erase_user.sql", user.as_str(), empties, actor, node).fetch_one(self.database()).await?;
        match (row.number, row.revoked_at, row.expires_at) {
            (Some(number), Some(at), Some(expires_at)) => {
                let by = operator.map(|operator| operator.name.to_string()).unwrap_or_default();
                Ok(Erasing::Begun(Revocation { number, revoked: Revoked::User(user.clone()), at, expires_at, reason: None, by }))
            }
            _ if row.outcome == "not_found" => Ok(Erasing::NotFound),
            _ => Err(unexpected(&row.outcome)),
        }
    }

    /// The last erasure of a user of this name. None: there is no such user, or none was erased.
    ///
    /// # Errors
    /// As [`Self::erase_user`].
    pub async fn erasure(&self, user: &ExternalId) -> Result<Option<Erasure>> {
        let row = sqlx::query_file!("src/store/sql/erasure.sql", user.as_str()).fetch_optional(self.database()).await?;
        Ok(row.map(|row| Erasure {
            content: ErasedContent::of(row.empties),
            asked_at: row.asked_at,
            emptied: u64::try_from(row.emptied).unwrap_or_default(),
            done_at: row.done_at,
        }))
    }

    /// The place of the first erasure of a user behind `after`, and behind the last one of the first of all. The second round of one begins
    /// so long after it was asked for. None: there is none that is due.
    ///
    /// # Errors
    /// As [`Self::erase_user`].
    pub async fn next_erasure(&self, after: UserId, second_after: Duration) -> Result<Option<ErasureStep>> {
        let asked = sqlx::query_file!(
            "src/store/sql/next_erasure.sql",
            after.0,
            second_after.as_secs_f64(),
            RECALLS_MAX,
            AFTER_PASSING.as_secs_f64()
        );
        let Some(row) = asked.fetch_optional(self.database()).await? else { return Ok(None) };
        let external = ExternalId::try_from(row.external_id).map_err(|error| Error::Failed(sqlx::Error::Decode(Box::new(error))))?;
        Ok(Some(ErasureStep {
            user: UserId(row.user_id),
            external,
            content: ErasedContent::of(row.empties),
            stage: ErasureStage::of(&row.stage)?,
            is_crowded: row.is_crowded,
            asked_at: row.asked_at,
            round: row.round,
            chat: ChatId(row.chat_id),
            seq: ChatSeq(row.seq),
        }))
    }

    /// The chat at which an erasure goes on. None: all are done.
    ///
    /// # Errors
    /// As [`Self::erase_user`].
    pub async fn erased_chat(&self, step: &ErasureStep) -> Result<Option<ErasedChat>> {
        let asked = sqlx::query_file!("src/store/sql/erased_chat.sql", step.user.0, step.chat.0, step.seq.0);
        Ok(asked.fetch_optional(self.database()).await?.map(|row| {
            let looked_at = if row.chat_id == step.chat.0 { step.seq.0 } else { 0 };
            ErasedChat {
                chat: ChatId(row.chat_id),
                may_leave: row.is_member && row.is_group,
                is_direct: row.is_member && !row.is_group,
                has_more: looked_at < row.last_seq,
            }
        }))
    }

    /// An erasure goes on in this chat: in its messages, or behind it.
    ///
    /// # Errors
    /// As [`Self::erase_user`].
    pub async fn erasure_at_chat(&self, step: &ErasureStep, chat: ChatId, is_done: bool) -> Result<()> {
        self.advance_erasure(step, ErasureStage::Chats, chat, if is_done { BEHIND_ALL } else { 0 }).await
    }

    /// An erasure goes on with this stage.
    ///
    /// # Errors
    /// As [`Self::erase_user`].
    pub async fn erasure_at(&self, step: &ErasureStep, stage: ErasureStage) -> Result<()> {
        self.advance_erasure(step, stage, ChatId(Uuid::nil()), 0).await
    }

    async fn advance_erasure(&self, step: &ErasureStep, stage: ErasureStage, chat: ChatId, seq: i64) -> Result<()> {
        let (was, is) = (step.stage.as_str(), stage.as_str());
        let asked = sqlx::query_file!("src/store/sql/advance_erasure.sql", step.user.0, step.asked_at, step.round, was, is, chat.0, seq);
        asked.execute(self.database()).await?;
        Ok(())
    }

    /// The user leaves a direct chat, in which nothing is accepted any more. Returns the other member, if there is one.
    ///
    /// # Errors
    /// As [`Self::erase_user`].
    pub async fn leave_direct(&self, user: UserId, chat: ChatId) -> Result<Option<UserId>> {
        let left = sqlx::query_file_scalar!("src/store/sql/leave_direct.sql", user.0, chat.0);
        Ok(left.fetch_one(self.database()).await?.map(UserId))
    }

    /// Passes the name of the user on to another one, which has nothing. False: there are more blocks than pass on at once.
    ///
    /// # Errors
    /// As [`Self::erase_user`].
    pub async fn pass_on_name(&self, user: UserId) -> Result<bool> {
        Ok(sqlx::query_file_scalar!("src/store/sql/pass_on_name.sql", user.0, BLOCKS).fetch_one(self.database()).await?)
    }

    /// Recalls the next messages of a user that is erased in the chat that its erasure is at. Returns how many.
    ///
    /// # Errors
    /// As [`Self::erase_user`].
    pub async fn erase_messages(&self, user: UserId, chat: ChatId, messages_max: i32) -> Result<usize> {
        let asked = sqlx::query_file_scalar!("src/store/sql/erase_messages.sql", user.0, chat.0, messages_max);
        Ok(usize::try_from(asked.fetch_one(self.database()).await?).unwrap_or_default())
    }

    /// Empties the next events of a user that is erased. It looks at so many events of all publishers. True: these were the last.
    ///
    /// # Errors
    /// As [`Self::erase_user`].
    pub async fn erase_events(&self, user: UserId, events_max: i32) -> Result<bool> {
        let asked = sqlx::query_file_scalar!("src/store/sql/erase_events.sql", user.0, events_max);
        Ok(asked.fetch_one(self.database()).await?)
    }

    /// Ends what waits for a user that is erased, a page of its inboxes. None: the erasure is not at the inbox.
    ///
    /// # Errors
    /// As [`Self::erase_user`].
    pub async fn erase_inbox(&self, user: UserId, rows_max: i32) -> Result<Option<ErasedRows>> {
        let found = sqlx::query_file!("src/store/sql/erase_inbox.sql", user.0, rows_max).fetch_all(self.database()).await?;
        let Some((at, is_held)) = found.first().map(|first| (first.ended_at, first.is_held)) else { return Ok(None) };
        let rows = found.into_iter().filter_map(|row| {
            Some(StatusRow {
                user,
                class: row.class.into(),
                seq: InboxSeq(row.seq?),
                message: MessageId(row.message_id?),
                chat: ChatId(row.chat_id?),
                chat_seq: ChatSeq(row.chat_seq?),
                sender: UserId(row.sender_id?),
            })
        });
        Ok(Some(ErasedRows { rows: rows.collect(), at, is_held }))
    }

    /// Ends a round of an erasure. True: it was the second one, and the erasure is done.
    ///
    /// # Errors
    /// As [`Self::erase_user`].
    pub async fn end_erasure_round(&self, user: UserId) -> Result<bool> {
        Ok(sqlx::query_file_scalar!("src/store/sql/end_erasure_round.sql", user.0).fetch_one(self.database()).await?)
    }
}

/// The functions and this file do not agree.
fn unexpected(word: &str) -> Error {
    Error::Failed(sqlx::Error::Decode(format!("an erasure has the word {word:?}").into()))
}
