//! Streams of feeds: what a node has to know of one that has moved before it tells anybody, and the step in which its newest events become
//! rows of many inboxes at once. The step for one inbox, whatever is new there, is in [`feeds`](super::feeds).

use tracing::error;

use super::feeds::{numbers, setting};
use super::rows::{MessageRow, Senders};
use super::{Error, Result, Store, enums};
use crate::domain::{ChatId, Class, FeedId, FeedSeq, InboxSeq, Message, MessageId, UserId, limits};

/// The newest events of a stream that become rows of many inboxes at once. A user that lacks more takes them by itself.
pub const EVENTS_TOGETHER_MAX: u16 = 8;

/// A stream, and where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHead {
    /// The stream.
    pub stream: ChatId,
    /// The feed that it belongs to.
    pub feed: FeedId,
    /// The inboxes that its events go to.
    pub class: Class,
    /// The highest number given in it.
    pub last_seq: FeedSeq,
}

/// Rows that were made for many users at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenTogether {
    /// The rows, each with its user and its number there. Those of a user are in their order.
    pub rows: Vec<(UserId, InboxSeq, MessageId)>,
    /// Followers of whom nothing was taken here: another node has done it, or they take by themselves.
    pub others: Vec<UserId>,
}

impl Store {
    /// Where these streams end, in whatever order. An id that is none of a stream is left out.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Failed`](super::Error::Failed): a defect.
    pub async fn stream_heads(&self, streams: &[ChatId]) -> Result<Vec<StreamHead>> {
        let ids: Vec<uuid::Uuid> = streams.iter().map(|stream| stream.0).collect();
        let rows = sqlx::query_file!("src/store/sql/stream_heads.sql", &ids).fetch_all(self.database()).await?;
        let head = rows.into_iter().map(|row| StreamHead {
            stream: ChatId(row.stream),
            feed: FeedId(row.feed_id),
            class: row.class.into(),
            last_seq: FeedSeq(row.last_seq),
        });
        Ok(head.collect())
    }

    /// Makes rows of the newest events of a stream for those of these users who follow it and lack no more than the last
    /// [`EVENTS_TOGETHER_MAX`], and moves their cursors, as one transaction. It waits for no inbox. Of users who need more than plain rows
    /// nothing is taken.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away; rows may have
    /// been made. [`Failed`](super::Error::Failed): a defect.
    pub async fn take_together(&self, stream: ChatId, users: &[UserId]) -> Result<TakenTogether> {
        let asked = sqlx::query_file!(
            "src/store/sql/take_together.sql",
            stream.0,
            &numbers(users),
            i32::from(EVENTS_TOGETHER_MAX),
            setting(limits::EVENTS_PER_USER_MAX)
        );
        let taken = asked.fetch_one(self.database()).await?;
        let seqs = taken.seqs.unwrap_or_default().into_iter().map(InboxSeq);
        let events = taken.events.unwrap_or_default().into_iter().map(MessageId);
        let rows = taken.users.unwrap_or_default().into_iter().map(UserId).zip(seqs).zip(events);
        Ok(TakenTogether {
            rows: rows.map(|((user, seq), event)| (user, seq, event)).collect(),
            others: taken.others.unwrap_or_default().into_iter().map(UserId).collect(),
        })
    }

    /// Events of a stream, in whatever order. One that is not there, or cannot be read, is left out.
    ///
    /// # Errors
    /// As [`Self::stream_heads`].
    pub async fn events_of_stream(&self, stream: ChatId, events: &[MessageId]) -> Result<Vec<Message>> {
        let ids: Vec<uuid::Uuid> = events.iter().map(|event| event.0).collect();
        let asked = sqlx::query_file_as!(MessageRow, "src/store/sql/events_of_stream.sql", stream.0, &ids);
        let mut rows = match asked.fetch_all(self.database()).await.map_err(Error::from) {
            Err(cause) if cause.may_be_of_one_row() => {
                error!(stream = %stream, ?cause, "an event cannot be read");
                Vec::new()
            }
            rows => rows?,
        };
        self.unseal(&mut rows).await?;
        let mut senders = Senders::new();
        let read = rows.into_iter().filter_map(|row| row.into_message(&mut senders).ok().flatten());
        Ok(read.filter(|message| !message.is_unreadable).collect())
    }
}
