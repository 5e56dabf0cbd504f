//! Revocations, for operators: to revoke tokens, with the scope `admin`, and to list what is revoked, with `admin` or `admin:read`.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::extract::{Admin, Params, Payload, limit};
use crate::domain::{DeviceId, ExternalId, Revoked, limits};
use crate::protocol::fields::{Fields, small_number};
use crate::protocol::{Fault, RevocationData, Timestamp};
use crate::service::{RevocationList, RevocationPlace, RevokeRequest, Service};

const LIST_DEFAULT: u16 = 50;
const LIST_MAX: u16 = 500;

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "RevocationQuery")]
pub(super) struct ListParams {
    /// The `next` of a list.
    #[schemars(length(min = 1))]
    after: Option<String>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = LIST_MAX), extend("default" = LIST_DEFAULT))]
    limit: Option<u16>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RevocationList")]
pub(super) struct ListBody {
    revocations: Vec<RevocationData>,
    /// To be passed as `after`; null at the end.
    next: Option<String>,
}

/// `GET /v1/admin/revocations?after=&limit=`: those that count, newest first.
pub(super) async fn list(
    State(service): State<Service>,
    Admin(admin): Admin,
    Params(params): Params<ListParams>,
) -> Result<Json<ListBody>, ApiError> {
    let rows_max = limit(params.limit, LIST_DEFAULT, LIST_MAX)?;
    let below = params
        .after
        .as_deref()
        .map(|text| RevocationPlace::parse(text).ok_or_else(|| Fault::invalid("`after` must be the `next` of a list")));
    let RevocationList { revocations, next } = service.revocations(&admin, below.transpose()?, rows_max).await?;
    let revocations = revocations.into_iter().map(RevocationData::from).collect();
    Ok(Json(ListBody { revocations, next: next.map(|place| place.to_string()) }))
}

/// `POST /v1/admin/revocations {userId, deviceId?, reason?, expiresAt?}` or `{tokenId, …}`. Answered when it is committed: this node takes
/// the tokens no more, and every other one within a second.
pub(super) async fn revoke(
    State(service): State<Service>,
    Admin(admin): Admin,
    Payload(body): Payload,
) -> Result<Json<RevocationData>, ApiError> {
    let request = request(&body)?;
    Ok(Json(service.revoke(&admin, request).await?.into()))
}

fn request(body: &[u8]) -> Result<RevokeRequest, Fault> {
    let fields = Fields::of_body(body, ["userId", "deviceId", "tokenId", "reason", "expiresAt"])?;
    let user = fields.optional::<ExternalId>("userId")?;
    let (device, token) = (fields.optional::<DeviceId>("deviceId")?, fields.optional::<String>("tokenId")?);
    let revoked = match (user, device, token) {
        (Some(user), None, None) => Revoked::User(user),
        (Some(user), Some(device), None) => Revoked::Device(user, device),
        (None, None, Some(id)) => Revoked::Token(checked(id, "tokenId", limits::TOKEN_ID_CHARS_MAX)?),
        _ => return Err(Fault::invalid("name `userId`, or `userId` and `deviceId`, or `tokenId`")),
    };
    let reason = fields.optional::<String>("reason")?.map(|reason| checked(reason, "reason", limits::REASON_CHARS_MAX));
    let expires_at = fields.optional::<Timestamp>("expiresAt")?.map(|at| at.0);
    Ok(RevokeRequest { revoked, reason: reason.transpose()?, expires_at })
}

/// A text that the table takes.
fn checked(text: String, name: &str, chars_max: usize) -> Result<String, Fault> {
    if (1..=chars_max).contains(&text.chars().count()) && !text.contains('\0') {
        return Ok(text);
    }
    Err(Fault::invalid(format!("`{name}` must be 1 to {chars_max} characters without NUL")))
}
