//! The `data` of each event of the service, as plain values. Fields that a newer service adds are ignored. Fields that it may leave out
//! are options, or have a default.

use serde::Deserialize;
use serde_json::value::RawValue;

use restante_session::domain::{ChatId, ChatSeq, Class, EventId, ExternalId, FeedId, FeedSeq, InboxSeq, MessageId, Status};

/// `ready`: the first event on every connection.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// The user of the connection.
    pub user_id: ExternalId,
    /// The session's id, for logs.
    pub session_id: String,
    /// The device, when one was named.
    #[serde(default)]
    pub device_id: Option<String>,
    /// The window that was granted.
    pub window: u16,
    /// Messages that wait, exact up to 1,000.
    pub pending: u64,
    /// More wait than `pending` says.
    #[serde(default)]
    pub pending_more: bool,
    /// The last number of the chat inbox.
    pub last_seq: InboxSeq,
    /// Everything up to here waits no more in the chat inbox.
    pub settled_seq: InboxSeq,
    /// The last number of the alert inbox.
    #[serde(default)]
    pub alert_last_seq: InboxSeq,
    /// Everything up to here waits no more in the alert inbox.
    #[serde(default)]
    pub alert_settled_seq: InboxSeq,
    /// The last number of the event inbox.
    #[serde(default)]
    pub event_last_seq: InboxSeq,
    /// Everything up to here waits no more in the event inbox.
    #[serde(default)]
    pub event_settled_seq: InboxSeq,
    /// Numbers of another epoch mean nothing in this one.
    pub epoch: String,
    /// `since` was honoured.
    #[serde(default)]
    pub resumed: bool,
    /// The cursor to pass as `marks` at the next connect.
    #[serde(default)]
    pub marks_cursor: Option<String>,
}

impl Ready {
    /// Everything of the class up to here waits no more.
    pub const fn settled(&self, class: Class) -> InboxSeq {
        match class {
            Class::Chat => self.settled_seq,
            Class::Alert => self.alert_settled_seq,
            Class::Event => self.event_settled_seq,
        }
    }
}

/// The sender as a client shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sender {
    /// A display name.
    #[serde(default)]
    pub name: Option<String>,
    /// The address of a picture.
    #[serde(default)]
    pub profile_picture: Option<String>,
}

/// `message:receive`: a message for this user.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The message.
    pub message_id: MessageId,
    /// Its chat.
    pub chat_id: ChatId,
    /// Its number in the chat.
    pub seq: ChatSeq,
    /// The inbox it lies in.
    #[serde(default)]
    pub class: Class,
    /// Its number in the inbox.
    pub inbox_seq: InboxSeq,
    /// The sender.
    pub sender_id: ExternalId,
    /// The text.
    pub content: String,
    /// `text`, `action`, …
    pub message_type: String,
    /// The sender's own JSON.
    #[serde(default)]
    pub metadata: Option<Box<RawValue>>,
    /// When it was stored (RFC 3339).
    pub created_at: String,
    /// 1 for the first emission that the service knows of.
    pub attempt: u16,
    /// `sent`; `delivered` or `read` where another connection of the user has it or has read it.
    #[serde(default = "sent")]
    pub status: Status,
    /// The user has muted the chat: its client does not ring.
    #[serde(default)]
    pub muted: bool,
    /// The service cannot decrypt it: content and metadata are missing.
    #[serde(default)]
    pub unreadable: bool,
    /// The sender as a client shows it.
    #[serde(default)]
    pub sender: Sender,
}

/// A service that does not say the status emits what waits.
const fn sent() -> Status {
    Status::Sent
}

/// `message:recalled`: a message was recalled by its sender: nothing of what it said is to be shown any more.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recalled {
    /// The message that was recalled.
    pub message_id: MessageId,
    /// Its chat.
    pub chat_id: ChatId,
    /// Its number there.
    pub seq: ChatSeq,
    /// Its sender; none: this user, by another session.
    #[serde(default)]
    pub sender_id: Option<ExternalId>,
    /// When it was recalled (RFC 3339).
    pub recalled_at: String,
    /// The place of the notice in the inbox; none: it lies in none, and is not acked.
    #[serde(flatten)]
    pub place: Option<NoticePlace>,
}

/// The place of a notice in the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NoticePlace {
    /// The id by which it is acked.
    pub recall_id: MessageId,
    /// The inbox.
    pub class: Class,
    /// Its number there.
    pub inbox_seq: InboxSeq,
    /// 1 for the first emission that the service knows of.
    pub attempt: u16,
}

/// `event:receive`: an alert or an event for this user.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedEvent {
    /// The event.
    pub event_id: EventId,
    /// The type that its publisher gave it.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The publisher's own JSON.
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
    /// The inbox it lies in.
    pub class: Class,
    /// Its number in the inbox.
    pub inbox_seq: InboxSeq,
    /// The feed; none: it is for listed users.
    #[serde(default)]
    pub feed_id: Option<FeedId>,
    /// Its number in the feed, per class.
    #[serde(default)]
    pub feed_seq: Option<FeedSeq>,
    /// The number of events whose data it has; none: it does not merge.
    #[serde(default)]
    pub merged: Option<u32>,
    /// 1 for the first emission that the service knows of.
    pub attempt: u16,
    /// When it was stored (RFC 3339).
    pub created_at: String,
    /// When it expires (RFC 3339).
    #[serde(default)]
    pub expires_at: Option<String>,
    /// The service cannot decrypt it: its data is missing.
    #[serde(default)]
    pub unreadable: bool,
}

/// `message:sent`: the message is stored. With the content when another session of this user sent it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// The message.
    pub message_id: MessageId,
    /// Its chat.
    pub chat_id: ChatId,
    /// Its number there.
    pub seq: ChatSeq,
    /// When it was stored (RFC 3339).
    pub created_at: String,
    /// It had been stored before.
    #[serde(default)]
    pub duplicate: bool,
    /// The text, for the user's other sessions.
    #[serde(default)]
    pub content: Option<String>,
}

/// `event:published`: the event is stored.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The event.
    pub event_id: EventId,
    /// When it was stored (RFC 3339).
    pub created_at: String,
    /// It had been stored before.
    #[serde(default)]
    pub duplicate: bool,
}

/// `message:status`: what became of messages this user sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusUpdate {
    /// Its kind.
    #[serde(default)]
    pub kind: StatusKind,
    /// The chat.
    pub chat_id: ChatId,
    /// The messages, when the receipt names them.
    #[serde(default)]
    pub message_ids: Vec<MessageId>,
    /// Of a mark: everything up to this number of the chat; else the highest one.
    #[serde(default)]
    pub seq: Option<ChatSeq>,
    /// Their status.
    #[serde(default)]
    pub status: Option<Status>,
    /// The recipient. A receipt of a large group has counts instead.
    #[serde(default)]
    pub user_id: Option<ExternalId>,
    /// The reason, where they failed or expired.
    #[serde(default)]
    pub reason: Option<String>,
    /// Messages below the mark that have another status.
    #[serde(default)]
    pub except: Vec<StatusException>,
    /// In a large group: the number of members that it is delivered to.
    #[serde(default)]
    pub delivered_count: Option<u64>,
    /// In a large group: the number of members that have read it.
    #[serde(default)]
    pub read_count: Option<u64>,
    /// The cursor to pass as `marks` at the next connect.
    #[serde(default)]
    pub marks_cursor: Option<String>,
}

/// The kinds of `message:status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StatusKind {
    /// Messages that it names.
    Messages,
    /// Everything of the chat up to a number.
    Mark,
    /// One message in a large chat, as counts.
    Counts,
    /// A kind that a newer service has.
    #[default]
    #[serde(other)]
    Other,
}

impl StatusUpdate {
    /// A mark has moved: all messages up to `seq` have the status.
    pub fn is_mark(&self) -> bool {
        self.kind == StatusKind::Mark
    }
}

/// A message below a mark that ended otherwise.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusException {
    /// The message.
    pub message_id: MessageId,
    /// Its status.
    pub status: Status,
    /// The reason.
    #[serde(default)]
    pub reason: Option<String>,
}

/// `queue:drained`: what waited at connect has been settled.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drained {
    /// The inbox.
    #[serde(default)]
    pub class: Class,
    /// Its last number at connect.
    pub inbox_seq: InboxSeq,
}

/// `queue:gap`: numbers that will never come.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// The inbox.
    #[serde(default)]
    pub class: Class,
    /// First number.
    pub from_seq: InboxSeq,
    /// Last number.
    pub to_seq: InboxSeq,
    /// The reason.
    #[serde(default)]
    pub reason: String,
    /// With a feed: the number of its events that share the number.
    #[serde(default)]
    pub count: i64,
    /// The feed whose events ended before they had a number of the inbox.
    #[serde(default)]
    pub feed_id: Option<FeedId>,
    /// The first of their numbers in the feed.
    #[serde(default)]
    pub from_feed_seq: Option<FeedSeq>,
    /// The last of their numbers in the feed.
    #[serde(default)]
    pub to_feed_seq: Option<FeedSeq>,
}

/// `message:read:ok`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadUpTo {
    /// The chat.
    pub chat_id: ChatId,
    /// Read up to here.
    pub seq: ChatSeq,
}

/// `chat:read`: this user has read a chat, on another connection.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatRead {
    /// The chat.
    pub chat_id: ChatId,
    /// Read up to here.
    pub read_seq: ChatSeq,
    /// The cursor to pass as `marks` at the next connect.
    #[serde(default)]
    pub marks_cursor: Option<String>,
}

/// `user:online`, `user:offline`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// The user.
    pub user_id: ExternalId,
}

/// `typing`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Typing {
    /// Where.
    pub chat_id: ChatId,
    /// The user.
    #[serde(default)]
    pub user_id: Option<ExternalId>,
    /// Began, or stopped.
    pub typing: bool,
}

/// `chat:added`, `chat:removed`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatChange {
    /// The chat.
    pub chat_id: ChatId,
    /// The chat's title, when the service sends one.
    #[serde(default)]
    pub title: Option<String>,
}

/// `error`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorReport {
    /// Stable: programs may rely on it.
    pub code: String,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// When another try makes sense.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    /// The earlier message that was refused, and that this one would overtake.
    #[serde(default)]
    pub behind: Option<MessageId>,
}

/// The answer to a frame that carried an `id`.
#[derive(Debug)]
pub enum Answer {
    /// The result.
    Ok(super::Event),
    /// The service refused.
    Error(ErrorReport),
}
