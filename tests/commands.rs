//! The commands as people meet them: the program in a process of its own, its words, its exit codes, its PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

#[path = "commands/program.rs"]
mod program;

#[path = "commands/own_postgres.rs"]
mod own_postgres;

#[path = "commands/first_minutes.rs"]
mod first_minutes;

#[path = "commands/outputs.rs"]
mod outputs;

#[path = "commands/settings.rs"]
mod settings;

#[path = "commands/tokens.rs"]
mod tokens;
