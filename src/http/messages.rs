//! Messages: sending, reading, what became of them.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::extract::{Caller, ChatPath, MessagePath, Params, Payload, limit, number};
use super::idempotency::IdempotencyKey;
use crate::domain::{ChatSeq, Profile};
use crate::protocol::client::{ReadUpTo, SendRequest, parse_body};
use crate::protocol::fields::small_number;
use crate::protocol::recalled::{HistoryItem, RecallOk};
use crate::protocol::server::{MessageStatuses, ReadOk, RecipientStatus, SentAnswer};
use crate::protocol::{Fault, Timestamp};
use crate::service::{self, HistoryRange, RecallDone, Service};

const HISTORY_DEFAULT: u16 = 50;
const HISTORY_MAX: u16 = 200;

/// `POST /v1/messages`: the data of `message:send`. Answered when the message is stored.
pub(super) async fn send(
    State(service): State<Service>,
    Caller(caller): Caller,
    key: IdempotencyKey,
    Payload(body): Payload,
) -> Result<Json<SentAnswer>, ApiError> {
    let request = send_request(&body, &key, &caller)?;
    Ok(Json(service.send(caller, request).await?.into()))
}

/// Reads a message that is to be sent. Where the body names no id, the key does.
pub(super) fn send_request(body: &[u8], key: &IdempotencyKey, sender: &Profile) -> Result<SendRequest, Fault> {
    let request = parse_body(body, SendRequest::parse)?;
    Ok(SendRequest { message_id: request.message_id.or_else(|| key.message(&sender.external)), ..request })
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "HistoryQuery")]
pub(super) struct HistoryParams {
    #[schemars(with = "Option<ChatSeq>")]
    before: Option<String>,
    #[schemars(with = "Option<ChatSeq>")]
    after: Option<String>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = HISTORY_MAX), extend("default" = HISTORY_DEFAULT))]
    limit: Option<u16>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "History")]
pub(super) struct HistoryBody<'a> {
    /// Ascending by `seq`, whichever way was asked.
    messages: Vec<HistoryItem<'a>>,
    /// There are more in the direction that was asked for.
    more: bool,
}

/// `GET /v1/chats/{chatId}/messages?before=&after=&limit=`: by `seq`, the newest ones when neither is given.
pub(super) async fn history(
    State(service): State<Service>,
    Caller(caller): Caller,
    ChatPath(chat): ChatPath,
    Params(params): Params<HistoryParams>,
) -> Result<Response, ApiError> {
    let range = match (number("before", params.before.as_deref())?, number("after", params.after.as_deref())?) {
        (Some(_), Some(_)) => return Err(Fault::invalid("name at most one of `before` and `after`").into()),
        (None, Some(after)) => HistoryRange::After(ChatSeq(after)),
        (before, None) => HistoryRange::Before(ChatSeq(before.unwrap_or(i64::MAX))),
    };
    let limit = limit(params.limit, HISTORY_DEFAULT, HISTORY_MAX)?;
    let page = service.history(&caller, chat, range, limit).await?;
    Ok(Json(HistoryBody { messages: page.messages.iter().map(HistoryItem::from).collect(), more: page.more }).into_response())
}

/// `POST /v1/chats/{chatId}/read`: the data of `message:read`, without the chat. Answered when it is committed.
pub(super) async fn read(
    State(service): State<Service>,
    Caller(caller): Caller,
    ChatPath(chat): ChatPath,
    Payload(body): Payload,
) -> Result<Json<ReadOk>, ApiError> {
    let up_to = match parse_body(&body, ReadUpTo::parse)? {
        ReadUpTo::Seq(seq) => service::ReadUpTo::Seq(seq),
        ReadUpTo::Message(message) => service::ReadUpTo::Message(message),
    };
    let done = service.read(caller, chat, up_to).await?;
    Ok(Json(ReadOk { chat_id: chat, seq: done.up_to }))
}

/// `POST /v1/messages/{messageId}/recall`: for its sender. Answered when nobody is shown any more what it said.
pub(super) async fn recall(
    State(service): State<Service>,
    Caller(caller): Caller,
    MessagePath(message): MessagePath,
) -> Result<Json<RecallOk>, ApiError> {
    let RecallDone { message, chat, seq, at } = service.recall(&caller, None, message).await?;
    Ok(Json(RecallOk { message_id: message, chat_id: chat, seq, recalled_at: at.into() }))
}

/// `GET /v1/messages/{messageId}/status`: for its sender and its recipients.
pub(super) async fn status(
    State(service): State<Service>,
    Caller(caller): Caller,
    MessagePath(message): MessagePath,
) -> Result<Json<MessageStatuses>, ApiError> {
    let statuses = service.statuses(&caller, message).await?.into_iter().map(|row| RecipientStatus {
        user_id: row.user,
        status: row.status,
        delivered_at: row.delivered_at.map(Timestamp),
        read_at: row.read_at.map(Timestamp),
        reason: row.reason,
    });
    Ok(Json(MessageStatuses { message_id: message, statuses: statuses.collect() }))
}
