//! One client's history walked from its beginning to its end: what it acked, read and rejected, which of that is
//! confirmed, and for each envelope that came again whether something explains it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::super::history::{Class, History, What};

/// Where envelopes come in order: a device, or the client itself without one.
pub type Stream = Option<String>;

/// An envelope that came.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// Which record it is.
    pub at: usize,
    /// The connection.
    pub connection: u32,
    /// The record.
    pub what: &'a What,
    /// Has it come before, and if so, why again?
    pub repetition: Repetition,
}

/// Whether an envelope has come before on its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repetition {
    /// It has not.
    First,
    /// It has, and something explains it.
    Explained,
    /// It was acked, and the ack was confirmed, before this connection began.
    AckedBefore,
    /// The connection had given it already, as the same attempt, a moment ago.
    SameConnection,
}

/// What a client did, all connections together.
#[derive(Debug, Default)]
pub struct Deeds {
    /// Messages whose acks left, by id or by number, and when that was first.
    pub acked: HashMap<Uuid, u64>,
    /// Per chat, how far it read, and when it first read so far: both ascend.
    read: HashMap<Uuid, Vec<(i64, u64)>>,
    /// Messages that were rejected for good.
    pub rejected_for_good: HashSet<Uuid>,
    /// How often each came.
    pub came: HashMap<Uuid, u64>,
}

impl Deeds {
    /// When the client first asked for this to be read.
    pub fn read_at(&self, chat: Uuid, seq: i64) -> Option<u64> {
        let reads = self.read.get(&chat)?;
        reads.get(reads.partition_point(|(read, _)| *read < seq)).map(|(_, at_ms)| *at_ms)
    }

    fn read(&mut self, chat: Uuid, seq: i64, at_ms: u64) {
        let reads = self.read.entry(chat).or_default();
        if reads.last().is_none_or(|(read, _)| *read < seq) {
            reads.push((seq, at_ms));
        }
    }

    fn ack(&mut self, message: Uuid, at_ms: u64) {
        self.acked.entry(message).or_insert(at_ms);
    }
}

/// A history, walked.
pub struct Walk<'a> {
    /// The history.
    pub history: &'a History,
    /// What its client did.
    pub deeds: Deeds,
    /// Every envelope that came, with its stream.
    pub sights: Vec<(Stream, Sight<'a>)>,
    /// What each stream has seen of the chat inbox.
    pub streams: BTreeMap<Stream, Seen>,
    connections: HashMap<u32, Connection>,
    acks: HashMap<u64, AckPlace>,
    reads: HashMap<u64, (Uuid, i64)>,
    read_confirmed: HashMap<Uuid, i64>,
    sighted: HashMap<(Stream, Uuid), i64>,
}

/// What a stream has seen of the chat inbox.
#[derive(Debug, Default)]
pub struct Seen {
    /// Numbers that came, or were named as gaps.
    pub numbers: BTreeSet<i64>,
    /// Numbers whose ack is confirmed, or that were named as gaps.
    done: BTreeSet<i64>,
    /// Messages whose ack is confirmed, with the record that first confirmed it.
    confirmed: HashMap<Uuid, usize>,
    messages: HashSet<Uuid>,
    /// Messages by the numbers under which they came last.
    by_number: BTreeMap<i64, Uuid>,
    /// The client has said on connecting that it has everything up to here, and nothing up to here came after that.
    claimed: i64,
    /// From the first number up to here everything is done, as far as it has been looked at.
    contiguous: Option<(i64, i64)>,
}

#[derive(Debug, Default)]
struct Connection {
    /// The record with which it began.
    began: usize,
    stream: Stream,
    /// The device's cursor was at least here when this one began.
    cursor: i64,
    reads: HashMap<Uuid, i64>,
    /// What came on it: when, as which attempt, under which number.
    came: HashMap<Uuid, (u64, u16, i64)>,
    rejected: HashSet<Uuid>,
    /// Acked on it, in order.
    acked: Vec<Uuid>,
    /// So many of these are confirmed.
    confirmed: usize,
}

/// The ack with this `ask` covers so many of the connection's acked messages.
struct AckPlace {
    connection: u32,
    covers: usize,
}

impl Seen {
    /// Everything from the stream's beginning to here is done.
    fn cursor(&mut self) -> i64 {
        let Some(first) = self.numbers.first().copied() else { return 0 };
        let known = self.contiguous.filter(|(of, _)| *of == first).map_or(first - 1, |(_, cursor)| cursor);
        let cursor = (known + 1..).take_while(|number| self.done.contains(number)).last().unwrap_or(known);
        self.contiguous = Some((first, cursor));
        cursor
    }

    /// Messages that came under numbers up to here, and were not claimed before.
    fn claim(&mut self, up_to: i64) -> Vec<Uuid> {
        if up_to <= self.claimed {
            return Vec::new();
        }
        let claimed = self.by_number.range(self.claimed + 1..=up_to).map(|(_, message)| *message).collect();
        self.claimed = up_to;
        claimed
    }

    /// Numbers below the highest that never came and were not named.
    pub fn holes(&self) -> Vec<i64> {
        match (self.numbers.first(), self.numbers.last()) {
            (Some(first), Some(last)) => (*first..*last).filter(|number| !self.numbers.contains(number)).collect(),
            _ => Vec::new(),
        }
    }
}

impl<'a> Walk<'a> {
    /// Walks.
    pub fn of(history: &'a History, ack_timeout_ms: u64) -> Self {
        let mut walk = Self {
            history,
            deeds: Deeds::default(),
            sights: Vec::new(),
            streams: BTreeMap::new(),
            connections: HashMap::new(),
            acks: HashMap::new(),
            reads: HashMap::new(),
            read_confirmed: HashMap::new(),
            sighted: HashMap::new(),
        };
        for (at, record) in history.records.iter().enumerate() {
            walk.step(at, record.connection, record.at_ms, &record.what, ack_timeout_ms);
        }
        walk
    }

    fn step(&mut self, at: usize, number: u32, at_ms: u64, what: &'a What, ack_timeout_ms: u64) {
        match what {
            What::Connecting { device, since, .. } => self.connect(number, at, at_ms, device.clone(), *since),
            What::Received { message, inbox_seq, class, attempt, .. } => {
                let repetition = self.repetition(number, *message, *attempt, at_ms, ack_timeout_ms);
                let connection = self.connections.entry(number).or_default();
                connection.came.insert(*message, (at_ms, *attempt, *inbox_seq));
                connection.rejected.remove(message);
                let stream = connection.stream.clone();
                let seen = self.streams.entry(stream.clone()).or_default();
                seen.messages.insert(*message);
                if *class == Class::Chat {
                    seen.numbers.insert(*inbox_seq);
                    seen.by_number.insert(*inbox_seq, *message);
                    seen.claimed = seen.claimed.min(*inbox_seq - 1);
                    self.sighted.insert((stream.clone(), *message), *inbox_seq);
                }
                *self.deeds.came.entry(*message).or_default() += 1;
                self.sights.push((stream, Sight { at, connection: number, what, repetition }));
            }
            What::Gap { class: Class::Chat, from, to, .. } => {
                let stream = self.connections.entry(number).or_default().stream.clone();
                let seen = self.streams.entry(stream).or_default();
                seen.numbers.extend(*from..=*to);
                seen.done.extend(*from..=*to);
            }
            What::AckedIds { messages, ask } => self.ack(number, at_ms, messages.clone(), *ask),
            What::AckedUpTo { up_to, ask, .. } => {
                let connection = self.connections.entry(number).or_default();
                let covered = connection.came.iter().filter(|(_, (_, _, number))| number <= up_to).map(|(message, _)| *message).collect();
                self.ack(number, at_ms, covered, *ask);
            }
            What::AckConfirmed { ask } => self.confirm(at, *ask),
            What::Rejected { message, is_final, .. } => {
                self.connections.entry(number).or_default().rejected.insert(*message);
                if *is_final {
                    self.deeds.rejected_for_good.insert(*message);
                }
            }
            What::ReadUpTo { chat, seq, ask } => {
                self.deeds.read(*chat, *seq, at_ms);
                self.reads.insert(*ask, (*chat, *seq));
            }
            What::ReadConfirmed { ask } => {
                if let Some((chat, seq)) = self.reads.get(ask) {
                    let read = self.read_confirmed.entry(*chat).or_default();
                    *read = (*read).max(*seq);
                }
            }
            _ => {}
        }
    }

    fn connect(&mut self, number: u32, began: usize, at_ms: u64, stream: Stream, since: Option<i64>) {
        let seen = self.streams.entry(stream.clone()).or_default();
        // Who says how much it has acks it, and gets what is above.
        let claimed = since.map_or(Vec::new(), |since| seen.claim(since));
        claimed.into_iter().for_each(|message| self.deeds.ack(message, at_ms));
        let cursor = since.map_or(i64::MAX, |since| since).min(seen.cursor());
        let reads = self.read_confirmed.clone();
        self.connections.insert(number, Connection { began, stream, cursor, reads, ..Connection::default() });
    }

    fn repetition(&self, number: u32, message: Uuid, attempt: u16, at_ms: u64, ack_timeout_ms: u64) -> Repetition {
        let Some(connection) = self.connections.get(&number) else { return Repetition::First };
        if let Some((before_ms, before, _)) = connection.came.get(&message) {
            let is_later = at_ms.saturating_sub(*before_ms) >= ack_timeout_ms * 9 / 10;
            let is_explained = attempt > *before || is_later || connection.rejected.contains(&message);
            return if is_explained { Repetition::Explained } else { Repetition::SameConnection };
        }
        let is_behind_cursor = match (&connection.stream, self.sighted.get(&(connection.stream.clone(), message))) {
            (Some(_), Some(inbox_seq)) => *inbox_seq > connection.cursor,
            _ => false,
        };
        let seen = self.streams.get(&connection.stream);
        let is_confirmed = seen.and_then(|seen| seen.confirmed.get(&message)).is_some_and(|at| *at < connection.began);
        if is_confirmed && !is_behind_cursor {
            return Repetition::AckedBefore;
        }
        let is_known = seen.is_some_and(|seen| seen.messages.contains(&message));
        if is_known { Repetition::Explained } else { Repetition::First }
    }

    /// The record with which a connection began.
    pub fn began(&self, connection: u32) -> usize {
        self.connections.get(&connection).map_or(0, |connection| connection.began)
    }

    /// Had the client read that far, confirmed, before this connection began?
    pub fn had_read(&self, connection: u32, chat: Uuid, seq: i64) -> bool {
        self.connections.get(&connection).is_some_and(|connection| connection.reads.get(&chat).is_some_and(|read| *read >= seq))
    }

    fn ack(&mut self, number: u32, at_ms: u64, messages: Vec<Uuid>, ask: Option<u64>) {
        messages.iter().for_each(|message| self.deeds.ack(*message, at_ms));
        let connection = self.connections.entry(number).or_default();
        connection.acked.extend(messages);
        if let Some(ask) = ask {
            self.acks.insert(ask, AckPlace { connection: number, covers: connection.acked.len() });
        }
    }

    fn confirm(&mut self, at: usize, ask: u64) {
        let Some(AckPlace { connection, covers }) = self.acks.get(&ask) else { return };
        let Some(connection) = self.connections.get_mut(connection) else { return };
        let seen = self.streams.entry(connection.stream.clone()).or_default();
        for message in connection.acked.iter().take(*covers).skip(connection.confirmed) {
            seen.confirmed.entry(*message).or_insert(at);
            if let Some((_, _, inbox_seq)) = connection.came.get(message) {
                seen.done.insert(*inbox_seq);
            }
        }
        connection.confirmed = connection.confirmed.max(*covers);
    }
}
