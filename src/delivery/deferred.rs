//! Messages for chats that another session holds: they wait here, in the order of each chat, and delay nobody.
//!
//! They are tried again in rounds. A round asks for each chat once, a transaction's worth at a time, so that other chats
//! have their turn in between; the pause between two rounds grows. It knows nothing of the database and does not read the clock.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{ITEMS_MAX, Queued, take};
use super::routes::Routes;
use crate::domain::ChatId;

/// Items that are deferred at most, per lane.
const DEFERRED_MAX: usize = 2_000;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The items that were found to be held while one batch was written.
#[derive(Debug, Default)]
pub(super) struct Held {
    items: Vec<Queued>,
    chats: HashSet<ChatId>,
}

impl Held {
    /// Adds an item. Items of one chat come in their order.
    pub(super) fn put(&mut self, queued: Queued) {
        self.chats.insert(queued.item.chat);
        self.items.push(queued);
    }

    /// Keeps those of a part whose chats are held: they wait behind the others. Returns the other items.
    pub(super) fn keep_behind(&mut self, mut part: Vec<Queued>) -> Vec<Queued> {
        let behind: Vec<Queued> = part.extract_if(.., |queued| self.chats.contains(&queued.item.chat)).collect();
        behind.into_iter().for_each(|queued| self.put(queued));
        part
    }
}

/// The deferred items, by chat.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    chats: HashMap<ChatId, VecDeque<Queued>>,
    items: usize,
    /// Chats that the round under way has still to ask for.
    round: VecDeque<ChatId>,
    next_try: Option<Instant>,
    pause: Duration,
}

impl Deferred {
    /// True where items of this chat are deferred: another item of it must wait.
    pub(super) fn holds(&self, chat: ChatId) -> bool {
        self.chats.contains_key(&chat)
    }

    pub(super) fn chats(&self) -> usize {
        self.chats.len()
    }

    /// When to try again.
    pub(super) const fn next_try(&self) -> Option<Instant> {
        self.next_try
    }

    /// Defers an item, behind those of its chat. Gives it back where there are too many already.
    pub(super) fn put(&mut self, queued: Queued, now: Instant) -> Option<Queued> {
        if self.items >= DEFERRED_MAX {
            return Some(queued);
        }
        self.items += 1;
        self.chats.entry(queued.item.chat).or_default().push_back(queued);
        self.plan(now);
        None
    }

    /// Defers what is held, before the others of its chats, which are not asked for any more in this round. Gives back
    /// what is too many.
    pub(super) fn put_held(&mut self, held: Held, now: Instant) -> Vec<Queued> {
        let Held { mut items, chats } = held;
        let excess = items.split_off(items.len().min(DEFERRED_MAX.saturating_sub(self.items)));
        self.round.retain(|chat| !chats.contains(chat));
        self.items += items.len();
        for queued in items.into_iter().rev() {
            self.chats.entry(queued.item.chat).or_default().push_front(queued);
        }
        self.plan(now);
        excess
    }

    /// Takes the items that have waited for longer than `patience`; the lane refuses them. An item that may have been stored already
    /// stays: its sender would believe that it was not stored.
    pub(super) fn take_late(&mut self, now: Instant, patience: Duration) -> Vec<Queued> {
        let is_late = |queued: &Queued| now - queued.since > patience && queued.uncertain.is_none();
        let mut late = Vec::new();
        for theirs in self.chats.values_mut() {
            let (refused, left): (Vec<Queued>, Vec<Queued>) = theirs.drain(..).partition(&is_late);
            theirs.extend(left);
            late.extend(refused);
        }
        self.chats.retain(|_, theirs| !theirs.is_empty());
        self.items -= late.len();
        late
    }

    /// Takes what one transaction may hold of the chats that this round has still to ask for; of all chats, where none is under way.
    pub(super) fn take(&mut self, routes: &Routes) -> Vec<Queued> {
        if self.round.is_empty() {
            self.round = self.chats.keys().copied().collect();
        }
        let mut again = VecDeque::new();
        while again.len() < ITEMS_MAX {
            let Some(chat) = self.round.pop_front() else { break };
            again.extend(self.chats.remove(&chat).into_iter().flatten());
        }
        let batch = take(&mut again, routes);
        self.items -= batch.len();
        // The rest comes next in this round.
        for queued in again.into_iter().rev() {
            match self.chats.entry(queued.item.chat) {
                Entry::Occupied(mut theirs) => theirs.get_mut().push_front(queued),
                Entry::Vacant(new) => {
                    self.round.push_front(queued.item.chat);
                    new.insert([queued].into());
                }
            }
        }
        batch
    }

    /// A transaction of the round is over. At the end of the round the next one is planned, after a longer pause.
    pub(super) fn tried(&mut self, now: Instant) {
        if !self.round.is_empty() {
            return;
        }
        self.next_try = None;
        if !self.chats.is_empty() {
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.next_try = Some(now + self.pause);
        }
    }

    /// The first one that is deferred is tried again soon.
    fn plan(&mut self, now: Instant) {
        if self.next_try.is_none() && !self.chats.is_empty() {
            self.pause = FIRST_PAUSE;
            self.next_try = Some(now + self.pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::batch::samples::queued;
    use crate::domain::MessageId;

    /// Makes this number of items of a chat whose size is known.
    fn of(chat: ChatId, items: usize, routes: &Routes) -> (Vec<MessageId>, Vec<Queued>) {
        routes.learn(chat, 1);
        let items: Vec<Queued> = (0..items).map(|_| queued(chat, MessageId::generate())).collect();
        (ids(&items), items)
    }

    fn ids(items: &[Queued]) -> Vec<MessageId> {
        items.iter().map(|queued| queued.item.id).collect()
    }

    fn held(items: Vec<Queued>) -> Held {
        let mut held = Held::default();
        items.into_iter().for_each(|queued| held.put(queued));
        held
    }

    #[test]
    fn a_round_asks_in_transactions_and_what_comes_meanwhile_waits_behind() {
        let (routes, chat, now) = (Routes::new(1), ChatId::generate(), Instant::now());
        let (mut expected, items) = of(chat, ITEMS_MAX + 10, &routes);
        let mut deferred = Deferred::default();
        assert!(deferred.put_held(held(items), now).is_empty());
        let first = deferred.take(&routes);
        deferred.tried(now);
        assert_eq!(deferred.next_try(), Some(now + FIRST_PAUSE), "the round goes on");
        let (later, items) = of(chat, 1, &routes);
        assert!(deferred.holds(chat) && items.into_iter().all(|queued| deferred.put(queued, now).is_none()));
        let second = deferred.take(&routes);
        deferred.tried(now);
        expected.extend(later);
        assert_eq!([ids(&first), ids(&second)].concat(), expected);
        assert_eq!((first.len(), deferred.next_try(), deferred.chats()), (ITEMS_MAX, None, 0));
    }

    #[test]
    fn a_chat_that_is_held_again_keeps_its_order_and_waits_for_the_next_round() {
        let (routes, chat, now) = (Routes::new(1), ChatId::generate(), Instant::now());
        let (expected, items) = of(chat, ITEMS_MAX + 10, &routes);
        let mut deferred = Deferred::default();
        deferred.put_held(held(items), now);
        let first = deferred.take(&routes);
        deferred.put_held(held(first), now);
        deferred.tried(now);
        assert_eq!(deferred.next_try(), Some(now + 2 * FIRST_PAUSE));
        let (again, rest) = (deferred.take(&routes), deferred.take(&routes));
        assert_eq!([ids(&again), ids(&rest)].concat(), expected);
    }

    #[test]
    fn items_of_a_held_chat_wait_behind_it_and_the_others_go_on() {
        let (routes, [chat, other]) = (Routes::new(1), [(); 2].map(|()| ChatId::generate()));
        let (first, items) = of(chat, 1, &routes);
        let mut held = held(items);
        let part = vec![queued(other, MessageId::generate()), queued(chat, MessageId::generate())];
        let expected = [first, vec![part[1].item.id]].concat();
        assert!(held.keep_behind(part).into_iter().all(|queued| queued.item.chat == other));
        let mut deferred = Deferred::default();
        deferred.put_held(held, Instant::now());
        assert_eq!(ids(&deferred.take(&routes)), expected);
    }

    #[test]
    fn deferred_items_are_bounded_and_late_ones_are_given_up_unless_they_may_be_stored() {
        let (routes, chat, now) = (Routes::new(1), ChatId::generate(), Instant::now());
        let (_, mut items) = of(chat, DEFERRED_MAX + 1, &routes);
        items[0].uncertain = Some(time::OffsetDateTime::UNIX_EPOCH);
        let mut deferred = Deferred::default();
        assert_eq!(deferred.put_held(held(items), now).len(), 1);
        assert!(deferred.put(queued(chat, MessageId::generate()), now).is_some());
        let patience = Duration::from_secs(10);
        assert!(deferred.take_late(now, patience).is_empty());
        assert_eq!(deferred.take_late(now + 2 * patience, patience).len(), DEFERRED_MAX - 1);
        assert_eq!(deferred.take(&routes).len(), 1);
    }
}
