//! The testbed of the tests: real PostgreSQL with a database for each test, nodes, raw clients, and checks of the rows.

#![allow(dead_code, unused_imports, reason = "every test binary compiles this and uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod described;
pub mod fixtures;
mod http;
pub mod issuer;
mod load;
mod log;
mod loop_client;
mod node;
mod pgbouncer;
mod postgres;
mod recording;
mod rows;
pub mod run;
mod socket;
mod stalling;
mod stream;

pub use http::{Api, told};
pub use load::Load;
pub use log::{Log, LogLine};
pub use loop_client::LoopClient;
pub use node::{Node, SECRET, admin_token, config, scoped_token, secret, token, token_for};
pub use pgbouncer::PgBouncer;
pub use postgres::{Database, Ending, PrivateServer, blocking, database, empty_database, kill, wait_until};
pub use rows::{Row, SOMEBODY_WAITS, direct, fill, group, number, rows, statuses, until_true, users};
pub use socket::{Connect, PATIENCE, Socket};
pub use stalling::StallingProxy;
pub use stream::{Sent, Stream, refused};
