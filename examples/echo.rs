//! A WebSocket that says whatever it hears, on the service's own listener and with the service's own limits: what a test
//! suite for RFC 6455 can talk to, which speaks no JSON and has no token. `tests/autobahn/run` starts it.
//!
//! It is no part of the service. What is the same: the listener, the buffers and limits of a socket, which broken frame
//! means which close code, and the order of closing.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{SinkExt, StreamExt};
use restante::connection::{Upgrade, WebSocket, fault_of};
use restante::http::{ServeSettings, serve};
use restante::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let listener = TcpListener::bind(&addr).await?;
    println!("listening on {}", listener.local_addr()?);
    let metrics = Arc::new(Metrics::default());
    let router = Router::new().route("/", get(upgrade).with_state(Arc::clone(&metrics)));
    let settings = ServeSettings { connections_max: 1_000, head_timeout: Duration::from_secs(10) };
    serve(listener, router, settings, metrics, CancellationToken::new()).await;
    Ok(())
}

async fn upgrade(State(metrics): State<Arc<Metrics>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    match Upgrade::of(&mut parts) {
        Some(upgrade) => upgrade.compressing(&parts.headers, &metrics).answer(echo),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn echo(mut socket: WebSocket) {
    while let Some(heard) = socket.next().await {
        let said = match heard {
            Ok(data @ (Message::Text(_) | Message::Binary(_))) => socket.send(data).await,
            // A ping is answered and a close frame is answered by the socket, as it is read on.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => Ok(()),
            Err(error) => {
                let Some(fault) = fault_of(&error) else { return };
                let close = CloseFrame { code: fault.code.close(), reason: fault.code.as_str().into() };
                let _ = socket.send(Message::Close(Some(close))).await;
                // The client's time to read it.
                let _ = timeout(Duration::from_secs(1), async { while let Some(Ok(_)) = socket.next().await {} }).await;
                return;
            }
        };
        if said.is_err() {
            return;
        }
    }
}
