//! Acks on their way to the database, and the waiters for them: a client that wants `…:ok`, or `queue:drained`. Commits are
//! reported in any order; a waiter is told when everything made before it is committed.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::domain::{AttemptOutcome, Class, InboxSeq, MessageId, PerClass};

use super::{Settlement, SettlementNo, Ticket};

/// A waiter is told once everything made so far is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A client's frame.
    Ticket(Ticket),
    /// A client's reject, and what became of its attempt; none: that is not known.
    Reject(Ticket, Option<AttemptOutcome>),
    /// `queue:drained` of a class.
    Drained(Class),
}

/// Rejects of one row that wait for attempts.
#[derive(Debug, Default)]
struct Rejects {
    /// Those that the attempt answers which is being counted.
    counted: Vec<Ticket>,
    /// Those that the next one answers: final ones, which came while an attempt was being counted.
    next: Vec<Ticket>,
}

/// A row of a settlement.
#[derive(Debug, Clone, Copy)]
struct Row {
    class: Class,
    seq: InboxSeq,
    message: MessageId,
}

#[derive(Debug)]
struct Made {
    rows: Vec<Row>,
    by_id: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    UnderWay,
    Committed,
}

/// Settlements from the first uncommitted one on.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// The number of the newest settlement; numbers start at 1.
    made: u64,
    open: VecDeque<Made>,
    /// With the number that must be committed, ascending.
    waiters: VecDeque<(u64, Waiter)>,
    /// Rejects that wait for a row's attempt first.
    rejects: BTreeMap<(Class, InboxSeq), Rejects>,
    rejects_len: usize,
    messages: HashSet<MessageId>,
    /// Rows per class that are acked and not committed,
    rows: PerClass<usize>,
    /// and messages, whose class is not known.
    by_id: usize,
}

impl Commits {
    /// The number of the next settlement.
    pub(super) fn next_no(&self) -> SettlementNo {
        SettlementNo(self.made + 1)
    }

    /// A settlement was made, with the number that [`Commits::next_no`] named.
    pub(super) fn add(&mut self, settlement: &Settlement) {
        let row = |row: &super::AckedRow| Row { class: row.class, seq: row.seq, message: row.message.id };
        let rows: Vec<_> = settlement.rows.iter().map(row).collect();
        let by_id = settlement.by_id.len();
        self.messages.extend(rows.iter().map(|row| row.message));
        self.made += 1;
        rows.iter().for_each(|row| self.rows[row.class] += 1);
        self.by_id += by_id;
        self.open.push_back(Made { rows, by_id, state: State::UnderWay });
    }

    /// A settlement was committed. Returns how many rows of each class it held; an unknown number holds none.
    pub(super) fn commit(&mut self, no: SettlementNo) -> PerClass<u32> {
        let mut rows = PerClass::default();
        let place = no.0.checked_sub(self.committed() + 1).and_then(|place| usize::try_from(place).ok());
        let Some(made) = place.and_then(|place| self.open.get_mut(place)) else { return rows };
        if made.state == State::Committed {
            return rows;
        }
        made.state = State::Committed;
        self.by_id -= made.by_id;
        for row in std::mem::take(&mut made.rows) {
            rows[row.class] += 1;
            self.rows[row.class] -= 1;
            self.messages.remove(&row.message);
        }
        while self.open.front().is_some_and(|made| made.state == State::Committed) {
            self.open.pop_front();
        }
        rows
    }

    /// Adds a waiter, which waits until everything made so far is committed.
    pub(super) fn wait(&mut self, waiter: Waiter) {
        self.waiters.push_back((self.made, waiter));
    }

    /// A client's reject waits until its row's attempt has been counted.
    pub(super) fn hold(&mut self, class: Class, seq: InboxSeq, ticket: Ticket) {
        self.rejects.entry((class, seq)).or_default().counted.push(ticket);
        self.rejects_len += 1;
    }

    /// A final reject waits for the attempt that follows the one which is being counted.
    pub(super) fn hold_for_next(&mut self, class: Class, seq: InboxSeq, ticket: Ticket) {
        self.rejects.entry((class, seq)).or_default().next.push(ticket);
        self.rejects_len += 1;
    }

    /// The attempt has been counted, and another one is counted next: what it answers waits for its turn like others.
    pub(super) fn release(&mut self, class: Class, seq: InboxSeq, outcome: Option<AttemptOutcome>) {
        let Rejects { counted, next } = self.rejects.remove(&(class, seq)).unwrap_or_default();
        self.answer_rejects(counted, outcome);
        if !next.is_empty() {
            self.rejects.insert((class, seq), Rejects { counted: next, next: Vec::new() });
        }
    }

    /// The attempt has been counted, and no other one follows.
    pub(super) fn release_all(&mut self, class: Class, seq: InboxSeq, outcome: Option<AttemptOutcome>) {
        self.release(class, seq, outcome);
        self.release(class, seq, outcome);
    }

    fn answer_rejects(&mut self, tickets: Vec<Ticket>, outcome: Option<AttemptOutcome>) {
        self.rejects_len -= tickets.len();
        tickets.into_iter().for_each(|ticket| self.wait(Waiter::Reject(ticket, outcome)));
    }

    /// The next one whose wait is over.
    pub(super) fn next_ready(&mut self) -> Option<Waiter> {
        let (barrier, waiter) = *self.waiters.front()?;
        if barrier > self.committed() {
            return None;
        }
        self.waiters.pop_front();
        Some(waiter)
    }

    /// Gives back what is not needed.
    pub(super) fn shrink(&mut self) {
        self.open.shrink_to_fit();
        self.waiters.shrink_to_fit();
        self.messages.shrink_to_fit();
    }

    /// Acks that are not committed.
    pub(super) fn uncommitted(&self) -> usize {
        self.rows.values().sum::<usize>() + self.by_id
    }

    /// Acks that are not committed, and may be of this class.
    pub(super) fn uncommitted_of(&self, class: Class) -> usize {
        self.rows[class] + self.by_id
    }

    /// The number of waiters.
    pub(super) fn waiting(&self) -> usize {
        self.waiters.len() + self.rejects_len
    }

    /// True if this message's row was acked here and that is not committed yet.
    pub(super) fn is_under_way(&self, message: MessageId) -> bool {
        self.messages.contains(&message)
    }

    /// The numbers of the rows that are acked and not committed.
    pub(super) fn numbers(&self, class: Class) -> impl Iterator<Item = InboxSeq> + '_ {
        self.open.iter().flat_map(|made| &made.rows).filter(move |row| row.class == class).map(|row| row.seq)
    }

    /// Everything up to this number is committed.
    fn committed(&self) -> u64 {
        // `made` counts every settlement, `open` holds the newest of them.
        self.made - self.open.len() as u64
    }
}
