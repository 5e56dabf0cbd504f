//! The service as its users meet it: a real node, real sockets, real PostgreSQL.

#[path = "../support/mod.rs"]
mod support;

mod first_steps;
mod handover;
mod invariants;
mod protocol;
mod seeds;
