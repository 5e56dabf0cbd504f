//! The service as its users meet it: a real node, real sockets, real PostgreSQL.

#[path = "../support/mod.rs"]
mod support;

mod accepting;
mod first_steps;
mod http;
mod held;
mod outage;
mod settled;
mod invariants;
