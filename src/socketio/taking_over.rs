//! A WebSocket takes over from polling: it probes, the client's request is answered with nothing, and then the client says that it has stopped
//! polling. If it never does, polling goes on.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Message;
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;

use super::session::Session;
use crate::connection::WebSocket;
use crate::protocol::socketio::{PROBE, PROBE_ANSWER, UPGRADE};

/// The time that taking over may take.
const TAKING_OVER_TIME_MAX: Duration = Duration::from_secs(10);

/// Lets this WebSocket take over the session, if it does so in time.
pub(super) async fn take_over(session: Arc<Session>, mut socket: WebSocket) {
    let probed = timeout(TAKING_OVER_TIME_MAX, probe(&session, &mut socket)).await;
    match probed {
        Ok(Probe::Passed) => session.hand_over(socket),
        Ok(Probe::Refused) => {}
        Ok(Probe::BrokenOff) | Err(_) => session.unprobe(),
    }
}

/// The outcome of a probe.
enum Probe {
    /// The client polls no more.
    Passed,
    /// The session is not one that may be taken over.
    Refused,
    /// The WebSocket went, or said something else.
    BrokenOff,
}

async fn probe(session: &Session, socket: &mut WebSocket) -> Probe {
    if !says(socket, PROBE).await || !session.probe() {
        return Probe::Refused;
    }
    if socket.send(Message::Text(PROBE_ANSWER.into())).await.is_err() || !says(socket, UPGRADE).await {
        return Probe::BrokenOff;
    }
    Probe::Passed
}

/// Returns whether the next text is this one.
async fn says(socket: &mut WebSocket, packet: &str) -> bool {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return text.as_str() == packet,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_) | Message::Close(_)) | Err(_)) | None => return false,
        }
    }
}
