//! What other writers of the same database say: that something waits for somebody.
//!
//! A notification is a hint and may get lost with the connection that listens. After each new LISTEN the node takes
//! it that anything may have been missed.

mod listener;

pub use listener::listen;

use crate::domain::UserId;

/// Something heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Something waits for these users.
    Wake(Vec<UserId>),
    /// Marks moved for these senders.
    Marks(Vec<UserId>),
    /// The connection was lost and made anew: anything may have been missed.
    Missed,
}
