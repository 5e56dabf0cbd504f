//! One person of the log: a client that comes and goes as it is told, says its lines, acks what it gets, reads
//! now and then, and hands every sighting to the checker.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;

use super::checker::{MessageNo, Recipient, Sight, Sighting};
use super::findings::Rule;
use super::stage::{Outcome, Stage};
use restante_client::{Client, Envelope, Event, Gone, Happening, Options, Ready, is_retryable};
use restante_session::domain::{ChatSeq, Class, MessageId};

/// So often a person reads what it has got.
const READS_EVERY: u64 = 10;

/// What a person is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Come online; who is there already comes anew.
    Connect,
    /// Go offline, once what was said is confirmed.
    Disconnect,
    /// Say this message.
    Say(MessageNo),
    /// Everything has been said: come, get what is missing, read it all, and end.
    Finish(All),
}

/// What there is to get for a person when everything has been said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct All {
    /// Messages that others sent.
    pub messages: u64,
    /// The chat's last number.
    pub last_seq: ChatSeq,
}

/// What a person has to tell in the end.
#[derive(Debug)]
pub struct Part {
    /// What it saw.
    pub recipient: Recipient,
    /// From said to seen, in microseconds, of the messages that were said while it was online.
    pub latencies_us: Vec<u32>,
    /// Connections lost that it had not ended itself.
    pub connections_lost: u64,
    /// Sends the service had stored already when they were repeated.
    pub sends_repeated: u64,
}

/// What a person is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Playing,
    /// Ends the connection once it is there and nothing is unconfirmed; then another order is taken.
    Leaving(Then),
    /// Gets what is missing.
    Draining(All),
    /// Has everything, and waits until its reading is confirmed.
    Reading,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Away,
    Back,
}

/// A person while the replay runs.
pub struct Person {
    options: Options,
    stage: Arc<Stage>,
    orders: UnboundedReceiver<Order>,
    unconfirmed_max: usize,
    client: Option<Client>,
    mood: Mood,
    connection: u32,
    is_greeted: bool,
    /// Since when everything that waited at connect has been seen; from then on a message is live.
    live_since: Option<Instant>,
    part: Part,
}

impl Person {
    /// A person who is not there yet.
    pub fn new(
        options: Options,
        stage: Arc<Stage>,
        orders: UnboundedReceiver<Order>,
        unconfirmed_max: usize,
        recipient: Recipient,
    ) -> Self {
        let part = Part { recipient, latencies_us: Vec::new(), connections_lost: 0, sends_repeated: 0 };
        Self {
            options,
            stage,
            orders,
            unconfirmed_max,
            client: None,
            mood: Mood::Playing,
            connection: 0,
            is_greeted: false,
            live_since: None,
            part,
        }
    }

    /// Plays until the end, or until the stage stops.
    pub async fn play(mut self) -> Part {
        let stop = self.stage.stop.clone();
        while self.mood != Mood::Done {
            tokio::select! {
                () = stop.cancelled() => break,
                order = self.orders.recv(), if takes_order(self.mood, self.client.as_ref(), self.unconfirmed_max) => match order {
                    Some(order) => self.obey(order),
                    None => break,
                },
                happening = next(&mut self.client) => match happening {
                    Ok(happening) => self.happens(happening),
                    Err(gone) => self.stage.fail(format!("{} is not let in any more: {gone}", self.part.recipient.name())),
                },
            }
            self.move_on().await;
        }
        if let Some(client) = self.client.take().filter(|_| self.mood == Mood::Done) {
            client.close().await;
        }
        self.part
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Connect if self.client.is_some() => self.mood = Mood::Leaving(Then::Back),
            Order::Connect => drop(self.connect()),
            Order::Disconnect if self.client.is_some() => self.mood = Mood::Leaving(Then::Away),
            Order::Disconnect => {}
            Order::Say(number) => {
                let message = self.stage.say(number);
                self.connect().send(&message);
            }
            Order::Finish(all) => {
                self.connect();
                self.mood = Mood::Draining(all);
            }
        }
    }

    fn connect(&mut self) -> &mut Client {
        self.client.get_or_insert_with(|| Client::new(self.options.clone()))
    }

    async fn move_on(&mut self) {
        let Some(client) = &mut self.client else { return };
        match self.mood {
            // Who leaves has been there: an attempt that is given up halfway could still get its place, and displace the next one.
            Mood::Leaving(then) if client.sends_open() == 0 && client.is_ready() => {
                if let Some(client) = self.client.take() {
                    client.close().await;
                }
                self.live_since = None;
                self.is_greeted = false;
                self.mood = Mood::Playing;
                if then == Then::Back {
                    self.connect();
                }
            }
            // As many as there are; which ones, the checker will say.
            Mood::Draining(all) if self.live_since.is_some() && self.part.recipient.deliveries >= all.messages => {
                if all.last_seq > ChatSeq(0) {
                    client.read(self.stage.chat, all.last_seq);
                }
                self.mood = Mood::Reading;
            }
            Mood::Reading if client.reads_open() == 0 => {
                self.stage.counters.finished.fetch_add(1, Ordering::Relaxed);
                self.mood = Mood::Done;
            }
            Mood::Playing | Mood::Leaving(_) | Mood::Draining(_) | Mood::Reading | Mood::Done => {}
        }
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::Ready(ready) => self.greeted(&ready),
            Happening::Message(envelope) | Happening::Again(envelope) => self.sees(&envelope),
            Happening::Stored(sent) => {
                self.part.sends_repeated += u64::from(sent.duplicate);
                self.settle(sent.message_id, Outcome::Accepted(sent.seq));
            }
            Happening::Refused(id, error) => self.settle(id, Outcome::Refused(format!("{} ({})", error.message, error.code))),
            Happening::Postponed(id, _) => drop(self.stage.number(id).map(|number| self.stage.postpone(number))),
            Happening::Lost(..) => {
                self.part.connections_lost += u64::from(self.is_greeted);
                self.is_greeted = false;
                self.live_since = None;
            }
            Happening::Event(event) => self.event(event),
            Happening::Frame(_) => {}
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Drained(drained) if drained.class == Class::Chat => self.live_since = Some(Instant::now()),
            Event::Gap(gap) if gap.class == Class::Chat => self.part.recipient.is_told_gap(gap.from_seq, gap.to_seq),
            Event::Sent(sent) => self.settle(sent.message_id, Outcome::Accepted(sent.seq)),
            Event::Malformed { text, error } => {
                let name = self.part.recipient.name().to_owned();
                self.part.recipient.findings.add(Rule::Protocol, || format!("{name} got a frame that is none ({error}): {text}"));
            }
            // A read that is refused for now is repeated by the client.
            Event::Error(error) if !is_retryable(&error) => {
                let name = self.part.recipient.name().to_owned();
                self.part.recipient.findings.add(Rule::Protocol, || format!("{name} was told: {} ({})", error.message, error.code));
            }
            _ => {}
        }
    }

    fn greeted(&mut self, ready: &Ready) {
        self.connection += 1;
        self.is_greeted = true;
        self.stage.counters.greetings.fetch_add(1, Ordering::Relaxed);
        self.live_since = (ready.pending == 0).then(Instant::now);
    }

    fn sees(&mut self, envelope: &Envelope) {
        let now = Instant::now();
        let message = self.stage.number(envelope.message_id).filter(|_| envelope.chat_id == self.stage.chat);
        let sighting =
            Sighting { message, seq: envelope.seq, inbox: envelope.inbox_seq, attempt: envelope.attempt, connection: self.connection };
        let sight = self.part.recipient.sees(sighting);
        self.stage.counters.envelopes.fetch_add(1, Ordering::Relaxed);
        if let (Sight::First, Some(message)) = (sight, message) {
            self.stage.counters.deliveries.fetch_add(1, Ordering::Relaxed);
            self.time(message, now);
            if self.part.recipient.deliveries.is_multiple_of(READS_EVERY)
                && let Some(client) = &mut self.client
            {
                client.read(envelope.chat_id, envelope.seq);
            }
        }
    }

    fn time(&mut self, message: MessageNo, now: Instant) {
        if let (Some(said_at), Some(live_since)) = (self.stage.said_at(message), self.live_since)
            && said_at > live_since
        {
            let micros = now.duration_since(said_at).as_micros();
            self.part.latencies_us.push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
    }

    fn settle(&mut self, id: MessageId, outcome: Outcome) {
        let is_same = self.stage.number(id).is_none_or(|number| self.stage.settle(number, outcome));
        if !is_same {
            let name = self.part.recipient.name().to_owned();
            self.part.recipient.findings.add(Rule::TwoNumbers, || format!("{name} was told two outcomes for message {id}"));
        }
    }
}

fn takes_order(mood: Mood, client: Option<&Client>, unconfirmed_max: usize) -> bool {
    mood == Mood::Playing && client.is_none_or(|client| client.sends_open() < unconfirmed_max)
}

async fn next(client: &mut Option<Client>) -> Result<Happening, Gone> {
    match client {
        Some(client) => client.next().await,
        None => std::future::pending().await,
    }
}
