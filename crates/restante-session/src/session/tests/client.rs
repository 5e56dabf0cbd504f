//! The clients of the model world: what one remembers across connections, and what it checks of what it gets. A client
//! with a device trusts its numbers (I6); every client sees a chat in order (I3).

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::domain::{ChatId, ChatSeq, Class, Envelope, InboxSeq, MessageId, PerClass, Status};
use crate::session::{AckTarget, Emission, Input, ReadTarget, Ticket};

use super::database::Database;

pub(super) struct Client {
    pub(super) device: Option<usize>,
    /// Messages it has got, or knows by having read past them.
    pub(super) seen: HashSet<MessageId>,
    order: HashMap<ChatId, ChatSeq>,
    /// Messages that it has said it has, on any connection.
    own: HashSet<MessageId>,
    /// Per class: numbers it got as an envelope or in a gap.
    known: PerClass<BTreeSet<i64>>,
    /// Per class: how far its cursor has been checked.
    checked: PerClass<InboxSeq>,
}

/// The memory that a client has of its connection.
#[derive(Default)]
pub(super) struct Received {
    envelopes: Vec<Envelope>,
    highest: PerClass<InboxSeq>,
    unacked: Vec<MessageId>,
    /// Every message that its frames named, in their order.
    pub(super) claims: Vec<MessageId>,
}

impl Client {
    pub(super) fn new(device: Option<usize>) -> Self {
        Self {
            device,
            seen: HashSet::new(),
            order: HashMap::new(),
            own: HashSet::new(),
            known: PerClass::default(),
            checked: PerClass::default(),
        }
    }

    /// Takes something from the wire and perhaps answers.
    pub(super) fn receive(
        &mut self,
        rng: &mut fastrand::Rng,
        db: &mut Database,
        got: &mut Received,
        emission: Emission,
        calm: bool,
    ) -> Option<Input> {
        match emission {
            Emission::Gap { class, from, to, .. } => {
                self.known[class].extend(from.0..=to.0);
                got.highest[class] = to.max(got.highest[class]);
                None
            }
            Emission::Envelope { envelope, .. } => {
                self.first_sight(db, &envelope);
                let (class, seq) = (envelope.class, envelope.inbox_seq);
                self.known[class].insert(seq.0);
                got.highest[class] = seq.max(got.highest[class]);
                got.envelopes.push(envelope.clone());
                if calm { Some(self.ack(db, got, vec![envelope.message.id], None)) } else { self.answer(rng, db, got, &envelope) }
            }
        }
    }

    fn first_sight(&mut self, db: &Database, envelope: &Envelope) {
        let message = &envelope.message;
        // A late ack of another device makes it delivered: then it comes to this one after all, once it connects again.
        let is_late = message.expires_at.is_some_and(|at| at <= db.time);
        if !self.seen.insert(message.id) || db.requeued.contains(&message.id) || is_late {
            return;
        }
        let last = self.order.entry(message.chat).or_default();
        assert!(message.seq > *last, "I3: {} of a chat is first seen after {last}", message.seq);
        *last = message.seq;
    }

    fn answer(&mut self, rng: &mut fastrand::Rng, db: &mut Database, got: &mut Received, envelope: &Envelope) -> Option<Input> {
        let id = envelope.message.id;
        match rng.u8(..100) {
            0..45 => Some(self.ack(db, got, vec![id], None)),
            45..65 => {
                got.unacked.push(id);
                None
            }
            65..75 => Some(self.ack_up_to(db, got, envelope.class, envelope.inbox_seq, None)),
            75..86 => None,
            86..91 => Some(Input::Reject { message: id, reason: String::new(), is_final: false, ticket: None }),
            91..93 => {
                self.own.insert(id);
                Some(Input::Reject { message: id, reason: String::new(), is_final: true, ticket: None })
            }
            93..95 => Some(self.read(db, got, envelope, ReadTarget::Seq(envelope.message.seq))),
            // Its user has seen more elsewhere.
            95..97 => {
                let beyond = ChatSeq(envelope.message.seq.0 + rng.i64(1..6));
                let up_to = db.last_of(envelope.message.chat).min(beyond);
                Some(self.read(db, got, envelope, ReadTarget::Seq(up_to)))
            }
            97.. => Some(self.read(db, got, envelope, ReadTarget::Message(id))),
        }
    }

    /// Says something of its own accord: late, repeated, bogus or collected acks.
    pub(super) fn speak(&mut self, rng: &mut fastrand::Rng, db: &mut Database, got: &mut Received, ticket: Ticket) -> Option<Input> {
        let ticket = Some(ticket);
        match rng.u8(..10) {
            0..4 => {
                let ids = std::mem::take(&mut got.unacked);
                Some(self.ack(db, got, ids, ticket))
            }
            4 => {
                let mut seen: Vec<_> = self.seen.iter().copied().collect();
                seen.sort_unstable();
                rng.shuffle(&mut seen);
                seen.truncate(rng.usize(..4));
                Some(self.ack(db, got, seen, ticket))
            }
            5 => Some(self.ack(db, got, vec![MessageId(uuid::Uuid::from_u128(u128::MAX))], ticket)),
            6 => {
                let class = rng.choice(Class::ALL).unwrap_or_default();
                Some(self.ack_up_to(db, got, class, got.highest[class], ticket))
            }
            7 => Some(Input::Ack { target: AckTarget::UpTo(Class::Chat, InboxSeq(i64::from(rng.u16(1_000..)))), ticket: None }),
            8.. => {
                let envelope = rng.choice(&got.envelopes)?.clone();
                let target = if rng.bool() { ReadTarget::Seq(envelope.message.seq) } else { ReadTarget::Message(envelope.message.id) };
                Some(self.read(db, got, &envelope, target))
            }
        }
    }

    fn ack(&mut self, db: &mut Database, got: &mut Received, ids: Vec<MessageId>, ticket: Option<Ticket>) -> Input {
        self.claim(db, got, ids.iter().copied().filter(|id| self.seen.contains(id)).collect());
        Input::Ack { target: AckTarget::Messages(ids), ticket }
    }

    fn ack_up_to(&mut self, db: &mut Database, got: &mut Received, class: Class, n: InboxSeq, ticket: Option<Ticket>) -> Input {
        let covered = got.envelopes.iter().filter(|envelope| envelope.class == class && envelope.inbox_seq <= n);
        self.claim(db, got, covered.map(|envelope| envelope.message.id).collect());
        Input::Ack { target: AckTarget::UpTo(class, n), ticket }
    }

    fn read(&mut self, db: &mut Database, got: &mut Received, envelope: &Envelope, target: ReadTarget) -> Input {
        let chat = envelope.message.chat;
        // The client cannot have read a row that it has not got, nor one that has expired meanwhile. Of a feed there is nothing: a client that reads it has
        // said nothing of its events.
        let up_to = match target {
            ReadTarget::Seq(seq) => seq,
            ReadTarget::Message(_) => envelope.message.seq,
        };
        let mut read = db.messages_of(chat, up_to);
        read.retain(|id| self.seen.contains(id) || !db.has_expired(*id));
        self.seen.extend(&read);
        // The answer to a read is the task's: it promises nothing here about the tickets of acks.
        db.claimed.extend(&read);
        self.own.extend(&read);
        got.unacked.retain(|id| !read.contains(id));
        Input::Read { chat, target, ticket: None }
    }

    fn claim(&mut self, db: &mut Database, got: &mut Received, ids: Vec<MessageId>) {
        db.claimed.extend(&ids);
        self.own.extend(&ids);
        got.claims.extend(ids);
    }

    /// I6 across connections: whatever lies at or below a device's cursor it knows.
    pub(super) fn check_cursor(&mut self, db: &Database) {
        let Some(device) = self.device else { return };
        for class in Class::ALL {
            let acked = db.devices[device][class];
            for n in self.checked[class].0 + 1..=acked.0 {
                let row = db.row(class, n);
                let said = row.is_some_and(|row| self.own.contains(&row.message.id));
                let has_ended = |row: &super::database::Row| matches!(row.status, Status::Failed | Status::Expired);
                let is_over = row.is_none_or(|row| has_ended(row) || db.is_late(row));
                let got = self.known[class].contains(&n);
                assert!(said || is_over && got, "I6: the cursor of device {device} is {acked} of {class}, and it has not acked {n}");
            }
            self.checked[class] = acked;
        }
    }

    /// I2 for a device: it has got everything that did not end otherwise.
    pub(super) fn has_everything(&self, db: &Database) -> bool {
        let delivered = |status| matches!(status, Status::Sent | Status::Delivered | Status::Read);
        self.device.is_none() || db.rows().all(|(.., row)| !delivered(row.status) || db.is_late(row) || self.seen.contains(&row.message.id))
    }
}
