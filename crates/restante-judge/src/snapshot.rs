//! The database as the judge sees it: read at the end, in one snapshot, by statements of the judge's own. By then the tables no
//! longer say who was in which chat at which number, because a user who rejoins loses the old numbers. So a trigger of the
//! judge's writes every membership down while the run lasts, and others write down who left a feed, and what was removed.

mod columns;
pub mod feeds;
mod read;

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::history::{Class, Status};
pub use feeds::Feeds;
pub use read::{inconsistencies, read, read_chat, watch_members};

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its chat.
    pub chat: Uuid,
    /// Its number in the chat.
    pub seq: i64,
    /// The user who sent it.
    pub sender: String,
    /// Its text.
    pub content: String,
    /// True when its time is over.
    pub is_over: bool,
    /// True when its sender recalled it. Its text is gone then.
    pub is_recalled: bool,
    /// True when it is encrypted: the database does not have its text.
    pub is_sealed: bool,
}

/// The notice of a recall for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its row, under the notice's own id.
    pub row: Row,
    /// The message that was recalled.
    pub of: Uuid,
}

/// A message for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The recipient.
    pub user: String,
    /// The inbox.
    pub class: Class,
    /// Its number in the inbox; `None` when the evidence does not have it.
    pub seq: Option<i64>,
    /// The message.
    pub message: Uuid,
    /// Its status.
    pub status: Status,
    /// The attempts that were counted.
    pub attempts: i16,
    /// The reason of its end; empty while it has none.
    pub reason: String,
    /// The number of its sender's rows that failed or expired after this one, or in the same transaction.
    pub ended_later: i64,
}

/// An inbox's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbox {
    /// Its user.
    pub user: String,
    /// Its class.
    pub class: Class,
    /// The last number that was given.
    pub last_seq: i64,
    /// Nothing waits up to this number.
    pub settled_seq: i64,
    /// Numbers up to this one were removed.
    pub purged_seq: i64,
}

/// A member as it is at the end, with its marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The chat.
    pub chat: Uuid,
    /// The user.
    pub user: String,
    /// Messages above this number are for the member.
    pub joined: i64,
    /// Messages above this number are not; `None` while the user is in the chat.
    pub left: Option<i64>,
    /// Nothing up to this number waits.
    pub delivered: i64,
    /// Everything up to this number is read.
    pub read: i64,
    /// The member's rows up to this number of the chat were removed.
    pub purged: i64,
}

/// A time that a user spent in a chat, in the chat's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInterval {
    /// The chat.
    pub chat: Uuid,
    /// The user.
    pub user: String,
    /// The interval begins above this number.
    pub joined: i64,
    /// The interval ends with this number; `None` while the user is in the chat.
    pub left: Option<i64>,
}

/// The rows at the end.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The last number of each chat.
    pub chats: HashMap<Uuid, i64>,
    /// The number of each chat up to which messages were removed. Of others none was.
    pub purged: HashMap<Uuid, i64>,
    /// All messages by their ids.
    pub messages: HashMap<Uuid, Message>,
    /// All recipients' rows.
    pub rows: Vec<Row>,
    /// The rows of notices, which are not among the others.
    pub notices: Vec<Notice>,
    /// All inboxes.
    pub inboxes: Vec<Inbox>,
    /// The inbox numbers that are named as gaps.
    pub gaps: HashSet<(String, Class, i64)>,
    /// All members.
    pub members: Vec<Member>,
    /// All times that users spent in chats.
    pub intervals: Vec<MemberInterval>,
    /// Feeds, their events, and their rows, which are not among the others.
    pub feeds: Feeds,
    /// Messages and events under a data key that the database does not have.
    pub keyless: Vec<Uuid>,
    /// Messages and events that stand as plain text although encryption is on.
    pub in_plain: Vec<Uuid>,
    /// Sentences about tables that do not agree with one another.
    pub inconsistencies: Vec<String>,
}
