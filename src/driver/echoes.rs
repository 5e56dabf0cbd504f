//! Messages that the user has sent at another node and that did not fit into a notification. The session knows their ids only,
//! and reads a few of them at a time. It knows no service: `notes` does the reading.

use std::collections::VecDeque;

use crate::domain::MessageId;

/// Messages of one read: at most 32 KiB of content each.
const AT_ONCE: usize = 8;
/// Messages that may wait. A client that is further behind does not read its socket, and is closed for that.
const WAITING_MAX: usize = 1_000;

/// The messages that wait to be read.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    waiting: VecDeque<MessageId>,
    is_reading: bool,
}

impl Echoes {
    /// Adds a message. True: no read is in progress, and one is to begin.
    pub(super) fn add(&mut self, message: MessageId) -> bool {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(message);
        }
        !self.is_reading
    }

    /// The messages of the next read. Empty: nothing waits, and no read is in progress any more.
    pub(super) fn next(&mut self) -> Vec<MessageId> {
        let messages: Vec<MessageId> = self.waiting.drain(..self.waiting.len().min(AT_ONCE)).collect();
        self.is_reading = !messages.is_empty();
        if !self.is_reading {
            self.waiting = VecDeque::new();
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_in_their_order_a_few_at_a_time_and_only_so_many_wait() {
        let ids: Vec<MessageId> = (0..WAITING_MAX + 20).map(|_| MessageId::generate()).collect();
        let mut echoes = Echoes::default();
        assert!(echoes.add(ids[0]));
        assert_eq!(echoes.next(), [ids[0]]);
        for id in &ids[1..] {
            assert!(!echoes.add(*id), "one read at a time");
        }
        let mut read = Vec::new();
        loop {
            let some = echoes.next();
            if some.is_empty() {
                break;
            }
            assert!(some.len() <= AT_ONCE);
            read.extend(some);
        }
        assert_eq!(read, ids[1..=WAITING_MAX]);
        assert!(echoes.add(ids[0]), "the last read is over");
    }
}
