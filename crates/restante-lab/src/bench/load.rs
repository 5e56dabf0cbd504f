//! The load of the scenarios: users, chats and waiting messages that are made in bulk, cheap sockets, loops of senders, and a progress bar.

mod closed_loop;
mod connected;
mod draining;
mod filling;
mod fixtures;
mod history;
mod open_loop;
mod pairs;
mod progress;
mod sending;
mod socket;

use std::time::Duration;

pub use closed_loop::ClosedLoop;
pub use connected::{ConnectedClients, connect_all, connect_all_to};
pub use draining::{Drained, drain, drain_all, ensure_drained, waiting};
pub use filling::{accept_all, texts, tidy};
pub use fixtures::{Crowd, User, direct_chats, followed_feed, group_chat, users};
pub use history::fill_history;
pub use open_loop::{OpenLoop, OpenLoopResult, Schedule, quantiles};
pub use pairs::{Pair, pairs};
pub use progress::Progress;
pub use sending::{Address, send_all};
pub use socket::{Incoming, Numbering, Socket};

/// The time for the last messages to arrive after the last one was due.
const PATIENCE: Duration = Duration::from_secs(30);
