//! The values that a [`super::Client`] takes from its owner and gives to it.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{Envelope, ErrorReport, Event, FeedEvent, Gone, Ready, Recalled, Sent, WireError};
use restante_session::domain::{ChatId, MessageId, printable};

/// The destination of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum Destination {
    /// A chat.
    #[serde(rename = "chatId")]
    Chat(ChatId),
    /// A user by its external id. The direct chat is made when it is missing.
    #[serde(rename = "to")]
    User(String),
}

/// A message to be sent.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewMessage {
    /// The id, chosen before the first attempt, so that the service recognises a repetition.
    pub message_id: MessageId,
    /// Its destination.
    #[serde(flatten)]
    pub to: Destination,
    /// The text.
    pub content: String,
    /// `text` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_type: Option<String>,
    /// Any JSON value for the recipients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<RawValue>>,
}

impl NewMessage {
    /// A text with a new id.
    pub fn text(to: Destination, content: impl Into<String>) -> Self {
        Self { message_id: MessageId::generate(), to, content: content.into(), message_type: None, metadata: None }
    }
}

/// A happening that a client gives to its owner.
#[derive(Debug)]
pub enum Happening {
    /// The service has greeted the connection, the first one or a later one.
    Ready(Box<Ready>),
    /// A message that had not come before. The client acks it when the owner asks for the next happening.
    Message(Box<Envelope>),
    /// A message that had come before. The client acks it again.
    Again(Box<Envelope>),
    /// An alert or an event that had not come before. The client acks it when the owner asks for the next happening.
    FeedEvent(Box<FeedEvent>),
    /// An alert or an event that had come before. The client acks it again.
    FeedEventAgain(Box<FeedEvent>),
    /// A message was recalled by its sender, and this had not been told before. The client acks the notice when the owner asks for the next
    /// happening. A message that this user recalled by another session comes as an [`Event`].
    Recalled(Box<Recalled>),
    /// The same, told before. The client acks it again.
    RecalledAgain(Box<Recalled>),
    /// A message of [`super::Client::send`] is stored. Once for each.
    Stored(Box<Sent>),
    /// A message of [`super::Client::send`] is refused and will not be repeated.
    Refused(MessageId, ErrorReport),
    /// A message of [`super::Client::send`] is refused for now and will be repeated by itself.
    Postponed(MessageId, ErrorReport),
    /// Any other event of the service.
    Event(Event),
    /// A frame as it came, before what it means; with [`super::Options::raw_frames`] only.
    Frame(Utf8Bytes),
    /// The connection is lost. The client connects again after this time; with `None` it does not.
    Lost(WireError, Option<Duration>),
}

/// The reason that the first connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Another attempt may succeed.
    #[error(transparent)]
    Unreachable(WireError),
    /// Another attempt will fail too.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// The reason that a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The service refused it.
    #[error("{} ({})", printable(&.0.message), printable(&.0.code))]
    Refused(ErrorReport),
    /// The connection ended before the answer. The request may have been done.
    #[error("the connection ended before the answer")]
    Lost,
    /// No answer came in time. The request may have been done.
    #[error("no answer in time")]
    TimedOut,
    /// The client has given up.
    #[error(transparent)]
    Gone(#[from] Gone),
}
