//! The callbacks that a client has not called yet, and the message that each of them acks. Numbers are given in order.
//!
//! A client may ack in another way, and never calls them then. So only the newest are kept. A number that is forgotten acks nothing, and its
//! message comes again.

use std::collections::VecDeque;

use crate::domain::{Class, MessageId};

/// Callbacks that are kept for each envelope of a window.
const KEPT_PER_ENVELOPE: usize = 2;

/// Callbacks with their messages, the oldest first.
#[derive(Debug)]
pub(super) struct Unacked {
    /// The number of the first one.
    first: u64,
    messages: VecDeque<Option<MessageId>>,
    kept_max: usize,
}

impl Unacked {
    /// None yet, for a connection with this window.
    pub(super) fn new(window: u16) -> Self {
        Self { first: 0, messages: VecDeque::new(), kept_max: usize::from(window).max(1) * Class::ALL.len() * KEPT_PER_ENVELOPE }
    }

    /// A number for the callback of this message.
    pub(super) fn number(&mut self, message: MessageId) -> u64 {
        if self.messages.len() >= self.kept_max {
            self.messages.pop_front();
            self.first += 1;
        }
        self.messages.push_back(Some(message));
        self.first + self.messages.len() as u64 - 1
    }

    /// The message of a callback that was called. None: it was called before, is forgotten, or there was none.
    pub(super) fn take(&mut self, number: u64) -> Option<MessageId> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let message = self.messages.get_mut(place)?.take();
        while let Some(None) = self.messages.front() {
            self.messages.pop_front();
            self.first += 1;
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_acks_its_message_once_in_any_order() {
        let mut unacked = Unacked::new(50);
        let messages: Vec<MessageId> = (0..3).map(|_| MessageId::generate()).collect();
        let numbers: Vec<u64> = messages.iter().map(|message| unacked.number(*message)).collect();
        assert_eq!(numbers, [0, 1, 2]);
        assert_eq!(unacked.take(1), Some(messages[1]));
        assert_eq!((unacked.take(1), unacked.take(3), unacked.take(u64::MAX)), (None, None, None));
        assert_eq!((unacked.take(0), unacked.take(2)), (Some(messages[0]), Some(messages[2])));
        assert!(unacked.messages.is_empty());
        assert_eq!(unacked.number(messages[0]), 3);
    }

    #[test]
    fn a_client_that_calls_none_costs_a_bounded_room() {
        let mut unacked = Unacked::new(2);
        let numbers: Vec<u64> = (0..100).map(|_| unacked.number(MessageId::generate())).collect();
        assert_eq!(unacked.messages.len(), 12);
        assert_eq!(unacked.take(numbers[87]), None, "forgotten");
        assert!(unacked.take(numbers[88]).is_some() && unacked.take(numbers[99]).is_some());
    }
}
