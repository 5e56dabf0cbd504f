//! Which lane a chat's messages go through. A chat keeps its lane as long as something of it is under way, so that
//! two messages of one sender never overtake each other; then it may move: large chats have a lane of their own.

use std::hash::BuildHasher;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::domain::ChatId;

/// More recipients than this make a chat large.
pub(super) const LARGE_RECIPIENTS: usize = 500;
/// Large chats that are remembered; beyond it one is taken for small until it is met again.
const LARGE_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Route {
    lane: usize,
    under_way: u32,
}

#[derive(Debug)]
pub(super) struct Routes {
    lanes: usize,
    under_way: DashMap<ChatId, Route>,
    recipients: DashMap<ChatId, usize>,
}

impl Routes {
    /// Lanes `0..lanes` take chats of any size, lane `lanes` large ones.
    pub(super) fn new(lanes: usize) -> Arc<Self> {
        Arc::new(Self { lanes, under_way: DashMap::new(), recipients: DashMap::new() })
    }

    /// The lane for one more item of this chat.
    pub(super) fn enter(&self, chat: ChatId) -> usize {
        match self.under_way.entry(chat) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().under_way += 1;
                entry.get().lane
            }
            Entry::Vacant(entry) => {
                let lane = if self.recipients(chat) > LARGE_RECIPIENTS { self.lanes } else { self.by_hash(chat) };
                entry.insert(Route { lane, under_way: 1 }).lane
            }
        }
    }

    /// An item of this chat has its answer.
    pub(super) fn leave(&self, chat: ChatId) {
        if let Entry::Occupied(mut entry) = self.under_way.entry(chat) {
            entry.get_mut().under_way -= 1;
            if entry.get().under_way == 0 {
                entry.remove();
            }
        }
    }

    /// How many recipients a message of this chat had last, as far as that is worth remembering.
    pub(super) fn recipients(&self, chat: ChatId) -> usize {
        self.recipients.get(&chat).map_or(1, |known| *known)
    }

    /// Remembers chats with more than a few recipients; small ones need no memory.
    pub(super) fn learn(&self, chat: ChatId, recipients: usize) {
        if recipients <= 10 {
            if !self.recipients.is_empty() {
                self.recipients.remove(&chat);
            }
        } else if self.recipients.len() < LARGE_MAX || self.recipients.contains_key(&chat) {
            self.recipients.insert(chat, recipients);
        }
    }

    fn by_hash(&self, chat: ChatId) -> usize {
        let hash = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default().hash_one(chat);
        usize::try_from(hash % self.lanes as u64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_keeps_its_lane_while_something_of_it_is_under_way() {
        let routes = Routes::new(4);
        let chat = ChatId::generate();
        let first = routes.enter(chat);
        routes.learn(chat, 5_000);
        assert_eq!(routes.enter(chat), first, "a message under way in another lane could be overtaken");
        routes.leave(chat);
        routes.leave(chat);
        assert_eq!(routes.enter(chat), 4, "nothing is under way: the large chat moves to its own lane");
    }

    #[test]
    fn nothing_is_remembered_of_chats_that_are_done() {
        let routes = Routes::new(2);
        for _ in 0..100 {
            let chat = ChatId::generate();
            routes.enter(chat);
            routes.learn(chat, 1);
            routes.leave(chat);
        }
        assert!(routes.under_way.is_empty() && routes.recipients.is_empty());
    }
}
