//! Streams of feeds: what a node has to know of one that has moved before it wakes anybody.

use super::{Result, Store, enums};
use crate::domain::{ChatId, Class, FeedId, FeedSeq};

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
}
