//! One person of the log: a client that connects and disconnects as it is told, says its lines, acks every delivery, reads now and
//! then, and records everything for the judge.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;

use super::deliveries::{Deliveries, Delivery, MessageNo};
use super::log::PersonNo;
use super::records::Records;
use super::rows;
use super::state::{ReplayState, SendOutcome};
use restante_client::{
    Client, Envelope, ErrorReport, Event as ServiceEvent, Gone, Happening, Options, Ready, Sent, StatusUpdate, is_retryable,
};
use restante_judge::history::{Class, Receipt};
use restante_judge::{Event, History};
use restante_session::domain::{self, ChatSeq, MessageId};

/// A person reads after this many first deliveries.
const READS_EVERY: u64 = 10;

/// A command to a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Connect. A person who is connected reconnects.
    Connect,
    /// Disconnect, once every send is confirmed.
    Disconnect,
    /// Say this message.
    Say(MessageNo),
    /// Everything has been said: connect, receive what is missing, read all of it, and end.
    Finish(Target),
}

/// Everything that a person has to receive by the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The number of messages that others sent.
    pub messages: u64,
    /// The chat's last number.
    pub last_seq: ChatSeq,
}

/// The report of a person at the end.
#[derive(Debug)]
pub struct PersonReport {
    /// Everything that the person did and received.
    pub history: History,
    /// Its deliveries.
    pub deliveries: Deliveries,
    /// Microseconds from said to received, of the messages that were said while the person was connected.
    pub latencies_us: Vec<u32>,
    /// Connections that ended without the person's doing.
    pub connections_lost: u64,
    /// Sends that the service had stored already when they were repeated.
    pub sends_repeated: u64,
}

/// The phase of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Playing,
    /// The person ends the connection once it is greeted and every send is confirmed; then it takes another command.
    Leaving(Then),
    /// The person receives what is missing.
    Draining(Target),
    /// The person has received everything, and waits until its reading is confirmed.
    Reading,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Away,
    Back,
}

/// The settings of a person.
pub struct Setup {
    /// The options of its client.
    pub options: Options,
    /// Its number in the log.
    pub person: PersonNo,
    /// Its commands.
    pub commands: UnboundedReceiver<Command>,
    /// With this many unconfirmed sends it takes no command.
    pub unconfirmed_max: usize,
}

/// A person while the replay runs.
pub struct Person {
    options: Options,
    state: Arc<ReplayState>,
    commands: UnboundedReceiver<Command>,
    unconfirmed_max: usize,
    client: Option<Client>,
    phase: Phase,
    records: Records,
    /// Since when everything that waited at connect has come. A message that is said later counts for the latencies.
    live_since: Option<Instant>,
    latencies_us: Vec<u32>,
    connections_lost: u64,
    sends_repeated: u64,
}

impl Person {
    /// A person who is not connected yet.
    pub fn new(setup: Setup, state: Arc<ReplayState>) -> Self {
        let Setup { options, person, commands, unconfirmed_max } = setup;
        let name = &state.names[person];
        let records = Records::new(name, &state, options.device.clone());
        Self {
            options,
            state,
            commands,
            unconfirmed_max,
            client: None,
            phase: Phase::Playing,
            records,
            live_since: None,
            latencies_us: Vec::new(),
            connections_lost: 0,
            sends_repeated: 0,
        }
    }

    /// Plays until the end, or until the replay stops.
    pub async fn play(mut self) -> PersonReport {
        let stop = self.state.stop.clone();
        while self.phase != Phase::Done {
            tokio::select! {
                () = stop.cancelled() => break,
                command = self.commands.recv(), if takes_command(self.phase, self.client.as_ref(), self.unconfirmed_max) => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                happening = next(&mut self.client) => match happening {
                    Ok(happening) => self.happens(happening),
                    Err(gone) => self.state.fail(format!("{} is not let in any more: {gone}", self.records.recorder.client())),
                },
            }
            self.move_on().await;
        }
        if let Some(mut client) = self.client.take().filter(|_| self.phase == Phase::Done) {
            client.took();
            client.close().await;
        }
        self.into_report()
    }

    /// The report of what has happened so far.
    pub fn into_report(self) -> PersonReport {
        PersonReport {
            history: self.records.recorder.finish(),
            deliveries: self.records.deliveries,
            latencies_us: self.latencies_us,
            connections_lost: self.connections_lost,
            sends_repeated: self.sends_repeated,
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Connect if self.client.is_some() => self.phase = Phase::Leaving(Then::Back),
            Command::Connect => drop(self.connect()),
            Command::Disconnect if self.client.is_some() => self.phase = Phase::Leaving(Then::Away),
            Command::Disconnect => {}
            Command::Say(number) => {
                let message = self.state.say(number);
                self.connect().send(&message);
                self.note_send(number);
            }
            Command::Finish(target) => {
                self.connect();
                self.phase = Phase::Draining(target);
            }
        }
    }

    fn connect(&mut self) -> &mut Client {
        self.client.get_or_insert_with(|| Client::new(self.options.clone()))
    }

    async fn move_on(&mut self) {
        let Some(client) = &mut self.client else { return };
        match self.phase {
            // The service may still let in an attempt that was given up halfway, which would displace the next one. So a person
            // leaves only after it was greeted.
            Phase::Leaving(then) if client.sends_open() == 0 && client.is_ready() => {
                if let Some(mut client) = self.client.take() {
                    client.took();
                    client.close().await;
                }
                self.live_since = None;
                self.records.closed("the person left".to_owned());
                self.phase = Phase::Playing;
                if then == Then::Back {
                    self.connect();
                }
            }
            // The number is enough here. The judge finds out whether they were the right ones.
            Phase::Draining(target) if self.live_since.is_some() && self.records.deliveries.first >= target.messages => {
                if target.last_seq > ChatSeq(0) {
                    client.read(self.state.chat, target.last_seq);
                    self.note_read(target.last_seq);
                }
                self.phase = Phase::Reading;
            }
            Phase::Reading if client.reads_open() == 0 => {
                self.state.counters.finished.fetch_add(1, Ordering::Relaxed);
                self.phase = Phase::Done;
            }
            Phase::Playing | Phase::Leaving(_) | Phase::Draining(_) | Phase::Reading | Phase::Done => {}
        }
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Ready(ready) => self.greeted(&ready),
            Happening::Message(envelope) | Happening::Again(envelope) => self.sees(&envelope),
            Happening::Stored(sent) => {
                self.sends_repeated += u64::from(sent.duplicate);
                self.stored(&sent);
            }
            Happening::Refused(id, error) => self.refused(id, &error),
            Happening::Postponed(id, error) => {
                self.records.note(Event::SendRefused { message: id.0, code: error.code, is_final: false });
            }
            Happening::Lost(why, _) => {
                self.connections_lost += u64::from(self.records.is_greeted);
                self.records.closed(why.to_string());
                self.live_since = None;
            }
            Happening::Event(event) => self.event(event),
            // The story that is replayed has none.
            Happening::FeedEvent(_)
            | Happening::FeedEventAgain(_)
            | Happening::Recalled(_)
            | Happening::RecalledAgain(_)
            | Happening::Frame(_) => {}
        }
    }

    fn event(&mut self, event: ServiceEvent) {
        match event {
            ServiceEvent::Drained(drained) if drained.class == domain::Class::Chat => {
                self.live_since = Some(Instant::now());
                self.records.note(Event::Drained { class: Class::Chat });
            }
            ServiceEvent::Gap(gap) if gap.class == domain::Class::Chat => {
                let (from, to, reason) = (gap.from_seq.0, gap.to_seq.0, gap.reason);
                self.records.note(Event::Gap { class: Class::Chat, from, to, reason });
            }
            ServiceEvent::Sent(sent) => self.stored(&sent),
            ServiceEvent::Status(update) => self.told(*update),
            ServiceEvent::ReadOk(read) => self.records.read_confirmed(read.seq),
            ServiceEvent::Malformed { text, error } => self.object(format!("a frame that is none ({error}): {text}")),
            // The client repeats a read that is refused for now.
            ServiceEvent::Error(error) if !is_retryable(&error) => self.object(format!("{} ({})", error.message, error.code)),
            _ => {}
        }
    }

    fn greeted(&mut self, ready: &Ready) {
        self.state.counters.greetings.fetch_add(1, Ordering::Relaxed);
        self.live_since = (ready.pending == 0).then(Instant::now);
        self.records.greeted(ready);
        for number in self.records.unconfirmed.clone() {
            self.attempt(number);
        }
    }

    /// Takes an envelope. The client acks it when the person asks for the next happening, which is at once.
    pub(super) fn sees(&mut self, envelope: &Envelope) {
        let now = Instant::now();
        let message = self.state.number(envelope.message_id).filter(|_| envelope.chat_id == self.state.chat);
        self.note_envelope(envelope, message);
        self.state.counters.envelopes.fetch_add(1, Ordering::Relaxed);
        let Some(message) = message else { return };
        if self.records.deliveries.receive(message, envelope.attempt) == Delivery::First {
            self.state.counters.deliveries.fetch_add(1, Ordering::Relaxed);
            self.time(message, now);
            if self.records.deliveries.first.is_multiple_of(READS_EVERY)
                && let Some(client) = &mut self.client
            {
                client.read(envelope.chat_id, envelope.seq);
                self.note_read(envelope.seq);
            }
        }
    }

    fn note_envelope(&mut self, envelope: &Envelope, message: Option<MessageNo>) {
        // Texts and names are shared with the plan where they agree with it, so that a large replay fits into memory.
        let planned = message.map(|message| self.state.content(message)).filter(|content| ***content == *envelope.content);
        let name = self.state.names.iter().find(|name| ***name == *envelope.sender_id.as_str());
        let class = if envelope.class == domain::Class::Chat { Class::Chat } else { Class::Event };
        self.records.note(Event::Received {
            message: envelope.message_id.0,
            chat: envelope.chat_id.0,
            seq: envelope.seq.0,
            class,
            inbox_seq: envelope.inbox_seq.0,
            sender: name.map_or_else(|| envelope.sender_id.as_str().into(), Arc::clone),
            content: planned.map_or_else(|| envelope.content.as_str().into(), Arc::clone),
            attempt: envelope.attempt,
        });
        self.records.note(Event::AckedIds { messages: vec![envelope.message_id.0], ask: None });
    }

    fn time(&mut self, message: MessageNo, now: Instant) {
        if let (Some(said_at), Some(live_since)) = (self.state.said_at(message), self.live_since)
            && said_at > live_since
        {
            let micros = now.duration_since(said_at).as_micros();
            self.latencies_us.push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
    }

    /// The message is to be sent: now, if the service has greeted, and again on each later connection.
    pub(super) fn note_send(&mut self, number: MessageNo) {
        self.records.unconfirmed.push_back(number);
        if self.records.is_greeted {
            self.attempt(number);
        }
    }

    fn attempt(&mut self, number: MessageNo) {
        let (message, chat, content) = (self.state.id(number).0, Some(self.state.chat.0), Arc::clone(self.state.content(number)));
        self.records.note(Event::SendAttempted { message, chat, to: None, content });
    }

    fn stored(&mut self, sent: &Sent) {
        self.note_stored(sent);
        self.settle(sent.message_id, SendOutcome::Accepted(sent.seq));
    }

    pub(super) fn note_stored(&mut self, sent: &Sent) {
        let (created_at, duplicate) = (sent.created_at.clone(), sent.duplicate);
        let (message, chat, seq) = (sent.message_id.0, sent.chat_id.0, sent.seq.0);
        self.records.note(Event::SendConfirmed { message, chat, seq, created_at, duplicate });
    }

    fn refused(&mut self, id: MessageId, error: &ErrorReport) {
        let code = format!("{} ({})", error.message, error.code);
        self.records.note(Event::SendRefused { message: id.0, code: code.clone(), is_final: true });
        self.settle(id, SendOutcome::Refused(code));
    }

    fn settle(&mut self, id: MessageId, outcome: SendOutcome) {
        let Some(number) = self.state.number(id) else { return };
        self.records.unconfirmed.retain(|open| *open != number);
        if !self.state.settle(number, outcome) {
            self.object(format!("two outcomes for message {id}"));
        }
    }

    pub(super) fn note_read(&mut self, seq: ChatSeq) {
        self.records.read(self.state.chat, seq);
    }

    /// Records a receipt. In a large group a sender is told counts, which are not recorded.
    fn told(&mut self, update: StatusUpdate) {
        let (Some(status), Some(user)) = (update.status, update.user_id) else { return };
        self.records.note(Event::Told(Receipt {
            chat: update.chat_id.0,
            user: user.to_string(),
            status: rows::of(status),
            messages: update.message_ids.iter().map(|id| id.0).collect(),
            up_to: (update.kind == restante_client::StatusKind::Mark).then(|| update.seq.map_or(0, |seq| seq.0)),
            except: update.except.iter().map(|except| (except.message_id.0, rows::of(except.status))).collect(),
        }));
    }

    fn object(&mut self, words: String) {
        self.records.note(Event::Objection { words });
    }
}

fn takes_command(phase: Phase, client: Option<&Client>, unconfirmed_max: usize) -> bool {
    phase == Phase::Playing && client.is_none_or(|client| client.sends_open() < unconfirmed_max)
}

async fn next(client: &mut Option<Client>) -> Result<Happening, Gone> {
    match client {
        Some(client) => client.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
impl Person {
    /// A person with a device, whom the service has greeted for the first time.
    pub(super) fn for_test(state: &Arc<ReplayState>, person: PersonNo) -> Self {
        let (_, commands) = tokio::sync::mpsc::unbounded_channel();
        let mut options = Options::new("http://localhost", "token").unwrap();
        options.device = Some("replay".into());
        let mut person = Self::new(Setup { options, person, commands, unconfirmed_max: 1 }, Arc::clone(state));
        let ready =
            serde_json::json!({"userId": "x", "sessionId": "s", "window": 50, "pending": 0, "lastSeq": 0, "settledSeq": 0, "epoch": "e"});
        person.greeted(&serde_json::from_value(ready).unwrap());
        person
    }
}
