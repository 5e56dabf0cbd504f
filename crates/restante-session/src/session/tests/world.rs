//! The model world: one user with four clients, each on a connection of its own that plays the task's part, a
//! database, and a clock. Every request to the database is taken, performed and answered at moments of chance; on the way
//! anything may be late, lost or out of order that may be so in life.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::domain::{Class, Envelope, InboxSeq, PerClass};
use crate::session::{AckTarget, ClassStart, Effect, Emission, Input, Scope, Session, Settings, Settlement, SettlementNo, Start, Ticket};

use super::client::Client;
use super::connection::{Connection, Request};
use super::database::Database;

pub(super) struct World {
    rng: fastrand::Rng,
    now: Instant,
    begun: Instant,
    settings: Settings,
    db: Database,
    clients: Vec<Client>,
    connections: Vec<Connection>,
    /// Settlements of connections that are gone, each in its order; some are still committed.
    orphans: Vec<(VecDeque<Settlement>, Option<usize>)>,
    tickets: u64,
    is_away: bool,
    /// From now on clients ack and nothing is lost.
    calm: bool,
    trace: bool,
}

const CLIENTS: [Option<usize>; 4] = [None, None, Some(0), Some(1)];
const POLL: Duration = Duration::from_secs(70);

impl World {
    pub(super) fn new(seed: u64, trace: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let settings = Settings {
            window: rng.u16(1..6),
            page_rows: rng.u16(1..6),
            ack_timeout: Duration::from_secs(30),
            attempts_max: rng.u16(2..4),
            uncommitted_acks_max: rng.usize(1..8),
            stalled_max: Duration::from_secs(10),
            poll_interval: POLL,
            low_watermark_every: rng.u32(1..5),
        };
        let db = Database::new(settings.attempts_max);
        let clients = CLIENTS.map(Client::new).into();
        let now = Instant::now();
        let (connections, orphans) = (Vec::new(), Vec::new());
        Self { rng, now, begun: now, settings, db, clients, connections, orphans, tickets: 0, is_away: false, calm: false, trace }
    }

    /// One thing happens.
    pub(super) fn step(&mut self) {
        match self.rng.u8(..100) {
            0..8 => self.accept(),
            8..11 => self.publish(),
            11 => self.take_together(),
            12..18 => self.connect(),
            18..20 => self.disconnect(),
            20..30 => self.hint(),
            30..45 => self.perform(),
            45..58 => self.answer(),
            58..66 => self.commit(),
            66..80 => self.wire(),
            80..90 => self.frame(),
            90..94 => self.speak(),
            94..96 => self.pass_time(),
            96 => self.expire(),
            97..99 => self.requeue(),
            99.. => self.away(),
        }
        self.check();
    }

    fn accept(&mut self) {
        let (class, chat) = match self.rng.u8(..6) {
            0 => (Class::Alert, 8),
            1 => (Class::Event, 9),
            2.. => (Class::Chat, self.rng.u128(1..4)),
        };
        let own_before = self.rng.i64(0..2);
        let lives = (self.rng.u8(..5) == 0).then(|| Duration::from_secs(self.rng.u64(..60)));
        let envelope = self.db.accept(class, chat, own_before, lives);
        self.offer(&envelope);
    }

    /// Some events of a feed are published, and those who are connected are told, or not.
    fn publish(&mut self) {
        let class = if self.rng.bool() { Class::Event } else { Class::Alert };
        for _ in 0..self.rng.u8(1..6) {
            let feed_no = self.rng.u128(1..3);
            let lives = (self.rng.u8(..3) == 0).then(|| Duration::from_secs(self.rng.u64(..60)));
            let is_wanted = self.rng.u8(..4) > 0;
            self.db.publish(class, feed_no, lives, is_wanted);
        }
        for connection in &mut self.connections {
            if self.rng.u8(..10) < 7 {
                connection.hints.push(Input::Wake(class));
            }
        }
    }

    /// The node makes rows of what is new in a feed, and offers them.
    fn take_together(&mut self) {
        let class = if self.rng.bool() { Class::Event } else { Class::Alert };
        let feed_no = self.rng.u128(1..3);
        for envelope in self.db.take_together(class, feed_no) {
            self.offer(&envelope);
        }
    }

    fn offer(&mut self, envelope: &Envelope) {
        for connection in &mut self.connections {
            match self.rng.u8(..10) {
                0..7 => connection.hints.push(Input::Offer(envelope.clone())),
                7..9 => connection.hints.push(Input::Wake(envelope.class)),
                9.. => {}
            }
        }
    }

    /// Something ends, and those who are connected are told, or not.
    fn expire(&mut self) {
        match self.rng.bool() {
            true => self.db.sweep(),
            false => self.db.expire(self.rng.usize(..8)),
        }
        for connection in &mut self.connections {
            if self.rng.u8(..4) > 0 {
                connection.hints.push(Input::SomethingEnded);
            }
        }
    }

    fn requeue(&mut self) {
        if let Some(envelope) = self.db.requeue(self.rng.usize(..3)) {
            self.offer(&envelope);
        }
    }

    fn connect(&mut self) {
        let client = self.rng.usize(..self.clients.len());
        if self.is_away || self.connections.iter().any(|connection| connection.client == client) {
            return;
        }
        let device = self.clients[client].device;
        let classes = PerClass::from_fn(|class| {
            let cursor = device.map_or(self.db.settled_seq(class), |device| self.db.devices[device][class]);
            let to_come = u32::try_from(self.db.to_come(class).len()).unwrap_or(u32::MAX);
            ClassStart { cursor, last_seq: self.db.last_seq(class), settled_seq: self.db.settled_seq(class), to_come }
        });
        let scope = if device.is_some() { Scope::Everything } else { Scope::Waiting };
        let emit_alone = self.rng.u8(..4) == 0;
        let start = Start {
            settings: self.settings.clone(),
            scope,
            keeps_cursor: device.is_some(),
            classes,
            emit_alone,
            database_time: self.db.time,
        };
        let (session, effects) = Session::start(self.now, start);
        let to_come = PerClass::from_fn(|class| self.db.to_come(class));
        self.connections.push(Connection::new(client, session, scope, classes.map(|class| class.cursor), to_come));
        let place = self.connections.len() - 1;
        self.take(place, effects);
    }

    /// The connection is lost, with everything on the wire. What its node had not committed is committed later, or,
    /// if the node went down, never.
    fn disconnect(&mut self) {
        if self.connections.is_empty() {
            return;
        }
        let place = self.rng.usize(..self.connections.len());
        let connection = self.connections.swap_remove(place);
        if self.rng.u8(..3) > 0 || self.calm {
            self.orphans.push((connection.settlements, self.clients[connection.client].device));
        }
    }

    fn choose(&mut self) -> Option<usize> {
        // In the end only those that have something to do, so as to come to it.
        let busy = |place: &usize| !self.calm || !self.connections[*place].is_idle();
        let places: Vec<_> = (0..self.connections.len()).filter(busy).collect();
        self.rng.choice(places)
    }

    fn hint(&mut self) {
        let Some(place) = self.choose() else { return };
        let hints = &mut self.connections[place].hints;
        if hints.is_empty() {
            return;
        }
        let n = self.rng.usize(..hints.len());
        let hint = hints.swap_remove(n);
        if self.rng.u8(..8) > 0 || self.calm {
            self.give(place, hint);
        }
    }

    /// The database performs a request: its snapshot is of this moment.
    fn perform(&mut self) {
        let Some(place) = self.choose() else { return };
        let connection = &mut self.connections[place];
        if self.is_away || connection.requests.is_empty() {
            return;
        }
        let n = self.rng.usize(..connection.requests.len());
        let request = connection.requests.swap_remove(n);
        let answer = match request {
            Request::Page { class, after, limit, scope } => Some(Input::Page(self.db.page(class, after, limit, scope))),
            Request::Poll { class, after, limit } => Some(Input::Polled(self.db.poll(class, after, limit))),
            Request::Check { class, seqs } => Some(Input::Checked(class, self.db.check(class, &seqs))),
            Request::Attempt { class, seq, is_final } => {
                Some(Input::Attempted { class, seq, outcome: Some(self.db.count_attempt(class, seq, is_final)) })
            }
            Request::Reject { message, is_final } => {
                self.db.reject_by_id(message, is_final);
                None
            }
            Request::Advance(class) => Some(Input::LowWatermarkAdvanced(class, self.db.advance_low_watermark(class))),
            Request::Read { chat, target } => {
                let read = self.db.read(chat, target).map(|up_to| Input::ReadUpTo(chat, up_to));
                for other in &mut self.connections {
                    if self.rng.bool() {
                        other.hints.extend(read.clone());
                    }
                }
                None
            }
        };
        self.connections[place].answers.extend(answer);
    }

    fn answer(&mut self) {
        let Some(place) = self.choose() else { return };
        let answers = &mut self.connections[place].answers;
        if answers.is_empty() {
            return;
        }
        let n = self.rng.usize(..answers.len());
        let answer = answers.swap_remove(n);
        self.give(place, answer);
    }

    /// The next settlement of some session is committed, or of one whose connection is gone.
    fn commit(&mut self) {
        if self.is_away {
            return;
        }
        let n = self.rng.usize(..self.connections.len() + self.orphans.len() + 1);
        if let Some(connection) = self.connections.get_mut(n) {
            let Some(settlement) = connection.settlements.pop_front() else { return };
            connection.answers.push(Input::Committed(settlement.no));
            self.db.settle(&settlement, self.clients[connection.client].device);
        } else if let Some((settlements, device)) = self.orphans.get_mut(n - self.connections.len())
            && let Some(settlement) = settlements.pop_front()
        {
            self.db.settle(&settlement, *device);
        }
        self.orphans.retain(|(settlements, _)| !settlements.is_empty());
    }

    /// A client gets the next thing from its wire.
    fn wire(&mut self) {
        let Some(place) = self.choose() else { return };
        let connection = &mut self.connections[place];
        let Some(emission) = connection.wire.pop_front() else { return };
        let client = &mut self.clients[connection.client];
        let frame = client.receive(&mut self.rng, &mut self.db, &mut connection.received, emission, self.calm);
        self.say(place, frame);
    }

    /// A frame goes on its way. Some acks are brought by another way than the connection: they are committed at once, and the session may
    /// hear of them.
    fn say(&mut self, place: usize, frame: Option<Input>) {
        match frame {
            Some(Input::Ack { target: AckTarget::Messages(by_id), ticket: None }) if !self.is_away && self.rng.u8(..4) == 0 => {
                let no = SettlementNo(0);
                let acks = Settlement { no, rows: Vec::new(), by_id: by_id.clone(), marks: Vec::new(), device_acked: None };
                self.db.settle(&acks, None);
                self.connections[place].hints.push(Input::AckCommitted(AckTarget::Messages(by_id)));
            }
            frame => self.connections[place].frames.extend(frame),
        }
    }

    fn speak(&mut self) {
        let Some(place) = self.choose() else { return };
        let connection = &mut self.connections[place];
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let client = &mut self.clients[connection.client];
        let frame = client.speak(&mut self.rng, &mut self.db, &mut connection.received, ticket);
        if let Some(Input::Ack { ticket: Some(ticket), .. }) = &frame {
            connection.tickets.insert(*ticket, connection.received.claims.len());
        }
        connection.frames.extend(frame);
    }

    /// A frame arrives, if the socket is read.
    fn frame(&mut self) {
        let Some(place) = self.choose() else { return };
        self.frame_of(place);
    }

    fn frame_of(&mut self, place: usize) -> bool {
        let connection = &mut self.connections[place];
        if !connection.session.may_read() {
            return false;
        }
        let Some(frame) = connection.frames.pop_front() else { return false };
        self.give(place, frame);
        true
    }

    fn pass_time(&mut self) {
        let pause = Duration::from_secs(self.rng.u64(1..40));
        self.set_time(self.now + pause);
        self.fire();
    }

    fn set_time(&mut self, now: Instant) {
        self.now = now;
        self.db.time = OffsetDateTime::UNIX_EPOCH + now.saturating_duration_since(self.begun);
    }

    /// Deadlines, after the frames that have arrived.
    fn fire(&mut self) {
        for place in 0..self.connections.len() {
            while self.frame_of(place) {}
            if self.connections[place].session.next_deadline().is_some_and(|due| due <= self.now) {
                self.give(place, Input::Deadline);
            }
        }
        self.reap();
    }

    fn away(&mut self) {
        self.is_away = !self.is_away;
        for place in 0..self.connections.len() {
            let input = if self.is_away { Input::DatabaseAway } else { Input::DatabaseBack };
            self.give(place, input);
        }
    }

    fn give(&mut self, place: usize, input: Input) {
        if self.trace {
            eprintln!("client {}: {}", self.connections[place].client, super::harness::input_text(&input));
        }
        let effects = self.connections[place].session.handle(self.now, input);
        self.take(place, effects);
    }

    /// The task's part: effects become requests, emissions go on the wire.
    fn take(&mut self, place: usize, effects: Vec<Effect>) {
        if self.trace {
            super::harness::texts(&effects).iter().for_each(|text| eprintln!("    {text}"));
        }
        let connection = &mut self.connections[place];
        for effect in effects {
            assert!(!connection.is_closed, "an effect after the close: {effect:?}");
            match effect {
                Effect::ReadPage { class, after, limit, scope } => connection.request(Request::Page { class, after, limit, scope }),
                Effect::Poll { class, after, limit } => connection.request(Request::Poll { class, after, limit }),
                Effect::CheckRows { class, seqs } => connection.request(Request::Check { class, seqs }),
                Effect::Emit(emissions) => {
                    let is_late = |emission: &Emission| match emission {
                        Emission::Envelope { envelope, .. } => {
                            envelope.status.waits() && envelope.message.expires_at.is_some_and(|at| at <= self.db.time)
                        }
                        Emission::Gap { .. } => false,
                    };
                    assert!(!emissions.iter().any(is_late), "a message is emitted after its time: {emissions:?}");
                    connection.emit(emissions);
                }
                Effect::Settle(settlement) => connection.settlements.push_back(settlement),
                Effect::Read { chat, target, .. } => connection.requests.push(Request::Read { chat, target }),
                Effect::CountAttempt { envelope, is_final, .. } => {
                    let (class, seq) = (envelope.class, envelope.inbox_seq);
                    connection.requests.push(Request::Attempt { class, seq, is_final });
                }
                Effect::RejectById { message, is_final, .. } => connection.requests.push(Request::Reject { message, is_final }),
                Effect::AdvanceLowWatermark(class) => connection.request(Request::Advance(class)),
                Effect::Drained { class, up_to } => connection.drained(&self.db, class, up_to),
                Effect::Confirm(ticket) | Effect::ConfirmReject(ticket, _) => connection.confirm(&self.db, ticket),
                Effect::AckAhead { emitted, .. } => assert!(emitted < InboxSeq(1_000), "only bogus numbers are ahead"),
                Effect::Close(_) => connection.is_closed = true,
            }
        }
    }

    /// Connections that were closed are gone.
    fn reap(&mut self) {
        while let Some(place) = self.connections.iter().position(|connection| connection.is_closed) {
            let connection = self.connections.swap_remove(place);
            self.orphans.push((connection.settlements, self.clients[connection.client].device));
        }
    }

    fn check(&mut self) {
        for client in &mut self.clients {
            client.check_cursor(&self.db);
        }
        for connection in &self.connections {
            connection.check_bounds(&self.settings);
        }
    }

    /// Everybody connects and behaves, and nothing gets lost any more: then nothing is left waiting (I2).
    pub(super) fn come_to_rest(&mut self) {
        self.calm = true;
        if self.is_away {
            self.away();
        }
        for round in 0.. {
            assert!(round < 200, "I2: {} rows still wait, or a device has not got everything", self.db.waiting());
            while self.connections.len() < self.clients.len() {
                self.connect();
            }
            self.work_off();
            if self.is_at_rest() {
                break;
            }
            let due = self.connections.iter().filter_map(|connection| connection.session.next_deadline()).min();
            self.set_time(due.map_or(self.now, |due| due.max(self.now)));
            self.db.sweep();
            self.fire();
        }
        for connection in &self.connections {
            assert_eq!(connection.drained, PerClass::from_fn(|_| 1), "queue:drained is told once");
            assert!(connection.tickets.keys().all(|ticket| connection.confirmed.contains(ticket)), "every ticket is confirmed");
        }
    }

    fn is_at_rest(&self) -> bool {
        let everything = self.clients.iter().all(|client| client.has_everything(&self.db));
        let in_flight = |connection: &Connection| Class::ALL.iter().any(|class| connection.session.in_flight(*class) > 0);
        self.db.waiting() == 0 && everything && self.is_idle() && !self.connections.iter().any(in_flight)
    }

    fn work_off(&mut self) {
        for _ in 0..10_000 {
            if self.is_idle() {
                return;
            }
            match self.rng.u8(..6) {
                0 => self.hint(),
                1 => self.perform(),
                2 => self.answer(),
                3 => self.commit(),
                4 => self.wire(),
                5.. => self.frame(),
            }
            self.check();
        }
        panic!("the world does not come to rest: sessions keep asking");
    }

    fn is_idle(&self) -> bool {
        self.orphans.is_empty() && self.connections.iter().all(Connection::is_idle)
    }
}
