//! The service as its users meet it: a real node, real sockets, real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod accepting;
mod classes;
mod clocks;
mod dead_letters;
mod depth;
mod devices;
mod direct_chats;
mod directed;
mod diverted;
mod entering;
mod expiry;
mod explain;
mod failover;
mod first_steps;
mod handover;
mod held;
mod hostile;
mod http;
mod invariants;
mod jobs;
mod leaving;
mod long_jobs;
mod looks;
mod marks;
#[cfg(feature = "nats")]
mod nats;
mod nodes;
mod nodes_presence;
mod numbering;
mod outage;
mod overtaken;
mod pooler;
mod protocol;
mod reads;
mod restore;
mod seeds;
mod sends;
mod set_back;
mod settings;
mod settled;
mod settling;
mod shared_database;
mod short_way;
mod slots;
mod sql;
mod starting;
mod stopping;
mod storms;
mod strangers;
mod unreadable;
mod upgrades;
mod vanished;
