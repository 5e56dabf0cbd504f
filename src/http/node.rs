//! The routes for operators and load balancers: health, readiness, metrics.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use schemars::JsonSchema;
use serde::Serialize;

use super::error::ApiError;
use crate::connection::Shared;
use crate::protocol::Code;
use crate::telemetry::METRICS_CONTENT_TYPE;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NodeState")]
pub(super) struct Fine {
    status: &'static str,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct About {
    service: &'static str,
    version: &'static str,
    websocket: &'static str,
    http: &'static str,
    ready: &'static str,
}

/// The answer to somebody who looks at the address with a browser: which service this is.
pub(super) async fn about() -> Json<About> {
    Json(About { service: "restante", version: env!("CARGO_PKG_VERSION"), websocket: "/ws", http: "/v1", ready: "/readyz" })
}

/// The process is alive, whatever the state of the database: a restart would not help.
pub(super) async fn healthz() -> Json<Fine> {
    Json(Fine { status: "alive" })
}

/// Answers whether clients may be sent to this node. They may not while the node stops or the database does not answer.
/// It costs no statement.
pub(super) async fn readyz(State(shared): State<Shared>) -> Result<Json<Fine>, ApiError> {
    if shared.shutdown.has_begun() {
        return Err(Code::Restart.into());
    }
    shared.context.service.check_ready()?;
    Ok(Json(Fine { status: "ready" }))
}

/// The metrics of this node, for every caller: they name no user.
pub(super) async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let context = &shared.context;
    context.metrics.presence_watches.set(i64::try_from(context.hub.watches()).unwrap_or(i64::MAX));
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], context.metrics.render())
}
