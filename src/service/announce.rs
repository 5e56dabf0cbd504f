//! Telling connected users that they joined or left a chat, and senders that nothing waits for those who left.

use super::Service;
use crate::domain::{ChatId, ChatKind, Profile, Status};
use crate::protocol::server::{self, ChatAdded, ChatRemoved};
use crate::store::{Joined, Left};

/// A change that is committed.
#[derive(Debug)]
pub(super) enum MembershipChange {
    /// Users joined.
    Joined(Joined),
    /// Users left.
    Left(Left),
}

/// Tells all whom it concerns and who are connected, to whatever node. Others find it when they connect: the list of their
/// chats, and what ended.
pub(super) fn announce(shared: &Service, chat: ChatId, by: &Profile, change: &MembershipChange) {
    match change {
        MembershipChange::Joined(joined) => {
            let added = ChatAdded {
                chat_id: chat,
                kind: ChatKind::Group,
                title: joined.title.as_deref(),
                joined_seq: joined.seq,
                by: &by.external,
            };
            shared.reach.frame(joined.users.iter().map(|(user, _)| *user).collect(), server::frame(None, &added));
        }
        MembershipChange::Left(left) => {
            let removed = ChatRemoved { chat_id: chat, left_seq: left.seq, by: &by.external };
            shared.reach.frame(left.users.iter().map(|(user, _)| *user).collect(), server::frame(None, &removed));
            let member = |user| left.users.iter().find(|(known, _)| *known == user).map(|(_, external)| external.clone());
            let ended: Vec<_> = left.ended.iter().collect();
            shared.delivery.receipts().moved(&ended, Status::Expired, left.at, Some("left".to_owned()), member);
        }
    }
}
