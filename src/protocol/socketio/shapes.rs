//! The shapes of events that front ends of Socket.IO expect otherwise than `/ws` has them: statuses one by one, and presence in one event.

use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::{ChatId, ExternalId, MessageId, Status};
use crate::protocol::Timestamp;
use crate::protocol::message::ReceiveData;
use crate::protocol::server::Shape;

/// `message:status` of one message for one recipient.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::protocol) struct StatusOfOne<'a> {
    /// The message.
    pub(in crate::protocol) message_id: MessageId,
    /// Its chat.
    pub(in crate::protocol) chat_id: ChatId,
    /// Its new status.
    pub(in crate::protocol) status: Status,
    /// The recipient, where the status is `delivered`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::protocol) delivered_to: Option<&'a ExternalId>,
    /// The recipient, where the status is `read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::protocol) read_by: Option<&'a ExternalId>,
    /// The recipient.
    pub(in crate::protocol) user_id: &'a ExternalId,
    /// The reason for which it failed or expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::protocol) reason: Option<&'a str>,
    /// When.
    pub(in crate::protocol) timestamp: Timestamp,
    /// To be passed as `marks` at the next connect, on the last of those that come together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::protocol) marks_cursor: Option<&'a str>,
}

impl Shape for StatusOfOne<'_> {
    const EVENT: &'static str = "message:status";
}

/// `message:read`: a recipient has read a message.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::protocol) struct ReadBy<'a> {
    /// The message.
    pub(in crate::protocol) message_id: MessageId,
    /// Its chat.
    pub(in crate::protocol) chat_id: ChatId,
    /// The recipient.
    pub(in crate::protocol) read_by: &'a ExternalId,
}

impl Shape for ReadBy<'_> {
    const EVENT: &'static str = "message:read";
}

/// `user:presence`: a user came or went.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::protocol) struct UserPresence<'a> {
    /// The user.
    pub(in crate::protocol) user_id: &'a ExternalId,
    /// Connected now.
    pub(in crate::protocol) is_online: bool,
    /// When its last connection ended; null while it is connected.
    pub(in crate::protocol) last_seen: Option<Timestamp>,
}

impl Shape for UserPresence<'_> {
    const EVENT: &'static str = "user:presence";
}

/// The data of `message:new`. The dialect writes it round the data of `message:receive`, which it has as text.
#[derive(Debug, Clone, JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(in crate::protocol) struct WrappedMessage<'a> {
    /// The data of `message:receive`.
    pub(in crate::protocol) message: ReceiveData<'a>,
}

/// The answer to `user:reconnected`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(in crate::protocol) struct Pending {
    /// Envelopes that waited when the session began.
    pub(in crate::protocol) pending: u32,
}
