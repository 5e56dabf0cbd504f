//! The task's part in the model world: one connection with everything that is on its way, and the checks of what its
//! session emits, confirms and keeps.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::domain::{ChatId, Class, InboxSeq, MessageId, PerClass};
use crate::session::{Emission, Input, ReadTarget, Scope, Session, Settings, Settlement, Ticket};

use super::client::Received;
use super::database::Database;

/// A request to the database that was not performed yet.
pub(super) enum Request {
    Page { class: Class, after: InboxSeq, limit: u16, scope: Scope },
    Poll { class: Class, after: InboxSeq, limit: u16 },
    Check { class: Class, seqs: Vec<InboxSeq> },
    Attempt { class: Class, seq: InboxSeq, is_final: bool },
    Reject { message: MessageId, is_final: bool },
    Read { chat: ChatId, target: ReadTarget },
    Advance(Class),
}

pub(super) struct Connection {
    pub(super) client: usize,
    pub(super) session: Session,
    pub(super) scope: Scope,
    /// Hints on their way to the session.
    pub(super) hints: Vec<Input>,
    /// From server to client, and back.
    pub(super) wire: VecDeque<Emission>,
    pub(super) frames: VecDeque<Input>,
    pub(super) requests: Vec<Request>,
    pub(super) answers: Vec<Input>,
    pub(super) settlements: VecDeque<Settlement>,
    pub(super) received: Received,
    pub(super) emitted: PerClass<InboxSeq>,
    /// Events that waited at connect without a number.
    to_come: PerClass<Vec<MessageId>>,
    pub(super) emitted_messages: HashSet<MessageId>,
    pub(super) drained: PerClass<u32>,
    /// With each ticket how many claims were made up to its frame.
    pub(super) tickets: HashMap<Ticket, usize>,
    pub(super) confirmed: HashSet<Ticket>,
    pub(super) is_closed: bool,
}

impl Connection {
    pub(super) fn new(
        client: usize,
        session: Session,
        scope: Scope,
        emitted: PerClass<InboxSeq>,
        to_come: PerClass<Vec<MessageId>>,
    ) -> Self {
        Self {
            client,
            session,
            scope,
            hints: Vec::new(),
            wire: VecDeque::new(),
            frames: VecDeque::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            settlements: VecDeque::new(),
            received: Received::default(),
            emitted,
            to_come,
            emitted_messages: HashSet::new(),
            drained: PerClass::default(),
            tickets: HashMap::new(),
            confirmed: HashSet::new(),
            is_closed: false,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        let frames = self.frames.is_empty() || !self.session.may_read();
        let asked = self.hints.is_empty() && self.requests.is_empty() && self.answers.is_empty() && self.settlements.is_empty();
        frames && asked && self.wire.is_empty()
    }

    /// A request of which one per class may be under way.
    pub(super) fn request(&mut self, request: Request) {
        let same = |other: &Request| match (other, &request) {
            (Request::Page { class, .. }, Request::Page { class: new, .. }) => class == new,
            (Request::Poll { class, .. }, Request::Poll { class: new, .. }) => class == new,
            (Request::Check { class, .. }, Request::Check { class: new, .. }) => class == new,
            (Request::Advance(class), Request::Advance(new)) => class == new,
            (Request::Page { .. } | Request::Poll { .. } | Request::Check { .. } | Request::Advance(_), _) => false,
            (Request::Attempt { .. } | Request::Reject { .. } | Request::Read { .. }, _) => false,
        };
        assert!(!self.requests.iter().any(same), "two reads or advances of one class are under way");
        self.requests.push(request);
    }

    /// I6: to a device every number is emitted or named as a gap, in order; to others they ascend.
    pub(super) fn emit(&mut self, emissions: Vec<Emission>) {
        for emission in &emissions {
            let (class, from, to) = match emission {
                Emission::Envelope { envelope, .. } => (envelope.class, envelope.inbox_seq, envelope.inbox_seq),
                Emission::Gap { from, to, feed: Some(range), .. } if from != to || range.to.0 - range.from.0 + 1 < range.count => {
                    panic!("events of a feed that ended share one number: {emission:?}");
                }
                Emission::Gap { class, from, to, .. } => (*class, *from, *to),
            };
            let last = &mut self.emitted[class];
            // A gap may begin with numbers that were emitted, and have ended since.
            let from = if matches!(emission, Emission::Gap { .. }) && from <= *last { from.max(last.next()) } else { from };
            match emission {
                Emission::Envelope { envelope, .. } if self.emitted_messages.contains(&envelope.message.id) && from <= *last => continue,
                Emission::Envelope { envelope, .. } => {
                    self.emitted_messages.insert(envelope.message.id);
                }
                // It was emitted, and has ended since.
                Emission::Gap { .. } if to <= *last => continue,
                Emission::Gap { .. } => {}
            }
            match self.scope {
                Scope::Everything => assert_eq!(from, last.next(), "I6: {class} numbers have a hole"),
                Scope::Waiting => assert!(from > *last, "{class} {from} is first emitted after {last}"),
            }
            *last = to;
        }
        self.wire.extend(emissions);
    }

    pub(super) fn drained(&mut self, db: &Database, class: Class, up_to: InboxSeq) {
        self.drained[class] += 1;
        let waits = db.rows().find(|(of, seq, row)| *of == class && *seq <= up_to && db.is_wanted(row));
        assert!(waits.is_none(), "drained up to {up_to} of {class}, and {:?} waits", waits.map(|(_, seq, _)| seq));
        let to_come = db.to_come(class);
        // An event of a feed that was put back is taken for one of those that had no number.
        for event in self.to_come[class].iter().filter(|_| db.requeued.is_empty()) {
            let is_over = !db.waits(*event);
            assert!(is_over && !to_come.contains(event), "drained of {class}, and {event} waits since before");
        }
    }

    /// Checks that everything which the confirmed frame and those before it named is committed.
    pub(super) fn confirm(&mut self, db: &Database, ticket: Ticket) {
        assert!(self.confirmed.insert(ticket), "{ticket:?} is confirmed twice");
        let claims = self.tickets.get(&ticket).map_or(0, |claims| *claims);
        for message in &self.received.claims[..claims] {
            let fine = !db.waits(*message) || db.requeued.contains(message);
            assert!(fine, "{ticket:?} is confirmed, and {message} is not delivered");
        }
    }

    pub(super) fn check_bounds(&self, settings: &Settings) {
        for class in Class::ALL {
            assert!(self.session.in_flight(class) <= usize::from(settings.window), "I12: more in flight than the window holds");
            assert!(self.session.buffered(class) <= usize::from(settings.page_rows), "I12: more than a page is buffered");
        }
        let held = Class::ALL.map(|class| self.session.in_flight(class) + self.session.buffered(class)).iter().sum::<usize>();
        assert!(self.session.marks.len() <= held, "I12: chats are remembered of which nothing is held");
        let frame = usize::from(settings.window).max(4) * 2 + usize::from(settings.page_rows);
        let acks_max = (settings.uncommitted_acks_max * 2 + frame) * Class::ALL.len();
        assert!(self.session.uncommitted_acks() <= acks_max, "I12: too many uncommitted acks");
    }
}
