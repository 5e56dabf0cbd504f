//! Inboxes: opening a session, and reading pages.

use std::sync::Arc;

use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::{MessageRow, Senders};
use super::{Error, Result, Store, Watched};
use crate::domain::{Class, DeviceId, Envelope, ExternalId, GapReason, InboxSeq, MessageId, Page, PageRow, Profile, Status, UserId};

/// Who wants to open a connection, and what it says of itself.
#[derive(Debug, Clone, Copy)]
pub struct OpeningRequest<'a> {
    /// The user of its token.
    pub external: &'a ExternalId,
    /// The name that the token brings.
    pub name: Option<&'a str>,
    /// The picture that the token brings.
    pub picture: Option<&'a str>,
    /// Its device.
    pub device: Option<&'a DeviceId>,
    /// In the chat inbox it has everything up to here. A number that was never given says nothing.
    pub since: Option<i64>,
    /// So far what it will be given is counted.
    pub pending_max: u32,
}

/// Where a connection starts in one inbox.
#[derive(Debug, Clone, Copy)]
pub struct InboxStart {
    /// Highest number given.
    pub last_seq: InboxSeq,
    /// Nothing waits at or below it.
    pub settled_seq: InboxSeq,
    /// For a device: what it has acked; else `settled_seq`.
    pub acked_seq: InboxSeq,
    /// How many rows the connection will be given.
    pub pending: u32,
}

/// What a connection begins with.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Whose it is.
    pub profile: Profile,
    /// Per class, in the order of [`Class::ALL`].
    pub inboxes: [InboxStart; 2],
    /// For a device: the number of this connection.
    pub session_no: Option<i64>,
    /// The database's clock.
    pub at: OffsetDateTime,
}

/// Which rows a page shall hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageRequest {
    /// Rows that wait, and, best effort, those that ended otherwise.
    Waiting,
    /// Every row; numbers without one are gaps.
    Everything,
    /// Rows that wait and nothing else.
    Look,
}

/// An inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbox {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub class: Class,
}

/// A place in an inbox.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub class: Class,
    /// Behind this number.
    pub after: InboxSeq,
}

/// What is seen of an inbox at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// The highest number given.
    pub last_seq: InboxSeq,
    /// Does anything wait behind the place?
    pub waits: bool,
}

impl Store {
    /// Opens a connection: makes its user on first sight and keeps what its token says of it, advances `settled_seq`,
    /// counts a device's session up.
    pub async fn open(&self, request: OpeningRequest<'_>) -> Result<Opening> {
        let OpeningRequest { external, name, picture, device, since, pending_max } = request;
        let (device, pending_max) = (device.map(DeviceId::as_str), i32::try_from(pending_max).unwrap_or(i32::MAX));
        let mut rows = sqlx::query_file!("src/store/sql/open.sql", external.as_str(), name, picture, device, since, pending_max)
            .fetch_all(self.database())
            .await?;
        let start = |class: Class| {
            let row = rows.iter().find(|row| row.class == class).ok_or(Error::Failed(sqlx::Error::RowNotFound))?;
            Ok::<_, Error>(InboxStart {
                last_seq: InboxSeq(row.last_seq),
                settled_seq: InboxSeq(row.settled_seq),
                acked_seq: InboxSeq(row.acked_seq),
                pending: u32::try_from(row.pending).unwrap_or(u32::MAX),
            })
        };
        let inboxes = [start(Class::Chat)?, start(Class::Event)?];
        let row = rows.swap_remove(0);
        let profile = Profile { user: UserId(row.user_id), external: external.clone(), name: row.display_name, picture: row.avatar_url };
        Ok(Opening { profile, inboxes, session_no: row.session_no, at: row.at })
    }

    /// Reads the rows above `after`, at most `limit`, and the inbox's `last_seq`, from one snapshot.
    pub async fn page(&self, request: PageRequest, user: UserId, class: Class, after: InboxSeq, limit: u16) -> Result<Page> {
        let mut rows = read_rows(self.database(), request, user, class, after, limit).await?;
        // They come in this order; the statement does not say so, to save PostgreSQL a sort.
        rows.sort_unstable_by_key(|row| row.seq);
        let last_seq = InboxSeq(rows.first().ok_or(Error::Failed(sqlx::Error::RowNotFound))?.last_seq);
        let taken = rows.iter().filter(|row| row.seq.is_some()).count();
        let highest = rows.last().and_then(|row| row.seq).map_or(last_seq, InboxSeq);
        // A full page may end where the inbox does: both are of one snapshot, so there is no other behind it.
        let is_last = taken < usize::from(limit) || highest >= last_seq;
        let end = if is_last { last_seq } else { highest };
        let mut senders = Senders::new();
        let mut listed: Vec<(InboxSeq, Entry)> = Vec::with_capacity(taken);
        for row in rows {
            if let Some(seq) = row.seq {
                listed.push((InboxSeq(seq), row.into_entry(class, &mut senders)?));
            }
        }
        let rows = match request {
            PageRequest::Everything => with_holes_named(listed, after, end),
            PageRequest::Waiting | PageRequest::Look => listed.into_iter().map(|(seq, entry)| entry.at(seq)).collect(),
        };
        Ok(Page { class, after, rows: joined(rows), is_last, last_seq })
    }

    /// Glances at many inboxes, in one snapshot; in the order of the places. None: there is no such inbox.
    pub async fn glance(&self, places: &[Place]) -> Result<Vec<Option<Glance>>> {
        let users: Vec<i64> = places.iter().map(|place| place.user.0).collect();
        let classes: Vec<Class> = places.iter().map(|place| place.class).collect();
        let after: Vec<i64> = places.iter().map(|place| place.after.0).collect();
        let rows = sqlx::query_file!("src/store/sql/glance.sql", &users, &classes as &[Class], &after).fetch_all(self.database()).await?;
        let mut glances = vec![None; places.len()];
        for row in rows {
            let place = usize::try_from(row.ord - 1).ok().and_then(|place| glances.get_mut(place));
            if let Some(glance) = place {
                *glance = Some(Glance { last_seq: InboxSeq(row.last_seq), waits: row.waits });
            }
        }
        Ok(glances)
    }

    /// Moves each inbox's `settled_seq` up to the first row that waits and returns it, in the order of the inboxes; never
    /// waits for a lock. None: there is no such inbox.
    pub async fn advance_settled(&self, inboxes: &[Inbox]) -> Result<Vec<Option<InboxSeq>>> {
        let users: Vec<i64> = inboxes.iter().map(|inbox| inbox.user.0).collect();
        let classes: Vec<Class> = inboxes.iter().map(|inbox| inbox.class).collect();
        let rows = sqlx::query_file!("src/store/sql/advance_settled.sql", &users, &classes as &[Class]).fetch_all(self.database()).await?;
        let mut settled = vec![None; inboxes.len()];
        for row in rows {
            let place = usize::try_from(row.ord - 1).ok().and_then(|place| settled.get_mut(place));
            if let Some(settled) = place {
                *settled = row.settled_seq.map(InboxSeq);
            }
        }
        Ok(settled)
    }

    /// Messages that wait in `(after, up_to]`, oldest first, at most `limit`.
    pub async fn waiting_up_to(&self, user: UserId, class: Class, after: InboxSeq, up_to: InboxSeq, limit: u16) -> Result<Vec<MessageId>> {
        let ids = sqlx::query_file_scalar!("src/store/sql/waiting_up_to.sql", user.0, class as Class, after.0, up_to.0, i64::from(limit))
            .fetch_all(self.database())
            .await?;
        Ok(ids.into_iter().map(MessageId).collect())
    }

    /// Notes that a device's connection has ended.
    pub async fn device_seen(&self, user: UserId, device: &DeviceId) -> Result<()> {
        sqlx::query_file!("src/store/sql/device_seen.sql", user.0, device.as_str()).execute(self.database()).await?;
        Ok(())
    }
}

/// A row of any of the three page statements.
struct RawRow {
    last_seq: i64,
    seq: Option<i64>,
    status: Option<Status>,
    attempts: Option<i16>,
    reason: Option<String>,
    message_id: Option<Uuid>,
    chat_id: Option<Uuid>,
    chat_seq: Option<i64>,
    message_type: Option<String>,
    content: Option<String>,
    metadata: Option<String>,
    created_at: Option<OffsetDateTime>,
    expires_at: Option<OffsetDateTime>,
    sender_id: Option<i64>,
    sender: Option<String>,
    sender_name: Option<String>,
    sender_picture: Option<String>,
}

async fn read_rows(
    database: Watched<'_>,
    request: PageRequest,
    user: UserId,
    class: Class,
    after: InboxSeq,
    limit: u16,
) -> Result<Vec<RawRow>> {
    let limit = i64::from(limit);
    let rows = match request {
        PageRequest::Waiting => {
            sqlx::query_file_as!(RawRow, "src/store/sql/page_waiting.sql", user.0, class as Class, after.0, limit)
                .fetch_all(database)
                .await?
        }
        PageRequest::Everything => {
            sqlx::query_file_as!(RawRow, "src/store/sql/page_everything.sql", user.0, class as Class, after.0, limit)
                .fetch_all(database)
                .await?
        }
        PageRequest::Look => {
            sqlx::query_file_as!(RawRow, "src/store/sql/page_look.sql", user.0, class as Class, after.0, limit).fetch_all(database).await?
        }
    };
    Ok(rows)
}

/// What stands at a number.
enum Entry {
    Envelope(Box<Envelope>),
    Gap(GapReason),
}

impl Entry {
    fn at(self, seq: InboxSeq) -> PageRow {
        match self {
            Self::Envelope(envelope) => PageRow::Envelope(*envelope),
            Self::Gap(reason) => PageRow::Gap { from: seq, to: seq, reason },
        }
    }
}

impl RawRow {
    fn into_entry(self, class: Class, senders: &mut Senders) -> Result<Entry> {
        match (self.status, self.reason.as_deref()) {
            (Some(Status::Sent | Status::Delivered | Status::Read), _) => {
                let seq = InboxSeq(self.seq.unwrap_or_default());
                let (status, attempts) = (self.status.unwrap_or(Status::Sent), self.attempts.unwrap_or_default());
                // A status row without its message can only be an orphan; it is a gap to the client and a find for the DBA.
                Ok(self.into_message_row().into_message(senders)?.map_or(Entry::Gap(GapReason::Purged), |message| {
                    let attempts = u16::try_from(attempts).unwrap_or_default();
                    Entry::Envelope(Box::new(Envelope { class, inbox_seq: seq, status, attempts, message: Arc::new(message) }))
                }))
            }
            (Some(Status::Failed), _) => Ok(Entry::Gap(GapReason::Failed)),
            (Some(Status::Expired), Some("left")) => Ok(Entry::Gap(GapReason::Left)),
            (Some(Status::Expired), _) => Ok(Entry::Gap(GapReason::Expired)),
            (None, Some("requeued")) => Ok(Entry::Gap(GapReason::Requeued)),
            (None, _) => Ok(Entry::Gap(GapReason::Purged)),
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
        }
    }
}

/// Names every number of `(after, end]` that has no entry: a client with a device is told of each (I6).
fn with_holes_named(listed: Vec<(InboxSeq, Entry)>, after: InboxSeq, end: InboxSeq) -> Vec<PageRow> {
    let mut rows = Vec::with_capacity(listed.len());
    let mut next = after.next();
    for (seq, entry) in listed {
        if seq > next {
            rows.push(PageRow::Gap { from: next, to: InboxSeq(seq.0 - 1), reason: GapReason::Purged });
        }
        rows.push(entry.at(seq));
        next = seq.next();
    }
    if end >= next {
        rows.push(PageRow::Gap { from: next, to: end, reason: GapReason::Purged });
    }
    rows
}

/// Neighbouring gaps of one reason become one.
fn joined(rows: Vec<PageRow>) -> Vec<PageRow> {
    let mut out: Vec<PageRow> = Vec::with_capacity(rows.len());
    for row in rows {
        match (out.last_mut(), row) {
            (Some(PageRow::Gap { to, reason, .. }), PageRow::Gap { from, to: next_to, reason: next })
                if *reason == next && from == to.next() =>
            {
                *to = next_to;
            }
            (_, row) => out.push(row),
        }
    }
    out
}
