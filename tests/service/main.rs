//! The service as its users meet it: a real node, real sockets, real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod accepting;
mod bounds;
mod classes;
mod clocks;
mod dead_letters;
mod depth;
mod devices;
mod direct_chats;
mod directed;
mod diverted;
mod documented_examples;
mod documented_loop;
mod door;
mod endings;
mod entering;
mod events;
mod expiry;
mod explain;
mod failover;
mod feeds_store;
mod first_steps;
mod floods;
mod former_members;
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
mod open_files;
mod outage;
mod overtaken;
mod own_reading;
mod pooler;
mod preferences;
mod protocol;
mod publishing;
mod reads;
mod receipt_counts;
mod restore;
mod retention;
mod seeds;
mod send_order;
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
mod terminals;
mod turns;
mod typing;
mod unreadable;
mod upgrades;
mod vanished;
