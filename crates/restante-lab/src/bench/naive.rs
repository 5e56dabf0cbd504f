//! The naive service (`--baseline`): a similar service by the design of tutorials, on the same schema. A message is one transaction
//! with a statement a step, an ack is one `update`, a page is one `select`, and each frame is flushed by itself. It never batches the
//! work of several connections.
//!
//! It is naive and not sabotaged: statements are prepared and use the indexes, numbers come from the counters under their locks, so the
//! rows are the same; the pool is as large as the service's, and the server is asynchronous. It leaves out several costs of the service:
//! marks for senders that were away, devices, time-outs, repeated ids, limits. It has the part of the protocol that [`super::load`] uses,
//! in a process of its own that is started like the service.

mod connection;
mod frames;
mod statements;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::extract::ws::{Utf8Bytes, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use secrecy::ExposeSecret;
use serde::Deserialize;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use restante::app;
use restante::auth::{TokenVerifier, socket_token};
use restante::cli::exit::UsageError;
use restante::cli::host::Host;
use restante::cli::settings_of_environment;
use restante::telemetry::init_logging;

/// The rows of a page, and so the envelopes under way without an ack, when the client names no window.
const PAGE_ROWS: i64 = 50;

/// A connection's number, and the queue of its frames.
type Online = (u64, mpsc::UnboundedSender<Utf8Bytes>);

/// The state that all connections share.
struct ServiceState {
    pool: PgPool,
    verifier: TokenVerifier,
    online: Mutex<HashMap<i64, Vec<Online>>>,
    connections: AtomicU64,
}

impl ServiceState {
    /// Adds a connection of this user and returns its number.
    fn register(&self, user: i64, frames: mpsc::UnboundedSender<Utf8Bytes>) -> u64 {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        self.online.lock().unwrap_or_else(PoisonError::into_inner).entry(user).or_default().push((number, frames));
        number
    }

    fn unregister(&self, user: i64, number: u64) {
        let mut online = self.online.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = online.get_mut(&user) {
            connections.retain(|(other, _)| *other != number);
            if connections.is_empty() {
                online.remove(&user);
            }
        }
    }

    /// Sends a frame to every connection of this user.
    fn tell(&self, user: i64, frame: &Utf8Bytes) {
        let online = self.online.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, frames) in online.get(&user).into_iter().flatten() {
            // A connection that has just ended has its rows in the database.
            let _ = frames.send(frame.clone());
        }
    }
}

#[derive(Deserialize)]
struct Wishes {
    window: Option<u16>,
}

/// Runs it until this process is ended. Takes `DATABASE_URL`, `JWT_SECRET` and `LISTEN_ADDR` as the service does, and
/// prints the same line when it is ready.
pub async fn serve() -> anyhow::Result<()> {
    let config = settings_of_environment().check().map_err(|error| UsageError(error.to_string()))?;
    init_logging(&config.log_filter, config.log_format);
    let host = Host::start(&config).await?;
    app::migrate(&host.database).await?;
    let pool = PgPoolOptions::new()
        .max_connections(config.pool_size)
        .test_before_acquire(false)
        .connect_with(host.database.options.clone())
        .await
        .context("the database cannot be reached")?;
    let verifier = TokenVerifier::new(&host.secret()?.expose_secret().into());
    let shared = ServiceState { pool, verifier, online: Mutex::default(), connections: AtomicU64::new(0) };
    let listener = TcpListener::bind(config.listen_addr).await.with_context(|| format!("cannot listen on {}", config.listen_addr))?;
    println!("listening on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // The service does the same. Without it frames would wait for one another.
        let _ = stream.set_nodelay(true);
    });
    let routes = Router::new().route("/ws", get(socket)).with_state(Arc::new(shared));
    Ok(axum::serve(listener, routes).await?)
}

async fn socket(
    State(shared): State<Arc<ServiceState>>,
    Query(wishes): Query<Wishes>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, StatusCode> {
    let token = socket_token(&headers, None).ok().flatten().ok_or(StatusCode::UNAUTHORIZED)?;
    let identity = shared.verifier.verify(token.expose_secret(), OffsetDateTime::now_utc()).map_err(|_| StatusCode::UNAUTHORIZED)?;
    let page_rows = wishes.window.map_or(PAGE_ROWS, i64::from);
    Ok(upgrade.on_upgrade(move |socket| connection::run(shared, socket, identity.external, page_rows)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_goes_to_every_connection_of_its_user_and_to_nobody_else() {
        let verifier = TokenVerifier::new(&"a secret for tests, of 32 bytes or more".into());
        let pool = PgPoolOptions::new().connect_lazy("postgres://nowhere").unwrap();
        let shared = ServiceState { pool, verifier, online: Mutex::default(), connections: AtomicU64::new(0) };
        let (one, mut heard_by_one) = mpsc::unbounded_channel();
        let (two, mut heard_by_two) = mpsc::unbounded_channel();
        let (other, mut heard_by_other) = mpsc::unbounded_channel();
        let first = shared.register(1, one);
        shared.register(1, two);
        shared.register(2, other);
        shared.tell(1, &"hello".into());
        assert_eq!((heard_by_one.try_recv().unwrap(), heard_by_two.try_recv().unwrap()), ("hello".into(), "hello".into()));
        shared.unregister(1, first);
        shared.tell(1, &"again".into());
        assert!(heard_by_one.try_recv().is_err() && heard_by_two.try_recv().is_ok() && heard_by_other.try_recv().is_err());
    }
}
