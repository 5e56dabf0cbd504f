//! The state of a client: sends without an answer, acks that are due, and how far its devices have got. Pure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::torture::rng::Rng;
use restante_session::domain::{Class, PerClass};

/// A message that has no answer yet.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its id.
    pub message: Uuid,
    /// The chat that it goes to; `None`: it goes to a user.
    pub chat: Option<Uuid>,
    /// The user that it goes to.
    pub to: Option<String>,
    /// Its text.
    pub content: String,
    /// When its time is over (RFC 3339).
    pub expires_at: Option<String>,
    /// The time at which it leaves; `None`: it is under way on this connection.
    pub due: Option<Instant>,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection {
    /// The device; `None`: the client named none.
    pub device: Option<String>,
    /// True: acks are by id. False: up to a number where the numbers are in order.
    pub acks_by_id: bool,
    /// The service has greeted.
    pub is_ready: bool,
    /// Acks that have not left, by inbox.
    pub acks: PerClass<Acks>,
    /// Inboxes that are drained.
    pub drained: PerClass<bool>,
    /// Chats with the number up to which they are to be read.
    pub to_read: HashMap<Uuid, i64>,
    /// Frames that want an answer, with the time at which they left.
    pub asked: HashMap<u64, Instant>,
}

/// The acks of one inbox.
#[derive(Debug, Default)]
pub struct Acks {
    /// The highest inbox number that was acked.
    pub highest: i64,
    /// Acks that have not left: message or event, and inbox number.
    pub due: Vec<(Uuid, i64)>,
}

/// The inbox number up to which a device has everything.
#[derive(Debug, Clone, Copy)]
struct Reached(i64);

/// The state of a client.
#[derive(Debug)]
pub struct ClientState {
    devices: [String; 2],
    /// Sends without an answer, in order.
    pub outbox: VecDeque<Outgoing>,
    /// Some confirmed messages, to be sent again.
    pub confirmed: VecDeque<Outgoing>,
    /// The numbers of recalls without an answer, of all connections.
    pub recalls: HashSet<u64>,
    /// The numbers of requests about blocks without an answer, of all connections.
    pub blocks: HashSet<u64>,
    /// When the last request about a block or a contact was made, while it has no answer.
    pub asked_at: Option<Instant>,
    /// The cursor of the receipts that are known.
    pub marks: Option<String>,
    /// The epoch that the inbox numbers belong to.
    epoch: String,
    reached: HashMap<(String, Class), Reached>,
    /// The open connection; `None` while there is none.
    pub connection: Option<Connection>,
    last_ask: u64,
    /// Number of messages that the client has made.
    pub made: u64,
}

const CONFIRMED_MAX: usize = 20;
const ANSWER_MAX: Duration = Duration::from_secs(12);

impl Connection {
    /// The state of a new connection.
    pub fn new(device: Option<String>, acks_by_id: bool) -> Self {
        let (acks, drained) = (PerClass::default(), PerClass::default());
        Self { device, acks_by_id, is_ready: false, acks, drained, to_read: HashMap::new(), asked: HashMap::new() }
    }
}

impl ClientState {
    /// The state of a new client. No other client has its devices.
    pub fn new(client: &str) -> Self {
        Self {
            devices: [format!("{client}-phone"), format!("{client}-tablet")],
            outbox: VecDeque::new(),
            confirmed: VecDeque::new(),
            recalls: HashSet::new(),
            blocks: HashSet::new(),
            asked_at: None,
            marks: None,
            epoch: String::new(),
            reached: HashMap::new(),
            connection: None,
            last_ask: 0,
            made: 0,
        }
    }

    /// The device for the next connection. At the end it is always the first one, so that one device of each client has received
    /// everything.
    pub fn choose_device(&self, rng: &mut Rng, is_last: bool) -> Option<String> {
        match rng.between(1, 10) {
            _ if is_last => Some(self.devices[0].clone()),
            1..=5 => Some(self.devices[0].clone()),
            6 => Some(self.devices[1].clone()),
            _ => None,
        }
    }

    /// By chance, a claim to have everything up to a number of an epoch, in some of the inboxes.
    pub fn claim(&self, device: Option<&str>, rng: &mut Rng) -> Option<(String, Vec<(Class, i64)>)> {
        let device = device?;
        let mut inboxes = Vec::new();
        for class in Class::ALL {
            if let Some(Reached(number)) = self.reached.get(&(device.to_owned(), class)).filter(|_| rng.chance(400)) {
                inboxes.push((class, *number));
            }
        }
        (!inboxes.is_empty()).then(|| (self.epoch.clone(), inboxes))
    }

    /// The service has greeted the connection. In another epoch the numbers begin anew.
    pub fn greeted(&mut self, epoch: &str, marks: Option<String>) {
        if self.epoch != epoch {
            self.reached.clear();
            epoch.clone_into(&mut self.epoch);
        }
        if marks.is_some() {
            self.marks = marks;
        }
        if let Some(connection) = &mut self.connection {
            connection.is_ready = true;
        }
        // Sends that were under way on the last connection are sent again.
        self.outbox.iter_mut().filter(|outgoing| outgoing.due.is_none()).for_each(|outgoing| outgoing.due = Some(Instant::now()));
    }

    /// These numbers came to the connection's device, or never will.
    pub fn reach(&mut self, class: Class, from: i64, to: i64) {
        let Some(device) = self.connection.as_ref().and_then(|connection| connection.device.clone()) else { return };
        let Reached(number) = self.reached.entry((device, class)).or_insert(Reached(from - 1));
        if from <= *number + 1 {
            *number = to.max(*number);
        }
    }

    /// A new number, for a call that is no frame.
    pub fn number(&mut self) -> u64 {
        self.last_ask += 1;
        self.last_ask
    }

    /// A new number for a frame that wants an answer.
    pub fn ask(&mut self) -> u64 {
        self.last_ask += 1;
        if let Some(connection) = &mut self.connection {
            connection.asked.insert(self.last_ask, Instant::now());
        }
        self.last_ask
    }

    /// The answer has come. Returns whether the client waited for it.
    pub fn answered(&mut self, ask: u64) -> bool {
        self.connection.as_mut().is_some_and(|connection| connection.asked.remove(&ask).is_some())
    }

    /// True when an answer has taken too long.
    pub fn is_overdue(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.asked.values().any(|since| since.elapsed() > ANSWER_MAX))
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

    /// The sends that leave now. From here on each of them is under way.
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
        let mut state = ClientState::new("anna-1");
        let outgoing = Outgoing {
            message: Uuid::nil(),
            chat: None,
            to: Some("ben".into()),
            content: String::new(),
            expires_at: None,
            due: Some(Instant::now()),
        };
        state.outbox.push_back(outgoing);
        assert_eq!(state.due().len(), 1);
        assert!(state.due().is_empty());
        state.greeted("e1", None);
        assert_eq!(state.due().len(), 1);
        state.settle(Uuid::nil(), true);
        assert_eq!((state.outbox.len(), state.confirmed.len()), (0, 1));
    }

    #[test]
    fn device_claims_only_what_it_has_without_a_hole() {
        let mut state = ClientState::new("anna-1");
        state.connection = Some(Connection::new(Some("phone".into()), true));
        state.greeted("e1", None);
        for number in [4, 5, 7] {
            state.reach(Class::Chat, number, number);
            state.reach(Class::Event, number + 10, number + 10);
        }
        let mut rng = Rng::new(1, "x");
        let claims = |state: &ClientState, rng: &mut Rng| -> Vec<_> {
            (0..100).filter_map(|_| state.claim(Some("phone"), rng)).map(|(epoch, inboxes)| (epoch, inboxes.len(), inboxes)).collect()
        };
        let both = ("e1".to_owned(), 2, vec![(Class::Chat, 5), (Class::Event, 15)]);
        let claimed = claims(&state, &mut rng);
        assert!(claimed.contains(&both) && claimed.contains(&("e1".to_owned(), 1, vec![(Class::Event, 15)])), "{claimed:?}");
        state.reach(Class::Chat, 6, 8);
        assert!(claims(&state, &mut rng).contains(&("e1".to_owned(), 2, vec![(Class::Chat, 8), (Class::Event, 15)])));
        state.greeted("e2", None);
        assert!((0..50).all(|_| state.claim(Some("phone"), &mut rng).is_none() && state.claim(None, &mut rng).is_none()));
    }
}
