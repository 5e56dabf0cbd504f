//! Invitations to groups: the caller's own, its answers, and who is invited to a group of it.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::blocks::PageParams;
use super::error::ApiError;
use super::extract::{Caller, ChatPath, Params, Payload};
use crate::domain::{ChatId, ExternalId, limits};
use crate::protocol::fields::{Fields, small_number};
use crate::protocol::invitations::{InvitationListOk, InvitationOk, InvitationPage, InvitationStateWord};
use crate::protocol::{Fault, Timestamp};
use crate::service::{InvitedList, InvitedUser, Service};

/// The part of the invitations that is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "InvitationListQuery")]
pub(super) struct ListParams {
    #[schemars(with = "Option<ChatId>")]
    after: Option<Uuid>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = limits::PEOPLE_PAGE_MAX), extend("default" = limits::PEOPLE_PAGE_DEFAULT))]
    limit: Option<u16>,
}

/// A part of the users who are invited to a group.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "InvitedList")]
pub(super) struct InvitedBody {
    /// The users.
    invited: Vec<InvitedUserBody>,
    /// To be passed as `after` for those that follow; null: these were the last.
    next: Option<ExternalId>,
}

/// A user who is invited to a group.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "InvitedUser")]
struct InvitedUserBody {
    /// The user.
    user_id: ExternalId,
    /// Its name.
    name: Option<String>,
    /// The address of its picture.
    profile_picture: Option<String>,
    /// The admin that has invited it.
    by: ExternalId,
    /// Since when.
    invited_at: Timestamp,
    /// The end of the invitation.
    expires_at: Timestamp,
}

/// `GET /v1/invitations?after=&limit=`: the groups to which the caller is invited.
pub(super) async fn list(
    State(service): State<Service>,
    Caller(caller): Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<InvitationListOk>, ApiError> {
    let page = InvitationPage::new(params.after.map(ChatId), params.limit)?;
    Ok(Json(service.invitations(&caller, page.after, page.limit).await?.into()))
}

/// `POST /v1/invitations/accept {chatId}`: the caller is a member from now on.
pub(super) async fn accept(
    State(service): State<Service>,
    Caller(caller): Caller,
    Payload(body): Payload,
) -> Result<Json<InvitationOk>, ApiError> {
    let chat_id = chat(&body)?;
    let joined_seq = Some(service.accept_invitation(&caller, chat_id).await?);
    Ok(Json(InvitationOk { chat_id, state: InvitationStateWord::Member, joined_seq }))
}

/// `POST /v1/invitations/decline {chatId}`: the caller does not come.
pub(super) async fn decline(
    State(service): State<Service>,
    Caller(caller): Caller,
    Payload(body): Payload,
) -> Result<Json<InvitationOk>, ApiError> {
    let chat_id = chat(&body)?;
    service.decline_invitation(&caller, chat_id).await?;
    Ok(Json(InvitationOk { chat_id, state: InvitationStateWord::Declined, joined_seq: None }))
}

/// `GET /v1/chats/{chatId}/invitations?after=&limit=`: who is invited to a group, for its members.
pub(super) async fn invited(
    State(service): State<Service>,
    Caller(caller): Caller,
    ChatPath(chat): ChatPath,
    Params(params): Params<PageParams>,
) -> Result<Json<InvitedBody>, ApiError> {
    let page = params.page()?;
    let InvitedList { users, next } = service.invited(&caller, chat, page.after.as_ref(), page.limit).await?;
    Ok(Json(InvitedBody { invited: users.into_iter().map(InvitedUserBody::from).collect(), next }))
}

/// The group that a body names.
fn chat(body: &[u8]) -> Result<ChatId, Fault> {
    Fields::of_body(body, ["chatId"])?.required("chatId")
}

impl From<InvitedUser> for InvitedUserBody {
    fn from(user: InvitedUser) -> Self {
        let InvitedUser { profile, by, at, expires_at } = user;
        Self {
            user_id: profile.external,
            name: profile.name,
            profile_picture: profile.picture,
            by,
            invited_at: at.into(),
            expires_at: expires_at.into(),
        }
    }
}
