//! Marks: the numbers up to which members have got and read messages, for a sender that was away.
//!
//! Moved marks are found by transaction and not by clock: a reader remembers which transactions the snapshot did not see that it
//! read with, and asks for marks of those next time. What commits late is told late, never missed, and nothing is told again.

use std::collections::{BTreeMap, HashSet};

use super::marks_cursor::MarksCursor;
use super::{Result, Store, enums};
use crate::domain::limits::MEMBERS_REPORTED_MAX;
use crate::domain::{
    ChatId, ChatSeq, DeviceId, Exception, ExternalId, InboxSeq, MessageId, MovedMark, MutedChats, PerClass, ReceiptCounts, UserId,
};

/// Chats whose marks are read by one statement.
const CHATS_AT_ONCE: usize = 100;
/// The most marks that a user without a cursor is told, and the most endings that are told at once.
const LATEST_MAX: i64 = 1_000;
const PEERS_MAX: usize = 1_000;
/// Messages whose counts one statement computes: each costs a walk over the members of its chat.
const COUNTED_AT_ONCE: usize = 200;
/// Pairs of chats and senders that one statement looks at.
const SENDERS_AT_ONCE: usize = 500;

/// The marks that moved since a cursor, or the next part of them.
#[derive(Debug)]
pub struct MarksRead {
    /// Marks by member, in small chats. While there is more, only what ended otherwise, without marks.
    pub marks: Vec<MovedMark>,
    /// Counts, in large ones.
    pub counts: Vec<ReceiptCounts>,
    /// The numbers up to which the user itself has read chats, where its own mark has moved.
    pub own: Vec<(ChatId, ChatSeq)>,
    /// The remainder that is still to be asked for.
    pub rest: Remainder,
}

/// Says if a look has told everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remainder {
    /// It has: what to ask with next time, once all of this is processed.
    None(MarksCursor),
    /// More has ended than is told at once.
    From(PageToken),
}

/// A place among what has ended, in the middle of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken {
    transaction: u64,
    message: MessageId,
    user: UserId,
    /// The snapshot of the first part. An ending that commits meanwhile, perhaps below this place, is told by the next look,
    /// together with the marks that pass it.
    look: Look,
}

/// The moment that a look tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    snapshot: String,
    cursor: MarksCursor,
}

/// A message in a large chat whose counts are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReceiptCountsRequest {
    /// The chat.
    pub chat: ChatId,
    /// The sender, who is not counted.
    pub sender: UserId,
    /// The message.
    pub message: MessageId,
    /// Its number.
    pub seq: ChatSeq,
}

/// A chat that has many members or once had, after its members have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecountedChat {
    /// The chat.
    pub chat: ChatId,
    /// It reports counts instead of members.
    pub is_large: bool,
    /// The senders of its newest 1,000 messages, each once.
    pub senders: Vec<UserId>,
}

/// A user's inboxes and chats in one snapshot.
#[derive(Debug)]
pub struct Overview {
    /// `last_seq` of the inboxes; one more where an event of a feed is still to become a row.
    pub ends: PerClass<InboxSeq>,
    /// Those the user has a direct chat with, or its contacts where only these write to one another; at most 1,000.
    pub peers: Vec<UserId>,
    /// The marks that moved.
    pub marks: MarksRead,
    /// The newest connection of the device that was named; none without a device.
    pub session_no: Option<i64>,
    /// The chats that the user has muted.
    pub muted: MutedChats,
    /// Some invitations wait for the user.
    pub is_invited: bool,
}

impl Store {
    /// Looks at all chats of a user at once: what has moved since `cursor`; without one, the latest thousand marks and endings.
    /// If more than a thousand messages have ended, they come first, in parts. The caller asks again with the page token.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn overview(
        &self,
        user: UserId,
        cursor: Option<&MarksCursor>,
        page_token: Option<PageToken>,
        device: Option<&DeviceId>,
    ) -> Result<Overview> {
        let device = device.map(DeviceId::as_str);
        let since = Since::of(cursor);
        let (next, pending) = (cursor.map(MarksCursor::next), since.pending.as_slice());
        let row = sqlx::query_file!("src/store/sql/overview.sql", user.0, next, large(), device, pending, self.is_for_contacts());
        let row = row.fetch_one(self.database()).await?;
        // The cursor is of the snapshot that says where a mark moved: what commits meanwhile is told now or again, never missed.
        let look = match &page_token {
            Some(token) => token.look.clone(),
            None => Look { cursor: MarksCursor::of_snapshot(&row.snapshot), snapshot: row.snapshot },
        };
        let (moved, large) = (row.moved.unwrap_or_default(), row.large.unwrap_or_default());
        let is_first = page_token.is_none();
        let Marks { mut marks, reopened } = match cursor {
            Some(_) => self.moved_marks(user, &moved, &since, (!is_first).then_some(look.snapshot.as_str())).await?,
            None => self.latest_marks(user, &moved).await?,
        };
        let mut rest = Remainder::None(look.cursor.clone());
        // Read after the marks: a mark that passes what has just ended comes with its name.
        if row.ended || !marks.is_empty() {
            let mut endings = match (cursor, page_token) {
                (Some(_), Some(token)) => self.endings_since(user, &since, token, true).await?,
                (Some(_), None) => self.endings_since(user, &since, PageToken::first(look), false).await?,
                (None, _) => self.endings_latest(user).await?,
            };
            if let Some(token) = endings.page_token.take() {
                rest = Remainder::From(token);
                marks.clear();
            } else if !reopened.is_empty() {
                self.hidden_endings(user, &marks, &reopened, &mut endings).await?;
            }
            endings.name_beside(&mut marks, row.ended);
        }
        let is_all = matches!(rest, Remainder::None(_));
        let requests = if large.is_empty() || !is_all { Vec::new() } else { self.receipt_counts_requests(user, &large, &since).await? };
        let own = row.own_chats.unwrap_or_default().into_iter().zip(row.own_read.unwrap_or_default());
        let own = own.take(if !is_all {
            0
        } else if cursor.is_none() {
            usize::try_from(LATEST_MAX).unwrap_or_default()
        } else {
            usize::MAX
        });
        let own = own.map(|(chat, seq)| (ChatId(chat), ChatSeq(seq))).collect();
        let counts = if requests.is_empty() { Vec::new() } else { self.receipt_counts(&requests).await? };
        Ok(Overview {
            ends: PerClass { chat: row.chat_last_seq, alert: row.alert_last_seq, event: row.event_last_seq }.map(InboxSeq),
            peers: row.peers.unwrap_or_default().into_iter().take(PEERS_MAX).map(UserId).collect(),
            marks: MarksRead { marks: marks.into_iter().map(|(_, mark)| mark).collect(), counts, own, rest },
            session_no: row.session_no,
            muted: row.muted_chats.unwrap_or_default().into_iter().map(ChatId).collect(),
            is_invited: row.invited,
        })
    }

    /// With a snapshot: as far as it saw them.
    async fn moved_marks(&self, user: UserId, chats: &[uuid::Uuid], since: &Since, seen_by: Option<&str>) -> Result<Marks> {
        let mut marks = Marks::default();
        for chats in chats.chunks(CHATS_AT_ONCE) {
            let Since { next, pending } = since;
            let rows = sqlx::query_file!("src/store/sql/marks_since.sql", user.0, chats, next, large(), seen_by, pending);
            let rows = rows.fetch_all(self.database()).await?;
            for row in rows {
                let mark = moved(row.chat_id, row.user_id, row.member, row.delivered_seq, row.read_seq, row.joined_seq);
                marks.push(mark, row.was_closed);
            }
        }
        Ok(marks)
    }

    async fn latest_marks(&self, user: UserId, chats: &[uuid::Uuid]) -> Result<Marks> {
        let mut marks = Marks::default();
        if chats.is_empty() {
            return Ok(marks);
        }
        let rows =
            sqlx::query_file!("src/store/sql/marks_latest.sql", user.0, chats, large(), LATEST_MAX).fetch_all(self.database()).await?;
        for row in rows {
            let mark = moved(row.chat_id, row.user_id, row.member, row.delivered_seq, row.read_seq, row.joined_seq);
            marks.push(mark, row.was_closed);
        }
        Ok(marks)
    }

    /// Rows that ended while these chats were closed are told by the marks that pass them, and not before.
    async fn hidden_endings(
        &self,
        user: UserId,
        marks: &[(UserId, MovedMark)],
        reopened: &HashSet<ChatId>,
        endings: &mut Endings,
    ) -> Result<()> {
        let (mut chats, mut users, mut up_to) = (Vec::new(), Vec::new(), Vec::new());
        for (member, mark) in marks.iter().filter(|(_, mark)| reopened.contains(&mark.chat)) {
            chats.push(mark.chat.0);
            users.push(member.0);
            up_to.push(mark.delivered.max(mark.read).0);
        }
        let rows = sqlx::query_file!("src/store/sql/hidden_endings.sql", user.0, &chats, &users, &up_to, LATEST_MAX);
        for row in rows.fetch_all(self.database()).await? {
            let exception = Exception { message: MessageId(row.message_id), status: row.status.into(), reason: row.reason };
            endings.push(UserId(row.user_id), ChatId(row.chat_id), row.member, exception);
        }
        Ok(())
    }

    async fn endings_latest(&self, user: UserId) -> Result<Endings> {
        let mut endings = Endings::default();
        let rows = sqlx::query_file!("src/store/sql/endings_latest.sql", user.0, LATEST_MAX).fetch_all(self.database()).await?;
        for row in rows {
            let exception = Exception { message: MessageId(row.message_id), status: row.status.into(), reason: row.reason };
            endings.push(UserId(row.user_id), ChatId(row.chat_id), row.member, exception);
        }
        Ok(endings)
    }

    /// A part of what ended; a later part of a look as far as its first one has seen it.
    async fn endings_since(&self, user: UserId, since: &Since, place: PageToken, is_later: bool) -> Result<Endings> {
        let mut endings = Endings::default();
        let (transaction, message) = (place.transaction.to_string(), place.message.0);
        let seen_by = is_later.then_some(place.look.snapshot.as_str());
        // One more than is told says that there is more.
        let (next, pending, limit) = (&since.next, &since.pending, LATEST_MAX + 1);
        let rows =
            sqlx::query_file!("src/store/sql/endings_since.sql", user.0, transaction, message, place.user.0, limit, seen_by, next, pending);
        let mut rows = rows.fetch_all(self.database()).await?;
        if i64::try_from(rows.len()).is_ok_and(|rows| rows > LATEST_MAX) {
            rows.pop();
            endings.page_token = rows.last().map(|row| PageToken {
                transaction: row.ended_xid.parse().unwrap_or(0),
                message: MessageId(row.message_id),
                user: UserId(row.user_id),
                look: place.look,
            });
        }
        for row in rows {
            let exception = Exception { message: MessageId(row.message_id), status: row.status.into(), reason: row.reason };
            endings.push(UserId(row.user_id), ChatId(row.chat_id), row.member, exception);
        }
        Ok(endings)
    }

    async fn receipt_counts_requests(&self, user: UserId, chats: &[uuid::Uuid], since: &Since) -> Result<Vec<ReceiptCountsRequest>> {
        let Since { next, pending } = since;
        let rows = sqlx::query_file!("src/store/sql/receipt_counts_since.sql", user.0, chats, next, pending);
        let rows = rows.fetch_all(self.database()).await?;
        Ok(rows
            .into_iter()
            .map(|row| ReceiptCountsRequest {
                chat: ChatId(row.chat_id),
                sender: user,
                message: MessageId(row.message_id),
                seq: ChatSeq(row.seq),
            })
            .collect())
    }

    /// Counts, for messages in large chats, the members that have them. What failed or expired for a member is not counted. A message
    /// whose sender has left has no counts, nor has one in a chat that is small by now.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn receipt_counts(&self, requests: &[ReceiptCountsRequest]) -> Result<Vec<ReceiptCounts>> {
        let mut counts = Vec::with_capacity(requests.len());
        for requests in requests.chunks(COUNTED_AT_ONCE) {
            let chats: Vec<uuid::Uuid> = requests.iter().map(|request| request.chat.0).collect();
            let senders: Vec<i64> = requests.iter().map(|request| request.sender.0).collect();
            let messages: Vec<uuid::Uuid> = requests.iter().map(|request| request.message.0).collect();
            let seqs: Vec<i64> = requests.iter().map(|request| request.seq.0).collect();
            let rows = sqlx::query_file!("src/store/sql/receipt_counts.sql", &chats, &senders, &messages, &seqs, large());
            counts.extend(rows.fetch_all(self.database()).await?.into_iter().filter_map(|row| {
                let request = requests.get(usize::try_from(row.ord - 1).ok()?)?;
                let (chat, message, seq) = (request.chat, request.message, request.seq);
                Some(ReceiptCounts { chat, message, seq, delivered: row.delivered, read: row.read, members: row.members })
            }));
        }
        Ok(counts)
    }

    /// The newest message of each of these senders in a chat, as what is to be counted; none, where it has sent none of the newest
    /// 1,000 there.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn newest_messages(&self, of: &[(ChatId, UserId)]) -> Result<Vec<ReceiptCountsRequest>> {
        let mut newest = Vec::with_capacity(of.len());
        for of in of.chunks(SENDERS_AT_ONCE) {
            let chats: Vec<uuid::Uuid> = of.iter().map(|(chat, _)| chat.0).collect();
            let senders: Vec<i64> = of.iter().map(|(_, sender)| sender.0).collect();
            let rows = sqlx::query_file!("src/store/sql/newest_messages.sql", &chats, &senders).fetch_all(self.database()).await?;
            newest.extend(rows.into_iter().filter_map(|row| {
                let (chat, sender) = *of.get(usize::try_from(row.ord - 1).ok()?)?;
                Some(ReceiptCountsRequest { chat, sender, message: MessageId(row.message_id), seq: ChatSeq(row.seq) })
            }));
        }
        Ok(newest)
    }

    /// Those of these chats that are large or once were, with those who are to be told of it.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn recounted(&self, chats: &[ChatId]) -> Result<Vec<RecountedChat>> {
        let mut recounted = Vec::new();
        for chats in chats.chunks(CHATS_AT_ONCE) {
            let ids: Vec<uuid::Uuid> = chats.iter().map(|chat| chat.0).collect();
            let rows = sqlx::query_file!("src/store/sql/recounted.sql", &ids, large()).fetch_all(self.database()).await?;
            recounted.extend(rows.into_iter().map(|row| RecountedChat {
                chat: ChatId(row.chat_id),
                is_large: row.is_large,
                senders: row.senders.into_iter().map(UserId).collect(),
            }));
        }
        Ok(recounted)
    }

    /// Moves on the marks of some members that have further to go than one look. False: there are none.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn catch_up_marks(&self, members_max: i32) -> Result<bool> {
        Ok(sqlx::query_file_scalar!("src/store/sql/catch_up_marks.sql", members_max).fetch_one(self.database()).await?)
    }

    /// Those of these chats that report counts instead of members.
    ///
    /// # Errors
    /// [`Busy`](super::Error::Busy): no connection is free. [`Unavailable`](super::Error::Unavailable): the database is away.
    /// [`Held`](super::Error::Held): another session holds a lock. [`Failed`](super::Error::Failed): a defect.
    pub async fn large_chats(&self, chats: &[ChatId]) -> Result<Vec<ChatId>> {
        let ids: Vec<uuid::Uuid> = chats.iter().map(|chat| chat.0).collect();
        let rows = sqlx::query_file_scalar!("src/store/sql/large_chats.sql", &ids, large()).fetch_all(self.database()).await?;
        Ok(rows.into_iter().map(ChatId).collect())
    }
}

/// A cursor as statements ask with it. Without one, everything.
struct Since {
    next: String,
    pending: Vec<String>,
}

impl Since {
    fn of(cursor: Option<&MarksCursor>) -> Self {
        let all = MarksCursor::at(0);
        let cursor = cursor.unwrap_or(&all);
        Self { next: cursor.next(), pending: cursor.pending() }
    }
}

impl PageToken {
    /// Before everything that has ended.
    const fn first(look: Look) -> Self {
        Self { transaction: 0, message: MessageId(uuid::Uuid::nil()), user: UserId(0), look }
    }
}

/// Marks of members, as the user may know them.
#[derive(Debug, Default)]
struct Marks {
    marks: Vec<(UserId, MovedMark)>,
    /// Those of their chats that were closed once.
    reopened: HashSet<ChatId>,
}

impl Marks {
    fn push(&mut self, mark: Option<(UserId, MovedMark)>, was_closed: bool) {
        let Some((user, mark)) = mark else { return };
        if was_closed {
            self.reopened.insert(mark.chat);
        }
        self.marks.push((user, mark));
    }
}

/// Rows that failed or expired, by member and chat.
#[derive(Debug, Default)]
struct Endings {
    by_member: BTreeMap<(UserId, ChatId), (String, Vec<Exception>)>,
    /// The start of the next part; none: there is no next part.
    page_token: Option<PageToken>,
}

impl Endings {
    fn push(&mut self, user: UserId, chat: ChatId, member: String, exception: Exception) {
        self.by_member.entry((user, chat)).or_insert_with(|| (member, Vec::new())).1.push(exception);
    }

    /// Beside the marks of its members; with `also_alone` also where no mark is told: of members who have left, and of those in
    /// chats that are told counts.
    fn name_beside(mut self, marks: &mut Vec<(UserId, MovedMark)>, also_alone: bool) {
        for (member, mark) in marks.iter_mut() {
            mark.except = self.by_member.remove(&(*member, mark.chat)).map(|(_, except)| except).unwrap_or_default();
        }
        if also_alone {
            marks.extend(self.by_member.into_iter().filter_map(|((user, chat), (member, except))| {
                let (user, mark) = moved(chat.0, user.0, member, 0, 0, 0)?;
                Some((user, MovedMark { except, ..mark }))
            }));
        }
        marks.retain(|(_, mark)| mark.delivered > ChatSeq(0) || !mark.except.is_empty());
    }
}

/// The number of members from which on a chat reports counts.
fn large() -> i64 {
    i64::try_from(MEMBERS_REPORTED_MAX + 1).unwrap_or(i64::MAX)
}

/// A mark that is where the member joined says nothing; but what went back below it does.
fn moved(chat: uuid::Uuid, user: i64, member: String, delivered: i64, read: i64, joined: i64) -> Option<(UserId, MovedMark)> {
    let member = ExternalId::try_from(member).ok()?;
    let above_joining = |seq| ChatSeq(if seq > joined { seq } else { 0 });
    let (delivered, read) = (above_joining(delivered), above_joining(read));
    Some((UserId(user), MovedMark { chat: ChatId(chat), member, delivered, read, except: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_and_the_service_mean_the_same_by_a_large_chat() {
        let membership = include_str!("../../migrations/20261128000005_membership.sql");
        assert!(membership.contains(&format!("if greatest(p_before, p_after) > {MEMBERS_REPORTED_MAX} then")));
        assert!(membership.contains(&format!("limit {}) x;", large())));
    }
}
