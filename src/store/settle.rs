//! Settling: acks, reads and counted attempts, each with the marks that follow from it, in one transaction.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{LockTimeout, Result, enums};
use crate::domain::{ChatId, ChatSeq, Class, DeviceId, InboxSeq, MessageId, UserId};

/// This many milliseconds, as the server says.
fn took(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1_000.0).unwrap_or_default()
}

/// A row of the queue, and what its receipt needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRow {
    /// The recipient.
    pub user: UserId,
    /// Its inbox.
    pub class: Class,
    /// The row's number there.
    pub seq: InboxSeq,
    /// The message.
    pub message: MessageId,
    /// Its chat.
    pub chat: ChatId,
    /// Its number in the chat.
    pub chat_seq: ChatSeq,
    /// The sender that gets the receipt.
    pub sender: UserId,
}

/// The primary key of a row of the queue. Its order is that in which rows are locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The recipient.
    pub user: UserId,
    /// Its inbox.
    pub class: Class,
    /// The row's number there.
    pub seq: InboxSeq,
}

impl StatusRow {
    /// Its primary key.
    pub const fn key(&self) -> RowKey {
        RowKey { user: self.user, class: self.class, seq: self.seq }
    }
}

/// A mark that a session proposes.
#[derive(Debug, Clone, Copy)]
pub struct MarkProposal {
    /// The member.
    pub user: UserId,
    /// The chat.
    pub chat: ChatId,
    /// Nothing at or below this number waits for the member.
    pub seq: ChatSeq,
}

/// A member whose marks are to be computed from the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExactMark {
    /// The member.
    pub user: UserId,
    /// The chat.
    pub chat: ChatId,
}

/// The number up to which a device has acked in one class.
#[derive(Debug, Clone)]
pub struct DeviceCursor {
    /// The user of the device.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// The class of the inbox.
    pub class: Class,
    /// It has acked everything up to this number.
    pub acked: InboxSeq,
}

/// The changes of one transaction. A (chat, member) stands among `marks` once, a device once a class.
#[derive(Debug, Default)]
pub struct SettleBatch {
    /// Rows that were acked.
    pub rows: Vec<StatusRow>,
    /// Proposed marks.
    pub marks: Vec<MarkProposal>,
    /// Marks to compute.
    pub exact: Vec<ExactMark>,
    /// Devices' cursors.
    pub devices: Vec<DeviceCursor>,
}

/// The rows that a settlement moved.
#[derive(Debug)]
pub struct SettledRows {
    /// Places in `rows` of those that became delivered now.
    pub moved: Vec<usize>,
    /// Their `delivered_at`.
    pub at: OffsetDateTime,
    /// The time for which the server worked on the batch before its commit, waits for locks included.
    pub took: Duration,
}

/// Makes a batch of acks true. Rows that do not wait any more are passed over: it may be repeated.
///
/// # Errors
/// [`Unavailable`](super::Error::Unavailable): the database is away. [`Held`](super::Error::Held): another session holds a lock.
/// [`Invalid`](super::Error::Invalid): PostgreSQL refuses a value. [`Failed`](super::Error::Failed): a defect.
pub async fn settle(connection: &mut PgConnection, batch: &SettleBatch, lock_timeout: LockTimeout) -> Result<SettledRows> {
    let users: Vec<i64> = batch.rows.iter().map(|row| row.user.0).collect();
    let classes: Vec<enums::Class> = batch.rows.iter().map(|row| row.class.into()).collect();
    let seqs: Vec<i64> = batch.rows.iter().map(|row| row.seq.0).collect();
    let mark_users: Vec<i64> = batch.marks.iter().map(|mark| mark.user.0).collect();
    let mark_chats: Vec<uuid::Uuid> = batch.marks.iter().map(|mark| mark.chat.0).collect();
    let mark_seqs: Vec<i64> = batch.marks.iter().map(|mark| mark.seq.0).collect();
    let exact_users: Vec<i64> = batch.exact.iter().map(|mark| mark.user.0).collect();
    let exact_chats: Vec<uuid::Uuid> = batch.exact.iter().map(|mark| mark.chat.0).collect();
    let device_users: Vec<i64> = batch.devices.iter().map(|cursor| cursor.user.0).collect();
    let devices: Vec<String> = batch.devices.iter().map(|cursor| cursor.device.as_str().to_owned()).collect();
    let device_classes: Vec<enums::Class> = batch.devices.iter().map(|cursor| cursor.class.into()).collect();
    let device_seqs: Vec<i64> = batch.devices.iter().map(|cursor| cursor.acked.0).collect();
    let row = sqlx::query_file!(
        "src/store/sql/settle.sql",
        &users,
        &classes as &[enums::Class],
        &seqs,
        &mark_users,
        &mark_chats,
        &mark_seqs,
        &exact_users,
        &exact_chats,
        &device_users,
        &devices,
        &device_classes as &[enums::Class],
        &device_seqs,
        lock_timeout.value()
    )
    .fetch_one(connection)
    .await?;
    let moved = row.moved.unwrap_or_default().into_iter();
    let moved = moved.filter_map(|ord| usize::try_from(ord - 1).ok()).collect();
    Ok(SettledRows { moved, at: row.settled_at, took: took(row.took_ms) })
}

/// The rows that an ack by id is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckedRows {
    /// Those that wait, and those that were acked or ended before.
    Any,
    /// Those that wait.
    Waiting,
}

/// A row of the queue as the statements that look for it bring it.
struct LocatedRow {
    ord: i64,
    class: enums::Class,
    seq: i64,
    message_id: uuid::Uuid,
    chat_id: uuid::Uuid,
    chat_seq: i64,
    sender_id: i64,
}

impl LocatedRow {
    /// None: it names nothing that was wanted.
    fn of(self, wanted: &[(UserId, MessageId)]) -> Option<StatusRow> {
        let (user, _) = *wanted.get(usize::try_from(self.ord - 1).ok()?)?;
        Some(StatusRow {
            user,
            class: self.class.into(),
            seq: InboxSeq(self.seq),
            message: MessageId(self.message_id),
            chat: ChatId(self.chat_id),
            chat_seq: ChatSeq(self.chat_seq),
            sender: UserId(self.sender_id),
        })
    }
}

/// The users and the messages that are wanted, as statements take them.
fn pairs(wanted: &[(UserId, MessageId)]) -> (Vec<i64>, Vec<uuid::Uuid>) {
    wanted.iter().map(|(user, message)| (user.0, message.0)).unzip()
}

/// Finds the rows that recipients name by message id; ids that are not in their inbox are left out.
///
/// # Errors
/// [`Unavailable`](super::Error::Unavailable): the database is away. [`Held`](super::Error::Held): another session holds a lock.
/// [`Failed`](super::Error::Failed): a defect.
pub async fn locate(connection: &mut PgConnection, wanted: &[(UserId, MessageId)]) -> Result<Vec<StatusRow>> {
    let (users, ids) = pairs(wanted);
    let rows = sqlx::query_file_as!(LocatedRow, "src/store/sql/locate.sql", &users, &ids).fetch_all(connection).await?;
    Ok(rows.into_iter().filter_map(|row| row.of(wanted)).collect())
}

/// The same for an ack: without rows that wait and have ended, by the time of their message or because their user has left, though no
/// job has written it yet.
///
/// # Errors
/// As [`locate`].
pub async fn locate_acked(connection: &mut PgConnection, wanted: &[(UserId, MessageId)], which: AckedRows) -> Result<Vec<StatusRow>> {
    let (users, ids) = pairs(wanted);
    let only_waiting = which == AckedRows::Waiting;
    let rows = sqlx::query_file_as!(LocatedRow, "src/store/sql/locate_acked.sql", &users, &ids, only_waiting).fetch_all(connection).await?;
    Ok(rows.into_iter().filter_map(|row| row.of(wanted)).collect())
}

/// A read of a member: everything up to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadRequest {
    /// The member.
    pub user: UserId,
    /// The chat.
    pub chat: ChatId,
    /// Up to this number; beyond the chat's last it means the last.
    pub up_to: ChatSeq,
}

/// A row that a read moved.
#[derive(Debug, Clone)]
pub struct ReadRow {
    /// The message.
    pub message: MessageId,
    /// Its number in the chat.
    pub chat_seq: ChatSeq,
    /// The sender that gets the receipt.
    pub sender: UserId,
    /// The reason for which the row became `expired`, in words: its message had expired, or its reader had left while it waited. None: it became `read`.
    pub ended: Option<String>,
}

/// The rows that a read moved.
#[derive(Debug)]
pub struct ReadRows {
    /// The rows, by number.
    pub rows: Vec<ReadRow>,
    /// The time at which they moved.
    pub at: OffsetDateTime,
    /// Everything up to here is read.
    pub up_to: ChatSeq,
    /// True if there is more to read: ask again.
    pub more: bool,
    /// True if the member had read less before.
    pub advanced: bool,
    /// The time for which the server worked on all requests of the call before their commit, waits for locks included.
    pub took: Duration,
}

/// Marks chats as read, each up to a number and at most `rows_max` rows of it, in one transaction. A request whose
/// user never was a member has no entry in the answer; the key is the request's place.
///
/// # Errors
/// [`Unavailable`](super::Error::Unavailable): the database is away. [`Held`](super::Error::Held): another session holds a lock.
/// [`Invalid`](super::Error::Invalid): PostgreSQL refuses a value. [`Failed`](super::Error::Failed): a defect.
pub async fn read(
    connection: &mut PgConnection,
    requests: &[ReadRequest],
    rows_max: i32,
    lock_timeout: LockTimeout,
) -> Result<BTreeMap<usize, ReadRows>> {
    let users: Vec<i64> = requests.iter().map(|request| request.user.0).collect();
    let chats: Vec<uuid::Uuid> = requests.iter().map(|request| request.chat.0).collect();
    let up_to: Vec<i64> = requests.iter().map(|request| request.up_to.0).collect();
    let rows = sqlx::query_file!("src/store/sql/read_all.sql", &users, &chats, &up_to, rows_max, lock_timeout.value());
    let rows = rows.fetch_all(connection).await?;
    let took = took(rows.first().map_or(0.0, |row| row.took_ms));
    let none = |at| ReadRows { rows: Vec::new(), at, up_to: ChatSeq(0), more: false, advanced: false, took };
    let mut done: BTreeMap<usize, ReadRows> = BTreeMap::new();
    for row in rows {
        let Ok(place) = usize::try_from(row.ord - 1) else { continue };
        let entry = done.entry(place).or_insert_with(|| none(row.read_at));
        if let (Some(up_to), Some(more), Some(advanced)) = (row.up_to, row.more, row.advanced) {
            (entry.up_to, entry.more, entry.advanced) = (ChatSeq(up_to), more, advanced);
        }
        if let (Some(message), Some(seq), Some(sender)) = (row.message_id, row.chat_seq, row.sender_id) {
            entry.rows.push(ReadRow { message: MessageId(message), chat_seq: ChatSeq(seq), sender: UserId(sender), ended: row.ended });
        }
    }
    done.values_mut().for_each(|read| read.rows.sort_unstable_by_key(|row| row.chat_seq));
    Ok(done)
}

/// A message that a user names, and the chat that it is said to be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NamedMessage {
    /// The user.
    pub user: UserId,
    /// The chat.
    pub chat: ChatId,
    /// The message.
    pub message: MessageId,
}

/// The numbers of messages in the chats they are said to be of. None: there is no such message there, or it came after its user had
/// left. What is named by a user who never was in the chat has no entry.
///
/// # Errors
/// [`Unavailable`](super::Error::Unavailable): the database is away. [`Held`](super::Error::Held): another session holds a lock.
/// [`Failed`](super::Error::Failed): a defect.
pub async fn seqs_of_messages(connection: &mut PgConnection, named: &[NamedMessage]) -> Result<HashMap<NamedMessage, Option<ChatSeq>>> {
    let users: Vec<i64> = named.iter().map(|named| named.user.0).collect();
    let chats: Vec<uuid::Uuid> = named.iter().map(|named| named.chat.0).collect();
    let ids: Vec<uuid::Uuid> = named.iter().map(|named| named.message.0).collect();
    let rows = sqlx::query_file!("src/store/sql/seqs_of_messages.sql", &users, &chats, &ids).fetch_all(connection).await?;
    Ok(rows.into_iter().filter_map(|row| Some((*named.get(usize::try_from(row.ord - 1).ok()?)?, row.seq.map(ChatSeq)))).collect())
}

/// An attempt to count against a row.
#[derive(Debug, Clone)]
pub struct AttemptRequest {
    /// The row.
    pub row: StatusRow,
    /// The reason why the attempt failed.
    pub reason: String,
    /// True if it is the last attempt, whatever the count.
    pub is_final: bool,
}

/// An attempt that was counted.
#[derive(Debug, Clone, Copy)]
pub struct AttemptedRow {
    /// The row.
    pub row: StatusRow,
    /// Attempts so far.
    pub attempts: u16,
    /// True if the row is failed now.
    pub failed: bool,
    /// The time at which the attempt was counted.
    pub at: OffsetDateTime,
    /// The time for which the server worked on all attempts of the call before their commit, waits for locks included.
    pub took: Duration,
}

/// Counts attempts against rows that still wait; rows that do not are left out of the answer. A row may stand among the requests once.
///
/// # Errors
/// [`Unavailable`](super::Error::Unavailable): the database is away. [`Held`](super::Error::Held): another session holds a lock.
/// [`Invalid`](super::Error::Invalid): PostgreSQL refuses a value. [`Failed`](super::Error::Failed): a defect.
pub async fn count_attempts(
    connection: &mut PgConnection,
    requests: &[AttemptRequest],
    attempts_max: u16,
    lock_timeout: LockTimeout,
) -> Result<Vec<AttemptedRow>> {
    let users: Vec<i64> = requests.iter().map(|request| request.row.user.0).collect();
    let classes: Vec<enums::Class> = requests.iter().map(|request| request.row.class.into()).collect();
    let seqs: Vec<i64> = requests.iter().map(|request| request.row.seq.0).collect();
    let reasons: Vec<String> = requests.iter().map(|request| request.reason.clone()).collect();
    let finals: Vec<bool> = requests.iter().map(|request| request.is_final).collect();
    let rows = sqlx::query_file!(
        "src/store/sql/count_attempts.sql",
        &users,
        &classes as &[enums::Class],
        &seqs,
        &reasons,
        &finals,
        i32::from(attempts_max),
        lock_timeout.value()
    )
    .fetch_all(connection)
    .await?;
    let took = took(rows.first().map_or(0.0, |row| row.took_ms));
    let counted = rows.into_iter().filter_map(|row| {
        let (place, attempts) = (usize::try_from(row.ord - 1).ok()?, u16::try_from(row.attempts).unwrap_or(u16::MAX));
        Some(AttemptedRow { row: requests.get(place)?.row, attempts, failed: row.failed, at: row.counted_at, took })
    });
    Ok(counted.collect())
}
