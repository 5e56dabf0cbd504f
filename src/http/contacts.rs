//! Contacts: listing them, requesting, accepting, declining and removing one.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::blocks::user;
use super::error::ApiError;
use super::extract::{Caller, Params, Payload};
use crate::domain::{ExternalId, Profile, limits};
use crate::protocol::fields::small_number;
use crate::protocol::people::{ContactListOk, ContactOk, PeoplePage, contact_listing};
use crate::service::{ContactChange, Service};

/// The list of contacts that is asked for, and the part of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "ContactListQuery")]
pub(super) struct ListParams {
    #[schemars(extend("enum" = ["contact", "requested", "incoming"], "default" = "contact"))]
    state: Option<String>,
    after: Option<ExternalId>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = limits::PEOPLE_PAGE_MAX), extend("default" = limits::PEOPLE_PAGE_DEFAULT))]
    limit: Option<u16>,
}

/// `GET /v1/contacts?state=&after=&limit=`: the caller's contacts, or its requests, or those to it.
pub(super) async fn list(
    State(service): State<Service>,
    Caller(caller): Caller,
    Params(params): Params<ListParams>,
) -> Result<Json<ContactListOk>, ApiError> {
    let (role, page) = (contact_listing(params.state.as_deref())?.into(), PeoplePage::new(params.after, params.limit)?);
    Ok(Json(service.contacts(&caller, role, page.after.as_ref(), page.limit).await?.into()))
}

/// `POST /v1/contacts {userId}`: the caller requests this user, or accepts its request.
pub(super) async fn request(
    State(service): State<Service>,
    Caller(caller): Caller,
    Payload(body): Payload,
) -> Result<Json<ContactOk>, ApiError> {
    change(&service, &caller, ContactChange::Request, &body).await
}

/// `POST /v1/contacts/accept {userId}`: the caller accepts the request of this user.
pub(super) async fn accept(
    State(service): State<Service>,
    Caller(caller): Caller,
    Payload(body): Payload,
) -> Result<Json<ContactOk>, ApiError> {
    change(&service, &caller, ContactChange::Accept, &body).await
}

/// `POST /v1/contacts/decline {userId}`: the caller declines the request of this user.
pub(super) async fn decline(
    State(service): State<Service>,
    Caller(caller): Caller,
    Payload(body): Payload,
) -> Result<Json<ContactOk>, ApiError> {
    change(&service, &caller, ContactChange::Decline, &body).await
}

/// `DELETE /v1/contacts {userId}`: the caller removes this user, or takes its request back.
pub(super) async fn remove(
    State(service): State<Service>,
    Caller(caller): Caller,
    Payload(body): Payload,
) -> Result<Json<ContactOk>, ApiError> {
    change(&service, &caller, ContactChange::Remove, &body).await
}

async fn change(service: &Service, caller: &Profile, change: ContactChange, body: &[u8]) -> Result<Json<ContactOk>, ApiError> {
    let user_id = user(body)?;
    let state = service.change_contact(caller, None, change, &user_id).await?.into();
    Ok(Json(ContactOk { user_id, state }))
}
