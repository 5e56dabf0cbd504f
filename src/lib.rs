//! Restante keeps messages for users who may be offline, in PostgreSQL, delivers them over WebSocket when
//! the user is there, and tracks for every recipient what became of each: `sent`, `delivered`, `read`.
//!
//! Reading order:
//!
//! - [`domain`]: the words: ids, envelopes, statuses, limits
//! - [`protocol`]: frames, events, error and close codes; the only serde for sockets
//! - [`session`]: the core, pure: one client's delivery state machine
//! - [`store`]: every SQL statement, in `.sql` files named as their function
//! - [`encryption`]: text as ciphertext at rest, and the keys for it
//! - [`hub`]: who is connected to this node
//! - [`bus`]: between nodes: what one has committed, the others are told
//! - [`notifier`]: everybody who is connected, through the hub here and over the bus elsewhere
//! - [`presence`]: which nodes live, and who is online at which
//! - [`delivery`]: the lanes that accept and settle in batches, and the hints that follow each commit
//! - [`service`]: what a user can do, the same behind every door
//! - [`auth`]: whose token is it
//! - [`driver`]: runs one session for whichever door: commands in, effects against the service, events out
//! - [`connection`]: the door of WebSocket clients, a task per socket
//! - [`socketio`]: the door of Socket.IO clients
//! - [`event_stream`]: the door of clients that only read
//! - [`http`]: the routes as one table, handlers, errors as answers
//! - [`jobs`]: chores that run beside everything else
//! - [`config`], [`telemetry`]: what operators set, and what they see; [`address`]: that of a database
//! - [`open_files`]: the files that the process may open, and the errors that say what this end lacks
//! - [`app`]: the wiring: from settings and a database to a running node, and to a quiet end
//! - [`secret`]: the key that is made once
//! - [`cli`]: the commands
//!
//! Beside it, in crates of their own: `restante-session` (words and state machine, shown here too), `restante-client` (a client of the
//! service, with which the commands and the tests speak), `restante-postgres` (the service's own server).

#![warn(missing_docs)]

pub mod address;
pub mod app;
pub mod auth;
pub mod bus;
pub mod cli;
pub mod config;
pub mod connection;
pub mod delivery;
pub mod driver;
pub mod encryption;
pub mod event_stream;
pub mod http;
pub mod hub;
pub mod jobs;
pub mod notifier;
pub mod open_files;
pub mod presence;
pub mod protocol;
pub mod secret;
pub mod service;
pub mod socketio;
pub mod store;
pub mod telemetry;

pub use restante_session::{domain, session};
