//! What a client knows: what it has sent and got no answer for, what it has to ack, how far its devices have got. Pure.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::torture::dice::Dice;

/// A message without an answer.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its id.
    pub message: Uuid,
    /// To a chat …
    pub chat: Option<Uuid>,
    /// … or to a user.
    pub to: Option<String>,
    /// What it says.
    pub content: String,
    /// When its time is over (RFC 3339).
    pub expires_at: Option<String>,
    /// It leaves then; none: it is under way on this connection.
    pub due: Option<Instant>,
}

/// What belongs to one connection.
#[derive(Debug)]
pub struct Session {
    /// The device.
    pub device: Option<String>,
    /// Acks are by id; else up to a number, where that is right.
    pub acks_by_id: bool,
    /// The service has greeted.
    pub is_ready: bool,
    /// The highest inbox number that came.
    pub highest: i64,
    /// Acks that have not left.
    pub to_ack: Vec<(Uuid, i64)>,
    /// Chats and how far to read them.
    pub to_read: HashMap<Uuid, i64>,
    /// Frames that want an answer, and since when.
    pub asked: HashMap<u64, Instant>,
}

/// How far a device has got without a hole.
#[derive(Debug, Clone, Copy)]
struct Reached(i64);

/// Everything a client knows.
#[derive(Debug)]
pub struct Memory {
    devices: [String; 2],
    /// Sends without an answer, in order.
    pub outbox: VecDeque<Outgoing>,
    /// A few that were confirmed, to be sent again.
    pub confirmed: VecDeque<Outgoing>,
    /// The receipts that are known.
    pub marks: Option<String>,
    /// The epoch of the numbers.
    epoch: String,
    reached: HashMap<String, Reached>,
    /// The connection.
    pub session: Option<Session>,
    last_ask: u64,
    /// How many messages it has made.
    pub made: u64,
}

const CONFIRMED_MAX: usize = 20;
const ANSWER_MAX: Duration = Duration::from_secs(12);

impl Session {
    /// A connection that begins.
    pub fn new(device: Option<String>, acks_by_id: bool) -> Self {
        Self { device, acks_by_id, is_ready: false, highest: 0, to_ack: Vec::new(), to_read: HashMap::new(), asked: HashMap::new() }
    }
}

impl Memory {
    /// Of a client that knows nothing. Its devices are its own.
    pub fn new(client: &str) -> Self {
        Self {
            devices: [format!("{client}-phone"), format!("{client}-tablet")],
            outbox: VecDeque::new(),
            confirmed: VecDeque::new(),
            marks: None,
            epoch: String::new(),
            reached: HashMap::new(),
            session: None,
            last_ask: 0,
            made: 0,
        }
    }

    /// The device for the next connection: mostly the same one. In the end always the first, so that one device of
    /// each client has seen everything.
    pub fn choose_device(&self, dice: &mut Dice, is_last: bool) -> Option<String> {
        match dice.between(1, 10) {
            _ if is_last => Some(self.devices[0].clone()),
            1..=5 => Some(self.devices[0].clone()),
            6 => Some(self.devices[1].clone()),
            _ => None,
        }
    }

    /// "I have everything up to here", sometimes.
    pub fn claim(&self, device: Option<&str>, dice: &mut Dice) -> Option<(i64, String)> {
        let Reached(number) = self.reached.get(device?)?;
        dice.chance(400).then(|| (*number, self.epoch.clone()))
    }

    /// The service has greeted. Other numbers begin with another epoch.
    pub fn greeted(&mut self, epoch: &str, marks: Option<String>) {
        if self.epoch != epoch {
            self.reached.clear();
            epoch.clone_into(&mut self.epoch);
        }
        if marks.is_some() {
            self.marks = marks;
        }
        if let Some(session) = &mut self.session {
            session.is_ready = true;
        }
        // What was under way on the last connection is sent again.
        self.outbox.iter_mut().filter(|outgoing| outgoing.due.is_none()).for_each(|outgoing| outgoing.due = Some(Instant::now()));
    }

    /// These numbers came to the connection's device, or never will.
    pub fn reach(&mut self, from: i64, to: i64) {
        let Some(device) = self.session.as_ref().and_then(|session| session.device.clone()) else { return };
        let Reached(number) = self.reached.entry(device).or_insert(Reached(from - 1));
        if from <= *number + 1 {
            *number = to.max(*number);
        }
    }

    /// The number of a frame that wants an answer.
    pub fn ask(&mut self) -> u64 {
        self.last_ask += 1;
        if let Some(session) = &mut self.session {
            session.asked.insert(self.last_ask, Instant::now());
        }
        self.last_ask
    }

    /// The answer has come. Says whether it was waited for.
    pub fn answered(&mut self, ask: u64) -> bool {
        self.session.as_mut().is_some_and(|session| session.asked.remove(&ask).is_some())
    }

    /// An answer takes too long.
    pub fn is_overdue(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.asked.values().any(|since| since.elapsed() > ANSWER_MAX))
    }

    /// The send has its answer.
    pub fn settle(&mut self, message: Uuid, is_stored: bool) {
        let Some(place) = self.outbox.iter().position(|outgoing| outgoing.message == message) else { return };
        let Some(outgoing) = self.outbox.remove(place) else { return };
        if is_stored {
            self.confirmed.push_back(outgoing);
        }
        if self.confirmed.len() > CONFIRMED_MAX {
            self.confirmed.pop_front();
        }
    }

    /// The send is to be repeated then.
    pub fn postpone(&mut self, message: Uuid, until: Instant) {
        if let Some(outgoing) = self.outbox.iter_mut().find(|outgoing| outgoing.message == message) {
            outgoing.due = Some(until);
        }
    }

    /// Sends that leave now. Each is under way from here on.
    pub fn due(&mut self) -> Vec<Outgoing> {
        let now = Instant::now();
        let due = self.outbox.iter_mut().filter(|outgoing| outgoing.due.is_some_and(|due| due <= now));
        due.map(|outgoing| {
            outgoing.due = None;
            outgoing.clone()
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_under_way_is_sent_again_on_the_next_connection() {
        let mut memory = Memory::new("anna-1");
        let outgoing = Outgoing {
            message: Uuid::nil(),
            chat: None,
            to: Some("ben".into()),
            content: String::new(),
            expires_at: None,
            due: Some(Instant::now()),
        };
        memory.outbox.push_back(outgoing);
        assert_eq!(memory.due().len(), 1);
        assert!(memory.due().is_empty());
        memory.greeted("e1", None);
        assert_eq!(memory.due().len(), 1);
        memory.settle(Uuid::nil(), true);
        assert_eq!((memory.outbox.len(), memory.confirmed.len()), (0, 1));
    }

    #[test]
    fn device_claims_only_what_it_has_without_a_hole() {
        let mut memory = Memory::new("anna-1");
        memory.session = Some(Session::new(Some("phone".into()), true));
        memory.greeted("e1", None);
        memory.reach(4, 4);
        memory.reach(5, 5);
        memory.reach(7, 7);
        let mut dice = Dice::new(1, "x");
        let claim = (0..50).find_map(|_| memory.claim(Some("phone"), &mut dice));
        assert_eq!(claim, Some((5, "e1".into())));
        memory.reach(6, 8);
        assert!((0..50).find_map(|_| memory.claim(Some("phone"), &mut dice)) == Some((8, "e1".into())));
        memory.greeted("e2", None);
        assert!((0..50).all(|_| memory.claim(Some("phone"), &mut dice).is_none() && memory.claim(None, &mut dice).is_none()));
    }
}
