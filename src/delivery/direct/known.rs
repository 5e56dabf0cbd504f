//! The direct chats that this process remembers. A direct chat never changes and is never deleted, so what was found once is
//! true for as long as the node's database is the same one; with another the whole node begins anew.
//!
//! Bounded, and every step costs the same however full it is: who has to go is found by the clock algorithm (second chance), whose
//! hand takes a bounded number of steps.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Pair;
use crate::domain::ChatId;
use crate::telemetry::Metrics;

/// Pairs that are remembered: about 200 bytes each.
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

    /// A panic in one of these few lines would leave nothing half done that matters: at worst a pair is asked for again.
    fn pairs(&self) -> MutexGuard<'_, Clock> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    fn of(slots_max: usize) -> Self {
        Self { places: HashMap::new(), slots: Vec::new(), hand: 0, slots_max }
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
            place
        };
        self.places.insert(pair, place);
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
