//! The bus between nodes. A node tells the others what it has committed. So a recipient, a sender or a watcher who is
//! connected there need not wait until its session looks for itself.
//!
//! All of it is hints, and may come late, twice or never. News that do not fit are shortened (a wake instead of an
//! envelope, "look for yourself" instead of a wake), never kept. Where no other node lives, nothing is told.
//!
//! In reading order: `message` has the news and their encoding, `queue` the news that wait, `post` the way in and the task
//! that publishes. `listener` receives by `LISTEN`. `nats` replaces NOTIFY and LISTEN.

mod listener;
mod message;
#[cfg(feature = "nats")]
mod nats;
mod post;
mod queue;

pub use listener::{ListenerSettings, channel, listen};
pub use message::BusMessage;
#[cfg(feature = "nats")]
pub use nats::{Nats, NatsError};
pub use post::{Bus, Posted, publish};

use crate::domain::UserId;

/// Something heard.
#[derive(Debug, Clone)]
pub enum Heard {
    /// Something waits for these users: said by SQL functions.
    Wake(Vec<UserId>),
    /// Marks moved for these senders.
    Marks(Vec<UserId>),
    /// Another node tells.
    Message(BusMessage),
    /// Something that this version does not understand.
    Unknown,
    /// The connection was lost and made anew: anything may have been missed.
    Missed,
}
