//! Restante keeps messages for users who may be offline, in PostgreSQL, delivers them over WebSocket when
//! the user is there, and tracks for every recipient what became of each: `sent`, `delivered`, `read`.
//!
//! Reading order:
//!
//! - [`domain`]: the words: ids, envelopes, statuses, limits
//! - [`session`]: the core, pure: one client's delivery state machine
//! - [`client`]: a client of the service: what the command line, the benchmark and the tests speak with
//! - [`cli`]: the commands

#![warn(missing_docs)]

pub mod cli;
pub mod client;
pub mod domain;
pub mod session;
