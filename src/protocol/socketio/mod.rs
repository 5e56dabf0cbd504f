//! Socket.IO, the dialect of an unchanged `socket.io-client` 4: protocol 5 of Socket.IO within protocol 4 of Engine.IO, text only and
//! one namespace.
//!
//! In reading order: `packet` (the grammar), `commands` (what clients say), `unacked` (which callback stands for which message),
//! `repeats` (sends that the client's library repeats), `shapes` (what `/ws` says otherwise), `dialect` (what clients are told). The events and their data are those of `/ws`, save where front ends of Socket.IO
//! expect them otherwise. Nothing here knows a socket.

mod commands;
mod dialect;
mod packet;
mod repeats;
pub(super) mod shapes;
mod unacked;

pub use commands::{Auth, First};
pub use dialect::{Forms, SocketIo};
pub use packet::{CLOSE, NOOP, OpenPacket, PROBE, PROBE_ANSWER, SEPARATOR, UPGRADE};
