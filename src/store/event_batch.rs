//! The bounds of one transaction of events. Each place that puts events together asks here whether more of them fit, so a batch that was
//! queued as one is stored as one. It knows ids and counts, and nothing of the statement.

use std::collections::HashSet;

use crate::domain::{MessageId, limits};

/// Rows of listed users that one transaction writes. It holds the stream of all events to listed users meanwhile.
pub(super) const ROWS_AT_ONCE: usize = 500;

/// The events that one transaction is to store: their ids, and how many users they name together.
#[derive(Debug, Default)]
pub struct EventBatch {
    ids: HashSet<MessageId>,
    names: usize,
}

impl EventBatch {
    /// Takes these events, all or none, each with its id and the number of users that it names. They fit if with them it has no more than
    /// [`limits::EVENTS_MAX`](crate::domain::limits::EVENTS_MAX) events, their users are no more rows than one transaction writes, and no
    /// id is there already. The first ones fit in any case. Returns false where they do not fit.
    pub fn take<T: IntoIterator<Item = (MessageId, usize)>>(&mut self, events: T) -> bool {
        let events: Vec<_> = events.into_iter().collect();
        let names = self.names + events.iter().map(|(_, names)| names).sum::<usize>();
        let is_full = self.ids.len() + events.len() > limits::EVENTS_MAX || names > ROWS_AT_ONCE;
        if !self.ids.is_empty() && (is_full || events.iter().any(|(id, _)| self.ids.contains(id))) {
            return false;
        }
        self.ids.extend(events.into_iter().map(|(id, _)| id));
        self.names = names;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events that name so many users each.
    fn events(names: &[usize]) -> Vec<(MessageId, usize)> {
        names.iter().map(|names| (MessageId::generate(), *names)).collect()
    }

    #[test]
    fn a_transaction_is_bounded_in_events_and_in_users_and_takes_a_request_whole_or_not_at_all() {
        let mut by_events = EventBatch::default();
        assert!(by_events.take(events(&[0; 499])));
        assert!(!by_events.take(events(&[0; 2])), "501 events");
        assert!(by_events.take(events(&[0])) && !by_events.take(events(&[0])));
        let mut by_names = EventBatch::default();
        assert!(by_names.take(events(&[200, 200])));
        assert!(!by_names.take(events(&[50, 51])), "501 users");
        assert!(by_names.take(events(&[50, 50])), "what did not fit has left nothing behind");
        assert!(by_names.take(events(&[0])) && !by_names.take(events(&[1])));
    }

    #[test]
    fn the_first_events_fit_however_many_they_are() {
        for large in [&[0; 600][..], &[10_000]] {
            let mut batch = EventBatch::default();
            assert!(batch.take(events(large)));
            assert!(!batch.take(events(&[0])));
        }
    }

    #[test]
    fn an_id_is_taken_once() {
        let [(id, _), (other, _)] = [MessageId::generate(), MessageId::generate()].map(|id| (id, 0));
        let mut batch = EventBatch::default();
        assert!(batch.take([(id, 0)]));
        assert!(!batch.take([(other, 0), (id, 0)]));
        assert!(batch.take([(other, 0)]), "with the repeated one it was not taken");
    }
}
