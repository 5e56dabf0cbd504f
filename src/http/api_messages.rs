//! Sending and reading at the paths under `/api/messages`, which front ends of other services use. They ask the service as the paths
//! under `/v1` do; only the shapes of requests and answers are other ones.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::ApiError;
use super::extract::{Caller, Payload};
use super::idempotency::IdempotencyKey;
use super::messages::send_request;
use crate::domain::{ChatId, ChatSeq, ExternalId, Profile};
use crate::protocol::client::{ReadRequest, ReadUpTo, parse_body};
use crate::protocol::fields::Fields;
use crate::protocol::server::{ReadOk, SentAnswer};
use crate::protocol::{Fault, Timestamp};
use crate::service::{self, Service};

/// A message that is stored, with what this request said. For a duplicate the first request's content is what is stored.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SentAtOtherPath")]
pub(super) struct SentBody {
    message: SentMessage,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SentMessage {
    #[serde(flatten)]
    sent: SentAnswer,
    sender_id: ExternalId,
    content: String,
    message_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    sender: Sender,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SenderOfStored")]
struct Sender {
    name: Option<String>,
    profile_picture: Option<String>,
}

impl From<&Profile> for Sender {
    fn from(profile: &Profile) -> Self {
        Self { name: profile.name.clone(), profile_picture: profile.picture.clone() }
    }
}

/// `POST /api/messages/send`: the data of `message:send`. Answered `{message: {…}}` when the message is stored.
pub(super) async fn send(
    State(service): State<Service>,
    Caller(caller): Caller,
    key: IdempotencyKey,
    Payload(body): Payload,
) -> Result<Json<SentBody>, ApiError> {
    let request = send_request(&body, &key, &caller)?;
    let (content, message_type) = (request.content.clone(), request.message_type.clone());
    let (metadata, expires_at) = (request.metadata.clone(), request.expires_at.map(Timestamp));
    let (sender_id, sender) = (caller.external.clone(), Sender::from(&*caller));
    let sent = service.send(caller, request).await?.into();
    Ok(Json(SentBody { message: SentMessage { sent, sender_id, content, message_type, metadata, expires_at, sender } }))
}

/// `POST /api/messages/read {messageId, chatId}`: the chat is read up to this message. Answered when it is committed.
pub(super) async fn read(State(service): State<Service>, Caller(caller): Caller, Payload(body): Payload) -> Result<Json<ReadOk>, ApiError> {
    let ReadRequest { chat, target } = parse_body(&body, ReadRequest::parse)?;
    let up_to = match target {
        ReadUpTo::Seq(seq) => service::ReadUpTo::Seq(seq),
        ReadUpTo::Message(message) => service::ReadUpTo::Message(message),
    };
    let done = service.read(caller, chat, up_to).await?;
    Ok(Json(ReadOk { chat_id: chat, seq: done.up_to }))
}

/// `PATCH /api/messages/read {chatId}`: everything in the chat is read. Answered when it is committed.
pub(super) async fn read_all(
    State(service): State<Service>,
    Caller(caller): Caller,
    Payload(body): Payload,
) -> Result<Json<ReadOk>, ApiError> {
    let chat = parse_body(&body, chat_of)?;
    // A number behind the last one stands for it.
    let done = service.read(caller, chat, service::ReadUpTo::Seq(ChatSeq(i64::MAX))).await?;
    Ok(Json(ReadOk { chat_id: chat, seq: done.up_to }))
}

fn chat_of(data: &str) -> Result<ChatId, Fault> {
    Fields::of(data, ["chatId"])?.required("chatId")
}
