//! Counts one person's deliveries while the replay runs. The judge decides at the end whether they were right. Pure.

/// A message's place among the messages of its log.
pub type MessageNo = usize;

/// Tells whether a message had come to the person before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It had not.
    First,
    /// It had.
    Again,
}

/// The deliveries of one person.
#[derive(Debug)]
pub struct Deliveries {
    received: Vec<bool>,
    /// Messages that came at least once.
    pub first: u64,
    /// Envelopes that came as a further attempt, or again.
    pub redeliveries: u64,
    /// Envelopes of messages that had come before.
    pub duplicates: u64,
}

impl Deliveries {
    /// No delivery yet, of a log with this many messages.
    pub fn new(messages: usize) -> Self {
        Self { received: vec![false; messages], first: 0, redeliveries: 0, duplicates: 0 }
    }

    /// Counts an envelope. `attempt` is the attempt that the envelope says it is, from 1.
    pub fn receive(&mut self, message: MessageNo, attempt: u16) -> Delivery {
        let was_received = std::mem::replace(&mut self.received[message], true);
        self.redeliveries += u64::from(was_received || attempt > 1);
        self.duplicates += u64::from(was_received);
        self.first += u64::from(!was_received);
        if was_received { Delivery::Again } else { Delivery::First }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redeliveries_and_duplicates_are_counted_beside_first_deliveries() {
        let mut deliveries = Deliveries::new(4);
        let came = [(0, 1), (1, 1), (1, 1), (2, 1), (2, 2), (3, 2)].map(|(message, attempt)| deliveries.receive(message, attempt));
        let again = came.iter().filter(|delivery| **delivery == Delivery::Again).count();
        assert_eq!((again, deliveries.first, deliveries.redeliveries, deliveries.duplicates), (2, 4, 3, 2));
    }
}
