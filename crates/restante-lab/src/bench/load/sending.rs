//! One sender who writes as fast as it is confirmed, so many messages at a time.

use std::sync::Arc;

use uuid::Uuid;

use super::{Incoming, Progress, Socket};

/// Where a message goes.
#[derive(Debug, Clone)]
pub enum Address {
    /// To this chat.
    Chat(Uuid),
    /// To this user.
    User(Arc<str>),
}

/// Sends with a bounded number unconfirmed; returns how many were confirmed.
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
