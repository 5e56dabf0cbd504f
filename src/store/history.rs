//! The history of a chat, as its members read it.
//!
//! A message that cannot be read costs itself only: it is left out, and an operator finds it in the log.

use tracing::error;

use super::rows::{MessageRow, Senders};
use super::{Error, GuardedPool, Result, Store};
use crate::domain::{ChatId, ChatSeq, Message, MessageId, UserId};

/// The range of messages of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryRange {
    /// The newest ones below this number.
    Before(ChatSeq),
    /// The oldest ones above this number.
    After(ChatSeq),
}

/// A part of a chat.
#[derive(Debug, Default)]
pub struct HistoryPage {
    /// Its messages, ascending.
    pub messages: Vec<Message>,
    /// True if there are more in the direction asked for.
    pub more: bool,
}

/// The reader and the part of the chat.
#[derive(Debug, Clone, Copy)]
struct Part {
    asker: UserId,
    chat: ChatId,
    range: HistoryRange,
    limit: i32,
}

impl Store {
    /// Messages of a chat, at most `limit`; none: the asker is not a member, or there is no such chat.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn history(&self, asker: UserId, chat: ChatId, range: HistoryRange, limit: u16) -> Result<Option<HistoryPage>> {
        // One more than wanted tells whether there are more.
        let mut part = Part { asker, chat, range, limit: i32::from(limit) + 1 };
        loop {
            let mut rows = self.history_part(part).await?;
            if rows.is_empty() {
                return Ok(None);
            }
            rows.retain(|row| row.chat_seq.is_some());
            rows.sort_unstable_by_key(|row| row.chat_seq);
            let more = rows.len() > usize::from(limit);
            if let HistoryRange::Before(_) = range {
                rows.drain(..rows.len().saturating_sub(usize::from(limit)));
            }
            rows.truncate(usize::from(limit));
            let end = match range {
                HistoryRange::Before(_) => rows.first().and_then(|row| row.chat_seq).map(|seq| HistoryRange::Before(ChatSeq(seq))),
                HistoryRange::After(_) => rows.last().and_then(|row| row.chat_seq).map(|seq| HistoryRange::After(ChatSeq(seq))),
            };
            self.unseal(&mut rows).await?;
            let messages = readable(rows);
            match end {
                // Nothing of it can be read: nobody would have a number to go on from.
                Some(end) if more && messages.is_empty() => part.range = end,
                _ => return Ok(Some(HistoryPage { messages, more })),
            }
        }
    }

    /// Those of these messages that this user has sent, in the order asked for.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect, or one of them cannot be read.
    pub async fn own_messages(&self, sender: UserId, messages: &[MessageId]) -> Result<Vec<Message>> {
        let ids: Vec<uuid::Uuid> = messages.iter().map(|message| message.0).collect();
        let asked = sqlx::query_file_as!(MessageRow, "src/store/sql/own_messages.sql", sender.0, &ids);
        let mut rows = asked.fetch_all(self.database()).await?;
        self.unseal(&mut rows).await?;
        let mut senders = Senders::new();
        rows.into_iter().filter_map(|row| row.into_message(&mut senders).transpose()).collect()
    }

    async fn history_part(&self, part: Part) -> Result<Vec<MessageRow>> {
        match read_rows(self.database(), part).await {
            Err(cause) if cause.may_be_of_one_row() => self.history_one_by_one(part, cause).await,
            read => read,
        }
    }

    /// The same where some message cannot be read: first which there are, then each by itself.
    async fn history_one_by_one(&self, part: Part, cause: Error) -> Result<Vec<MessageRow>> {
        let keys = read_keys(self.database(), part).await?;
        let mut rows = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(seq) = key.chat_seq else {
                rows.push(key);
                continue;
            };
            let alone = Part { range: HistoryRange::After(ChatSeq(seq - 1)), limit: 1, ..part };
            match read_rows(self.database(), alone).await {
                Ok(found) => rows.extend(found.into_iter().filter(|row| row.chat_seq == Some(seq))),
                Err(cause) if cause.may_be_of_one_row() => {
                    error!(message.id = ?key.message_id, ?cause, "a message cannot be read");
                    rows.push(key);
                }
                Err(cause) => return Err(cause),
            }
        }
        if rows.is_empty() { Err(cause) } else { Ok(rows) }
    }
}

/// Those that can be read.
fn readable(rows: Vec<MessageRow>) -> Vec<Message> {
    let mut senders = Senders::new();
    let read = rows.into_iter().filter_map(|row| {
        let id = row.message_id;
        row.into_message(&mut senders).unwrap_or_else(|cause| {
            error!(message.id = ?id, ?cause, "a message cannot be read");
            None
        })
    });
    read.collect()
}

/// The two numbers of the range: above the one, or below the other.
fn bounds(range: HistoryRange) -> (Option<i64>, Option<i64>) {
    match range {
        HistoryRange::After(seq) => (Some(seq.0), None),
        HistoryRange::Before(seq) => (None, Some(seq.0)),
    }
}

async fn read_rows(database: GuardedPool<'_>, part: Part) -> Result<Vec<MessageRow>> {
    let (after, before) = bounds(part.range);
    let rows = sqlx::query_file_as!(MessageRow, "src/store/sql/history.sql", part.asker.0, part.chat.0, after, before, part.limit);
    Ok(rows.fetch_all(database).await?)
}

/// The rows of a part with their numbers only.
async fn read_keys(database: GuardedPool<'_>, part: Part) -> Result<Vec<MessageRow>> {
    let (after, before) = bounds(part.range);
    let limit = i64::from(part.limit);
    let keys = sqlx::query_file!("src/store/sql/history_keys.sql", part.asker.0, part.chat.0, after, before, limit);
    let keys = keys.fetch_all(database).await?;
    Ok(keys.into_iter().map(|key| MessageRow { message_id: key.message_id, chat_seq: key.chat_seq, ..MessageRow::default() }).collect())
}
