//! temp
use crate::connection::{self, ConnectQuery, Shared};
use axum::{
    Router,
    extract::{Query, State, WebSocketUpgrade},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::get,
};
#[allow(missing_docs)]
pub fn router(shared: Shared) -> Router {
    Router::new().route("/ws", get(ws)).with_state(shared)
}
async fn ws(State(shared): State<Shared>, Query(q): Query<ConnectQuery>, headers: HeaderMap, up: WebSocketUpgrade) -> Response {
    match connection::upgrade(shared, up, &headers, q) {
        Ok(r) => r,
        Err(f) => (axum::http::StatusCode::from_u16(f.code.http()).unwrap_or_default(), axum::Json(f)).into_response(),
    }
}
