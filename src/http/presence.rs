//! Presence of users: online, or since when not.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use super::extract::{Caller, Params};
use crate::domain::{ExternalId, limits};
use crate::protocol::server::{Presence, PresenceState};
use crate::protocol::{Fault, Timestamp};
use crate::service::{PresenceOf, Service};

/// `GET /v1/presence?userIds=a,b`: users with whom the caller shares no chat are offline and were never seen.
pub(super) async fn show(
    State(service): State<Service>,
    Caller(caller): Caller,
    Params(params): Params<Vec<(String, String)>>,
) -> Result<Json<PresenceState>, ApiError> {
    let seen = service.presence(&caller, user_ids(&params)?).await?;
    let users = seen.into_iter().map(|PresenceOf { user, online, last_seen }| Presence {
        user_id: user,
        online,
        last_seen: last_seen.map(Timestamp),
    });
    Ok(Json(PresenceState { users: users.collect() }))
}

/// Separated by commas, or the parameter several times.
fn user_ids(params: &[(String, String)]) -> Result<Vec<ExternalId>, Fault> {
    let lists = params.iter().filter(|(name, _)| name == "userIds");
    let texts: Vec<&str> = lists.flat_map(|(_, list)| list.split(',')).filter(|text| !text.is_empty()).collect();
    match texts.len() {
        0 => Err(Fault::invalid("`userIds` is missing")),
        users if users > limits::PRESENCE_USERS_MAX => {
            Err(Fault::invalid(format!("`userIds` must hold at most {}", limits::PRESENCE_USERS_MAX)))
        }
        _ => texts
            .into_iter()
            .map(|text| ExternalId::try_from(text.to_owned()))
            .collect::<Result<_, _>>()
            .map_err(|error| Fault::invalid(format!("`userIds`: {error}"))),
    }
}
