//! HTTP, a door: everything that a person can do over the socket, and what operators look at. The routes as one table.
//!
//! Handlers are thin: they decode a request, ask the service, and encode the result. No SQL, no JSON shapes of
//! their own where the socket has one. Whatever goes wrong is an `ApiError`, unknown paths and panics included.
//!
//! In reading order: `error`, `acts` (what each request asks for), `extract` (caller, body, path, query), `address` (from where it came), `idempotency` (a key for an id), `upgrade` (the request for a WebSocket), then the
//! handlers: `chats` and `members`, `messages`, `api_messages` (the same at other paths), `events` and `feeds`, `inbox`, `preferences`, `contacts`, `blocks`, `accounts`, `invitations`, `presence`, `dead_letters`, `audit`, `revocations`, `erasures`, `limits`, `data_keys`, `statistics`, `node`, `descriptions`, `socketio`, `event_stream`;
//! `openapi` describes all of them, with `bodies` for what only HTTP takes;
//! `layers` is round all of it, `serve` brings it connections, `silent` knows those that have asked for nothing yet.

mod acts;
mod address;
mod error;
mod extract;
mod idempotency;
mod upgrade;

mod accounts;
mod api_messages;
mod audit;
mod blocks;
mod chats;
mod contacts;
mod data_keys;
mod dead_letters;
mod descriptions;
mod erasures;
mod event_stream;
mod events;
mod feeds;
mod inbox;
mod invitations;
mod limits;
mod members;
mod messages;
mod node;
mod preferences;
mod presence;
mod revocations;
mod socketio;
mod statistics;

mod bodies;
pub mod openapi;

mod layers;
mod serve;
mod silent;

pub use serve::{ServeSettings, serve};

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{any, get, post};

use crate::connection::{self, ConnectQuery, Shared};
use crate::domain;
use crate::protocol::{Code, Fault};
use crate::service::Service;
use crate::socketio::Door;
use address::ClientAddress;
use error::ApiError;
use extract::Params;
use upgrade::Upgrade;

/// Every route of a node; those of Socket.IO where there is a door for it.
pub fn router(shared: Shared, socketio: Option<Door>) -> Router {
    let mut routes = Router::new();
    if let Some(door) = socketio {
        let requests = any(socketio::handle).with_state(door);
        routes = routes.route("/socket.io/", requests.clone()).route("/socket.io", requests);
    }
    let routes = routes
        .route("/", get(node::about))
        .route("/ws", get(socket))
        .route("/v1/chats", get(chats::list).post(chats::create))
        .route("/v1/chats/{chat}", get(chats::show))
        .route("/v1/chats/{chat}/members", post(members::add).delete(members::remove))
        .route("/v1/chats/{chat}/leave", post(members::leave))
        .route("/v1/chats/{chat}/invitations", get(invitations::invited))
        .route("/v1/chats/{chat}/messages", get(messages::history))
        .route("/v1/chats/{chat}/read", post(messages::read))
        .route("/v1/messages", post(messages::send))
        .route("/api/messages/send", post(api_messages::send))
        .route("/api/messages/read", post(api_messages::read).patch(api_messages::read_all))
        .route("/v1/messages/{message}/recall", post(messages::recall))
        .route("/v1/messages/{message}/status", get(messages::status))
        .route("/v1/events", post(events::publish).layer(DefaultBodyLimit::max(domain::limits::EVENTS_BODY_BYTES_MAX)))
        .route("/v1/events/{event}", get(events::show))
        .route("/v1/feeds", get(feeds::list).post(feeds::create))
        .route("/v1/feeds/{feed}", get(feeds::show))
        .route("/v1/feeds/{feed}/followers", get(feeds::followers))
        .route("/v1/feeds/{feed}/publishers", post(feeds::add_publishers).delete(feeds::remove_publishers))
        .route("/v1/feeds/{feed}/follow", post(feeds::follow))
        .route("/v1/feeds/{feed}/unfollow", post(feeds::unfollow))
        .route("/v1/inbox", get(inbox::list))
        .route("/v1/inbox/ack", post(inbox::ack))
        .route("/v1/inbox/reject", post(inbox::reject))
        .route("/v1/stream", get(event_stream::open))
        .route("/v1/preferences", get(preferences::show).put(preferences::put))
        .route("/v1/contacts", get(contacts::list).post(contacts::request).delete(contacts::remove))
        .route("/v1/contacts/accept", post(contacts::accept))
        .route("/v1/contacts/decline", post(contacts::decline))
        .route("/v1/blocks", get(blocks::list).post(blocks::add).delete(blocks::remove))
        .route("/v1/invitations", get(invitations::list))
        .route("/v1/invitations/accept", post(invitations::accept))
        .route("/v1/invitations/decline", post(invitations::decline))
        .route("/v1/accounts", post(accounts::register))
        .route("/v1/accounts/login", post(accounts::log_in))
        .route("/v1/accounts/refresh", post(accounts::refresh))
        .route("/v1/accounts/password", post(accounts::change_password))
        .route("/v1/accounts/logout", post(accounts::log_out))
        .route("/v1/accounts/logout-everywhere", post(accounts::log_out_everywhere))
        .route("/v1/presence", get(presence::show))
        .route("/v1/admin/statistics", get(statistics::list))
        .route("/v1/admin/statistics/events/{event}", get(statistics::event))
        .route("/v1/admin/revocations", get(revocations::list).post(revocations::revoke))
        .route("/v1/admin/erasures", get(erasures::show).post(erasures::erase))
        .route("/v1/admin/limits", get(limits::list).post(limits::set))
        .route("/v1/admin/dead-letters", get(dead_letters::list))
        .route("/v1/admin/dead-letters/{message}", get(dead_letters::show))
        .route("/v1/admin/dead-letters/requeue", post(dead_letters::requeue))
        .route("/v1/admin/dead-letters/discard", post(dead_letters::discard))
        .route("/v1/admin/audit", get(audit::list))
        .route("/v1/admin/keys", get(data_keys::list))
        .route("/v1/admin/keys/rotate", post(data_keys::rotate))
        .route("/openapi.json", get(descriptions::openapi))
        .route("/asyncapi.json", get(descriptions::asyncapi))
        .route("/healthz", get(node::healthz))
        .route("/readyz", get(node::readyz))
        .route("/metrics", get(node::metrics))
        .fallback(async || ApiError::from(Fault::new(Code::NotFound, "there is no such path")))
        .method_not_allowed_fallback(async || ApiError::from(Code::MethodNotAllowed));
    layers::around(routes, shared.shutdown.clone(), &shared.origins).with_state(shared)
}

impl FromRef<Shared> for Service {
    fn from_ref(shared: &Shared) -> Self {
        shared.context.service.clone()
    }
}

async fn socket(
    State(shared): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Upgrade(upgrade): Upgrade,
    query: Result<Params<ConnectQuery>, ApiError>,
) -> Result<Response, ApiError> {
    let query = query.map(|Params(query)| query).map_err(ApiError::into_fault);
    Ok(connection::upgrade(shared.of_client(address), upgrade, &headers, query).await?)
}
