//! The shapes of recalls: the answer to one, and `message:recalled`, which tells those who have the message and the sender's other
//! sessions. The notice of a recall lies in an inbox as a message does; nothing of what the message said is in it.

use axum::extract::ws::Utf8Bytes;
use schemars::JsonSchema;
use serde::Serialize;

use super::Timestamp;
use super::message::{MessageData, ReceiveData, SenderData};
use super::server::{Shape, frame};
use crate::domain::{ChatId, ChatSeq, Class, Envelope, ExternalId, InboxSeq, Message, MessageId, Recall, Status};

/// `message:recall:ok`: the message is recalled. Also the body of the answer over HTTP.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecallOk {
    /// The message.
    pub message_id: MessageId,
    /// Its chat.
    pub chat_id: ChatId,
    /// Its number there.
    pub seq: ChatSeq,
    /// When it was recalled, the first time.
    pub recalled_at: Timestamp,
}

/// `message:recalled`: a message was recalled. Also an item of the inbox over HTTP.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recalled<'a> {
    /// The place of the notice in the inbox; absent for the sender, whose inbox it does not lie in.
    #[serde(flatten)]
    pub place: Option<NoticePlace>,
    /// The message that was recalled.
    pub message_id: MessageId,
    /// Its chat.
    pub chat_id: ChatId,
    /// Its number there.
    pub seq: ChatSeq,
    /// Its sender; absent for the sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_id: Option<&'a ExternalId>,
    /// When it was recalled.
    pub recalled_at: Timestamp,
}

/// The place of a notice in an inbox.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoticePlace {
    /// The inbox.
    #[schemars(extend("const" = Class::Chat.as_str()))]
    pub class: Class,
    /// The number in it.
    pub inbox_seq: InboxSeq,
    /// 1 for the first emission.
    pub attempt: u16,
    /// `sent`; `delivered` where another connection of the user has it.
    pub status: Status,
    /// The id of the notice, by which it is acked.
    pub recall_id: MessageId,
}

/// A message that was recalled, as an item of a chat's history: nothing of what it said is left.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecalledMessage<'a> {
    /// Its id.
    pub message_id: MessageId,
    /// Its chat.
    pub chat_id: ChatId,
    /// Its number there.
    pub seq: ChatSeq,
    /// The sender.
    pub sender_id: &'a ExternalId,
    /// The type that the sender gave it.
    pub message_type: &'a str,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was recalled.
    pub recalled_at: Timestamp,
    /// The display data of the sender.
    pub sender: SenderData<'a>,
}

/// An item of a chat's history.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum HistoryItem<'a> {
    /// A message.
    Message(MessageData<'a>),
    /// One that was recalled.
    Recalled(RecalledMessage<'a>),
}

/// An item of an inbox of the class chat.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum InboxItem<'a> {
    /// A message.
    Message(ReceiveData<'a>),
    /// The notice that one was recalled.
    Recalled(Recalled<'a>),
}

impl Shape for RecallOk {
    const EVENT: &'static str = "message:recall:ok";
}

impl Shape for Recalled<'_> {
    const EVENT: &'static str = "message:recalled";
}

impl<'a> Recalled<'a> {
    /// The notice in an envelope. None: it holds something else. `attempt` is one more than the attempts counted against it.
    pub fn of(envelope: &'a Envelope, attempt: u16) -> Option<Self> {
        let Envelope { class, inbox_seq, status, message, .. } = envelope;
        let Some(Recall::NoticeOf(message_id)) = message.recall else { return None };
        let place = NoticePlace { class: *class, inbox_seq: *inbox_seq, attempt, status: *status, recall_id: message.id };
        let (sender_id, seq) = (Some(&message.sender.external), message.seq.of_notice());
        Some(Self { place: Some(place), message_id, chat_id: message.chat, seq, sender_id, recalled_at: message.created_at.into() })
    }

    /// `message:recalled`.
    pub fn frame(&self) -> Utf8Bytes {
        frame(None, self)
    }
}

impl<'a> From<&'a Message> for HistoryItem<'a> {
    fn from(message: &'a Message) -> Self {
        match message.recall {
            Some(Recall::Recalled(at)) => Self::Recalled(RecalledMessage::new(message, at.into())),
            Some(Recall::NoticeOf(_)) | None => Self::Message(message.into()),
        }
    }
}

impl<'a> InboxItem<'a> {
    /// The item of an envelope.
    pub fn of(envelope: &'a Envelope, attempt: u16) -> Self {
        Recalled::of(envelope, attempt).map_or_else(|| Self::Message(ReceiveData::new(envelope, attempt)), Self::Recalled)
    }
}

impl<'a> RecalledMessage<'a> {
    fn new(message: &'a Message, recalled_at: Timestamp) -> Self {
        let MessageData { message_id, chat_id, seq, sender_id, message_type, created_at, sender, .. } = message.into();
        Self { message_id, chat_id, seq, sender_id, message_type, created_at, recalled_at, sender }
    }
}
