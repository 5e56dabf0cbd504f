//! Sends and reads that the service has not confirmed. They survive the connection, and the client repeats them with the same id on the
//! next one. Pure: instants come from outside.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{Destination, encode};
use restante_session::domain::{ChatId, ChatSeq, MessageId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not on this connection yet.
    Unsent,
    /// On its way since then.
    Asked(Instant),
    /// A read that is refused for now; to be repeated then.
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
    to: Destination,
    frame: Utf8Bytes,
    state: State,
    /// Number of times that it was refused for now, itself and not behind another.
    refusals: u32,
}

#[derive(Debug)]
struct Read {
    seq: ChatSeq,
    state: State,
}

/// The sends that may be on their way at once.
const ON_THEIR_WAY_MAX: usize = 32;
/// The longest wait that refusals of the same send grow to by themselves.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A refusal for now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    /// The time that the service asks for.
    pub(super) retry_after: Duration,
    /// An earlier send was refused, and this one because of it.
    pub(super) is_behind: bool,
    /// It is about the user or the service, and not about the chat.
    pub(super) is_of_all: bool,
}

/// Sends in the order in which they were made, and per chat how far it is read.
///
/// A chat in which a send was refused waits, and goes on once everything on its way to it has its answer: then the refused ones
/// leave again in their order.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    sends: VecDeque<Send>,
    reads: HashMap<ChatId, Read>,
    /// Destinations that wait, and until when.
    waits: HashMap<Destination, Instant>,
    /// Nothing leaves before.
    pause: Option<Instant>,
    /// The last one was refused for all: one at a time.
    is_careful: bool,
}

impl Unconfirmed {
    pub(super) fn send(&mut self, id: MessageId, to: Destination, frame: String) {
        self.sends.push_back(Send { id, to, frame: frame.into(), state: State::Unsent, refusals: 0 });
    }

    pub(super) fn read(&mut self, chat: ChatId, seq: ChatSeq) {
        let read = self.reads.entry(chat).or_insert(Read { seq, state: State::Unsent });
        if seq > read.seq {
            *read = Read { seq, state: State::Unsent };
        }
    }

    /// The frames that leave now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Utf8Bytes> {
        let mut frames = self.due_sends(now);
        for (chat, read) in &mut self.reads {
            if read.state.is_due(now) {
                read.state = State::Asked(now);
                frames.push(encode("message:read", Some(&read_id(*chat)), &json!({"chatId": chat, "seq": read.seq})).into());
            }
        }
        frames
    }

    fn due_sends(&mut self, now: Instant) -> Vec<Utf8Bytes> {
        let asked = self.sends.iter().filter(|send| matches!(send.state, State::Asked(_)));
        let mut on_their_way = asked.clone().count();
        if !self.waits.is_empty() {
            let busy: HashSet<&Destination> = asked.map(|send| &send.to).collect();
            self.waits.retain(|to, until| *until > now || busy.contains(to));
        }
        let mut frames = Vec::new();
        if self.pause.is_some_and(|until| until > now) {
            return frames;
        }
        let room = if self.is_careful { 1 } else { ON_THEIR_WAY_MAX };
        for send in &mut self.sends {
            if on_their_way >= room {
                break;
            }
            if send.state == State::Unsent && !self.waits.contains_key(&send.to) {
                send.state = State::Asked(now);
                on_their_way += 1;
                frames.push(send.frame.clone());
            }
        }
        frames
    }

    /// The send is stored. Returns whether it was an open send of this client.
    pub(super) fn stored(&mut self, id: MessageId) -> bool {
        self.is_careful = false;
        self.settle(id)
    }

    /// The send is refused for good. Returns whether it was an open send of this client.
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

    /// The send is refused for now. Returns whether it was an open send of this client.
    pub(super) fn postpone(&mut self, id: MessageId, now: Instant, refusal: Refusal) -> bool {
        let Some(send) = self.sends.iter_mut().find(|send| send.id == id) else { return false };
        send.state = State::Unsent;
        let mut wait = refusal.retry_after;
        if !refusal.is_behind {
            let grown = wait.saturating_mul(1 << send.refusals.min(16));
            send.refusals += 1;
            wait = wait.max(grown.min(WAIT_MAX));
        }
        let until = self.waits.entry(send.to.clone()).or_insert(now);
        *until = (now + wait).max(*until);
        if refusal.is_of_all && !refusal.is_behind {
            self.pause = Some(now + wait);
            self.is_careful = true;
        }
        true
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
        self.waits.clear();
        (self.pause, self.is_careful) = (None, false);
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
            unconfirmed.send(id, Destination::User("bob".to_owned()), n.to_string());
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

    const SECOND: Duration = Duration::from_secs(1);

    fn busy(is_behind: bool) -> Refusal {
        Refusal { retry_after: SECOND, is_behind, is_of_all: false }
    }

    #[test]
    fn sends_behind_a_postponed_one_wait_for_it() {
        let (mut unconfirmed, ids) = three();
        let now = Instant::now();
        let other = MessageId::generate();
        unconfirmed.send(other, Destination::User("carol".to_owned()), "other".to_owned());
        assert_eq!(unconfirmed.due(now), ["0", "1", "2", "other"]);
        assert!(unconfirmed.postpone(ids[1], now, busy(false)));
        unconfirmed.send(MessageId::generate(), Destination::User("bob".to_owned()), "3".to_owned());
        unconfirmed.send(MessageId::generate(), Destination::User("carol".to_owned()), "goes on".to_owned());
        assert_eq!(unconfirmed.due(now), ["goes on"]);
        assert!(unconfirmed.stored(ids[0]));
        assert!(unconfirmed.due(now + 2 * SECOND).is_empty(), "the third one has no answer yet");
        assert!(unconfirmed.postpone(ids[2], now, busy(true)));
        assert_eq!(unconfirmed.due(now + 2 * SECOND), ["1", "2", "3"]);
    }

    #[test]
    fn a_send_that_is_refused_again_and_again_comes_back_more_and_more_rarely() {
        let (mut unconfirmed, ids) = three();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..7 {
            unconfirmed.due(now);
            unconfirmed.postpone(ids[0], now, busy(false));
            assert!(ids[1..].iter().all(|id| unconfirmed.postpone(*id, now, busy(true))));
            let wait = (1..100).find(|n| !unconfirmed.due(now + SECOND * *n).is_empty()).unwrap();
            waits.push(wait);
            now += SECOND * wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn a_refusal_of_all_is_followed_by_one_send_until_one_is_stored() {
        let mut unconfirmed = Unconfirmed::default();
        let ids: Vec<MessageId> = (0..60).map(|_| MessageId::generate()).collect();
        for (n, id) in ids.iter().enumerate() {
            unconfirmed.send(*id, Destination::User(n.to_string()), n.to_string());
        }
        let now = Instant::now();
        assert_eq!(unconfirmed.due(now).len(), ON_THEIR_WAY_MAX);
        for id in &ids[..ON_THEIR_WAY_MAX] {
            unconfirmed.postpone(*id, now, Refusal { is_of_all: true, ..busy(false) });
        }
        assert!(unconfirmed.due(now).is_empty());
        assert_eq!(unconfirmed.due(now + SECOND), ["0"]);
        assert!(unconfirmed.due(now + SECOND).is_empty());
        unconfirmed.stored(ids[0]);
        assert_eq!(unconfirmed.due(now + SECOND).len(), ON_THEIR_WAY_MAX);
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
