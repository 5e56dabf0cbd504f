//! Preferences: what the caller has muted.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use super::error::ApiError;
use super::extract::{Caller, Payload};
use crate::domain::{ChatId, Preferences, limits};
use crate::protocol::Fault;
use crate::protocol::fields::Fields;
use crate::service::{PreferencesChange, Service};

/// The things that the caller has muted, each list in ascending order.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PreferencesView")]
pub(super) struct PreferencesBody {
    /// Types of events that make no rows for it.
    muted_types: Vec<String>,
    /// Chats whose messages come marked as muted.
    muted_chats: Vec<ChatId>,
}

/// `GET /v1/preferences`.
pub(super) async fn show(State(service): State<Service>, Caller(caller): Caller) -> Result<Json<PreferencesBody>, ApiError> {
    Ok(Json(service.preferences(&caller).await?.into()))
}

/// `PUT /v1/preferences {mutedTypes?, mutedChats?}`: answered with what is muted from now on.
pub(super) async fn put(
    State(service): State<Service>,
    Caller(caller): Caller,
    Payload(body): Payload,
) -> Result<Json<PreferencesBody>, ApiError> {
    Ok(Json(service.set_preferences(&caller, &change(&body)?).await?.into()))
}

/// Reads the request of `PUT /v1/preferences`.
fn change(body: &[u8]) -> Result<PreferencesChange, Fault> {
    let fields = Fields::of_body(body, ["mutedTypes", "mutedChats"])?;
    let muted_types: Option<Vec<String>> = fields.optional_list("mutedTypes", limits::MUTED_TYPES_MAX)?;
    let fits = |name: &String| (1..=limits::MESSAGE_TYPE_CHARS_MAX).contains(&name.chars().count());
    if let Some(at) = muted_types.iter().flatten().position(|name| !fits(name)) {
        let words = format!("`mutedTypes[{at}]` must be 1 to {} characters", limits::MESSAGE_TYPE_CHARS_MAX);
        return Err(Fault::invalid(words));
    }
    Ok(PreferencesChange { muted_types, muted_chats: fields.optional_list("mutedChats", limits::MUTED_CHATS_MAX)? })
}

impl From<Preferences> for PreferencesBody {
    fn from(Preferences { muted_types, muted_chats }: Preferences) -> Self {
        Self { muted_types, muted_chats }
    }
}
