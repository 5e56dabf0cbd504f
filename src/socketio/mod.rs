//! The door of Socket.IO clients, at `/socket.io/`: an unchanged `socket.io-client` 4 over WebSocket, over polling, and over a WebSocket that takes over
//! from polling. Its connections run the task of [`crate::connection`] in the dialect of [`crate::protocol::socketio`], so sessions, windows, bounds and
//! closes are those of `/ws`.
//!
//! In reading order: `door` (requests), `entering` (from an open transport to a known user), `session` (what a client that polls has waiting,
//! both ways), `sessions` (those of this node), `carrier` (such a session as a socket of frames), `polling` (its requests), `taking_over` (a WebSocket takes its place).

mod carrier;
mod door;
mod entering;
mod polling;
mod session;
mod sessions;
mod taking_over;

pub use door::{Door, EngineQuery, Settings, Transport};
