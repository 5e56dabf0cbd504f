//! The records of one person: its history for the judge, its deliveries, and the sends and reads that are open.

use std::collections::VecDeque;

use super::deliveries::{Deliveries, MessageNo};
use super::state::ReplayState;
use restante_client::Ready;
use restante_judge::{Event, Recorder};
use restante_session::domain::{ChatId, ChatSeq};

/// The records of a person.
pub(super) struct Records {
    pub(super) recorder: Recorder,
    pub(super) deliveries: Deliveries,
    device: Option<String>,
    connection: u32,
    pub(super) is_greeted: bool,
    /// Sends without an outcome. The client repeats them on each new connection.
    pub(super) unconfirmed: VecDeque<MessageNo>,
    /// Reads without a confirmation: number of the frame, and number in the chat.
    reads: Vec<(u64, ChatSeq)>,
    last_ask: u64,
}

impl Records {
    /// Empty records of this user, in the time of the replay.
    pub(super) fn new(user: &str, state: &ReplayState, device: Option<String>) -> Self {
        Self {
            recorder: Recorder::in_memory(user, user, state.began),
            deliveries: Deliveries::new(state.messages()),
            device,
            connection: 0,
            is_greeted: false,
            unconfirmed: VecDeque::new(),
            reads: Vec::new(),
            last_ask: 0,
        }
    }

    /// Adds a record of this moment.
    pub(super) fn note(&mut self, event: Event) {
        self.recorder.note(self.connection, event);
    }

    /// The service has greeted a new connection.
    pub(super) fn greeted(&mut self, ready: &Ready) {
        self.connection += 1;
        self.is_greeted = true;
        self.note(Event::Connecting { node: 0, device: self.device.clone(), since: None });
        let (epoch, resumed) = (ready.epoch.clone(), ready.resumed);
        self.note(Event::Ready { epoch, resumed, last_seq: ready.last_seq.0, settled_seq: ready.settled_seq.0 });
    }

    /// The connection has ended.
    pub(super) fn closed(&mut self, why: String) {
        self.is_greeted = false;
        self.note(Event::Closed { code: None, why });
    }

    /// Every read up to this number is committed.
    pub(super) fn read_confirmed(&mut self, seq: ChatSeq) {
        let done: Vec<u64> = self.reads.iter().filter(|(_, read)| *read <= seq).map(|(ask, _)| *ask).collect();
        self.reads.retain(|(_, read)| *read > seq);
        done.into_iter().for_each(|ask| self.note(Event::ReadConfirmed { ask }));
    }

    /// The person reads the chat up to this number.
    pub(super) fn read(&mut self, chat: ChatId, seq: ChatSeq) {
        self.last_ask += 1;
        let ask = self.last_ask;
        self.reads.push((ask, seq));
        self.note(Event::ReadUpTo { chat: chat.0, seq: seq.0, ask });
    }
}
