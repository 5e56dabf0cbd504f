//! Pairs of online users that share a direct chat.

use uuid::Uuid;

use super::{Progress, Socket, connect_all_to, direct_chats, users};
use crate::bench::testbed::{Testbed, open_files};

/// A sender and a recipient, connected, with their chat.
#[derive(Debug)]
pub struct Pair {
    /// Sends, and gets the receipts.
    pub sender: Socket,
    /// Acks every message.
    pub recipient: Socket,
    /// Their direct chat.
    pub chat: Uuid,
}

/// Makes and connects `count` pairs. With two nodes, senders are at the one and recipients at the other.
pub async fn pairs(testbed: &Testbed, count: u32, progress: &Progress) -> anyhow::Result<Vec<Pair>> {
    open_files::ensure_room(2 * u64::from(count))?;
    progress.begin("making pairs", 0);
    let mut people = users(&testbed.database, "pair", 2 * count).await?;
    let others = people.split_off(count as usize);
    let both: Vec<_> = people.iter().zip(&others).map(|(from, to)| (from.id, to.id)).collect();
    let chats = direct_chats(&testbed.database, &both).await?;
    let senders = connect_all_to(testbed, 0, &people, progress).await?;
    let recipients = connect_all_to(testbed, 1, &others, progress).await?;
    let sockets = senders.into_iter().zip(recipients);
    Ok(sockets.zip(chats).map(|((sender, recipient), chat)| Pair { sender, recipient, chat }).collect())
}
