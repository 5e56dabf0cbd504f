//! The shapes of events on the wire, save those that carry messages ([`super::message`]): plain structs whose fields
//! are the wire's, and [`frame`], which writes one of them. The same structs are the bodies of HTTP answers.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use schemars::JsonSchema;
use serde::Serialize;

use super::frame_id::FrameId;
use super::{Fault, Timestamp};
use crate::domain::{
    AttemptOutcome, ChatId, ChatKind, ChatSeq, Class, DeviceId, ExternalId, FeedId, FeedRange, FeedSeq, GapReason, InboxSeq, MessageId,
    SessionId, Status,
};

/// Something with a name on the wire.
pub trait Shape: Serialize {
    /// The name.
    const EVENT: &'static str;
}

/// Writes a text frame. `id` is the id of the client's frame that this answers.
pub fn frame<E: Shape>(id: Option<&FrameId>, data: &E) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Frame<'a, E> {
        event: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a FrameId>,
        data: &'a E,
    }
    let json = serde_json::to_string(&Frame { event: E::EVENT, id, data });
    json.expect("strings, numbers and lists of them only: serialising cannot fail").into()
}

macro_rules! events {
    ($($(#[$doc:meta])* $event:literal $name:ident $(<$life:lifetime>)? { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $name $(<$life>)? {
            $($(#[$field_meta])* pub $field: $type,)*
        }
        impl $(<$life>)? Shape for $name $(<$life>)? {
            const EVENT: &'static str = $event;
        }
    )* };
}

events! {
    /// The first frame of all.
    "ready" Ready {
        /// The token's `sub`.
        user_id: ExternalId,
        /// This connection's name in logs.
        session_id: SessionId,
        /// The device, if the client named one.
        #[serde(skip_serializing_if = "Option::is_none")]
        device_id: Option<DeviceId>,
        /// Envelopes emitted and not yet acked, at most, per class.
        window: u16,
        /// Messages that wait in all inboxes; exact up to 1,000.
        pending: u32,
        /// More waits than `pending` says.
        pending_more: bool,
        /// The highest number of the chat inbox.
        last_seq: InboxSeq,
        /// Nothing at or below this number of the chat inbox waits any more.
        settled_seq: InboxSeq,
        /// The highest number of the alert inbox.
        alert_last_seq: InboxSeq,
        /// Nothing at or below this number of the alert inbox waits any more.
        alert_settled_seq: InboxSeq,
        /// The highest number of the event inbox.
        event_last_seq: InboxSeq,
        /// Nothing at or below this number of the event inbox waits any more.
        event_settled_seq: InboxSeq,
        /// With a device: every envelope of the chat inbox above this number comes, or is named in a gap.
        #[serde(skip_serializing_if = "Option::is_none")]
        acked_seq: Option<InboxSeq>,
        /// The same of the alert inbox.
        #[serde(skip_serializing_if = "Option::is_none")]
        alert_acked_seq: Option<InboxSeq>,
        /// The same of the event inbox.
        #[serde(skip_serializing_if = "Option::is_none")]
        event_acked_seq: Option<InboxSeq>,
        /// Numbers are comparable within one epoch only.
        epoch: Arc<str>,
        /// True if `?since=` was accepted for at least one class.
        resumed: bool,
        /// Receipts up to here are known once those that follow have been processed.
        marks_cursor: Arc<str>,
        /// The service's clock.
        server_time: Timestamp,
    }

    /// The token was taken.
    "authenticated" Authenticated<'a> {
        /// The token's `sub`.
        user_id: &'a ExternalId,
        /// The connection is closed then, unless another token comes.
        expires_at: Timestamp,
    }

    /// Every message that waited at connect has been acked or has ended otherwise.
    "queue:drained" Drained {
        /// The inbox.
        class: Class,
        /// Its `last_seq` at connect.
        inbox_seq: InboxSeq,
    }

    /// Numbers that will never come.
    "queue:gap" Gap {
        /// The inbox.
        class: Class,
        /// The first.
        from_seq: InboxSeq,
        /// The last.
        to_seq: InboxSeq,
        /// The number of them; with a feed the number of its events, which share one number of the inbox.
        #[schemars(range(min = 1))]
        count: i64,
        /// The reason for the gap.
        reason: GapReason,
        /// The feed, where the gap stands for events of one that ended before they had a number of the inbox.
        #[serde(skip_serializing_if = "Option::is_none")]
        feed_id: Option<FeedId>,
        /// The first number of those events in the feed.
        #[serde(skip_serializing_if = "Option::is_none")]
        from_feed_seq: Option<FeedSeq>,
        /// The last number of those events in the feed.
        #[serde(skip_serializing_if = "Option::is_none")]
        to_feed_seq: Option<FeedSeq>,
    }

    /// The message and its rows are stored.
    "message:sent" SentAnswer {
        /// Its id.
        message_id: MessageId,
        /// The chat it went to.
        chat_id: ChatId,
        /// Its number there.
        seq: ChatSeq,
        /// When it was accepted.
        created_at: Timestamp,
        /// It had been accepted before: this is the first result again.
        duplicate: bool,
    }

    /// The event is stored.
    "event:published" Published {
        /// Its id.
        event_id: MessageId,
        /// When it was accepted.
        created_at: Timestamp,
        /// It had been accepted before: this is the first result again.
        duplicate: bool,
    }

    /// No message is refused any more for this one.
    "message:skip:ok" SkipOk {
        /// The message.
        message_id: MessageId,
    }

    /// The new status of some messages for one recipient: all acks of a batch.
    "message:status" StatusList<'a> {
        /// `messages`.
        #[schemars(extend("const" = "messages"))]
        kind: StatusKind,
        /// The chat.
        chat_id: ChatId,
        /// The messages.
        message_ids: &'a [MessageId],
        /// The highest of the messages' numbers. It says nothing of others.
        seq: ChatSeq,
        /// Their new status.
        status: Status,
        /// For whom.
        user_id: &'a ExternalId,
        /// The reason for which they failed or expired.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        /// When.
        timestamp: Timestamp,
        /// To be passed as `?marks=` at the next connect.
        #[serde(skip_serializing_if = "Option::is_none")]
        marks_cursor: Option<&'a str>,
    }

    /// The status of every message up to a number for one recipient, as it changed while the sender was away.
    "message:status" StatusMark<'a> {
        /// `mark`.
        #[schemars(extend("const" = "mark"))]
        kind: StatusKind,
        /// The chat.
        chat_id: ChatId,
        /// The member's mark: everything at or below it has this status.
        seq: ChatSeq,
        /// `delivered` or `read`.
        status: Status,
        /// For whom.
        user_id: &'a ExternalId,
        /// Messages at or below `seq` that ended otherwise.
        except: &'a [StatusException],
        /// To be passed as `?marks=` at the next connect.
        marks_cursor: &'a str,
    }

    /// The number of members that have a message, in a chat that is too large to name them.
    "message:status" StatusCounts<'a> {
        /// `counts`.
        #[schemars(extend("const" = "counts"))]
        kind: StatusKind,
        /// The chat.
        chat_id: ChatId,
        /// The message.
        message_id: MessageId,
        /// Its number.
        seq: ChatSeq,
        /// Members that have it.
        #[schemars(range(min = 0))]
        delivered_count: i64,
        /// Members that have read it; counted in `delivered_count` too.
        #[schemars(range(min = 0))]
        read_count: i64,
        /// Members it went to.
        #[schemars(range(min = 0))]
        member_count: i64,
        /// To be passed as `?marks=` at the next connect.
        #[serde(skip_serializing_if = "Option::is_none")]
        marks_cursor: Option<&'a str>,
    }

    /// Every ack before this one on the connection is committed.
    "message:delivered:ok" DeliveredOk {
    }

    /// The rejection was counted, or the message does not wait any more.
    "message:reject:ok" RejectOk {
        /// The message.
        message_id: MessageId,
        /// The status of the message for the client: `sent` while it will be tried again.
        status: Status,
        /// Attempts counted so far.
        attempts: u16,
    }

    /// The read is committed.
    "message:read:ok" ReadOk {
        /// The chat.
        chat_id: ChatId,
        /// Everything up to here is read.
        seq: ChatSeq,
    }

    /// The user itself has read a chat up to here, on another connection.
    "chat:read" ChatRead<'a> {
        /// The chat.
        chat_id: ChatId,
        /// Everything up to here is read.
        read_seq: ChatSeq,
        /// To be passed as `?marks=` at the next connect.
        marks_cursor: &'a str,
    }

    /// A member of the chat began or stopped typing.
    "typing" Typing<'a> {
        /// The chat.
        chat_id: ChatId,
        /// The user.
        user_id: &'a ExternalId,
        /// Began or stopped.
        typing: bool,
    }

    /// The presence of the users that were asked for.
    "presence:state" PresenceState {
        /// In the order asked for; users the client may not see are offline and were never seen.
        users: Vec<Presence>,
    }

    /// A user came.
    "user:online" UserOnline<'a> {
        /// The user.
        user_id: &'a ExternalId,
        /// When.
        timestamp: Timestamp,
    }

    /// A user went.
    "user:offline" UserOffline<'a> {
        /// The user.
        user_id: &'a ExternalId,
        /// When its last connection ended.
        last_seen: Timestamp,
    }

    /// The user is in this chat from now on.
    "chat:added" ChatAdded<'a> {
        /// The chat.
        chat_id: ChatId,
        /// `direct`, `group` or `feed`.
        kind: ChatKind,
        /// Its title.
        title: Option<&'a str>,
        /// The user gets messages above this number.
        joined_seq: ChatSeq,
        /// The member that added it.
        by: &'a ExternalId,
    }

    /// The user is no longer in this chat.
    "chat:removed" ChatRemoved<'a> {
        /// The chat.
        chat_id: ChatId,
        /// Messages above this number are not for the user.
        left_seq: ChatSeq,
        /// The member that removed it; the user itself when it left.
        by: &'a ExternalId,
    }

    /// The node will stop: connect to any node after this pause.
    "server:draining" Draining {
        /// Drawn anew for each client.
        reconnect_after_ms: u64,
    }

    /// The answer to `ping`.
    "pong" Pong {
    }
}

impl Gap {
    /// A gap as a session emits it.
    pub const fn new(class: Class, from_seq: InboxSeq, to_seq: InboxSeq, reason: GapReason, feed: Option<FeedRange>) -> Self {
        let gap = Self {
            class,
            from_seq,
            to_seq,
            count: to_seq.0.saturating_sub(from_seq.0).saturating_add(1),
            reason,
            feed_id: None,
            from_feed_seq: None,
            to_feed_seq: None,
        };
        match feed {
            None => gap,
            Some(FeedRange { feed, from, to, count }) => {
                Self { count, feed_id: Some(feed), from_feed_seq: Some(from), to_feed_seq: Some(to), ..gap }
            }
        }
    }
}

impl RejectOk {
    /// The outcome of the attempt that a rejection counts as.
    pub const fn new(message_id: MessageId, outcome: AttemptOutcome) -> Self {
        let (status, attempts) = match outcome {
            AttemptOutcome::Counted(attempts) => (Status::Sent, attempts),
            AttemptOutcome::Failed(attempts) => (Status::Failed, attempts),
            AttemptOutcome::Settled(status, attempts) => (status, attempts),
        };
        Self { message_id, status, attempts }
    }
}

impl Shape for Fault {
    const EVENT: &'static str = "error";
}

/// The kinds of `message:status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StatusKind {
    /// Messages that it names.
    Messages,
    /// Everything of a chat up to a number.
    Mark,
    /// One message in a large chat, as counts.
    Counts,
}

/// A message below a mark that the mark does not speak of.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusException {
    /// The message.
    pub message_id: MessageId,
    /// `failed` or `expired`.
    pub status: Status,
    /// The reason for this status.
    pub reason: Option<String>,
}

/// Says if a user is connected, and the time at which the last connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// The user.
    pub user_id: ExternalId,
    /// Connected now.
    pub online: bool,
    /// When the last connection ended; null when that is not known.
    pub last_seen: Option<Timestamp>,
}

/// The status of a message for its recipients: the body of `GET /v1/messages/{messageId}/status`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageStatuses {
    /// The message.
    pub message_id: MessageId,
    /// For each recipient.
    pub statuses: Vec<RecipientStatus>,
}

/// The status of a message for one recipient.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecipientStatus {
    /// The recipient.
    pub user_id: ExternalId,
    /// Its status.
    pub status: Status,
    /// When it was acked; null before that.
    pub delivered_at: Option<Timestamp>,
    /// When it was read; null before that.
    pub read_at: Option<Timestamp>,
    /// The reason for which it failed or expired.
    pub reason: Option<String>,
}
