//! The socket of a connection.

use axum::extract::ws::WebSocket;
use futures_util::stream::Peekable;

/// A client's socket, and perhaps a frame of it that came before it was read.
pub(super) type Socket = Peekable<WebSocket>;
