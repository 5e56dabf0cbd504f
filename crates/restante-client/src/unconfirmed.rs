//! Sends and reads that the service has not confirmed. They survive the connection, and the client repeats them with the same id on the
//! next one. Pure: instants come from outside.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::encode;
use restante_session::domain::{ChatId, ChatSeq, MessageId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not on this connection yet.
    Unsent,
    /// On its way since then.
    Asked(Instant),
    /// Refused for now; to be repeated then.
    Postponed(Instant),
}

impl State {
    fn is_due(self, now: Instant) -> bool {
        match self {
            Self::Unsent => true,
            Self::Asked(_) => false,
            Self::Postponed(until) => until <= now,
        }
    }

    fn is_overdue(self, now: Instant, timeout: Duration) -> bool {
        matches!(self, Self::Asked(since) if now.duration_since(since) > timeout)
    }
}

#[derive(Debug)]
struct Send {
    id: MessageId,
    frame: Utf8Bytes,
    state: State,
}

#[derive(Debug)]
struct Read {
    seq: ChatSeq,
    state: State,
}

/// Sends in the order in which they were made, and per chat how far it is read.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    sends: VecDeque<Send>,
    reads: HashMap<ChatId, Read>,
}

impl Unconfirmed {
    pub(super) fn send(&mut self, id: MessageId, frame: String) {
        self.sends.push_back(Send { id, frame: frame.into(), state: State::Unsent });
    }

    pub(super) fn read(&mut self, chat: ChatId, seq: ChatSeq) {
        let read = self.reads.entry(chat).or_insert(Read { seq, state: State::Unsent });
        if seq > read.seq {
            *read = Read { seq, state: State::Unsent };
        }
    }

    /// The frames that leave now. Sends behind a postponed one wait for it, so that their order is kept.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Utf8Bytes> {
        let mut frames = Vec::new();
        for send in &mut self.sends {
            if send.state.is_due(now) {
                send.state = State::Asked(now);
                frames.push(send.frame.clone());
            } else if matches!(send.state, State::Postponed(_)) {
                break;
            }
        }
        for (chat, read) in &mut self.reads {
            if read.state.is_due(now) {
                read.state = State::Asked(now);
                frames.push(encode("message:read", Some(&read_id(*chat)), &json!({"chatId": chat, "seq": read.seq})).into());
            }
        }
        frames
    }

    /// The send is stored, or refused for good. Returns whether it was an open send of this client.
    pub(super) fn settle(&mut self, id: MessageId) -> bool {
        let place = self.sends.iter().position(|send| send.id == id);
        place.and_then(|place| self.sends.remove(place)).is_some()
    }

    /// The service has confirmed that the chat is read up to this number.
    pub(super) fn settle_read(&mut self, chat: ChatId, seq: ChatSeq) {
        if self.reads.get(&chat).is_some_and(|read| read.seq <= seq) {
            self.reads.remove(&chat);
        }
    }

    /// The send is to be repeated at `until`. Returns whether it was an open send of this client.
    pub(super) fn postpone(&mut self, id: MessageId, until: Instant) -> bool {
        let send = self.sends.iter_mut().find(|send| send.id == id);
        send.map(|send| send.state = State::Postponed(until)).is_some()
    }

    /// A read was refused. It is repeated at `until`; with `None` never.
    pub(super) fn read_refused(&mut self, frame_id: &str, until: Option<Instant>) {
        let Some(chat) = self.reads.keys().find(|chat| read_id(**chat) == frame_id).copied() else { return };
        match (until, self.reads.get_mut(&chat)) {
            (Some(until), Some(read)) => read.state = State::Postponed(until),
            _ => drop(self.reads.remove(&chat)),
        }
    }

    /// The connection ended. Everything is to be repeated.
    pub(super) fn disconnected(&mut self) {
        for send in &mut self.sends {
            send.state = State::Unsent;
        }
        for read in self.reads.values_mut() {
            read.state = State::Unsent;
        }
    }

    /// True when a send or a read has waited for its answer longer than `timeout`.
    pub(super) fn is_overdue(&self, now: Instant, timeout: Duration) -> bool {
        let mut states = self.sends.iter().map(|send| send.state).chain(self.reads.values().map(|read| read.state));
        states.any(|state| state.is_overdue(now, timeout))
    }

    pub(super) fn sends_open(&self) -> usize {
        self.sends.len()
    }

    pub(super) fn reads_open(&self) -> usize {
        self.reads.len()
    }
}

fn read_id(chat: ChatId) -> String {
    format!("read:{chat}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn three() -> (Unconfirmed, [MessageId; 3]) {
        let mut unconfirmed = Unconfirmed::default();
        let ids = [MessageId::generate(), MessageId::generate(), MessageId::generate()];
        for (n, id) in ids.into_iter().enumerate() {
            unconfirmed.send(id, n.to_string());
        }
        (unconfirmed, ids)
    }

    #[test]
    fn unconfirmed_sends_are_repeated_in_order_after_the_connection_ended() {
        let (mut unconfirmed, ids) = three();
        let now = Instant::now();
        assert_eq!(unconfirmed.due(now), ["0", "1", "2"]);
        assert!(unconfirmed.due(now).is_empty());
        assert!(unconfirmed.settle(ids[0]));
        unconfirmed.disconnected();
        assert_eq!(unconfirmed.due(now), ["1", "2"]);
        assert!(!unconfirmed.settle(ids[0]));
    }

    #[test]
    fn sends_behind_a_postponed_one_wait_for_it() {
        let (mut unconfirmed, ids) = three();
        let now = Instant::now();
        let later = now + Duration::from_millis(50);
        assert!(unconfirmed.postpone(ids[1], later));
        assert_eq!(unconfirmed.due(now), ["0"]);
        assert_eq!(unconfirmed.due(later), ["1", "2"]);
    }

    #[test]
    fn only_what_was_asked_can_be_overdue() {
        let (mut unconfirmed, _) = three();
        let now = Instant::now();
        let late = now + TIMEOUT + Duration::from_secs(1);
        assert!(!unconfirmed.is_overdue(late, TIMEOUT));
        unconfirmed.due(now);
        assert!(!unconfirmed.is_overdue(now + TIMEOUT, TIMEOUT));
        assert!(unconfirmed.is_overdue(late, TIMEOUT));
    }

    #[test]
    fn read_only_grows_and_is_open_until_confirmed_that_far() {
        let mut unconfirmed = Unconfirmed::default();
        let (chat, now) = (ChatId::generate(), Instant::now());
        unconfirmed.read(chat, ChatSeq(5));
        assert_eq!(unconfirmed.due(now).len(), 1);
        unconfirmed.read(chat, ChatSeq(3));
        assert!(unconfirmed.due(now).is_empty());
        unconfirmed.read(chat, ChatSeq(9));
        unconfirmed.settle_read(chat, ChatSeq(5));
        assert_eq!(unconfirmed.reads_open(), 1);
        assert!(unconfirmed.due(now)[0].contains("\"seq\":9"));
        unconfirmed.settle_read(chat, ChatSeq(9));
        assert_eq!(unconfirmed.reads_open(), 0);
    }

    #[test]
    fn refused_read_is_repeated_or_dropped() {
        let mut unconfirmed = Unconfirmed::default();
        let (chat, now) = (ChatId::generate(), Instant::now());
        unconfirmed.read(chat, ChatSeq(5));
        unconfirmed.due(now);
        unconfirmed.read_refused(&read_id(chat), Some(now));
        assert_eq!(unconfirmed.due(now).len(), 1);
        unconfirmed.read_refused(&read_id(chat), None);
        assert_eq!(unconfirmed.reads_open(), 0);
    }
}
