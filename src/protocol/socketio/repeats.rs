//! Sends that wait for their answer, so that one which the client's library repeats meanwhile (`retries`, `ackTimeout`) costs nothing: it is the
//! same send, and one answer calls all its callbacks. A repetition is known by its `messageId`.
//!
//! A session reads no more while its client waits for too many answers, so there are few of them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::domain::MessageId;
use crate::protocol::Fault;

/// Repetitions of one send that wait with it. Further ones are sends.
const REPETITIONS_MAX: usize = 64;

/// Sends with a callback that was not called yet, by the number of their callback.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    pending: HashMap<u64, Pending>,
}

#[derive(Debug)]
struct Pending {
    name: Name,
    repetitions: Vec<u64>,
}

/// The identity of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Message(MessageId),
    /// A send without an id is known by all that it says.
    Text(u64),
}

/// A send that came, in relation to those that wait for their answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The first of its kind.
    First,
    /// One that waits already. Its callback is called with the answer.
    Again,
}

impl Repeats {
    /// A send with this callback has come: its id, and the text of its arguments.
    ///
    /// # Errors
    /// `invalid`: one that says the same waits already, and neither has an id: nobody can know if it is meant twice.
    pub(super) fn arrived(&mut self, callback: u64, message: Option<MessageId>, args: &str) -> Result<Arrival, Fault> {
        let name = message.map_or_else(|| Name::Text(hash(args)), Name::Message);
        match self.pending.values_mut().find(|pending| pending.name == name) {
            Some(_) if message.is_none() => Err(Fault::invalid(
                "`messageId` is missing: the same message without one waits for its answer, and without an id a repetition would be stored twice",
            )),
            Some(first) if first.repetitions.len() < REPETITIONS_MAX => {
                first.repetitions.push(callback);
                Ok(Arrival::Again)
            }
            Some(_) => Ok(Arrival::First),
            None => {
                self.pending.insert(callback, Pending { name, repetitions: Vec::new() });
                Ok(Arrival::First)
            }
        }
    }

    /// The callback of a send is called: those of its repetitions, which are called with the same.
    pub(super) fn answered(&mut self, callback: u64) -> Vec<u64> {
        self.pending.remove(&callback).map(|pending| pending.repetitions).unwrap_or_default()
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_waits_with_the_first_and_is_answered_with_it() {
        let (mut repeats, message) = (Repeats::default(), MessageId::generate());
        assert_eq!(repeats.arrived(1, Some(message), "a"), Ok(Arrival::First));
        assert_eq!(repeats.arrived(2, Some(message), "a"), Ok(Arrival::Again));
        assert_eq!(repeats.arrived(3, Some(MessageId::generate()), "a"), Ok(Arrival::First));
        assert_eq!((repeats.answered(1), repeats.answered(1)), (vec![2], vec![]));
        assert_eq!(repeats.arrived(4, Some(message), "a"), Ok(Arrival::First), "it was answered");
    }

    #[test]
    fn without_an_id_the_same_send_is_refused_while_the_first_waits() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.arrived(1, None, "a"), Ok(Arrival::First));
        assert!(repeats.arrived(2, None, "a").unwrap_err().message.contains("messageId"));
        assert_eq!(repeats.arrived(3, None, "b"), Ok(Arrival::First));
        assert!(repeats.answered(1).is_empty());
        assert_eq!(repeats.arrived(4, None, "a"), Ok(Arrival::First));
    }

    #[test]
    fn repetitions_are_bounded() {
        let (mut repeats, message) = (Repeats::default(), MessageId::generate());
        let arrivals: Vec<_> = (0..100).map(|n| repeats.arrived(n, Some(message), "a").unwrap()).collect();
        assert_eq!(arrivals.iter().filter(|arrival| **arrival == Arrival::Again).count(), REPETITIONS_MAX);
        assert_eq!((repeats.pending.len(), repeats.answered(0).len()), (1, REPETITIONS_MAX));
    }
}
