//! Joining and leaving groups.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use super::error::ApiError;
use super::extract::{Caller, ChatPath, Payload};
use crate::domain::{ChatId, ChatSeq, ExternalId, limits};
use crate::protocol::Fault;
use crate::protocol::fields::Fields;
use crate::service::{MembersAdded, MembersRemoved, Service};

/// The members that joined.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MembersAdded")]
pub(super) struct AddedBody {
    chat_id: ChatId,
    /// Those who were members already are not among them.
    added: Vec<ExternalId>,
    /// Those who are no contacts of the caller, where only contacts write to one another: they are invited now, and no members before they
    /// accept. Nobody: it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    invited: Option<Vec<ExternalId>>,
    /// They get messages above this number.
    joined_seq: ChatSeq,
}

/// The members that left.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MembersRemoved")]
pub(super) struct RemovedBody {
    chat_id: ChatId,
    /// Those who were no members are not among them.
    removed: Vec<ExternalId>,
    /// Those who were invited, and are no more. Nobody: it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    withdrawn: Option<Vec<ExternalId>>,
    /// Messages above this number are not for them.
    left_seq: ChatSeq,
}

/// `POST /v1/chats/{chatId}/members {userIds}`: for admins. Some are invited, where only contacts write to one another.
pub(super) async fn add(
    State(service): State<Service>,
    Caller(caller): Caller,
    ChatPath(chat): ChatPath,
    Payload(body): Payload,
) -> Result<Json<AddedBody>, ApiError> {
    let MembersAdded { users, invited, joined_seq } = service.add_members(&caller, chat, &user_ids(&body)?).await?;
    Ok(Json(AddedBody { chat_id: chat, added: users, invited: some(invited), joined_seq }))
}

/// `DELETE /v1/chats/{chatId}/members {userIds}`: oneself, or for admins anybody. What waits for them in this chat ends. Invitations
/// are withdrawn.
pub(super) async fn remove(
    State(service): State<Service>,
    Caller(caller): Caller,
    ChatPath(chat): ChatPath,
    Payload(body): Payload,
) -> Result<Json<RemovedBody>, ApiError> {
    let removed = service.remove_members(&caller, chat, &user_ids(&body)?).await?;
    Ok(Json(RemovedBody::new(chat, removed)))
}

/// `POST /v1/chats/{chatId}/leave`: the caller leaves. What stands in the body does not matter: many clients send none.
pub(super) async fn leave(
    State(service): State<Service>,
    Caller(caller): Caller,
    ChatPath(chat): ChatPath,
) -> Result<Json<RemovedBody>, ApiError> {
    let removed = service.remove_members(&caller, chat, std::slice::from_ref(&caller.external)).await?;
    Ok(Json(RemovedBody::new(chat, removed)))
}

impl RemovedBody {
    fn new(chat_id: ChatId, removed: MembersRemoved) -> Self {
        let MembersRemoved { users, withdrawn, left_seq } = removed;
        Self { chat_id, removed: users, withdrawn: some(withdrawn), left_seq }
    }
}

fn some(users: Vec<ExternalId>) -> Option<Vec<ExternalId>> {
    (!users.is_empty()).then_some(users)
}

fn user_ids(body: &[u8]) -> Result<Vec<ExternalId>, Fault> {
    Fields::of_body(body, ["userIds"])?.list("userIds", limits::IDS_MAX)
}
