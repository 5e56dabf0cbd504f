//! Presence of users: online, or since when not.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use super::extract::{Caller, Params};
use crate::connection::Shared;
use crate::domain::{ExternalId, limits};
use crate::protocol::server::{Presence, PresenceState};
use crate::protocol::{Fault, Timestamp};

/// `GET /v1/presence?userIds=a,b`: users with whom the caller shares no chat are offline and were never seen.
pub(super) async fn show(
    State(shared): State<Shared>,
    Caller(caller): Caller,
    Params(params): Params<Vec<(String, String)>>,
) -> Result<Json<PresenceState>, ApiError> {
    let users = user_ids(&params)?;
    let seen = shared.store.presence(caller.user, &users).await.map_err(|cause| ApiError::from_store(&shared, &cause))?;
    let users = users.into_iter().map(|user| {
        let known = seen.iter().find(|(external, _)| *external == user).map(|(_, known)| known);
        let online = known.is_some_and(|known| known.online || shared.hub.is_here(known.user));
        Presence { user_id: user, online, last_seen: known.and_then(|known| known.last_seen).map(Timestamp) }
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
