//! The layers around every route: an id and a span for each request, limits of size and time, an answer even to a panic.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, Any as AnyOf, CorsLayer};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use tracing::{Span, debug_span};

use super::error::{ApiError, tell_as_problem};
use crate::auth::Origins;
use crate::connection::Shutdown;
use crate::domain::limits;
use crate::protocol::{Code, Fault};

/// A request that takes longer is answered `unavailable`. What it had begun to store may be stored.
pub(super) const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// Answers of fewer bytes are not compressed: it would save no packet.
const COMPRESSED_FROM: u64 = 1_024;

/// Puts the layers round these routes.
pub(super) fn around<S: Clone + Send + Sync + 'static>(routes: Router<S>, stop: Shutdown, origins: &Origins) -> Router<S> {
    // The last one is the outermost.
    routes
        .layer(middleware::from_fn_with_state(stop, send_on_when_stopping))
        .layer(middleware::from_fn(tell_no_referrer))
        .layer(DefaultBodyLimit::max(limits::FRAME_BYTES_MAX))
        .layer(middleware::from_fn(in_time))
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(middleware::from_fn(tell_as_problem))
        .layer(CompressionLayer::new().gzip(true).compress_when(SizeAbove::new(COMPRESSED_FROM).and(NotForContentType::SSE)))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(TraceLayer::new_for_http().make_span_with(span).on_failure(()))
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(cors(origins))
}

/// The answers to browsers that ask for a page of another origin (the Fetch standard, CORS protocol).
fn cors(origins: &Origins) -> CorsLayer {
    let origin = match origins {
        Origins::Every => AllowOrigin::any(),
        Origins::Listed(listed) => AllowOrigin::list(listed.iter().cloned()),
    };
    // Each by its name: `*` covers every header but `Authorization`.
    let asked =
        ["authorization", "content-type", "idempotency-key", "x-request-id", "traceparent", "last-event-id"].map(HeaderName::from_static);
    let told = ["retry-after", "x-request-id"].map(HeaderName::from_static);
    CorsLayer::new().allow_origin(origin).allow_methods(AnyOf).allow_headers(asked).expose_headers(told)
}

/// Never the query: it may hold a token.
fn span<B>(request: &axum::http::Request<B>) -> Span {
    let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    debug_span!("request", method = %request.method(), path = request.uri().path(), request.id = id)
}

/// Ends keep-alive while the node stops: a proxy that keeps connections opens the next one to another node.
async fn send_on_when_stopping(State(stop): State<Shutdown>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if stop.has_begun() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The address of a request may hold a token: a browser that has it from here tells nobody.
async fn tell_no_referrer(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::from(Fault::new(Code::Unavailable, "it took too long").retry_after_ms(1_000)).into_response(),
    }
}

fn answer_panic(panic: Box<dyn Any + Send>) -> Response {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = words.unwrap_or("of another kind"), "a request panicked");
    ApiError::from(Code::Internal).into_response()
}
