//! Socket.IO with the unchanged client from npm, against a real node. Machines without Node.js skip what needs it and say so.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

#[path = "socketio/stock.rs"]
mod stock;

#[path = "socketio/everyday.rs"]
mod everyday;

#[path = "socketio/acks.rs"]
mod acks;

#[path = "socketio/entering.rs"]
mod entering;

#[path = "socketio/returning.rs"]
mod returning;

#[path = "socketio/hostile.rs"]
mod hostile;

#[path = "socketio/deflating.rs"]
mod deflating;
