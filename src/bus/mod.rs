//! The bus between nodes. A node tells the others what it has committed. So a recipient, a sender or a watcher who is
//! connected there need not wait until its session checks the database.
//!
//! All of it is hints, and may come late, twice or never. Messages that do not fit are shortened: a wake instead of an envelope, a check of
//! everything instead of a wake, the last of several notices. Where no other node lives, nothing is told.
//!
//! Anybody who may connect to the database may notify and listen. So a node believes only letters that another node has
//! sealed for it, and only nodes that the database lists. Whatever else it hears may wake users and no more.
//!
//! In reading order: `message` has the messages and their encoding (values in `written`), `queue` those that wait, `seal` the encryption of letters,
//! `post` the way in and the task that publishes. `listener` receives by `LISTEN`. `nats` replaces NOTIFY and LISTEN.

mod listener;
mod message;
#[cfg(feature = "nats")]
mod nats;
mod post;
mod queue;
mod seal;
mod written;

pub use listener::{ListenerSettings, channel, listen};
pub use message::BusMessage;
#[cfg(feature = "nats")]
pub use nats::{Nats, NatsError};
pub use post::{Bus, Letters, Posted, part, publish};
pub use seal::{BusKey, ContentKey, ContentKeys, Listing, Rejected};

use crate::domain::{ChatId, UserId};

/// Something that a node receives.
#[derive(Debug, Clone)]
pub enum BusEvent {
    /// Something waits for these users. SQL functions say so, and anybody who may connect to the database can.
    Wake(Vec<UserId>),
    /// Marks moved for these senders. The same holds.
    Marks(Vec<UserId>),
    /// Something was published to these streams of feeds. The same holds.
    Feeds(Vec<ChatId>),
    /// These direct chats are closed, or open again. The same holds.
    Chats(Vec<ChatId>),
    /// Tokens were revoked. The same holds.
    Revoked,
    /// The limits of a user were raised. The same holds.
    LimitsRaised,
    /// Another node tells.
    Message(BusMessage),
    /// Another node tells something that this version does not understand.
    Unknown,
    /// Something that is not believed.
    Rejected(Rejected),
    /// The connection was lost and made anew: anything may have been missed.
    Missed,
}
