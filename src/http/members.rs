//! Joining and leaving groups.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::announce::{MembershipChange, announce};
use super::error::ApiError;
use super::extract::{Caller, ChatPath, Payload};
use crate::connection::Shared;
use crate::delivery::Refusal;
use crate::domain::{ChatId, ChatSeq, ExternalId, Profile, UserId, limits};
use crate::protocol::fields::Fields;

/// The members that joined.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AddedBody {
    chat_id: ChatId,
    /// Those who were members already are not among them.
    added: Vec<ExternalId>,
    /// They get messages above this number.
    joined_seq: ChatSeq,
}

/// The members that left.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RemovedBody {
    chat_id: ChatId,
    /// Those who were no members are not among them.
    removed: Vec<ExternalId>,
    /// Messages above this number are not for them.
    left_seq: ChatSeq,
}

/// `POST /v1/chats/{chatId}/members {userIds}`: for admins.
pub(super) async fn add(
    State(shared): State<Shared>,
    Caller(caller): Caller,
    ChatPath(chat): ChatPath,
    Payload(body): Payload,
) -> Result<Json<AddedBody>, ApiError> {
    let users = users(&shared, &caller, &body).await?;
    let joined = shared.store.add_members(caller.user, chat, &users).await;
    let joined = joined.map_err(|cause| ApiError::from_store(&shared, &cause))?.map_err(Refusal::from)?;
    let added = joined.users.iter().map(|(_, external)| external.clone()).collect();
    let joined_seq = joined.seq;
    announce(&shared, chat, &caller, &MembershipChange::Joined(joined));
    Ok(Json(AddedBody { chat_id: chat, added, joined_seq }))
}

/// `DELETE /v1/chats/{chatId}/members {userIds}`: oneself, or for admins anybody. What waits for them in this chat ends.
pub(super) async fn remove(
    State(shared): State<Shared>,
    Caller(caller): Caller,
    ChatPath(chat): ChatPath,
    Payload(body): Payload,
) -> Result<Json<RemovedBody>, ApiError> {
    let users = users(&shared, &caller, &body).await?;
    let left = shared.store.remove_members(caller.user, chat, &users).await;
    let left = left.map_err(|cause| ApiError::from_store(&shared, &cause))?.map_err(Refusal::from)?;
    let removed = left.users.iter().map(|(_, external)| external.clone()).collect();
    let left_seq = left.seq;
    announce(&shared, chat, &caller, &MembershipChange::Left(left));
    Ok(Json(RemovedBody { chat_id: chat, removed, left_seq }))
}

async fn users(shared: &Shared, caller: &Arc<Profile>, body: &[u8]) -> Result<Vec<UserId>, ApiError> {
    let names: Vec<ExternalId> = Fields::of_body(body, ["userIds"])?.list("userIds", limits::IDS_MAX)?;
    // It costs as much as a message to everybody concerned, and counts as one.
    shared.delivery.limits().check_send(caller.user)?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let known = shared.store.users(&names).await.map_err(|cause| ApiError::from_store(shared, &cause))?;
    Ok(known.into_values().collect())
}
