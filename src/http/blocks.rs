//! Blocks: who is blocked, blocking and unblocking.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::ApiError;
use super::extract::{Caller, Params, Payload};
use crate::domain::{ExternalId, limits};
use crate::protocol::Fault;
use crate::protocol::fields::{Fields, small_number};
use crate::protocol::people::{BlockListOk, BlockOk, PeoplePage};
use crate::service::Service;

/// The part of a list of users that is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "PeopleListQuery")]
pub(super) struct PageParams {
    after: Option<ExternalId>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = limits::PEOPLE_PAGE_MAX), extend("default" = limits::PEOPLE_PAGE_DEFAULT))]
    limit: Option<u16>,
}

impl PageParams {
    pub(super) fn page(self) -> Result<PeoplePage, Fault> {
        PeoplePage::new(self.after, self.limit)
    }
}

/// `GET /v1/blocks?after=&limit=`: whom the caller has blocked.
pub(super) async fn list(
    State(service): State<Service>,
    Caller(caller): Caller,
    Params(params): Params<PageParams>,
) -> Result<Json<BlockListOk>, ApiError> {
    let page = params.page()?;
    Ok(Json(service.blocks(&caller, page.after.as_ref(), page.limit).await?.into()))
}

/// `POST /v1/blocks {userId}`: the caller blocks this user.
pub(super) async fn add(State(service): State<Service>, Caller(caller): Caller, Payload(body): Payload) -> Result<Json<BlockOk>, ApiError> {
    let user_id = user(&body)?;
    service.block(&caller, &user_id).await?;
    Ok(Json(BlockOk { user_id, is_blocked: true }))
}

/// `DELETE /v1/blocks {userId}`: the caller blocks this user no more.
pub(super) async fn remove(
    State(service): State<Service>,
    Caller(caller): Caller,
    Payload(body): Payload,
) -> Result<Json<BlockOk>, ApiError> {
    let user_id = user(&body)?;
    service.unblock(&caller, &user_id).await?;
    Ok(Json(BlockOk { user_id, is_blocked: false }))
}

/// The user that a body names.
pub(super) fn user(body: &[u8]) -> Result<ExternalId, Fault> {
    Fields::of_body(body, ["userId"])?.required("userId")
}
