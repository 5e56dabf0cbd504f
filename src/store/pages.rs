//! Pages of an inbox: rows and the inbox's counter, from one snapshot.
//!
//! A row that cannot be read costs itself only: it comes as a gap, and what stands behind it comes as ever.

use std::collections::HashMap;
use std::sync::Arc;

use time::OffsetDateTime;
use tracing::error;
use uuid::Uuid;

use super::feeds::Taken;
use super::row_states::gap_reason;
use super::rows::{MessageRow, Senders};
use super::sealing::SealedRow;
use super::{Error, GuardedPool, Result, Store, enums};
use crate::domain::{
    Class, Envelope, FeedId, FeedPlace, FeedRange, FeedSeq, GapReason, InboxSeq, MergeRules, MergedEvent, MessageId, Page, PageRow, Status,
    UserId, limits,
};
use crate::encryption::Plain;

/// The count of numbers of an inbox that one statement looks at. Most of them may have ended long ago.
const NUMBERS_MAX: i64 = 50_000;

/// The times that one page makes rows of what is new in feeds. Each time moves the user's cursors by up to 2,000 events.
const TAKES_MAX: u32 = 64;

/// The kind of rows that a page holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageRequest {
    /// Rows that wait, and, best effort, those that ended otherwise.
    Waiting,
    /// Every row; numbers without one are gaps.
    Everything,
    /// Rows that wait and nothing else.
    Poll,
}

/// A page, and what became of an inbox when it was read.
#[derive(Debug, Clone)]
pub struct PageRead {
    /// The page.
    pub page: Page,
    /// Events became rows, and rows that waited ended for them: a session may hold some of these.
    pub superseded: bool,
}

/// The part of an inbox that one statement reads.
#[derive(Debug, Clone, Copy)]
struct Part {
    request: PageRequest,
    user: UserId,
    class: Class,
    after: InboxSeq,
    limit: u16,
}

impl Part {
    /// The last number that one statement looks at.
    fn up_to(self) -> InboxSeq {
        InboxSeq(self.after.0.saturating_add(NUMBERS_MAX))
    }
}

impl Store {
    /// Reads the rows above `after`, at most `limit`, and the inbox's `last_seq`, from one snapshot. Before that it makes rows of what is
    /// new in the feeds that the user follows, as many as the page may hold.
    ///
    /// # Errors
    /// [`Error::Busy`]: no connection is free. [`Error::Unavailable`]: the database is away. [`Error::Held`]: another session holds a
    /// lock. [`Error::Failed`]: a defect.
    pub async fn page(&self, request: PageRequest, user: UserId, class: Class, after: InboxSeq, limit: u16) -> Result<Page> {
        Ok(self.take_and_read(request, user, class, after, limit).await?.page)
    }

    /// As [`Self::page`], and says whether rows have ended for those that were made.
    ///
    /// # Errors
    /// As [`Self::page`].
    pub async fn take_and_read(&self, request: PageRequest, user: UserId, class: Class, after: InboxSeq, limit: u16) -> Result<PageRead> {
        // A client may name any number.
        let after = after.min(InboxSeq(i64::MAX - NUMBERS_MAX));
        let (taken, held) = match self.take_up_to(user, class, limit).await {
            Ok(taken) => (taken, None),
            // A row that has its number comes, whoever holds the inbox.
            Err(Error::Held(cause)) => (Taken { numbers: 0, more: true, superseded: false }, Some(cause)),
            Err(cause) => return Err(cause),
        };
        let mut part = Part { request, user, class, after, limit };
        let mut senders = Senders::new();
        let mut listed: Vec<(InboxSeq, Entry)> = Vec::new();
        // An inbox in which much has ended and little waits is read in parts. A later part may be of a later snapshot. Its rows have
        // higher numbers than all that the earlier parts have covered.
        let (end, last_seq, is_last) = loop {
            let (last_seq, purged_seq, found) = self.part(part, &mut senders).await?;
            part.limit -= u16::try_from(found.len()).unwrap_or(part.limit).min(part.limit);
            listed.extend(found);
            let highest = listed.last().map_or(part.after, |(seq, _)| *seq);
            match part.limit {
                // A full page may end where the inbox does: both are of one snapshot, so there is no other behind it.
                0 => break (highest, last_seq, highest >= last_seq),
                _ if part.up_to() >= last_seq => break (last_seq, last_seq, true),
                // Nothing is left of the numbers that were purged, however many they are.
                _ => part.after = part.up_to().max(purged_seq),
            }
        };
        let end = if is_last { last_seq } else { end };
        let rows = match request {
            PageRequest::Everything => with_holes_named(listed, after, end),
            PageRequest::Waiting | PageRequest::Poll => listed.into_iter().map(|(seq, entry)| entry.at(seq)).collect(),
        };
        match held {
            Some(cause) if rows.is_empty() => Err(Error::Held(cause)),
            Some(_) | None => {
                let page = Page { class, after, rows: joined(rows), is_last: is_last && !taken.more, last_seq };
                Ok(PageRead { page, superseded: taken.superseded })
            }
        }
    }

    /// Makes rows of what is new in feeds, so many numbers of them, a page of 50 at a time. Of [`Class::Chat`] there are none.
    ///
    /// # Errors
    /// As [`Self::page`]. What was made before stays.
    pub async fn take_up_to(&self, user: UserId, class: Class, limit: u16) -> Result<Taken> {
        let limit = u32::from(limit);
        let mut all = Taken { numbers: 0, more: class != Class::Chat, superseded: false };
        for _ in 0..TAKES_MAX {
            if !all.more || all.numbers >= limit {
                break;
            }
            let rows = u16::try_from(limit - all.numbers).unwrap_or(u16::MAX).min(limits::PAGE_ROWS);
            let taken = self.take(user, class, rows).await?;
            all = Taken { numbers: all.numbers + taken.numbers, more: taken.more, superseded: all.superseded | taken.superseded };
        }
        Ok(all)
    }

    /// The entries of a part, ascending, and the inbox's `last_seq` and `purged_seq`.
    async fn part(&self, part: Part, senders: &mut Senders) -> Result<(InboxSeq, InboxSeq, Vec<(InboxSeq, Entry)>)> {
        let mut rows = match read_rows(self.database(), part).await {
            Ok(rows) => rows,
            Err(cause) if cause.may_be_of_one_row() => self.one_by_one(part, cause).await?,
            Err(cause) => return Err(cause),
        };
        self.unseal(&mut rows).await?;
        // They come in this order; the statement does not say so, to save PostgreSQL a sort.
        rows.sort_unstable_by_key(|row| row.seq);
        let first = rows.first().ok_or(Error::Failed(sqlx::Error::RowNotFound))?;
        let (last_seq, purged_seq) = (InboxSeq(first.last_seq), InboxSeq(first.purged_seq));
        let merged = match rows.iter().any(|row| row.merge.is_some()) {
            // Boxed, since it is rare.
            true => Box::pin(self.merge_into(part.user, &mut rows)).await?,
            false => HashMap::new(),
        };
        let mut listed = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(seq) = row.seq else { continue };
            listed.push((InboxSeq(seq), row.into_entry(part.class, merged.get(&seq).copied(), senders)));
        }
        Ok((last_seq, purged_seq, listed))
    }

    /// Puts the data of all events that rows stand for into them. Returns the number of these, with the row's own, by the row's number.
    async fn merge_into(&self, user: UserId, rows: &mut [RawRow]) -> Result<HashMap<i64, u32>> {
        let mut merged = HashMap::new();
        let mut merge = |row: &mut RawRow, older: &[MergedEvent]| merged.extend(row.seq.zip(row.merge_with(older)));
        let merging = rows.iter_mut().filter(|row| row.ended.is_none() && row.merge.is_some() && row.key_id.is_none());
        let (mut standing_for_others, alone): (Vec<_>, Vec<_>) = merging.partition(|row| row.is_merged == Some(true));
        alone.into_iter().for_each(|row| merge(row, &[]));
        let messages: Vec<_> = standing_for_others.iter().map(|row| MessageId(row.message_id.unwrap_or_default())).collect();
        self.older_events(user, &messages, |place, older| merge(standing_for_others[place], older)).await?;
        Ok(merged)
    }

    /// The same where some row cannot be read: first what stands where, then each by itself.
    async fn one_by_one(&self, part: Part, cause: Error) -> Result<Vec<RawRow>> {
        let keys = read_keys(self.database(), part).await?;
        let mut rows = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(seq) = key.seq else {
                rows.push(key);
                continue;
            };
            let alone = Part { after: InboxSeq(seq - 1), limit: 1, ..part };
            match read_rows(self.database(), alone).await {
                Ok(found) => rows.extend(found.into_iter().filter(|row| row.seq == Some(seq)).map(|row| RawRow {
                    last_seq: key.last_seq,
                    purged_seq: key.purged_seq,
                    ..row
                })),
                Err(cause) if cause.may_be_of_one_row() => {
                    error!(message.id = ?key.message_id, user.number = part.user.0, inbox.seq = seq, ?cause, "a message cannot be read");
                    rows.push(RawRow { is_unreadable: true, ..key });
                }
                Err(cause) => return Err(cause),
            }
        }
        if rows.is_empty() { Err(cause) } else { Ok(rows) }
    }
}

/// A row of any of the page statements.
#[derive(Debug, Default)]
struct RawRow {
    last_seq: i64,
    purged_seq: i64,
    seq: Option<i64>,
    status: Option<enums::Status>,
    attempts: Option<i16>,
    ended: Option<String>,
    message_id: Option<Uuid>,
    chat_id: Option<Uuid>,
    chat_seq: Option<i64>,
    message_type: Option<String>,
    content: Option<String>,
    metadata: Option<String>,
    sealed: Option<Vec<u8>>,
    /// The key of `sealed`. Once rows were opened: it cannot be read.
    key_id: Option<String>,
    created_at: Option<OffsetDateTime>,
    expires_at: Option<OffsetDateTime>,
    sender_id: Option<i64>,
    sender: Option<String>,
    sender_name: Option<String>,
    sender_picture: Option<String>,
    is_unreadable: bool,
    feed_id: Option<Uuid>,
    from_feed_seq: Option<i64>,
    to_feed_seq: Option<i64>,
    feed_count: Option<i64>,
    /// The rules by which its data is merged with that of others; None: it stands for itself.
    merge: Option<String>,
    /// The row stands for others too.
    is_merged: Option<bool>,
}

async fn read_rows(database: GuardedPool<'_>, part: Part) -> Result<Vec<RawRow>> {
    let Part { request, user, class, after, limit } = part;
    let class = enums::Class::from(class);
    let (limit, up_to) = (i64::from(limit), part.up_to().0);
    let rows = match request {
        PageRequest::Waiting => {
            sqlx::query_file_as!(RawRow, "src/store/sql/page_waiting.sql", user.0, class as enums::Class, after.0, limit, up_to)
                .fetch_all(database)
                .await?
        }
        PageRequest::Everything => {
            sqlx::query_file_as!(RawRow, "src/store/sql/page_everything.sql", user.0, class as enums::Class, after.0, limit, up_to)
                .fetch_all(database)
                .await?
        }
        PageRequest::Poll => {
            sqlx::query_file_as!(RawRow, "src/store/sql/page_poll.sql", user.0, class as enums::Class, after.0, limit, up_to)
                .fetch_all(database)
                .await?
        }
    };
    Ok(rows)
}

/// The rows of a part without their messages.
async fn read_keys(database: GuardedPool<'_>, part: Part) -> Result<Vec<RawRow>> {
    let Part { request, user, class, after, limit } = part;
    let class = enums::Class::from(class);
    let statuses: Vec<String> = request.statuses().iter().map(|status| (*status).to_owned()).collect();
    let (limit, up_to) = (i64::from(limit), part.up_to().0);
    let (all_gaps, feed_gaps) = (request == PageRequest::Everything, request == PageRequest::Waiting);
    let rows = sqlx::query_file!(
        "src/store/sql/page_keys.sql",
        user.0,
        class as enums::Class,
        after.0,
        limit,
        up_to,
        &statuses,
        all_gaps,
        feed_gaps
    );
    let rows = rows.fetch_all(database).await?;
    Ok(rows
        .into_iter()
        .map(|row| RawRow {
            last_seq: row.last_seq,
            purged_seq: row.purged_seq,
            seq: row.seq,
            message_id: row.message_id,
            status: row.status,
            ended: row.ended,
            feed_id: row.feed_id,
            from_feed_seq: row.from_feed_seq,
            to_feed_seq: row.to_feed_seq,
            feed_count: row.feed_count,
            ..RawRow::default()
        })
        .collect())
}

impl PageRequest {
    /// The statuses that it wants.
    const fn statuses(self) -> &'static [&'static str] {
        match self {
            Self::Waiting => &["sent", "failed", "expired"],
            Self::Everything => &["sent", "delivered", "read", "failed", "expired"],
            Self::Poll => &["sent"],
        }
    }
}

/// The entry at a number.
enum Entry {
    Envelope(Box<Envelope>),
    Gap(GapReason, Option<FeedRange>),
}

impl Entry {
    fn at(self, seq: InboxSeq) -> PageRow {
        match self {
            Self::Envelope(envelope) => PageRow::Envelope(*envelope),
            Self::Gap(reason, feed) => PageRow::Gap { from: seq, to: seq, reason, feed },
        }
    }
}

impl RawRow {
    /// Merges its data with that of others, newest first. Returns the number of events that it stands for, with itself.
    fn merge_with(&mut self, older: &[MergedEvent]) -> Option<u32> {
        match MergeRules::parse(self.merge.as_deref()?) {
            Ok(rules) => {
                let (data, merged) = rules.merge(self.metadata.as_deref(), older);
                self.metadata = Some(data);
                Some(merged)
            }
            Err(cause) => {
                error!(message.id = ?self.message_id, %cause, "the rules by which an event merges cannot be read");
                None
            }
        }
    }

    fn into_entry(self, class: Class, merged: Option<u32>, senders: &mut Senders) -> Entry {
        let status = self.status.map(Status::from);
        match (gap_reason(status, self.ended.as_deref()), status) {
            _ if self.is_unreadable => Entry::Gap(GapReason::Unreadable, None),
            (Some(reason), _) => Entry::Gap(reason, self.feed_range()),
            (None, Some(status)) => self.into_envelope(status, class, merged, senders),
            (None, None) => Entry::Gap(GapReason::Purged, None),
        }
    }

    fn feed_range(&self) -> Option<FeedRange> {
        let (from, to) = (FeedSeq(self.from_feed_seq?), FeedSeq(self.to_feed_seq?));
        Some(FeedRange { feed: FeedId(self.feed_id?), from, to, count: self.feed_count? })
    }

    fn into_envelope(self, status: Status, class: Class, merged: Option<u32>, senders: &mut Senders) -> Entry {
        let (seq, id) = (InboxSeq(self.seq.unwrap_or_default()), self.message_id);
        let feed = self.feed_id.zip(self.chat_seq).map(|(feed, seq)| FeedPlace { feed: FeedId(feed), seq: FeedSeq(seq) });
        let attempts = self.attempts.and_then(|attempts| u16::try_from(attempts).ok()).unwrap_or_default();
        match self.into_message_row().into_message(senders) {
            Ok(Some(message)) => Entry::Envelope(Box::new(Envelope {
                class,
                inbox_seq: seq,
                status,
                attempts,
                message: Arc::new(message),
                feed,
                merged,
                is_muted: false,
            })),
            // A status row without its message can only be an orphan; it is a gap to the client and a find for the DBA.
            Ok(None) => Entry::Gap(GapReason::Purged, None),
            Err(cause) => {
                error!(message.id = ?id, inbox.seq = seq.0, ?cause, "a message cannot be read");
                Entry::Gap(GapReason::Unreadable, None)
            }
        }
    }

    fn into_message_row(self) -> MessageRow {
        MessageRow {
            message_id: self.message_id,
            chat_id: self.chat_id,
            chat_seq: self.chat_seq,
            message_type: self.message_type,
            content: self.content,
            metadata: self.metadata,
            created_at: self.created_at,
            expires_at: self.expires_at,
            sender_id: self.sender_id,
            sender: self.sender,
            sender_name: self.sender_name,
            sender_picture: self.sender_picture,
            // One that was recalled comes as a gap.
            recalled_at: None,
            sealed: self.sealed,
            key_id: self.key_id,
        }
    }
}

impl SealedRow for RawRow {
    fn sealed(&self) -> Option<(Uuid, &str, &[u8])> {
        Some((self.message_id?, self.key_id.as_deref()?, self.sealed.as_deref()?))
    }

    fn open_as(&mut self, plain: Plain) {
        (self.content, self.metadata) = (Some(plain.content.unwrap_or_default()), plain.metadata);
        (self.sealed, self.key_id) = (None, None);
    }
}

/// Names every number of `(after, end]` that has no entry: a client with a device is told of each (I6).
fn with_holes_named(listed: Vec<(InboxSeq, Entry)>, after: InboxSeq, end: InboxSeq) -> Vec<PageRow> {
    let mut rows = Vec::with_capacity(listed.len());
    let mut next = after.next();
    for (seq, entry) in listed {
        if seq > next {
            rows.push(PageRow::Gap { from: next, to: InboxSeq(seq.0 - 1), reason: GapReason::Purged, feed: None });
        }
        rows.push(entry.at(seq));
        next = seq.next();
    }
    if end >= next {
        rows.push(PageRow::Gap { from: next, to: end, reason: GapReason::Purged, feed: None });
    }
    rows
}

/// Neighbouring gaps of one reason become one.
fn joined(rows: Vec<PageRow>) -> Vec<PageRow> {
    let mut out: Vec<PageRow> = Vec::with_capacity(rows.len());
    for row in rows {
        match (out.last_mut(), row) {
            (Some(PageRow::Gap { to, reason, feed: None, .. }), PageRow::Gap { from, to: next_to, reason: next, feed: None })
                if *reason == next && from == to.next() =>
            {
                *to = next_to;
            }
            (_, row) => out.push(row),
        }
    }
    out
}
