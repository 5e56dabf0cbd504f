//! The acts of operators, for operators. It takes a token with the scope `admin` or `admin:read`.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::extract::{Admin, Params, limit, number};
use crate::protocol::AuditEntryData;
use crate::protocol::fields::small_number;
use crate::service::{AuditPage, Service};

const LIST_DEFAULT: u16 = 50;
const LIST_MAX: u16 = 500;

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "AuditQuery")]
pub(super) struct AuditParams {
    /// The `next` of a list.
    #[schemars(length(min = 1))]
    after: Option<String>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = LIST_MAX), extend("default" = LIST_DEFAULT))]
    limit: Option<u16>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AuditList")]
pub(super) struct AuditBody {
    entries: Vec<AuditEntryData>,
    /// To be passed as `after`; null at the end.
    next: Option<String>,
}

/// `GET /v1/admin/audit?after=&limit=`: newest first.
pub(super) async fn list(
    State(service): State<Service>,
    Admin(admin): Admin,
    Params(params): Params<AuditParams>,
) -> Result<Json<AuditBody>, ApiError> {
    let rows_max = limit(params.limit, LIST_DEFAULT, LIST_MAX)?;
    let below = number("after", params.after.as_deref())?;
    let AuditPage { entries, next } = service.audit(&admin, below, rows_max).await?;
    let entries = entries.into_iter().map(AuditEntryData::from).collect();
    Ok(Json(AuditBody { entries, next: next.map(|below| below.to_string()) }))
}
