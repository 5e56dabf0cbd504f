//! A sender that keeps a number of messages unconfirmed, and sends another one for each confirmation.

use std::sync::Arc;

use uuid::Uuid;

use super::{Incoming, Progress, Socket};

/// The destination of a message.
#[derive(Debug, Clone)]
pub enum Address {
    /// A chat.
    Chat(Uuid),
    /// A user by name.
    User(Arc<str>),
}

/// Sends all messages with at most `unconfirmed_max` of them unconfirmed. Returns the number of confirmed ones.
pub async fn send_all(
    mut socket: Socket,
    mut letters: impl Iterator<Item = (Uuid, Address)> + Send,
    content: Arc<str>,
    unconfirmed_max: usize,
    progress: Progress,
) -> anyhow::Result<u64> {
    let (mut confirmed, mut unconfirmed) = (0, 0);
    loop {
        while unconfirmed < unconfirmed_max
            && let Some((id, address)) = letters.next()
        {
            match address {
                Address::Chat(chat) => socket.send(id, chat, &content),
                Address::User(user) => socket.send_to(id, &user, &content),
            }
            unconfirmed += 1;
        }
        if unconfirmed == 0 {
            return Ok(confirmed);
        }
        if let Incoming::Sent = socket.next().await? {
            (confirmed, unconfirmed) = (confirmed + 1, unconfirmed - 1);
            progress.advance(1);
        }
    }
}
