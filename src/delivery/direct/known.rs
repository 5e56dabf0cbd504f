//! The direct chats that this process remembers. A direct chat never changes and is never deleted. What was found once is true until the
//! name leads to another user, since the one that had it was erased: then the chat is forgotten. With another database the whole node
//! begins anew.
//!
//! Bounded, and every step costs the same however full it is: who has to go is found by the clock algorithm (second chance), whose
//! hand takes a bounded number of steps.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Pair;
use crate::domain::ChatId;
use crate::telemetry::Metrics;

/// Pairs that are remembered: about 300 bytes each.
const PAIRS_MAX: usize = 100_000;
/// Pairs that the hand passes over because they were asked for since it last came by. Then one has to go all the same.
const STEPS_MAX: usize = 16;

/// The chats that are remembered. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pairs: Arc<Mutex<Clock>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Clock {
    places: HashMap<Pair, usize>,
    /// The pairs of each chat: its two members, each with the name of the other.
    chats: HashMap<ChatId, Vec<Pair>>,
    slots: Vec<Slot>,
    hand: usize,
    slots_max: usize,
}

#[derive(Debug)]
struct Slot {
    pair: Pair,
    chat: ChatId,
    was_asked_for: bool,
}

impl Known {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { pairs: Arc::new(Mutex::new(Clock::of(PAIRS_MAX))), metrics }
    }

    /// The chat of this user with the one of this name.
    pub(super) fn find(&self, pair: &Pair) -> Option<ChatId> {
        let found = self.pairs().find(pair);
        match found {
            Some(_) => self.metrics.direct_chat_hits.inc(),
            None => self.metrics.direct_chat_misses.inc(),
        };
        found
    }

    pub(super) fn remember(&self, pair: Pair, chat: ChatId) {
        let mut pairs = self.pairs();
        pairs.remember(pair, chat);
        self.metrics.direct_chats_known.set(i64::try_from(pairs.slots.len()).unwrap_or(i64::MAX));
    }

    /// The chat is asked for again by the names of its members.
    pub(super) fn forget(&self, chat: ChatId) {
        self.pairs().forget(chat);
    }

    /// Each chat is asked for again.
    pub(super) fn forget_all(&self) {
        let mut pairs = self.pairs();
        *pairs = Clock::of(pairs.slots_max);
    }

    /// A panic in one of these few lines would leave nothing half done that matters: at worst a pair is asked for again.
    fn pairs(&self) -> MutexGuard<'_, Clock> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    fn of(slots_max: usize) -> Self {
        Self { places: HashMap::new(), chats: HashMap::new(), slots: Vec::new(), hand: 0, slots_max }
    }

    fn find(&mut self, pair: &Pair) -> Option<ChatId> {
        let slot = self.slots.get_mut(*self.places.get(pair)?)?;
        slot.was_asked_for = true;
        Some(slot.chat)
    }

    fn remember(&mut self, pair: Pair, chat: ChatId) {
        if self.places.contains_key(&pair) {
            return;
        }
        let slot = Slot { pair: pair.clone(), chat, was_asked_for: false };
        let place = if self.slots.len() < self.slots_max {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let place = self.place_of_the_next_to_go();
            let gone = std::mem::replace(&mut self.slots[place], slot);
            self.places.remove(&gone.pair);
            self.forget_pair_of(gone.chat, &gone.pair);
            place
        };
        self.places.insert(pair.clone(), place);
        self.chats.entry(chat).or_default().push(pair);
    }

    fn forget_pair_of(&mut self, chat: ChatId, pair: &Pair) {
        if let Some(pairs) = self.chats.get_mut(&chat) {
            pairs.retain(|other| other != pair);
            if pairs.is_empty() {
                self.chats.remove(&chat);
            }
        }
    }

    fn forget(&mut self, chat: ChatId) {
        for pair in self.chats.remove(&chat).unwrap_or_default() {
            let Some(place) = self.places.remove(&pair) else { continue };
            self.slots.swap_remove(place);
            if let Some(moved) = self.slots.get(place) {
                self.places.insert(moved.pair.clone(), place);
            }
        }
        self.hand = self.hand.min(self.slots.len().saturating_sub(1));
    }

    fn place_of_the_next_to_go(&mut self) -> usize {
        for _ in 0..STEPS_MAX {
            if !std::mem::take(&mut self.slots[self.hand].was_asked_for) {
                break;
            }
            self.step();
        }
        let place = self.hand;
        self.step();
        place
    }

    fn step(&mut self) {
        self.hand = (self.hand + 1) % self.slots.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ExternalId, UserId};

    fn pair(user: i64, name: &str) -> Pair {
        (UserId(user), ExternalId::try_from(name.to_owned()).unwrap())
    }

    #[test]
    fn a_chat_is_known_for_its_user_and_its_name_only() {
        let mut clock = Clock::of(10);
        let chat = ChatId::generate();
        clock.remember(pair(1, "bob"), chat);
        assert_eq!(clock.find(&pair(1, "bob")), Some(chat));
        assert_eq!([pair(2, "bob"), pair(1, "carol")].map(|other| clock.find(&other)), [None, None]);
    }

    /// Broken by a place of another pair that is not kept when a pair is taken out, and by a pair that stays.
    #[test]
    fn a_chat_that_is_forgotten_takes_its_pairs_and_no_others() {
        let mut clock = Clock::of(4);
        let [gone, stays] = [ChatId::generate(), ChatId::generate()];
        for (user, name, chat) in [(1, "bob", gone), (1, "carol", stays), (2, "alice", gone), (3, "alice", stays)] {
            clock.remember(pair(user, name), chat);
        }
        clock.hand = 3;
        clock.forget(gone);
        assert_eq!([pair(1, "bob"), pair(2, "alice")].map(|gone| clock.find(&gone)), [None, None]);
        assert_eq!([pair(1, "carol"), pair(3, "alice")].map(|kept| clock.find(&kept)), [Some(stays), Some(stays)]);
        for user in 10..20 {
            clock.remember(pair(user, "alice"), ChatId::generate());
        }
        assert_eq!((clock.slots.len(), clock.places.len(), clock.chats.values().map(Vec::len).sum::<usize>()), (4, 4, 4));
    }

    #[test]
    fn the_bound_holds_and_what_is_asked_for_outlives_what_is_not() {
        let mut clock = Clock::of(100);
        let (often, chat) = (pair(1, "often"), ChatId::generate());
        clock.remember(often.clone(), chat);
        for n in 0..10_000 {
            clock.remember(pair(n, "once"), ChatId::generate());
            assert_eq!(clock.find(&often), Some(chat), "after {n}");
            assert!(clock.slots.len() <= 100 && clock.places.len() == clock.slots.len());
        }
        assert_eq!(clock.find(&pair(0, "once")), None);
        assert!(clock.places.iter().all(|(pair, place)| clock.slots[*place].pair == *pair));
    }

    #[test]
    fn where_everything_is_asked_for_one_goes_all_the_same_after_a_few_steps() {
        let mut clock = Clock::of(1_000);
        (0..1_000).for_each(|n| clock.remember(pair(n, "x"), ChatId::generate()));
        (0..1_000).for_each(|n| assert!(clock.find(&pair(n, "x")).is_some()));
        clock.remember(pair(1_000, "x"), ChatId::generate());
        assert!(clock.hand <= STEPS_MAX + 1, "the hand went {} steps", clock.hand);
        assert!(clock.find(&pair(1_000, "x")).is_some() && clock.slots.len() == 1_000);
    }
}
