//! Limits of single users, for operators: to raise them, with the scope `admin`, and to list them, with `admin` or `admin:read`.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::extract::{Admin, Params, Payload, limit, number};
use crate::domain::{ExternalId, UserId, limits};
use crate::protocol::fields::{Fields, small_number};
use crate::protocol::{Fault, RaisedLimitData};
use crate::service::{RaisedLimitList, Service};

const LIST_DEFAULT: u16 = 50;
const LIST_MAX: u16 = 500;

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "RaisedLimitQuery")]
pub(super) struct ListParams {
    /// The `next` of a list.
    #[schemars(length(min = 1))]
    after: Option<String>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = LIST_MAX), extend("default" = LIST_DEFAULT))]
    limit: Option<u16>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RaisedLimitList")]
pub(super) struct ListBody {
    limits: Vec<RaisedLimitData>,
    /// To be passed as `after`; null at the end.
    next: Option<String>,
}

/// The limits of a user as they were set.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LimitSetData {
    user_id: ExternalId,
    /// All rates of the user are multiplied by it.
    factor: u16,
}

/// `GET /v1/admin/limits?after=&limit=`: users whose limits are raised.
pub(super) async fn list(
    State(service): State<Service>,
    Admin(admin): Admin,
    Params(params): Params<ListParams>,
) -> Result<Json<ListBody>, ApiError> {
    let rows_max = limit(params.limit, LIST_DEFAULT, LIST_MAX)?;
    let after = number("after", params.after.as_deref())?.map(UserId);
    let RaisedLimitList { raised, next } = service.raised_limits(&admin, after, rows_max).await?;
    let limits = raised.into_iter().map(RaisedLimitData::from).collect();
    Ok(Json(ListBody { limits, next: next.map(|user| user.0.to_string()) }))
}

/// `POST /v1/admin/limits {userId, factor}`. Answered when it is committed: each node counts by it within a second.
pub(super) async fn set(
    State(service): State<Service>,
    Admin(admin): Admin,
    Payload(body): Payload,
) -> Result<Json<LimitSetData>, ApiError> {
    let fields = Fields::of_body(&body, ["userId", "factor"])?;
    let (user_id, factor) = (fields.required::<ExternalId>("userId")?, fields.required::<u64>("factor")?);
    let factor = u16::try_from(factor).ok().filter(|factor| (1..=limits::LIMIT_FACTOR_MAX).contains(factor));
    let factor = factor.ok_or_else(|| Fault::invalid(format!("`factor` must be 1 to {}", limits::LIMIT_FACTOR_MAX)))?;
    service.set_limit(&admin, &user_id, factor).await?;
    Ok(Json(LimitSetData { user_id, factor }))
}
