//! The envelopes in flight: emitted and not yet acked, per class, each with its place in the order of emission and with the
//! event that it waits for. Finding an envelope by message, by number or by due time is cheap; nothing here grows beyond
//! the window.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::domain::{ChatId, ChatSeq, Class, Envelope, InboxSeq, MessageId, PerClass};

use super::database_clock::DatabaseClock;

/// An envelope on the wire.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) envelope: Envelope,
    /// The attempt that the wire was told last.
    pub(super) attempt: u16,
    /// Redeliveries of a row that was past `sent`: nothing in the database counts those.
    pub(super) redeliveries: u16,
    /// The highest number of its class that was emitted before it. Below its own, but for a stray.
    pub(super) behind: InboxSeq,
    /// Its place in the order of emission, over all classes.
    pub(super) emission: u64,
    /// Silence is counted from here: its emission, or when the database came back.
    pub(super) since: Instant,
    /// The end of its message's time.
    expiry: Option<Instant>,
    phase: Phase,
}

/// The event that an envelope in flight waits for.
#[derive(Debug)]
pub(super) enum Phase {
    /// The client's ack; at `due` it is checked.
    AwaitingAck { due: Instant },
    /// The database's answer to an attempt. The slot stays taken.
    Counting(Counting),
    /// The client rejected it; it is emitted again at `until`.
    BackingOff { until: Instant },
}

/// An attempt that is being counted.
#[derive(Debug)]
pub(super) struct Counting {
    pub(super) cause: Cause,
    /// A final reject that came while an attempt was being counted: to be counted next, with these words.
    pub(super) final_next: Option<String>,
}

/// The reason why an attempt is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// No ack in time: emit it again at once.
    Timeout,
    /// The client rejected it: emit it again after a pause.
    Reject,
    /// The client rejected it for good.
    FinalReject,
}

impl Phase {
    fn due(&self) -> Option<Instant> {
        match self {
            Self::AwaitingAck { due } => Some(*due),
            Self::BackingOff { until } => Some(*until),
            Self::Counting(_) => None,
        }
    }
}

impl InFlight {
    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The attempt that is being counted, if one is.
    pub(super) fn counting(&mut self) -> Option<&mut Counting> {
        match &mut self.phase {
            Phase::Counting(counting) => Some(counting),
            Phase::AwaitingAck { .. } | Phase::BackingOff { .. } => None,
        }
    }
}

/// All that is in flight on one connection.
#[derive(Debug)]
pub(super) struct Window {
    ack_timeout: Duration,
    clock: DatabaseClock,
    in_flight: PerClass<BTreeMap<InboxSeq, InFlight>>,
    by_message: HashMap<MessageId, (Class, InboxSeq)>,
    due: BTreeSet<(Instant, Class, InboxSeq)>,
    expiries: BTreeSet<(Instant, Class, InboxSeq)>,
    emissions: u64,
}

impl Window {
    pub(super) fn new(ack_timeout: Duration, clock: DatabaseClock) -> Self {
        let (in_flight, by_message) = (PerClass::default(), HashMap::new());
        Self { ack_timeout, clock, in_flight, by_message, due: BTreeSet::new(), expiries: BTreeSet::new(), emissions: 0 }
    }

    /// True if a row waits no more because its time has come, whether it is in flight or not. What is delivered already comes to a
    /// device whatever its time.
    pub(super) fn is_expired(&self, now: Instant, envelope: &Envelope) -> bool {
        envelope.status.waits() && self.clock.expiry(envelope).is_some_and(|expiry| expiry <= now)
    }

    /// Puts an envelope in flight, as the newest in the order of emission. What it replaces comes back: a row that
    /// was requeued is in flight under its old number until the new one is emitted.
    pub(super) fn emit(&mut self, now: Instant, envelope: Envelope, attempt: u16, behind: InboxSeq) -> Option<InFlight> {
        let (class, seq, message) = (envelope.class, envelope.inbox_seq, envelope.message.id);
        let replaced = self.find(message).and_then(|(class, seq)| self.remove(class, seq));
        let due = now + self.ack_timeout;
        self.emissions += 1;
        let phase = Phase::AwaitingAck { due };
        let expiry = self.clock.expiry(&envelope);
        self.expiries.extend(expiry.map(|expiry| (expiry, class, seq)));
        let flight = InFlight { envelope, attempt, redeliveries: 0, behind, emission: self.emissions, since: now, expiry, phase };
        self.in_flight[class].insert(seq, flight);
        self.by_message.insert(message, (class, seq));
        self.due.insert((due, class, seq));
        replaced
    }

    /// Emits an envelope again: it becomes the newest in the order of emission.
    pub(super) fn emit_again(&mut self, now: Instant, class: Class, seq: InboxSeq) {
        let due = now + self.ack_timeout;
        let emission = self.emissions + 1;
        let Some(flight) = self.get(class, seq) else { return };
        (flight.emission, flight.since) = (emission, now);
        self.emissions = emission;
        self.set_phase(class, seq, Phase::AwaitingAck { due });
    }

    /// Changes what is awaited for an envelope.
    pub(super) fn set_phase(&mut self, class: Class, seq: InboxSeq, phase: Phase) {
        let Some(flight) = self.in_flight[class].get_mut(&seq) else { return };
        if let Some(due) = flight.phase.due() {
            self.due.remove(&(due, class, seq));
        }
        if let Some(due) = phase.due() {
            self.due.insert((due, class, seq));
        }
        flight.phase = phase;
    }

    /// Frees a slot.
    pub(super) fn remove(&mut self, class: Class, seq: InboxSeq) -> Option<InFlight> {
        let flight = self.in_flight[class].remove(&seq)?;
        self.by_message.remove(&flight.envelope.message.id);
        if let Some(due) = flight.phase.due() {
            self.due.remove(&(due, class, seq));
        }
        if let Some(expiry) = flight.expiry {
            self.expiries.remove(&(expiry, class, seq));
        }
        Some(flight)
    }

    pub(super) fn get(&mut self, class: Class, seq: InboxSeq) -> Option<&mut InFlight> {
        self.in_flight[class].get_mut(&seq)
    }

    /// The place of a message that is in flight.
    pub(super) fn find(&self, message: MessageId) -> Option<(Class, InboxSeq)> {
        self.by_message.get(&message).copied()
    }

    pub(super) fn len(&self, class: Class) -> usize {
        self.in_flight[class].len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.values().all(BTreeMap::is_empty)
    }

    /// True if an ack, or the database's answer to an attempt, is still to come.
    pub(super) fn awaits_anything(&self) -> bool {
        let awaits = |flight: &InFlight| matches!(flight.phase, Phase::AwaitingAck { .. } | Phase::Counting(_));
        self.in_flight.values().flat_map(BTreeMap::values).any(awaits)
    }

    /// The lowest number in flight.
    pub(super) fn lowest(&self, class: Class) -> Option<InboxSeq> {
        self.in_flight[class].first_key_value().map(|(seq, _)| *seq)
    }

    /// The numbers in flight, ascending.
    pub(super) fn numbers(&self, class: Class) -> impl Iterator<Item = InboxSeq> + '_ {
        self.in_flight[class].keys().copied()
    }

    /// The numbers in flight whose rows wait, as far as is known.
    pub(super) fn waiting(&self, class: Class) -> impl Iterator<Item = InboxSeq> + '_ {
        self.in_flight[class].iter().filter(|(_, flight)| flight.envelope.status.waits()).map(|(seq, _)| *seq)
    }

    /// The envelopes in flight.
    pub(super) fn envelopes_mut(&mut self) -> impl Iterator<Item = &mut Envelope> {
        self.in_flight.values_mut().flat_map(BTreeMap::values_mut).map(|flight| &mut flight.envelope)
    }

    /// The numbers in flight up to `n` that a client which has got `n` has got too: of a stray, which was emitted after
    /// higher numbers, only a number above those tells.
    pub(super) fn up_to(&self, class: Class, n: InboxSeq) -> Vec<(Class, InboxSeq)> {
        let in_flight = self.in_flight[class].range(..=n).filter(|(_, flight)| flight.behind < n);
        in_flight.map(|(seq, _)| (class, *seq)).collect()
    }

    /// The places of the messages of a chat that are in flight, up to a number of the chat. Alerts and events are of no chat.
    pub(super) fn of_chat(&self, chat: ChatId, up_to: ChatSeq) -> Vec<(Class, InboxSeq)> {
        let is_of_chat = |flight: &&InFlight| flight.envelope.is_of_chat(chat, up_to);
        let in_flight = self.in_flight.chat.values().filter(is_of_chat);
        in_flight.map(|flight| (flight.envelope.class, flight.envelope.inbox_seq)).collect()
    }

    /// The time at which the first envelope is to be checked, or expires.
    pub(super) fn first_due(&self) -> Option<Instant> {
        [self.due.first(), self.expiries.first()].into_iter().flatten().map(|(due, ..)| *due).min()
    }

    /// The envelopes whose time has come. Those that are delivered already stay: they come to a device whatever their time.
    pub(super) fn all_expired(&mut self, now: Instant) -> Vec<(Class, InboxSeq)> {
        let mut expired = Vec::new();
        while let Some((expiry, class, seq)) = self.expiries.first().copied().filter(|(expiry, ..)| *expiry <= now) {
            self.expiries.remove(&(expiry, class, seq));
            if self.get(class, seq).is_some_and(|flight| flight.envelope.status.waits()) {
                expired.push((class, seq));
            }
        }
        expired
    }

    /// The envelopes that are due by now: class by class in the order of [`Class::ALL`], each in the order of its numbers.
    pub(super) fn all_due(&self, now: Instant) -> Vec<(Class, InboxSeq)> {
        let mut due: Vec<_> = self.due.iter().take_while(|(due, ..)| *due <= now).map(|(_, class, seq)| (*class, *seq)).collect();
        due.sort_unstable();
        due
    }

    /// Gives back what is not needed.
    pub(super) fn shrink(&mut self) {
        self.by_message.shrink_to_fit();
    }

    /// Starts the time-out of everything that awaits an ack anew: for a while no ack could have been taken.
    pub(super) fn restart(&mut self, now: Instant) {
        let due = now + self.ack_timeout;
        for class in Class::ALL {
            for seq in self.numbers(class).collect::<Vec<_>>() {
                let Some(flight) = self.get(class, seq) else { continue };
                flight.since = now;
                if matches!(flight.phase, Phase::AwaitingAck { .. }) {
                    self.set_phase(class, seq, Phase::AwaitingAck { due });
                }
            }
        }
    }
}
