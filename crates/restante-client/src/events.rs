//! Frames: from text to a typed [`Event`] and back. No other file has the events' names.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::payloads::{
    ChatChange, ChatRead, Drained, Envelope, ErrorReport, FeedEvent, Gap, Presence, Published, ReadUpTo, Ready, Recalled, Sent,
    StatusUpdate, Typing,
};

/// An event of the service.
#[derive(Debug)]
pub enum Event {
    /// `ready`.
    Ready(Box<Ready>),
    /// `authenticated`.
    Authenticated,
    /// `message:receive`.
    Receive(Box<Envelope>),
    /// `message:batch`.
    Batch(Vec<Envelope>),
    /// `event:receive`.
    FeedEvent(Box<FeedEvent>),
    /// `event:batch`.
    FeedEvents(Vec<FeedEvent>),
    /// `message:recalled`.
    Recalled(Box<Recalled>),
    /// `queue:drained`.
    Drained(Drained),
    /// `queue:gap`.
    Gap(Gap),
    /// `message:sent`.
    Sent(Box<Sent>),
    /// `event:published`.
    Published(Published),
    /// `message:status`.
    Status(Box<StatusUpdate>),
    /// `chat:read`.
    ChatRead(ChatRead),
    /// `message:recall:ok`: the caller's message is recalled.
    RecallOk(Box<Recalled>),
    /// `message:delivered:ok`.
    Acked,
    /// `message:read:ok`.
    ReadOk(ReadUpTo),
    /// `user:online`.
    Online(Presence),
    /// `user:offline`.
    Offline(Presence),
    /// `typing`.
    Typing(Typing),
    /// `chat:added`.
    ChatAdded(ChatChange),
    /// `chat:removed`.
    ChatRemoved(ChatChange),
    /// `server:draining`: the service will close soon, and asks the client to reconnect after this many milliseconds.
    Draining {
        /// Milliseconds.
        reconnect_after_ms: u64,
    },
    /// `pong`.
    Pong,
    /// `error`.
    Error(ErrorReport),
    /// An event this client does not know, as it came.
    Other {
        /// Its name.
        event: String,
        /// Its data.
        data: Box<RawValue>,
    },
    /// A known event whose data is not what the protocol says, or no frame at all. A fault of the service.
    Malformed {
        /// The frame.
        text: String,
        /// The reason why it cannot be read.
        error: String,
    },
}

/// A frame from the service.
#[derive(Debug)]
pub struct Frame {
    /// The `id` of the frame it answers.
    pub id: Option<String>,
    /// The event.
    pub event: Event,
}

#[derive(Deserialize)]
struct RawFrame<'a> {
    event: &'a str,
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBatch {
    messages: Vec<Envelope>,
}

#[derive(Deserialize)]
struct RawEvents {
    events: Vec<FeedEvent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDraining {
    #[serde(default)]
    reconnect_after_ms: u64,
}

impl Frame {
    /// Understands a frame. Never fails: what cannot be understood is [`Event::Malformed`].
    pub fn parse(text: &str) -> Self {
        match serde_json::from_str::<RawFrame<'_>>(text) {
            Err(error) => Self { id: None, event: malformed(text, &error) },
            Ok(raw) => {
                let event = understand(raw.event, raw.data).unwrap_or_else(|error| malformed(text, &error));
                Self { id: raw.id, event }
            }
        }
    }
}

fn malformed(text: &str, error: &serde_json::Error) -> Event {
    Event::Malformed { text: text.to_owned(), error: error.to_string() }
}

fn understand(event: &str, data: Option<&RawValue>) -> serde_json::Result<Event> {
    fn read<'a, T: Deserialize<'a>>(data: &'a str) -> serde_json::Result<T> {
        serde_json::from_str(data)
    }
    let text = data.map_or("{}", RawValue::get);
    Ok(match event {
        "message:receive" => Event::Receive(read(text)?),
        "message:batch" => Event::Batch(read::<RawBatch>(text)?.messages),
        "event:receive" => Event::FeedEvent(read(text)?),
        "event:batch" => Event::FeedEvents(read::<RawEvents>(text)?.events),
        "message:recalled" => Event::Recalled(read(text)?),
        "message:sent" => Event::Sent(read(text)?),
        "event:published" => Event::Published(read(text)?),
        "message:status" => Event::Status(read(text)?),
        "chat:read" => Event::ChatRead(read(text)?),
        "message:recall:ok" => Event::RecallOk(read(text)?),
        "message:delivered:ok" => Event::Acked,
        "message:read:ok" => Event::ReadOk(read(text)?),
        "ready" => Event::Ready(read(text)?),
        "authenticated" => Event::Authenticated,
        "queue:drained" => Event::Drained(read(text)?),
        "queue:gap" => Event::Gap(read(text)?),
        "user:online" => Event::Online(read(text)?),
        "user:offline" => Event::Offline(read(text)?),
        "typing" => Event::Typing(read(text)?),
        "chat:added" => Event::ChatAdded(read(text)?),
        "chat:removed" => Event::ChatRemoved(read(text)?),
        "server:draining" => Event::Draining { reconnect_after_ms: read::<RawDraining>(text)?.reconnect_after_ms },
        "pong" => Event::Pong,
        "error" => Event::Error(read(text)?),
        other => Event::Other { event: other.to_owned(), data: RawValue::from_string(text.to_owned())? },
    })
}

/// A frame for the service. With an `id` the service answers with that `id`.
pub fn encode<T: Serialize + ?Sized>(event: &str, id: Option<&str>, data: &T) -> String {
    #[derive(Serialize)]
    struct Out<'a, T: ?Sized> {
        event: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        data: &'a T,
    }
    // Our own types have string keys and finite numbers only, so this cannot fail; an empty frame would be refused loudly.
    serde_json::to_string(&Out { event, id, data }).unwrap_or_default()
}

/// May the same frame succeed later, unchanged?
pub fn is_retryable(error: &ErrorReport) -> bool {
    error.retry_after_ms.is_some() || matches!(error.code.as_str(), "busy" | "unavailable" | "rate_limited" | "restart")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_event_is_typed() {
        let frame = Frame::parse(
            r#"{"event":"message:receive","data":{"messageId":"0192f0c0-0000-7000-8000-000000000001","chatId":"0192f0c0-0000-7000-8000-000000000002",
            "seq":3,"class":"chat","inboxSeq":7,"senderId":"alice","content":"h\u00e9","messageType":"text","metadata":{"a":1},
            "createdAt":"2026-01-01T00:00:00Z","attempt":1,"sender":{"name":"Alice","profilePicture":null},"new":true}}"#,
        );
        let Event::Receive(envelope) = frame.event else { panic!("{frame:?}") };
        assert_eq!((envelope.seq.0, envelope.inbox_seq.0, envelope.content.as_str()), (3, 7, "hé"));
        assert_eq!(envelope.metadata.map(|raw| raw.get().to_owned()).as_deref(), Some(r#"{"a":1}"#));
    }

    #[test]
    fn unknown_event_is_kept_as_it_came() {
        let Event::Other { event, data } = Frame::parse(r#"{"event":"weather","data":{"rain":[1, 2]}}"#).event else { panic!() };
        assert_eq!((event.as_str(), data.get()), ("weather", r#"{"rain":[1, 2]}"#));
    }

    #[test]
    fn known_event_with_wrong_data_is_malformed() {
        assert!(matches!(Frame::parse(r#"{"event":"queue:drained","data":{}}"#).event, Event::Malformed { .. }));
        assert!(matches!(Frame::parse("nonsense").event, Event::Malformed { .. }));
    }

    #[test]
    fn event_without_data_is_understood() {
        let frame = Frame::parse(r#"{"event":"pong","id":"7"}"#);
        assert!(matches!(frame.event, Event::Pong));
        assert_eq!(frame.id.as_deref(), Some("7"));
    }

    #[test]
    fn frame_without_id_carries_no_id_field() {
        assert_eq!(encode("ping", None, &serde_json::json!({})), r#"{"event":"ping","data":{}}"#);
        assert_eq!(encode("ping", Some("1"), &serde_json::json!({})), r#"{"event":"ping","id":"1","data":{}}"#);
    }

    #[test]
    fn refusals_that_pass_are_told_from_those_that_do_not() {
        let error = |code: &str, retry_after_ms| ErrorReport { code: code.into(), message: String::new(), retry_after_ms, behind: None };
        assert!(is_retryable(&error("busy", Some(50))));
        assert!(is_retryable(&error("unavailable", None)));
        assert!(!is_retryable(&error("not_a_member", None)));
    }
}
