//! The frames of the naive service: those that the benchmark's clients use, in the protocol's shapes and with all of its fields, so that
//! a frame is as long as the service's.

use anyhow::bail;
use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

/// A frame of a client.
#[derive(Debug)]
pub enum Request {
    /// A message, and the id of the frame, which is echoed.
    Send(Letter, Option<String>),
    /// An ack.
    Delivered(Ack),
}

#[derive(Deserialize)]
struct Frame<'a> {
    event: &'a str,
    id: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Request {
    /// Reads a frame.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let frame: Frame<'_> = serde_json::from_str(text)?;
        match frame.event {
            "message:send" => Ok(Self::Send(serde_json::from_str(frame.data.get())?, frame.id)),
            "message:delivered" => Ok(Self::Delivered(serde_json::from_str(frame.data.get())?)),
            other => bail!("{other} is not understood"),
        }
    }
}

/// An ack.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ack {
    /// The message.
    pub message_id: Uuid,
}

/// A message of a client.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Letter {
    /// Its id.
    pub message_id: Uuid,
    /// Its chat.
    pub chat_id: Uuid,
    /// Its text.
    pub content: String,
}

/// `message:receive`, from a page or when it has just been stored.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The inbox.
    pub class: String,
    /// The number in it.
    pub inbox_seq: i64,
    /// 1 for the first emission.
    pub attempt: i32,
    /// Its id.
    pub message_id: Uuid,
    /// Its chat.
    pub chat_id: Uuid,
    /// Its number there.
    pub seq: i64,
    /// The sender.
    pub sender_id: String,
    /// The text.
    pub content: String,
    /// The type that its sender gave it.
    pub message_type: String,
    /// The client's own JSON.
    pub metadata: Option<serde_json::Value>,
    /// When it was stored.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// The sender as a client shows it.
    #[sqlx(flatten)]
    pub sender: Sender,
}

/// The sender as a client shows it.
#[derive(Debug, Clone, Default, Serialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct Sender {
    /// A display name.
    pub name: Option<String>,
    /// The address of a picture.
    pub profile_picture: Option<String>,
}

/// `message:sent`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// The message.
    pub message_id: Uuid,
    /// Its chat.
    pub chat_id: Uuid,
    /// Its number there.
    pub seq: i64,
    /// When it was stored.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Always false: a repeated id is an error here.
    pub duplicate: bool,
}

/// `message:status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told<'a> {
    /// The chat.
    pub chat_id: Uuid,
    /// The message.
    pub message_ids: [Uuid; 1],
    /// Its number in the chat.
    pub seq: i64,
    /// Its status.
    pub status: &'static str,
    /// The user who acked it.
    pub user_id: &'a str,
    /// The time of the ack.
    #[serde(with = "time::serde::rfc3339")]
    pub timestamp: OffsetDateTime,
}

/// Writes a frame.
pub fn frame(event: &str, id: Option<&str>, data: impl Serialize) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Frame<'a, D> {
        event: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        data: D,
    }
    // This cannot fail: no frame has a map with keys of another type, or a time outside of RFC 3339.
    serde_json::to_string(&Frame { event, id, data }).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_clients_of_the_benchmark_say_is_understood() {
        let id = Uuid::now_v7();
        let send = json!({"event": "message:send", "id": "1", "data": {"messageId": id, "chatId": id, "content": "hello"}}).to_string();
        assert!(matches!(Request::read(&send).unwrap(), Request::Send(letter, Some(named)) if letter.message_id == id && named == "1"));
        let ack = json!({"event": "message:delivered", "data": {"messageId": id}}).to_string();
        assert!(matches!(Request::read(&ack).unwrap(), Request::Delivered(ack) if ack.message_id == id));
        assert!(Request::read(r#"{"event":"ping","data":{}}"#).is_err());
    }

    #[test]
    fn frames_have_the_shape_of_the_protocol() {
        let text = frame("queue:drained", None, json!({"class": "chat"}));
        assert_eq!(text.as_str(), r#"{"event":"queue:drained","data":{"class":"chat"}}"#);
    }
}
