//! The lane that each chat's messages go through. A chat keeps its lane as long as something of it is under way, so that
//! two messages of one sender never overtake each other; then it may move: large chats have a lane of their own.

use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::Notify;

use crate::domain::ChatId;

/// More recipients than this make a chat large.
pub(super) const LARGE_RECIPIENTS: usize = 500;
/// A chat with at most this number of recipients is small.
const SMALL_RECIPIENTS: usize = 10;
/// Chats whose size is remembered.
const KNOWN_MAX: usize = 20_000;

#[derive(Debug, Clone, Copy)]
struct Route {
    lane: usize,
    under_way: u32,
    /// Items that have their answers.
    left: u64,
    /// No other route has it, of this chat or another.
    no: u64,
}

#[derive(Debug)]
pub(super) struct Routes {
    lanes: usize,
    under_way: DashMap<ChatId, Route>,
    next_no: AtomicU64,
    /// An item has its answer.
    answered: Notify,
    recipients: DashMap<ChatId, usize>,
}

impl Routes {
    /// Lanes `0..lanes` take chats of any size, lane `lanes` large ones.
    pub(super) fn new(lanes: usize) -> Arc<Self> {
        let (under_way, recipients) = (DashMap::new(), DashMap::new());
        Arc::new(Self { lanes, under_way, next_no: AtomicU64::new(0), answered: Notify::new(), recipients })
    }

    /// The lane for one more item of this chat.
    pub(super) fn enter(&self, chat: ChatId) -> usize {
        match self.under_way.entry(chat) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().under_way += 1;
                entry.get().lane
            }
            Entry::Vacant(entry) => {
                let lane =
                    if self.recipients(chat).is_some_and(|known| known > LARGE_RECIPIENTS) { self.lanes } else { self.by_hash(chat) };
                let no = self.next_no.fetch_add(1, Ordering::Relaxed);
                entry.insert(Route { lane, under_way: 1, left: 0, no }).lane
            }
        }
    }

    /// An item of this chat has its answer.
    pub(super) fn leave(&self, chat: ChatId) {
        if let Entry::Occupied(mut entry) = self.under_way.entry(chat) {
            let route = entry.get_mut();
            route.under_way -= 1;
            route.left += 1;
            if route.under_way == 0 {
                entry.remove();
            }
        }
        self.answered.notify_waiters();
    }

    /// Ends when the items of this chat that are under way now have their answers. Those that come later are not waited for.
    pub(super) async fn answered(&self, chat: ChatId) {
        let Some((no, last)) = self.under_way.get(&chat).map(|route| (route.no, route.left + u64::from(route.under_way))) else { return };
        loop {
            let mut answered = pin!(self.answered.notified());
            // Before the look: what is answered after it is not missed.
            answered.as_mut().enable();
            if self.under_way.get(&chat).is_none_or(|route| route.no != no || route.left >= last) {
                return;
            }
            answered.await;
        }
    }

    /// The number of recipients of the last message of this chat. None: it is not known.
    pub(super) fn recipients(&self, chat: ChatId) -> Option<usize> {
        self.recipients.get(&chat).map(|known| *known)
    }

    /// Remembers it. When there are too many, small chats are forgotten first.
    pub(super) fn learn(&self, chat: ChatId, recipients: usize) {
        if self.recipients.len() >= KNOWN_MAX && !self.recipients.contains_key(&chat) {
            self.recipients.retain(|_, known| *known > SMALL_RECIPIENTS);
            if self.recipients.len() >= KNOWN_MAX {
                self.recipients.clear();
            }
        }
        self.recipients.insert(chat, recipients);
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
    fn what_is_remembered_of_chats_is_bounded_and_large_ones_are_remembered_longest() {
        let routes = Routes::new(2);
        let large = ChatId::generate();
        routes.learn(large, 5_000);
        for _ in 0..2 * KNOWN_MAX {
            let chat = ChatId::generate();
            routes.enter(chat);
            routes.learn(chat, 1);
            routes.leave(chat);
        }
        assert!(routes.under_way.is_empty() && routes.recipients.len() <= KNOWN_MAX);
        assert_eq!(routes.recipients(large), Some(5_000));
    }
}
