//! Telling connected users that they joined or left a chat, and senders that nothing waits for those who left.

use super::Service;
use crate::domain::{ChatId, ChatKind, Profile, Status};
use crate::protocol::event::Notice;
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
pub(super) fn announce(service: &Service, chat: ChatId, by: &Profile, change: &MembershipChange) {
    match change {
        MembershipChange::Joined(joined) => {
            let (title, by) = (joined.title.clone(), by.external.clone());
            let added = Notice::Added { chat, kind: ChatKind::Group, title, joined_seq: joined.seq, by };
            service.notifier.notice(joined.users.iter().map(|(user, _)| *user).collect(), added);
        }
        MembershipChange::Left(left) => {
            let removed = Notice::Removed { chat, left_seq: left.seq, by: by.external.clone() };
            service.notifier.notice(left.users.iter().map(|(user, _)| *user).collect(), removed);
            let member = |user| left.users.iter().find(|(known, _)| *known == user).map(|(_, external)| external.clone());
            let ended: Vec<_> = left.ended.iter().collect();
            service.delivery.receipts().moved(&ended, Status::Expired, left.at, Some("left".to_owned()), member);
        }
    }
}
