//! The shapes of events that front ends of Socket.IO expect otherwise than `/ws` has them: statuses one by one, and presence in one event.

use serde::Serialize;

use crate::domain::{ChatId, ExternalId, MessageId, Status};
use crate::protocol::Timestamp;
use crate::protocol::server::Shape;

/// `message:status` of one message for one recipient.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusOfOne<'a> {
    /// The message.
    pub(super) message_id: MessageId,
    /// Its chat.
    pub(super) chat_id: ChatId,
    /// Its new status.
    pub(super) status: Status,
    /// The recipient, where the status is `delivered`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delivered_to: Option<&'a ExternalId>,
    /// The recipient, where the status is `read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) read_by: Option<&'a ExternalId>,
    /// The recipient.
    pub(super) user_id: &'a ExternalId,
    /// The reason for which it failed or expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a str>,
    /// When.
    pub(super) timestamp: Timestamp,
    /// To be passed as `marks` at the next connect, on the last of those that come together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) marks_cursor: Option<&'a str>,
}

impl Shape for StatusOfOne<'_> {
    const EVENT: &'static str = "message:status";
}

/// `message:read`: a recipient has read a message.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReadBy<'a> {
    /// The message.
    pub(super) message_id: MessageId,
    /// Its chat.
    pub(super) chat_id: ChatId,
    /// The recipient.
    pub(super) read_by: &'a ExternalId,
}

impl Shape for ReadBy<'_> {
    const EVENT: &'static str = "message:read";
}

/// `user:presence`: a user came or went.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserPresence<'a> {
    /// The user.
    pub(super) user_id: &'a ExternalId,
    /// Connected now.
    pub(super) is_online: bool,
    /// When its last connection ended; null while it is connected.
    pub(super) last_seen: Option<Timestamp>,
}

impl Shape for UserPresence<'_> {
    const EVENT: &'static str = "user:presence";
}
