//! A chain: the messages of one connection to one chat that are under way, in their order.
//!
//! Once one of them is refused for now, no later one may be stored, or the repeated message would come behind it. Lanes and
//! the connection share the chain. A refusal breaks it at the refused message, and a lane asks it before it writes a message. The
//! messages before the break go on.

use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::MessageId;

/// The place of a message in a chain; without one it takes no part in any order. Clones are the same place.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    broken: Option<Arc<Mutex<Option<Break>>>>,
    no: u64,
}

/// The first message that was refused.
#[derive(Debug, Clone, Copy)]
struct Break {
    no: u64,
    message: MessageId,
}

impl Chain {
    /// A chain that is whole.
    pub fn begin() -> Self {
        Self { broken: Some(Arc::default()), no: 0 }
    }

    /// The place of the message with this number. Numbers grow in the order of the messages, and begin with 1.
    #[must_use]
    pub fn at(&self, no: u64) -> Self {
        Self { broken: self.broken.clone(), no }
    }

    /// The first message of the chain that was refused; none: the chain is whole.
    pub fn broken_by(&self) -> Option<MessageId> {
        self.first().map(|first| first.message)
    }

    /// The same, where that message is before this place: what is here must not be stored.
    pub fn is_behind(&self) -> Option<MessageId> {
        self.first().filter(|first| first.no < self.no).map(|first| first.message)
    }

    /// The message of this place is refused for now.
    pub fn break_at(&self, message: MessageId) {
        if let Some(broken) = &self.broken {
            let mut first = broken.lock().unwrap_or_else(PoisonError::into_inner);
            if first.is_none_or(|first| self.no < first.no) {
                *first = Some(Break { no: self.no, message });
            }
        }
    }

    fn first(&self) -> Option<Break> {
        *self.broken.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_after_the_first_refusal_is_behind_it_and_what_came_before_goes_on() {
        let (chain, [early, late]) = (Chain::begin(), [(); 2].map(|()| MessageId::generate()));
        let places = [1, 2, 3, 4, 5].map(|no| chain.at(no));
        let behind = || places.clone().map(|place| place.is_behind());
        assert_eq!((chain.broken_by(), behind()), (None, [None; 5]));
        places[3].break_at(late);
        assert_eq!((chain.broken_by(), behind()), (Some(late), [None, None, None, None, Some(late)]));
        // It was in the lane while the later one found the lane full.
        places[1].break_at(early);
        assert_eq!((chain.broken_by(), behind()), (Some(early), [None, None, Some(early), Some(early), Some(early)]));
        places[3].break_at(late);
        assert_eq!(chain.broken_by(), Some(early));
    }

    #[test]
    fn a_message_of_no_chain_stops_no_other() {
        let none = Chain::default();
        none.break_at(MessageId::generate());
        assert_eq!((none.broken_by(), none.is_behind()), (None, None));
    }
}
