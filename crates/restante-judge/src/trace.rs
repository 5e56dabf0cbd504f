//! One client's history, followed from its beginning to its end: what the client acked, read and rejected, which of that was
//! confirmed, and for each envelope that came again whether there is a reason for it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::history::{Class, Event, History};

/// The numbers that one gap may name. A run has fewer.
const NUMBERS_IN_A_GAP_MAX: i64 = 1_000_000;
/// The holes of a stream that are told.
const HOLES_MAX: usize = 1_000;

/// A sequence of envelopes that has an order: a device, or `None` for the client without one.
pub(super) type Stream = Option<String>;

/// An envelope that came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery<'a> {
    /// The place of its record in the history.
    pub(super) at: usize,
    /// The connection.
    pub(super) connection: u32,
    /// The record's event.
    pub(super) event: &'a Event,
    /// The reason why it came again, if it came before.
    pub(super) repetition: Repetition,
}

/// Tells whether an envelope had come before on its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repetition {
    /// It had not.
    First,
    /// It had, and there is a reason for it.
    Explained,
    /// It was acked, and the ack was confirmed, before this connection began.
    AckedBefore,
    /// The connection had delivered it already, as the same attempt, a moment ago.
    SameConnection,
}

/// The client's actions, of all its connections together.
#[derive(Debug, Default)]
pub(super) struct Actions {
    /// Messages that the client acked, by id or by number, with the time of the first ack in milliseconds of the run.
    pub(super) acked: HashMap<Uuid, u64>,
    /// The chat numbers up to which the client read, with the time at which it first read so far. Both ascend.
    read: HashMap<Uuid, Vec<(i64, u64)>>,
    /// Messages that the client rejected for good.
    pub(super) rejected_for_good: HashSet<Uuid>,
    /// Number of times that each message came.
    pub(super) received: HashMap<Uuid, u64>,
}

impl Actions {
    /// When the client first asked for this number to be read, in milliseconds of the run.
    pub(super) fn read_at(&self, chat: Uuid, seq: i64) -> Option<u64> {
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

/// A history and what follows from it.
pub(super) struct Trace<'a> {
    /// The history.
    pub(super) history: &'a History,
    /// The inbox that is followed.
    pub(super) class: Class,
    /// The client's actions.
    pub(super) actions: Actions,
    /// Every envelope that came, with its stream.
    pub(super) deliveries: Vec<(Stream, Delivery<'a>)>,
    /// The inbox as each stream received it.
    pub(super) streams: BTreeMap<Stream, StreamState>,
    connections: HashMap<u32, Connection>,
    acks: HashMap<u64, AckPlace>,
    reads: HashMap<u64, (Uuid, i64)>,
    read_confirmed: HashMap<Uuid, i64>,
    /// The inbox number under which a stream last received a message.
    delivered_as: HashMap<(Stream, Uuid), i64>,
}

/// The inbox as one stream received it.
#[derive(Debug, Default)]
pub(super) struct StreamState {
    /// Numbers that came, or were named as gaps.
    numbers: BTreeSet<i64>,
    /// Messages whose ack is confirmed, with the record that first confirmed it.
    confirmed: HashMap<Uuid, usize>,
    messages: HashSet<Uuid>,
    /// Messages by the numbers under which they came last.
    by_number: BTreeMap<i64, Uuid>,
    /// The client said on connecting that it has everything up to here, and nothing up to here came after that.
    claimed: i64,
    /// The device's cursor is at least here: up to here one connection has acked everything that it was given. What was acked behind a number
    /// that was not comes again on the next connection, and counts anew there.
    cursor: i64,
    /// The inbox was settled up to here when the service first greeted the stream. Every number above it has to come.
    settled_at_first: Option<i64>,
}

#[derive(Debug, Default)]
struct Connection {
    /// The record with which it began.
    began: usize,
    stream: Stream,
    /// The device's cursor was at least here when this connection began.
    cursor: i64,
    /// Everything that was given on this connection up to here is done, from the first number on; none: nothing was given.
    reach: Option<i64>,
    /// Numbers above it whose ack is confirmed, or that were named as gaps.
    done: BTreeSet<i64>,
    /// The number up to which the client had read each chat, confirmed, when this connection began.
    reads: HashMap<Uuid, i64>,
    /// The last delivery of each message on this connection.
    received: HashMap<Uuid, LastDelivery>,
    rejected: HashSet<Uuid>,
    /// The messages that were acked on this connection, in order.
    acked: Vec<Uuid>,
    /// The first ones of `acked` that are confirmed: their number.
    confirmed: usize,
    /// The numbers that were named as gaps on this connection, in order.
    gaps: Vec<(i64, i64)>,
    /// The highest number that was acked on this connection, confirmed.
    highest: i64,
}

#[derive(Debug, Clone, Copy)]
struct LastDelivery {
    at_ms: u64,
    attempt: u16,
    inbox_seq: i64,
}

/// The place of an ack: it covers the first `covers` acked messages of its connection, and the first `gaps` gaps as far as a number
/// at or behind them was acked.
struct AckPlace {
    connection: u32,
    covers: usize,
    gaps: usize,
    /// The number up to which it acks everything; 0: it names messages.
    up_to: i64,
}

impl StreamState {
    /// Messages that came under numbers up to here, and were not claimed before.
    fn claim(&mut self, up_to: i64) -> Vec<Uuid> {
        if up_to <= self.claimed {
            return Vec::new();
        }
        let claimed = self.by_number.range(self.claimed + 1..=up_to).map(|(_, message)| *message).collect();
        self.claimed = up_to;
        claimed
    }

    /// Numbers below the highest that never came and were not named: the first thousand.
    pub(super) fn holes(&self) -> Vec<i64> {
        let (Some(first), Some(last)) = (self.numbers.first(), self.numbers.last()) else { return Vec::new() };
        let from = self.settled_at_first.map_or(*first, |settled| (settled + 1).min(*first));
        (from..*last).filter(|number| !self.numbers.contains(number)).take(HOLES_MAX).collect()
    }
}

impl<'a> Trace<'a> {
    /// Follows one inbox through the history. `ack_timeout_ms`: milliseconds after which an envelope that was not acked may come again.
    pub(super) fn of(history: &'a History, class: Class, ack_timeout_ms: u64) -> Self {
        let mut trace = Self {
            history,
            class,
            actions: Actions::default(),
            deliveries: Vec::new(),
            streams: BTreeMap::new(),
            connections: HashMap::new(),
            acks: HashMap::new(),
            reads: HashMap::new(),
            read_confirmed: HashMap::new(),
            delivered_as: HashMap::new(),
        };
        for (at, record) in history.records.iter().enumerate() {
            trace.step(at, record.connection, record.at_ms, &record.event, ack_timeout_ms);
        }
        trace
    }

    fn step(&mut self, at: usize, number: u32, at_ms: u64, event: &'a Event, ack_timeout_ms: u64) {
        match event {
            Event::Connecting { device, since, .. } => self.connect(number, at, at_ms, device.clone(), since.filter(|_| self.is_chat())),
            Event::Resuming { class, since } if *class == self.class => self.resume(number, at_ms, *since),
            Event::Ready { settled_seq, .. } if self.is_chat() => self.greet(number, *settled_seq),
            Event::ReadyOf { class, settled_seq, .. } if *class == self.class => self.greet(number, *settled_seq),
            Event::Received { message, attempt, inbox_seq, .. } if self.is_chat() => {
                self.arrive((at, number, event), (*message, *inbox_seq, *attempt), at_ms, ack_timeout_ms);
            }
            Event::NoticeReceived { notice, class, inbox_seq, attempt, .. } if *class == self.class => {
                self.arrive((at, number, event), (*notice, *inbox_seq, *attempt), at_ms, ack_timeout_ms);
            }
            Event::EventReceived { event: id, class, attempt, inbox_seq, .. } if *class == self.class => {
                self.arrive((at, number, event), (*id, *inbox_seq, *attempt), at_ms, ack_timeout_ms);
            }
            Event::Gap { class, from, to, .. } if *class == self.class => self.named(number, *from, *to),
            Event::FeedGap { class, seq, .. } if *class == self.class => self.named(number, *seq, *seq),
            Event::AckedIds { messages, ask } => self.ack(number, at_ms, messages.clone(), ask.zip(Some(0))),
            Event::AckedUpTo { class, up_to, ask } => {
                let connection = self.connections.entry(number).or_default();
                let is_covered = |last: &LastDelivery| *class == self.class && last.inbox_seq <= *up_to;
                let covered = connection.received.iter().filter(|(_, last)| is_covered(last)).map(|(message, _)| *message).collect();
                let up_to = if *class == self.class { *up_to } else { 0 };
                self.ack(number, at_ms, covered, ask.zip(Some(up_to)));
            }
            Event::AckConfirmed { ask } => self.confirm(at, *ask),
            Event::Rejected { message, is_final, .. } => {
                self.connections.entry(number).or_default().rejected.insert(*message);
                if *is_final {
                    self.actions.rejected_for_good.insert(*message);
                }
            }
            Event::ReadUpTo { chat, seq, ask } => {
                self.actions.read(*chat, *seq, at_ms);
                self.reads.insert(*ask, (*chat, *seq));
            }
            Event::ReadConfirmed { ask } => {
                if let Some((chat, seq)) = self.reads.get(ask) {
                    let read = self.read_confirmed.entry(*chat).or_default();
                    *read = (*read).max(*seq);
                }
            }
            _ => {}
        }
    }

    fn is_chat(&self) -> bool {
        self.class == Class::Chat
    }

    /// Numbers were named that will never come. The service knows that the client has heard it once something behind them is acked on the
    /// same connection: an ack of something else may have crossed the gap on its way.
    fn named(&mut self, connection: u32, from: i64, to: i64) {
        // A service that names more in one gap has named the rest to nobody.
        let to = to.min(from.saturating_add(NUMBERS_IN_A_GAP_MAX));
        self.stream_of(connection).numbers.extend(from..=to);
        let connection = self.connections.entry(connection).or_default();
        connection.reach.get_or_insert(from - 1);
        connection.gaps.push((from, to));
    }

    fn stream_of(&mut self, connection: u32) -> &mut StreamState {
        let stream = self.connections.entry(connection).or_default().stream.clone();
        self.streams.entry(stream).or_default()
    }

    fn connect(&mut self, number: u32, began: usize, at_ms: u64, stream: Stream, since: Option<i64>) {
        let cursor = self.streams.entry(stream.clone()).or_default().cursor;
        let reads = self.read_confirmed.clone();
        self.connections.insert(number, Connection { began, stream, cursor, reads, ..Connection::default() });
        if let Some(since) = since {
            self.resume(number, at_ms, since);
        }
    }

    /// A client that says how much it has acks it by that, and gets what is above.
    fn resume(&mut self, number: u32, at_ms: u64, since: i64) {
        let claimed = self.stream_of(number).claim(since);
        claimed.into_iter().for_each(|message| self.actions.ack(message, at_ms));
        let connection = self.connections.entry(number).or_default();
        connection.cursor = connection.cursor.min(since);
    }

    fn greet(&mut self, number: u32, settled_seq: i64) {
        let state = self.stream_of(number);
        if state.numbers.is_empty() {
            state.settled_at_first.get_or_insert(settled_seq);
        }
    }

    /// An envelope came: its record, connection and event; its id, its number in the inbox and its attempt.
    fn arrive(&mut self, of: (usize, u32, &'a Event), envelope: (Uuid, i64, u16), at_ms: u64, ack_timeout_ms: u64) {
        let ((at, number, event), (message, inbox_seq, attempt)) = (of, envelope);
        let repetition = self.repetition(number, message, attempt, at_ms, ack_timeout_ms);
        let connection = self.connections.entry(number).or_default();
        connection.received.insert(message, LastDelivery { at_ms, attempt, inbox_seq });
        connection.rejected.remove(&message);
        let stream = connection.stream.clone();
        let state = self.streams.entry(stream.clone()).or_default();
        state.messages.insert(message);
        // The numbers of a chat that lies in another inbox are not those of this one.
        if !matches!(event, Event::Received { class, .. } if *class != self.class) {
            connection.reach.get_or_insert(inbox_seq - 1);
            state.numbers.insert(inbox_seq);
            state.by_number.insert(inbox_seq, message);
            state.claimed = state.claimed.min(inbox_seq - 1);
            self.delivered_as.insert((stream.clone(), message), inbox_seq);
        }
        *self.actions.received.entry(message).or_default() += 1;
        self.deliveries.push((stream, Delivery { at, connection: number, event, repetition }));
    }

    fn repetition(&self, number: u32, message: Uuid, attempt: u16, at_ms: u64, ack_timeout_ms: u64) -> Repetition {
        let Some(connection) = self.connections.get(&number) else { return Repetition::First };
        if let Some(last) = connection.received.get(&message) {
            let is_later = at_ms.saturating_sub(last.at_ms) >= ack_timeout_ms.saturating_mul(9) / 10;
            let is_explained = attempt > last.attempt || is_later || connection.rejected.contains(&message);
            return if is_explained { Repetition::Explained } else { Repetition::SameConnection };
        }
        let is_behind_cursor = match (&connection.stream, self.delivered_as.get(&(connection.stream.clone(), message))) {
            (Some(_), Some(inbox_seq)) => *inbox_seq > connection.cursor,
            _ => false,
        };
        let state = self.streams.get(&connection.stream);
        let is_confirmed = state.and_then(|state| state.confirmed.get(&message)).is_some_and(|at| *at < connection.began);
        if is_confirmed && !is_behind_cursor {
            return Repetition::AckedBefore;
        }
        let is_known = state.is_some_and(|state| state.messages.contains(&message));
        if is_known { Repetition::Explained } else { Repetition::First }
    }

    /// The record with which a connection began.
    pub(super) fn began(&self, connection: u32) -> usize {
        self.connections.get(&connection).map_or(0, |connection| connection.began)
    }

    /// The records that first confirmed an ack of the message, one a stream.
    pub(super) fn confirmations(&self, message: Uuid) -> impl Iterator<Item = usize> {
        self.streams.values().filter_map(move |state| state.confirmed.get(&message).copied())
    }

    /// Tells whether the client had read that far, confirmed, before this connection began.
    pub(super) fn had_read(&self, connection: u32, chat: Uuid, seq: i64) -> bool {
        self.connections.get(&connection).is_some_and(|connection| connection.reads.get(&chat).is_some_and(|read| *read >= seq))
    }

    /// The client acked these messages. `ask`: its number, and the number up to which it acks everything.
    fn ack(&mut self, number: u32, at_ms: u64, messages: Vec<Uuid>, ask: Option<(u64, i64)>) {
        messages.iter().for_each(|message| self.actions.ack(*message, at_ms));
        let connection = self.connections.entry(number).or_default();
        connection.acked.extend(messages);
        if let Some((ask, up_to)) = ask {
            let (covers, gaps) = (connection.acked.len(), connection.gaps.len());
            self.acks.insert(ask, AckPlace { connection: number, covers, gaps, up_to });
        }
    }

    fn confirm(&mut self, at: usize, ask: u64) {
        let Some(AckPlace { connection, covers, gaps, up_to }) = self.acks.get(&ask) else { return };
        let Some(connection) = self.connections.get_mut(connection) else { return };
        let state = self.streams.entry(connection.stream.clone()).or_default();
        connection.highest = connection.highest.max(*up_to);
        for message in connection.acked.iter().take(*covers).skip(connection.confirmed) {
            state.confirmed.entry(*message).or_insert(at);
            let Some(LastDelivery { inbox_seq, .. }) = connection.received.get(message) else { continue };
            // The ack of something that had ended meanwhile says nothing more than the gap that stands for it.
            if !connection.gaps.iter().any(|(from, to)| (*from..=*to).contains(inbox_seq)) {
                connection.done.insert(*inbox_seq);
                connection.highest = connection.highest.max(*inbox_seq);
            }
        }
        connection.confirmed = connection.confirmed.max(*covers);
        connection.gaps.iter().take(*gaps).for_each(|(from, to)| connection.done.extend(*from..=connection.highest.min(*to)));
        if let Some(reach) = &mut connection.reach {
            while connection.done.contains(&(*reach + 1)) {
                *reach += 1;
            }
            state.cursor = state.cursor.max((*reach).min(connection.highest));
        }
    }
}
