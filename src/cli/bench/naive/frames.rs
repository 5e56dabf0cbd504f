//! The frames that the naive service understands and sends: what the benchmark's clients use, in the protocol's shapes and
//! with all of its fields, so that a frame is as long as the service's.

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// What a client says.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", content = "data")]
pub enum Asked {
    /// A message.
    #[serde(rename = "message:send")]
    Send(Letter),
    /// An ack.
    #[serde(rename = "message:delivered", rename_all = "camelCase")]
    Delivered {
        /// Of this message.
        message_id: Uuid,
    },
}

/// A message that somebody sends.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Letter {
    /// Its id.
    pub message_id: Uuid,
    /// Where it goes.
    pub chat_id: Uuid,
    /// Its text.
    pub content: String,
}

/// The id of a frame, echoed in the answer.
#[derive(Debug, Deserialize)]
pub struct Named {
    /// As the client wrote it.
    pub id: Option<String>,
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
    /// Who sent it.
    pub sender_id: String,
    /// The text.
    pub content: String,
    /// What the client says it is.
    pub message_type: String,
    /// The client's own JSON.
    pub metadata: Option<serde_json::Value>,
    /// When it was stored.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// How the sender is shown.
    #[sqlx(flatten)]
    pub sender: Sender,
}

/// How a sender is shown.
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
    /// Never: a repeated id is an error here.
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
    /// What it became.
    pub status: &'static str,
    /// Who acked it.
    pub user_id: &'a str,
    /// When.
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
    // Nothing here can fail to be written: no map with odd keys, no time outside of RFC 3339.
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
        assert!(matches!(serde_json::from_str(&send).unwrap(), Asked::Send(letter) if letter.message_id == id));
        assert_eq!(serde_json::from_str::<Named>(&send).unwrap().id.as_deref(), Some("1"));
        let ack = json!({"event": "message:delivered", "data": {"messageId": id}}).to_string();
        assert!(matches!(serde_json::from_str(&ack).unwrap(), Asked::Delivered { message_id } if message_id == id));
    }

    #[test]
    fn frames_have_the_shape_of_the_protocol() {
        let text = frame("queue:drained", None, json!({"class": "chat"}));
        assert_eq!(text.as_str(), r#"{"event":"queue:drained","data":{"class":"chat"}}"#);
    }
}
