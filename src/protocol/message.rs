//! The frames that carry messages: `message:receive`, `message:batch`, and the echo of `message:sent`.
//!
//! Most of such a frame is the same for all recipients. That part, the *fragment*, is written once per message
//! and kept beside it; each recipient's class, number and attempt are spliced in front of it. Alerts and events have frames of their
//! own ([`super::feed_event`]).

use std::fmt::Write as _;
use std::sync::OnceLock;

use axum::extract::ws::Utf8Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Timestamp;
use crate::domain::{ChatId, ChatSeq, Class, Envelope, ExternalId, InboxSeq, Message, MessageId, Status, limits};

const RECEIVE: &str = r#"{"event":"message:receive","data":"#;
const BATCH: &str = r#"{"event":"message:batch","data":{"messages":["#;
const BATCH_END: &str = "]}}";
/// Bytes of a fragment beside content and metadata, with a name and a picture of usual length.
const OTHER_FIELDS_BYTES: usize = 512;

/// A message as everybody who may see it gets it. Also an item of a chat's history over HTTP.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageData<'a> {
    /// Its id.
    pub message_id: MessageId,
    /// Its chat.
    pub chat_id: ChatId,
    /// Its number there.
    pub seq: ChatSeq,
    /// The sender.
    pub sender_id: &'a ExternalId,
    /// The text. Empty where the message is unreadable.
    pub content: &'a str,
    /// The type that the sender gave it.
    pub message_type: &'a str,
    /// The client's own JSON, or null.
    pub metadata: Option<&'a RawValue>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// From then on it is not delivered any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The service cannot decrypt it: content and metadata are missing. An operator knows of it. Else it is missing.
    #[serde(rename = "unreadable", skip_serializing_if = "is_false")]
    #[schemars(extend("const" = true))]
    pub is_unreadable: bool,
    /// The display data of the sender.
    pub sender: SenderData<'a>,
}

/// The display data of a sender.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SenderData<'a> {
    /// A display name, or null.
    pub name: Option<&'a str>,
    /// The address of a picture, or null.
    pub profile_picture: Option<&'a str>,
}

/// The data of `message:receive`. Also an item of the inbox over HTTP.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReceiveData<'a> {
    /// The inbox.
    #[schemars(extend("const" = Class::Chat.as_str()))]
    pub class: Class,
    /// The number in it.
    pub inbox_seq: InboxSeq,
    /// 1 for the first emission.
    pub attempt: u16,
    /// `sent`; `delivered` or `read` where another connection of the user has it or has read it.
    pub status: Status,
    /// The recipient has muted the chat, so its client does not ring. Else it is missing.
    #[serde(rename = "muted", skip_serializing_if = "is_false")]
    #[schemars(extend("const" = true))]
    pub is_muted: bool,
    /// The rest.
    #[serde(flatten)]
    pub message: MessageData<'a>,
}

/// The data of `message:batch`.
///
/// [`batch_frames`] writes it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BatchData<'a> {
    /// At least one.
    #[schemars(length(min = 1))]
    pub messages: Vec<ReceiveData<'a>>,
}

/// The data of `message:sent` for the sender's other sessions.
///
/// [`sent_echo_frame`] writes it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct EchoData<'a> {
    /// Always false.
    #[schemars(extend("const" = false))]
    pub duplicate: bool,
    /// The message.
    #[serde(flatten)]
    pub message: MessageData<'a>,
}

impl<'a> From<&'a Message> for MessageData<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            message_id: message.id,
            chat_id: message.chat,
            seq: message.seq,
            sender_id: &message.sender.external,
            content: &message.content,
            message_type: &message.message_type,
            metadata: message.metadata.as_deref(),
            created_at: message.created_at.into(),
            expires_at: message.expires_at.map(Timestamp),
            is_unreadable: message.is_unreadable,
            sender: SenderData { name: message.sender.name.as_deref(), profile_picture: message.sender.picture.as_deref() },
        }
    }
}

impl<'a> ReceiveData<'a> {
    /// The message of an envelope. `attempt` is one more than the attempts counted against it.
    pub fn new(envelope: &'a Envelope, attempt: u16) -> Self {
        let Envelope { class, inbox_seq, status, message, is_muted, .. } = envelope;
        Self { class: *class, inbox_seq: *inbox_seq, attempt, status: *status, is_muted: *is_muted, message: message.as_ref().into() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(super) const fn is_false(value: &bool) -> bool {
    !*value
}

/// `message:receive`.
pub fn receive_frame(envelope: &Envelope, attempt: u16) -> Utf8Bytes {
    let mut out = String::with_capacity(RECEIVE.len() + envelope_bytes_max(envelope) + 1);
    out.push_str(RECEIVE);
    push_envelope(&mut out, envelope, attempt);
    out.push('}');
    out.into()
}

/// `message:batch`: as few frames as hold all of these in their order, each at most
/// [`limits::BATCH_FRAME_BYTES_MAX`] bytes (a single message always fits). None for nothing.
pub fn batch_frames<'a>(envelopes: impl IntoIterator<Item = (&'a Envelope, u16)>) -> Vec<Utf8Bytes> {
    batches(BATCH, envelopes, envelope_bytes_max, push_envelope)
}

/// Frames that begin with these words, and hold what `push` writes of each envelope: at most so many bytes.
pub(super) fn batches<'a>(
    begin: &str,
    envelopes: impl IntoIterator<Item = (&'a Envelope, u16)>,
    bytes_max: impl Fn(&Envelope) -> usize,
    push: impl Fn(&mut String, &Envelope, u16),
) -> Vec<Utf8Bytes> {
    let mut frames = Vec::new();
    let mut out = String::new();
    for (envelope, attempt) in envelopes {
        let is_full = out.len() + 1 + bytes_max(envelope) + BATCH_END.len() > limits::BATCH_FRAME_BYTES_MAX;
        if is_full && !out.is_empty() {
            out.push_str(BATCH_END);
            frames.push(std::mem::take(&mut out).into());
        }
        out.push_str(if out.is_empty() { begin } else { "," });
        push(&mut out, envelope, attempt);
    }
    if !out.is_empty() {
        out.push_str(BATCH_END);
        frames.push(out.into());
    }
    frames
}

/// `message:sent` for the sender's other sessions: what [`super::server::SentAnswer`] says, with the message.
pub fn sent_echo_frame(message: &Message) -> Utf8Bytes {
    format!(r#"{{"event":"message:sent","data":{{"duplicate":false,{}}}}}"#, fragment(message)).into()
}

/// The fields that all recipients get, as JSON without the braces: as a message has them, and as an event has them.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    message: OnceLock<Box<str>>,
    pub(super) event: OnceLock<Box<str>>,
}

/// The fragment of a message: written at the first call, and kept beside the message for all its recipients.
pub(super) fn fragment(message: &Message) -> &str {
    let kept = message.extension.get_or_init(Fragments::default);
    let kept = kept.expect("nothing else is kept beside a message");
    kept.message.get_or_init(|| {
        let metadata_bytes = message.metadata.as_ref().map_or(0, |metadata| metadata.get().len());
        without_braces(&MessageData::from(message), message.content.len() + metadata_bytes)
    })
}

/// The fields of an object as JSON, with room for so many bytes beside the usual ones, unless much has to be escaped: growing would copy
/// it several times.
pub(super) fn without_braces(data: &impl Serialize, bytes: usize) -> Box<str> {
    let mut json = Vec::with_capacity(OTHER_FIELDS_BYTES + bytes);
    serde_json::to_writer(&mut json, data).expect("strings and numbers only: serialising cannot fail");
    let json = std::str::from_utf8(&json).expect("serde_json writes UTF-8");
    json[1..json.len() - 1].into()
}

/// The fields of [`ReceiveData`].
pub(super) fn push_envelope(out: &mut String, envelope: &Envelope, attempt: u16) {
    let Envelope { class, inbox_seq, status, message, is_muted, .. } = envelope;
    let (status, fragment) = (status.as_str(), fragment(message));
    let muted = if *is_muted { r#""muted":true,"# } else { "" };
    let _ = write!(out, r#"{{"class":"{class}","inboxSeq":{inbox_seq},"attempt":{attempt},"status":"{status}",{muted}{fragment}}}"#);
}

/// At least as many bytes as [`push_envelope`] writes.
pub(super) fn envelope_bytes_max(envelope: &Envelope) -> usize {
    const OWN_FIELDS_BYTES_MAX: usize = 120;
    OWN_FIELDS_BYTES_MAX + fragment(&envelope.message).len()
}
