//! Messages and envelopes: what is stored once, and what one recipient gets.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::{ChatId, ChatSeq, Class, Extension, ExternalId, FeedId, FeedSeq, InboxSeq, MessageId, Status, UserId};

/// No client sends a message or an event of a type that begins like this.
pub const RESERVED_TYPES: &str = "restante:";

/// The form in which a user is shown to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The number inside the schema.
    pub user: UserId,
    /// The id outside.
    pub external: ExternalId,
    /// A display name, when one is known.
    pub name: Option<String>,
    /// The address of a picture, when one is known.
    pub picture: Option<String>,
}

/// A message as it is stored: once, whatever the number of recipients.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The chat it was sent to.
    pub chat: ChatId,
    /// Its number in that chat.
    pub seq: ChatSeq,
    /// The sender.
    pub sender: Arc<Profile>,
    /// The type that the sender gave it: `text`, `image`, …
    pub message_type: String,
    /// The text, at most [`super::limits::CONTENT_BYTES_MAX`] bytes. Empty for an event.
    pub content: String,
    /// The client's own JSON, passed on as it came. For an event: its data.
    pub metadata: Option<Box<RawValue>>,
    /// The database's clock, after the locks were taken.
    pub created_at: OffsetDateTime,
    /// From then on it is not delivered any more.
    pub expires_at: Option<OffsetDateTime>,
    /// Its part in a recall. None: it has none.
    pub recall: Option<Recall>,
    /// It was sealed with a key that cannot be had, or was changed: its content is empty, and its metadata is missing.
    pub is_unreadable: bool,
    /// A place where a codec keeps the encoded form, which is the same for every recipient; empty at first.
    pub extension: Extension,
}

/// The part of a message in a recall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recall {
    /// Its sender recalled it then: its content and metadata are gone.
    Recalled(OffsetDateTime),
    /// It is the notice that this message was recalled, at the time at which the notice was made. It has the number of that message,
    /// negated: it is none of the messages that chats and marks number.
    NoticeOf(MessageId),
}

/// A message on its way to one recipient.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The inbox it lies in.
    pub class: Class,
    /// Its number there.
    pub inbox_seq: InboxSeq,
    /// The row's status when it was read: `sent`, or beyond it for a device that catches up.
    pub status: Status,
    /// Attempts that have been counted against it so far.
    pub attempts: u16,
    /// The message.
    pub message: Arc<Message>,
    /// For an event of a feed: its place there. None: a message of a chat, or an event to listed users.
    pub feed: Option<FeedPlace>,
    /// For an event that merges: the number of events that it stands for, with itself; the message has the data of all of them.
    pub merged: Option<u32>,
    /// The recipient has muted the chat: its client does not ring. Known when the envelope is sent to the client, and false before.
    pub is_muted: bool,
}

impl Envelope {
    /// Returns whether it is a message of this chat, up to this number. Events and notices of recalls are not.
    pub fn is_of_chat(&self, chat: ChatId, up_to: ChatSeq) -> bool {
        self.class == Class::Chat && self.message.chat == chat && !self.message.seq.is_of_notice() && self.message.seq <= up_to
    }
}

/// The place of an event in a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedPlace {
    /// The feed.
    pub feed: FeedId,
    /// The number in the feed's stream of the envelope's class.
    pub seq: FeedSeq,
}

/// The reason why an inbox number will never come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GapReason {
    /// Delivery was given up.
    Failed,
    /// It expired.
    Expired,
    /// More than the allowed number of events waited, and this was one of the oldest.
    Capped,
    /// A newer event of the same collapse key took its place.
    Superseded,
    /// The recipient has muted its type.
    Muted,
    /// The recipient had left the chat, or follows the feed no more.
    Left,
    /// The recipient has blocked its sender.
    Blocked,
    /// Its sender recalled it.
    Recalled,
    /// An operator put the message back at the end of the inbox, under a new number.
    Requeued,
    /// The row was finished and has been removed.
    Purged,
    /// The row is there and cannot be read; an operator knows of it.
    Unreadable,
}
