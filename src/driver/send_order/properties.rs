//! A client that follows the loop of `docs/protocol.md`, the order of its sends, and a lane that refuses wherever the test draws
//! it: the messages of each chat are stored in the order of the client's outbox.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::protocol::client::{self, SendRequest};

/// Sends of the client that may be on their way at once.
const WINDOW: usize = 32;
const MS: Duration = Duration::from_millis(1);

/// The choices that the test draws. After its end everything goes well.
struct Tape(std::vec::IntoIter<u8>);

impl Tape {
    fn draw(&mut self, of: usize) -> usize {
        self.0.next().map_or(0, |byte| usize::from(byte) % of)
    }
}

/// The rate of the user, and the names that are known.
struct World {
    now: Cell<Instant>,
    pace: Duration,
    allowed_from: Cell<Instant>,
    burst: u32,
    known: RefCell<HashMap<ExternalId, ChatId>>,
}

impl Gate for World {
    fn take_rate(&self) -> Result<(), Duration> {
        let (now, full) = (self.now.get(), self.pace * self.burst);
        let next = self.allowed_from.get().max(now - full.min(Duration::from_secs(3600))) + self.pace;
        if next > now {
            return Err(next - now);
        }
        self.allowed_from.set(next);
        Ok(())
    }

    fn pace(&self) -> Duration {
        self.pace
    }

    fn known(&self, name: &ExternalId) -> Option<ChatId> {
        self.known.borrow().get(name).copied()
    }

    fn expires_in(&self, _send: &PendingSend) -> Option<Duration> {
        None
    }
}

impl World {
    fn new(pace: Duration, burst: u32) -> Self {
        let start = Instant::now() + Duration::from_secs(7_200);
        let full = start - pace * burst;
        Self { now: Cell::new(start), pace, allowed_from: Cell::new(full), burst, known: RefCell::default() }
    }
}

/// A message in the outbox of the client.
#[derive(Clone)]
struct Message {
    request: SendRequest,
    place: usize,
    is_on_its_way: bool,
    refusals: u32,
    due: Instant,
}

/// The client of the documented loop.
struct Client {
    outbox: Vec<Message>,
    waits: HashMap<usize, Instant>,
    pause: Option<Instant>,
    is_careful: bool,
    frames: usize,
}

impl Client {
    fn due(&mut self, now: Instant) -> Vec<SendRequest> {
        let on_its_way: HashSet<usize> = self.outbox.iter().filter(|m| m.is_on_its_way).map(|m| m.place).collect();
        self.waits.retain(|place, until| *until > now || on_its_way.contains(place));
        if self.pause.is_some_and(|until| until > now) {
            return Vec::new();
        }
        let mut sent = self.outbox.iter().filter(|message| message.is_on_its_way).count();
        let mut frames = Vec::new();
        for message in &mut self.outbox {
            if sent >= if self.is_careful { 1 } else { WINDOW } {
                break;
            }
            if !message.is_on_its_way && !self.waits.contains_key(&message.place) {
                message.is_on_its_way = true;
                sent += 1;
                frames.push(message.request.clone());
            }
        }
        self.frames += frames.len();
        frames
    }

    fn hear(&mut self, now: Instant, message: MessageId, answer: Result<(), Fault>) {
        let Some(at) = self.outbox.iter().position(|other| other.request.message_id == Some(message)) else { return };
        let refused = match answer {
            Err(fault) if is_for_now(&fault) => fault,
            answer => {
                self.is_careful &= answer.is_err();
                self.outbox.remove(at);
                return;
            }
        };
        let own = &mut self.outbox[at];
        own.is_on_its_way = false;
        let told = Duration::from_millis(refused.retry_after_ms.unwrap());
        own.refusals += u32::from(refused.behind.is_none());
        let wait = if refused.behind.is_some() { told } else { told.max((told * 2_u32.pow(own.refusals.min(10) - 1)).min(30_000 * MS)) };
        let until = self.waits.entry(own.place).or_insert(now);
        *until = (now + wait).max(*until);
        if refused.behind.is_none() && matches!(refused.code, Code::RateLimited | Code::Unavailable) {
            self.pause = Some(now + wait);
            self.is_careful = true;
        }
    }

    /// The next moment at which something is over.
    fn next_time(&self) -> Option<Instant> {
        self.waits.values().copied().chain(self.pause).min()
    }
}

/// Everything between the client and what is stored.
struct Service {
    order: SendOrder,
    asked: Vec<ExternalId>,
    lane: VecDeque<(PendingSend, Departure)>,
    answers: Vec<(PendingSend, Departure, Result<(), Fault>)>,
    stored: HashMap<ChatId, Vec<MessageId>>,
}

fn frame_id(message: Option<MessageId>) -> Option<FrameId> {
    message.and_then(|id| client::parse(&format!(r#"{{"event":"ping","id":"{}"}}"#, id.0)).unwrap().id)
}

fn named(id: &FrameId) -> MessageId {
    MessageId(id.as_json().trim_matches('"').parse().unwrap())
}

fn refusal(tape: &mut Tape) -> Fault {
    let code = [Code::Busy, Code::Unavailable][tape.draw(2)];
    Fault::plain(code).retry_after_ms([0, 100, 500, 2_000][tape.draw(4)])
}

impl Service {
    fn new() -> Self {
        Self { order: SendOrder::default(), asked: Vec::new(), lane: VecDeque::new(), answers: Vec::new(), stored: HashMap::new() }
    }

    fn perform(&mut self, steps: Vec<Step>, tape: &mut Tape, told: &mut VecDeque<(MessageId, Result<(), Fault>)>) {
        for step in steps {
            match step {
                Step::Ask(name) => self.asked.push(name),
                Step::Refuse(id, fault) => told.extend(id.map(|id| (named(&id), Err(fault)))),
                Step::Go(send, departure) => {
                    let message = send.message().unwrap();
                    if let Some(first) = departure.chain.is_behind() {
                        let fault = Fault::plain(Code::Busy).retry_after_ms(500).behind(first);
                        self.answers.push((send, departure, Err(fault)));
                    } else if tape.draw(10) == 9 {
                        // The lane is full, or the database away: it is known at once, and told later.
                        departure.chain.break_at(message);
                        self.answers.push((send, departure, Err(refusal(tape))));
                    } else {
                        self.lane.push_back((send, departure));
                    }
                }
            }
        }
    }

    /// One message of the lane is written, or is refused.
    fn write(&mut self, tape: &mut Tape) {
        let place = tape.draw(self.lane.len());
        let chat = self.lane[place].1.chat;
        let first = self.lane.iter().position(|(_, departure)| departure.chat == chat).unwrap();
        let (send, departure) = self.lane.remove(first).unwrap();
        let message = send.message().unwrap();
        let result = match departure.chain.is_behind() {
            Some(first) => Err(Fault::plain(Code::Busy).retry_after_ms(500).behind(first)),
            None if tape.draw(8) == 7 => {
                departure.chain.break_at(message);
                Err(refusal(tape))
            }
            None => {
                let stored = self.stored.entry(chat).or_default();
                if !stored.contains(&message) {
                    stored.push(message);
                }
                Ok(())
            }
        };
        self.answers.push((send, departure, result));
    }
}

/// Two chats by their ids, two by names, and messages to them in turns that are drawn.
fn outbox(messages: usize, chats: usize, tape: &mut Tape, now: Instant) -> (Vec<Message>, Vec<ChatId>, Vec<ExternalId>) {
    let places: Vec<ChatId> = (0..chats).map(|_| ChatId::generate()).collect();
    let names: Vec<ExternalId> = (0..chats).map(|n| ExternalId::try_from(format!("user-{n}")).unwrap()).collect();
    let outbox = (0..messages).map(|_| {
        let place = tape.draw(chats);
        let target = if place.is_multiple_of(2) { SendTarget::Chat(places[place]) } else { SendTarget::User(names[place].clone()) };
        let request = SendRequest {
            message_id: Some(MessageId::generate()),
            target,
            content: "x".repeat(if tape.draw(4) == 3 { 30_000 } else { 10 }),
            message_type: "text".to_owned(),
            metadata: None,
            expires_at: None,
        };
        Message { request, place, is_on_its_way: false, refusals: 0, due: now }
    });
    (outbox.collect(), places, names)
}

/// Runs a client until its outbox is empty. Returns the frames that it sent.
fn run(messages: usize, chats: usize, world: &World, tape: &mut Tape) -> usize {
    let (outbox, places, names) = outbox(messages, chats, tape, world.now.get());
    let expected = outbox.clone();
    let mut client = Client { outbox, waits: HashMap::new(), pause: None, is_careful: false, frames: 0 };
    let mut service = Service::new();
    let (mut up, mut down) = (VecDeque::new(), VecDeque::new());
    for _ in 0..1_000_000 {
        let now = world.now.get();
        up.extend(client.due(now));
        let released = if service.order.wake_at().is_none_or(|at| at <= now) { service.order.release(now, 64, world) } else { Vec::new() };
        service.perform(released, tape, &mut down);
        let can = [!up.is_empty(), !service.lane.is_empty(), !service.answers.is_empty(), !service.asked.is_empty(), !down.is_empty()];
        let able: Vec<usize> = (0..can.len()).filter(|n| can[*n]).collect();
        if able.is_empty() {
            if client.outbox.is_empty() {
                let is_order = |(place, chat): (usize, &ChatId)| {
                    let sent: Vec<_> =
                        expected.iter().filter(|message| message.place == place).map(|message| message.request.message_id).collect();
                    let stored = service.stored.remove(chat).unwrap_or_default();
                    let stored: Vec<usize> = stored.iter().filter_map(|id| sent.iter().position(|other| *other == Some(*id))).collect();
                    assert_eq!(stored, (0..sent.len()).collect::<Vec<_>>());
                };
                places.iter().enumerate().for_each(is_order);
                return client.frames;
            }
            let next = client.next_time().into_iter().chain(service.order.wake_at()).min().expect("something is waited for");
            world.now.set(next.max(now) + MS);
            continue;
        }
        match able[tape.draw(able.len())] {
            0 => {
                let request: SendRequest = up.pop_front().unwrap();
                let send = PendingSend::new(frame_id(request.message_id), request);
                let steps = service.order.arrived(now, send, world);
                service.perform(steps, tape, &mut down);
            }
            1 => service.write(tape),
            2 => {
                let at = tape.draw(service.answers.len());
                let (send, departure, result) = service.answers.remove(at);
                let (fault, steps) = service.order.answered(now, &departure, result, world);
                down.push_back((send.message().unwrap(), fault.map_or(Ok(()), Err)));
                service.perform(steps, tape, &mut down);
            }
            3 => {
                let name = service.asked.remove(tape.draw(service.asked.len()));
                let place = names.iter().position(|other| *other == name).unwrap();
                let chat = if tape.draw(4) == 3 { Err(refusal(tape)) } else { Ok(places[place]) };
                if chat.is_ok() {
                    world.known.borrow_mut().insert(name.clone(), places[place]);
                }
                let steps = service.order.resolved(now, &name, chat, world);
                service.perform(steps, tape, &mut down);
            }
            _ => {
                let (message, answer) = down.pop_front().unwrap();
                client.hear(now, message, answer);
            }
        }
    }
    panic!("{} of {messages} messages have no end", client.outbox.len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_refused_for_now_each_chat_is_stored_in_the_order_of_the_outbox(
        drawn in proptest::collection::vec(any::<u8>(), 0..3_000),
        messages in 1_usize..150,
        chats in 1_usize..5,
        pace in 0_u64..300,
        burst in 1_u32..60,
    ) {
        run(messages, chats, &World::new(MS * u32::try_from(pace).unwrap(), burst), &mut Tape(drawn.into_iter()));
    }

}

#[test]
fn where_only_the_rate_refuses_no_message_takes_more_than_two_frames() {
    for (messages, burst, large) in [(130, 100, 0), (160, 1, 0), (400, 20, 0), (160, 10, 3)] {
        // Two drawings a message: its chat, and whether it is large.
        let sizes = vec![large; 2 * messages];
        let frames = run(messages, 1, &World::new(200 * MS, burst), &mut Tape(sizes.into_iter()));
        assert!(frames <= 2 * messages, "{frames} frames for {messages} messages");
    }
}

/// A client that does not count what is on its way, and repeats each message after the time that it was told for that one.
#[test]
fn a_client_that_sends_everything_at_once_comes_back_in_order_and_twice_at_most() {
    for (messages, large) in [(130, 0), (160, 0), (201, 0), (1_000, 0), (160, 30_000)] {
        let world = World::new(200 * MS, 100);
        let (mut outbox, ..) = outbox(messages, 1, &mut Tape(Vec::new().into_iter()), world.now.get());
        outbox.iter_mut().for_each(|message| message.request.content = "x".repeat(large.max(1)));
        let expected: Vec<usize> = (0..messages).collect();
        let all: Vec<_> = outbox.iter().map(|message| message.request.message_id).collect();
        let (mut order, mut stored, mut frames) = (SendOrder::default(), Vec::new(), 0);
        while stored.len() < messages {
            let now = world.now.get();
            let mut steps = order.release(now, 64, &world);
            outbox.sort_by_key(|message| message.due);
            for message in outbox.iter_mut().filter(|message| !message.is_on_its_way && message.due <= now) {
                (message.is_on_its_way, frames) = (true, frames + 1);
                let send = PendingSend::new(frame_id(message.request.message_id), message.request.clone());
                steps.extend(order.arrived(now, send, &world));
            }
            for step in steps {
                match step {
                    Step::Go(send, departure) => {
                        stored.extend(all.iter().position(|id| *id == send.message()));
                        let (_, more) = order.answered(now, &departure, Ok(()), &world);
                        assert!(more.is_empty());
                    }
                    Step::Refuse(id, fault) => {
                        let id = named(&id.unwrap());
                        let refused = outbox.iter_mut().find(|message| message.request.message_id == Some(id)).unwrap();
                        refused.is_on_its_way = false;
                        refused.due = now + Duration::from_millis(fault.retry_after_ms.unwrap());
                    }
                    Step::Ask(_) => panic!("chats are named by their ids"),
                }
            }
            world.now.set(now + 10 * MS);
        }
        assert!(frames <= 2 * messages, "{frames} frames for {messages} messages");
        assert_eq!(stored, expected, "{messages} messages of {large} bytes");
    }
}

#[test]
fn a_send_without_an_id_stops_nothing_and_is_stopped_by_nothing() {
    let world = World::new(200 * MS, 1);
    let (sample, _, _) = outbox(1, 1, &mut Tape(Vec::new().into_iter()), world.now.get());
    let (mut order, now) = (SendOrder::default(), world.now.get());
    let send = |message_id| PendingSend::new(None, SendRequest { message_id, ..sample[0].request.clone() });
    assert!(matches!(order.arrived(now, send(None), &world)[..], [Step::Go(..)]));
    (0..backlog::SENDS_MAX).for_each(|_| assert!(order.arrived(now, send(None), &world).is_empty()));
    let refused = |steps: Vec<Step>| match steps.into_iter().next() {
        Some(Step::Refuse(_, fault)) => fault,
        other => panic!("{other:?}"),
    };
    let first = MessageId::generate();
    assert_eq!(refused(order.arrived(now, send(None), &world)).behind, None);
    assert_eq!(refused(order.arrived(now, send(Some(first)), &world)).behind, None, "what has no id has stopped nothing");
    assert_eq!(refused(order.arrived(now, send(Some(MessageId::generate())), &world)).behind, Some(first));
    assert_eq!(refused(order.arrived(now, send(None), &world)).behind, None);
    assert_eq!(order.backlog.len(), backlog::SENDS_MAX);
    order.skip(first);
    assert_eq!(refused(order.arrived(now, send(Some(MessageId::generate())), &world)).behind, None, "the full backlog");
}

#[test]
fn the_backlog_is_bounded_in_bytes() {
    let world = World::new(200 * MS, 1);
    let (sample, _, _) = outbox(1, 1, &mut Tape(Vec::new().into_iter()), world.now.get());
    let (mut order, now) = (SendOrder::default(), world.now.get());
    let send = || PendingSend::new(None, SendRequest { content: "x".repeat(32_768), message_id: None, ..sample[0].request.clone() });
    let refused = (0..60).filter(|_| matches!(order.arrived(now, send(), &world)[..], [Step::Refuse(..)])).count();
    assert_eq!(60 - 1 - refused, backlog::BYTES_MAX / 32_768);
}
