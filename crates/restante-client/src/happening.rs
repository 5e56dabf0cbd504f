//! What the owner of a [`super::Client`] says to it and hears from it: plain values.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{Envelope, ErrorNews, Event, Gone, Ready, Sent, WireError};
use restante_session::domain::{ChatId, MessageId};

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Destination {
    /// A chat.
    #[serde(rename = "chatId")]
    Chat(ChatId),
    /// A user: the direct chat, made when missing.
    #[serde(rename = "to")]
    User(String),
}

/// A message to be sent.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewMessage {
    /// Chosen before the first try, so that a repetition is recognised.
    pub message_id: MessageId,
    /// Where it goes.
    #[serde(flatten)]
    pub to: Destination,
    /// The text.
    pub content: String,
    /// `text` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_type: Option<String>,
    /// Anything, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Box<RawValue>>,
}

impl NewMessage {
    /// A text with a new id.
    pub fn text(to: Destination, content: impl Into<String>) -> Self {
        Self { message_id: MessageId::generate(), to, content: content.into(), message_type: None, metadata: None }
    }
}

/// What the owner of a client gets to know.
#[derive(Debug)]
pub enum Happening {
    /// Connected, for the first time or again.
    Ready(Box<Ready>),
    /// A message, for the first time. It is acked when the owner asks for the next thing.
    Message(Box<Envelope>),
    /// A message that had come before; it has had its effect, and is acked again.
    Again(Box<Envelope>),
    /// A message of [`super::Client::send`] is stored. Once for each.
    Stored(Box<Sent>),
    /// A message of [`super::Client::send`] is refused and will not be repeated.
    Refused(MessageId, ErrorNews),
    /// A message of [`super::Client::send`] is refused for now and will be repeated by itself.
    Postponed(MessageId, ErrorNews),
    /// Anything else the service said.
    Event(Event),
    /// A frame as it came, before what it means; with [`super::Options::raw_frames`] only.
    Frame(Utf8Bytes),
    /// The connection is lost; the client comes back after so long, unless it is gone.
    Lost(WireError, Option<Duration>),
}

/// Why the first connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Another try may succeed.
    #[error(transparent)]
    Unreachable(WireError),
    /// It will not.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The service said no.
    #[error("{} ({})", .0.message, .0.code)]
    Refused(ErrorNews),
    /// The connection ended before the answer: whether it was done is not known.
    #[error("the connection ended before the answer")]
    Lost,
    /// No answer in time: whether it was done is not known.
    #[error("no answer in time")]
    TimedOut,
    /// There is no connection any more.
    #[error(transparent)]
    Gone(#[from] Gone),
}
