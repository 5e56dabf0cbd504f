//! The session stepped through by hand and at random. `transcripts_*`: one test per rule, input by input. `interleavings`:
//! a world of clients, sessions and a database, in random order, checked after every step.

mod harness;

mod transcripts_acks;
mod transcripts_committed_acks;
mod transcripts_deadlines;
mod transcripts_devices;
mod transcripts_drain;
mod transcripts_endings;
mod transcripts_events;
mod transcripts_leaving;
mod transcripts_polls;
mod transcripts_rejects_and_reads;

mod client;
mod connection;
mod database;
mod garbage;
mod interleavings;
mod world;
