//! Figures of delivery, for operators: those of some hours in groups, and those of one event. Each takes a token with the scope
//! `admin` or `admin:read`.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::ApiError;
use super::extract::{Admin, EventPath, Params, limit};
use crate::domain::GroupBy;
use crate::protocol::fields::small_number;
use crate::protocol::{Code, EventFiguresData, Fault, StatisticsData, Timestamp};
use crate::service::{NoStatistics, Service, StatisticsPage, StatisticsRequest};

const GROUPS_DEFAULT: u16 = 100;
const GROUPS_MAX: u16 = 1_000;

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "StatisticsQuery")]
pub(super) struct StatisticsParams {
    #[schemars(with = "Option<Timestamp>")]
    from: Option<String>,
    #[schemars(with = "Option<Timestamp>")]
    to: Option<String>,
    #[schemars(extend("enum" = ["class", "type", "hour"], "default" = "class"))]
    by: Option<String>,
    /// The `next` of an answer.
    after: Option<String>,
    #[serde(default, deserialize_with = "small_number")]
    #[schemars(range(min = 1, max = GROUPS_MAX), extend("default" = GROUPS_DEFAULT))]
    limit: Option<u16>,
}

/// `GET /v1/admin/statistics?from=&to=&by=&after=&limit=`: what was accepted in these hours, and what became of it.
pub(super) async fn list(
    State(service): State<Service>,
    Admin(admin): Admin,
    Params(params): Params<StatisticsParams>,
) -> Result<Json<StatisticsData>, ApiError> {
    let request = request(params)?;
    let by = request.by;
    let StatisticsPage { span, as_of, groups, next } = service.statistics(&admin, request).await.map_err(|why| match why {
        NoStatistics::BadSpan(words) => ApiError::from(Fault::invalid(words)),
        NoStatistics::Refused(refusal) => refusal.into(),
    })?;
    Ok(Json(StatisticsData::new(span, by, as_of.into(), groups, next)))
}

/// `GET /v1/admin/statistics/events/{eventId}`: what became of one event.
pub(super) async fn event(
    State(service): State<Service>,
    Admin(admin): Admin,
    EventPath(event): EventPath,
) -> Result<Json<EventFiguresData>, ApiError> {
    let (as_of, figures) = service.event_figures(&admin, event).await?.ok_or(Code::NotFound)?;
    Ok(Json(EventFiguresData::new(Some(event), as_of.into(), figures)))
}

fn request(params: StatisticsParams) -> Result<StatisticsRequest, Fault> {
    let time = |name: &str, text: Option<String>| {
        let read = |text: String| Timestamp::parse(&text).ok_or_else(|| Fault::invalid(format!("`{name}` must be a time as in RFC 3339")));
        text.map(read).transpose().map(|at| at.map(|at| at.0))
    };
    let by = params.by.as_deref().map_or(Some(GroupBy::default()), GroupBy::parse);
    Ok(StatisticsRequest {
        from: time("from", params.from)?,
        to: time("to", params.to)?,
        by: by.ok_or_else(|| Fault::invalid("`by` must be class, type or hour"))?,
        after: params.after,
        groups_max: limit(params.limit, GROUPS_DEFAULT, GROUPS_MAX)?,
    })
}
