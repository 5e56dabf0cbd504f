//! Presence of users: online, or since when not.

use axum::Json;
use axum::extract::{Query, RawQuery, State};
use axum::http::Uri;

use super::error::ApiError;
use super::extract::Caller;
use crate::domain::{ExternalId, limits};
use crate::protocol::server::{Presence, PresenceState};
use crate::protocol::{Fault, Timestamp};
use crate::service::{PresenceOf, Service};

/// `GET /v1/presence?userIds=a,b`: users with whom the caller shares no chat are offline and were never seen.
pub(super) async fn show(
    State(service): State<Service>,
    Caller(caller): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<PresenceState>, ApiError> {
    let seen = service.presence(&caller, user_ids(&query.unwrap_or_default())?).await?;
    let users = seen.into_iter().map(|PresenceOf { user, online, last_seen }| Presence {
        user_id: user,
        online,
        last_seen: last_seen.map(Timestamp),
    });
    Ok(Json(PresenceState { users: users.collect() }))
}

/// The users of a query as it was sent: separated by commas, or the parameter several times. A comma in a user's name is `%2C`.
fn user_ids(query: &str) -> Result<Vec<ExternalId>, Fault> {
    let users = decoded(&one_value_each(query))?.into_iter().filter(|(name, user)| name == "userIds" && !user.is_empty());
    let texts: Vec<String> = users.map(|(_, user)| user).collect();
    match texts.len() {
        0 => Err(Fault::invalid("`userIds` is missing")),
        users if users > limits::PRESENCE_USERS_MAX => {
            Err(Fault::invalid(format!("`userIds` must hold at most {}", limits::PRESENCE_USERS_MAX)))
        }
        _ => texts
            .into_iter()
            .map(ExternalId::try_from)
            .collect::<Result<_, _>>()
            .map_err(|error| Fault::invalid(format!("`userIds`: {error}"))),
    }
}

/// The query with a parameter of its own for each value of a list. Lists are taken apart before they are decoded: what is a comma
/// only then belongs to a value.
fn one_value_each(query: &str) -> String {
    let lists = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let values = lists.flat_map(|(name, list)| list.split(',').map(move |value| format!("{name}={value}")));
    values.collect::<Vec<_>>().join("&")
}

fn decoded(query: &str) -> Result<Vec<(String, String)>, Fault> {
    let too_long = |_| Fault::invalid("the query is too long");
    let uri: Uri = format!("/?{query}").parse().map_err(too_long)?;
    Query::try_from_uri(&uri).map(|Query(pairs)| pairs).map_err(|rejection| Fault::invalid(rejection.body_text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Vec<String> {
        user_ids(query).unwrap().into_iter().map(String::from).collect()
    }

    #[test]
    fn a_list_is_taken_apart_before_it_is_decoded() {
        assert_eq!(asked("userIds=a%2Cb"), ["a,b"]);
        assert_eq!(asked("userIds=a%2cb&userIds=c"), ["a,b", "c"]);
        assert_eq!(asked("userIds=a,b,a%2Cb&userIds=c,d"), ["a", "b", "a,b", "c", "d"]);
        assert_eq!(asked("x=1,2&user%49ds=a%26b%3D+c,,%2C&userIds"), ["a&b= c", ","]);
        assert_eq!(asked("userIds=a=b"), ["a=b"]);
    }

    #[test]
    fn no_user_and_too_many_are_refused() {
        for query in ["", "userIds", "userIds=", "userIds=,,", "users=a"] {
            assert_eq!(user_ids(query).unwrap_err().message, "`userIds` is missing", "{query}");
        }
        let many = |users: usize| format!("userIds={}", vec!["a"; users].join(","));
        assert_eq!(asked(&many(500)).len(), 500);
        assert_eq!(user_ids(&many(501)).unwrap_err().message, "`userIds` must hold at most 500");
        assert_eq!(user_ids(&many(30_000)).unwrap_err().message, "the query is too long");
    }
}
