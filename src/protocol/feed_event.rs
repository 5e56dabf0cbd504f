//! The frames that carry alerts and events: `event:receive` and `event:batch`. What is a message inside the service (type, metadata) is an
//! event outside (type, data); nothing of a chat or a sender is in it.
//!
//! The part that is the same for all recipients is written once per event, as for [messages](super::message).

use std::fmt::Write as _;

use axum::extract::ws::Utf8Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Timestamp;
use super::message::{Fragments, batches, is_false, without_braces};
use crate::domain::{Class, Envelope, EventId, FeedId, FeedPlace, FeedSeq, InboxSeq, Message};

const RECEIVE: &str = r#"{"event":"event:receive","data":"#;
const BATCH: &str = r#"{"event":"event:batch","data":{"events":["#;

/// The data of `event:receive`. Also an item of an inbox of events over HTTP.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventData<'a> {
    /// The inbox.
    #[schemars(extend("enum" = [Class::Alert.as_str(), Class::Event.as_str()]))]
    pub class: Class,
    /// The number in it.
    pub inbox_seq: InboxSeq,
    /// 1 for the first emission.
    pub attempt: u16,
    /// The feed; absent for an event to listed users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feed_id: Option<FeedId>,
    /// The number in the feed, per class; absent without a feed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feed_seq: Option<FeedSeq>,
    /// The number of events whose data it has, with itself; absent where it does not merge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merged: Option<u32>,
    /// The rest.
    #[serde(flatten)]
    pub event: SharedData<'a>,
}

/// An event as all its recipients get it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharedData<'a> {
    /// Its id.
    pub event_id: EventId,
    /// The type that the publisher gave it.
    #[serde(rename = "type")]
    pub event_type: &'a str,
    /// The publisher's own JSON, or null.
    pub data: Option<&'a RawValue>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// From then on it is not delivered any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The service cannot decrypt it: its data is missing. An operator knows of it. Else it is missing.
    #[serde(rename = "unreadable", skip_serializing_if = "is_false")]
    #[schemars(extend("const" = true))]
    pub is_unreadable: bool,
}

/// The data of `event:batch`.
///
/// [`event_batch_frames`] writes it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct EventBatchData<'a> {
    /// At least one.
    #[schemars(length(min = 1))]
    pub events: Vec<EventData<'a>>,
}

impl<'a> EventData<'a> {
    /// The event of an envelope. `attempt` is one more than the attempts counted against it.
    pub fn new(envelope: &'a Envelope, attempt: u16) -> Self {
        let (feed_id, feed_seq) = place(envelope).map(|FeedPlace { feed, seq }| (feed, seq)).unzip();
        let Envelope { class, inbox_seq, message, .. } = envelope;
        Self { class: *class, inbox_seq: *inbox_seq, attempt, feed_id, feed_seq, merged: envelope.merged, event: message.as_ref().into() }
    }
}

impl<'a> From<&'a Message> for SharedData<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            event_id: message.id,
            event_type: &message.message_type,
            data: message.metadata.as_deref(),
            created_at: message.created_at.into(),
            expires_at: message.expires_at.map(Timestamp),
            is_unreadable: message.is_unreadable,
        }
    }
}

/// `event:receive`.
pub fn event_frame(envelope: &Envelope, attempt: u16) -> Utf8Bytes {
    let mut out = String::with_capacity(RECEIVE.len() + event_bytes_max(envelope) + 1);
    out.push_str(RECEIVE);
    push_event(&mut out, envelope, attempt);
    out.push('}');
    out.into()
}

/// `event:batch`: as few frames as hold all of these in their order, each at most
/// [`BATCH_FRAME_BYTES_MAX`](crate::domain::limits::BATCH_FRAME_BYTES_MAX) bytes. None for nothing.
pub fn event_batch_frames<'a>(envelopes: impl IntoIterator<Item = (&'a Envelope, u16)>) -> Vec<Utf8Bytes> {
    batches(BATCH, envelopes, event_bytes_max, push_event)
}

/// The place that a client is told. The feed of events to listed users is none that clients know.
fn place(envelope: &Envelope) -> Option<FeedPlace> {
    envelope.feed.filter(|place| place.feed != FeedId::DIRECT)
}

/// The fields of [`SharedData`] as JSON without the braces: written at the first call, and kept beside the event for all its recipients.
fn fragment(message: &Message) -> &str {
    let kept = message.extension.get_or_init(Fragments::default);
    let kept = kept.expect("nothing else is kept beside a message");
    kept.event.get_or_init(|| without_braces(&SharedData::from(message), message.metadata.as_deref().map_or(0, |data| data.get().len())))
}

/// The fields of [`EventData`].
pub(super) fn push_event(out: &mut String, envelope: &Envelope, attempt: u16) {
    let Envelope { class, inbox_seq, message, .. } = envelope;
    let _ = write!(out, r#"{{"class":"{class}","inboxSeq":{inbox_seq},"attempt":{attempt},"#);
    if let Some(FeedPlace { feed, seq }) = place(envelope) {
        let _ = write!(out, r#""feedId":"{feed}","feedSeq":{seq},"#);
    }
    if let Some(merged) = envelope.merged {
        let _ = write!(out, r#""merged":{merged},"#);
    }
    let _ = write!(out, "{}}}", fragment(message));
}

/// At least as many bytes as [`push_event`] writes.
pub(super) fn event_bytes_max(envelope: &Envelope) -> usize {
    const OWN_FIELDS_BYTES_MAX: usize = 200;
    OWN_FIELDS_BYTES_MAX + fragment(&envelope.message).len()
}
