//! The routes for operators and load balancers: health, readiness, metrics.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use schemars::JsonSchema;
use serde::Serialize;

use super::error::ApiError;
use crate::auth::ServerKeys;
use crate::connection::Shared;
use crate::protocol::Code;
use crate::telemetry::METRICS_CONTENT_TYPE;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NodeState")]
pub(super) struct Fine {
    status: &'static str,
}

/// The node takes clients.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ready {
    status: &'static str,
    /// The keys of `JWKS_URL`, where it is set: fetched (`fresh`), kept while the server is away (`kept`), or `missing`: tokens that are signed with them are refused for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["fresh", "kept", "missing"]))]
    token_keys: Option<&'static str>,
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
/// It costs no statement. A node without keys of tokens takes clients: others would have no keys either, and connections that are open live on.
pub(super) async fn readyz(State(shared): State<Shared>) -> Result<Json<Ready>, ApiError> {
    if shared.shutdown.has_begun() {
        return Err(Code::Restart.into());
    }
    shared.context.service.check_ready()?;
    let token_keys = shared.context.verifier.keys().server_keys().map(|state| match state {
        ServerKeys::Fresh => "fresh",
        ServerKeys::Kept => "kept",
        ServerKeys::Missing => "missing",
    });
    Ok(Json(Ready { status: "ready", token_keys }))
}

/// The metrics of this node, for every caller: they name no user.
pub(super) async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let context = &shared.context;
    context.metrics.presence_watches.set(i64::try_from(context.hub.watches()).unwrap_or(i64::MAX));
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], context.metrics.render())
}
