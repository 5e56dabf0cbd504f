//! Between nodes: what one node has committed, the others are told, so that a recipient, a sender or a watcher who is
//! connected there need not wait until its session looks for itself.
//!
//! All of it is hints, and may come late, twice or never. What does not fit is told in fewer words (a wake instead of an
//! envelope, "look for yourself" instead of a wake), never kept. Where no other node lives, nothing is told.
//!
//! In reading order: `news` is what can be told and how it is written, `queue` what waits to be told, `post` the way in
//! and the task that publishes, `listener` what comes by `LISTEN`, `nats` the other way to and fro.

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
