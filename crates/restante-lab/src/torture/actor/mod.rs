//! A client of the run: a user at one of the nodes. It sends, acks, rejects, reads, comes and goes by chance, and records all of it.
//! It keeps the protocol. What it may get wrong by chance (an ack that never leaves, a connection that is not closed), the protocol
//! allows.
//!
//! [`state`] is what the client knows, [`listener`] handles frames, [`actions`] is what it does by itself, [`feeds`] the same with events,
//! [`recalls`] what it takes back and mutes, [`policies`] what it blocks and revokes, with the tokens that it holds ([`tokens`]).

mod actions;
mod feeds;
mod listener;
mod policies;
mod recalls;
mod state;
mod tokens;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{pending, select_all};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use uuid::Uuid;

use super::rng::Rng;
use restante_client::{Wire, WireError};
use restante_judge::{Event, History, Recorder};
use restante_session::domain;
use state::{ClientState, Connection};

pub use feeds::Feed;
pub use tokens::Tokens;

/// A phase of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Faults come, and clients do everything.
    Run,
    /// Clients do nothing new: they repeat open sends and ack everything.
    Finish,
    /// Clients connect once more, to hear the last receipts.
    Hear,
    /// The run is over.
    End,
}

/// The part of a client that the conductor sees.
#[derive(Debug, Default)]
pub struct Progress {
    /// The number of sends and events without an answer.
    pub open: AtomicUsize,
    /// The number of the phase in which a connection last drained every inbox.
    pub drained_in: AtomicU64,
    /// The time of the last frame, in milliseconds of the run.
    pub heard_ms: AtomicU64,
    /// The number of records of its history.
    pub records: AtomicUsize,
    /// Set by a fault: the client opens a second connection beside its first.
    pub doubles: AtomicBool,
}

/// A group as it is made at the beginning.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its id.
    pub chat: Uuid,
    /// The user who made it.
    pub admin: String,
    /// The users who may be in it.
    pub people: Vec<String>,
}

/// The things that all clients know.
#[derive(Debug)]
pub struct Environment {
    /// The nodes' addresses, each behind its proxy.
    pub nodes: Vec<String>,
    /// All users.
    pub users: Vec<String>,
    /// Users who never come back once the faults are over.
    pub away: Vec<String>,
    /// All groups.
    pub groups: Vec<Group>,
    /// All feeds.
    pub feeds: Vec<Feed>,
    /// Users whose tokens allow them to publish to everything.
    pub publishers: Vec<String>,
    /// Only contacts may write to one another.
    pub contacts: bool,
    /// The instant that counts as 0.
    pub began: Instant,
    /// Milliseconds between two actions of a client, on average.
    pub pace_ms: u64,
}

/// A client.
pub struct Actor {
    name: String,
    user: String,
    tokens: Tokens,
    environment: Arc<Environment>,
    rng: Rng,
    recorder: Recorder,
    phase: watch::Receiver<Phase>,
    progress: Arc<Progress>,
    state: ClientState,
    events: feeds::Outbox,
    connection: u32,
    http_calls: JoinSet<Event>,
}

/// A connection that was left open beside a newer one. Its frames are read and never acked.
struct Lingering {
    wire: Wire,
    connection: u32,
    until: Instant,
}

const CONNECT_MAX: Duration = Duration::from_secs(6);
/// Nodes ping every 2 s in a run, so a connection that is silent this long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(7);
const TICK_MS: u64 = 50;
/// The close code of a connection whose token is worth nothing.
const TOKEN_REFUSED: u16 = 4401;

impl Actor {
    /// A client with this name, user and tokens.
    pub fn new(
        (name, user, tokens): (String, String, Tokens),
        environment: Arc<Environment>,
        rng: Rng,
        recorder: Recorder,
        phase: watch::Receiver<Phase>,
        progress: Arc<Progress>,
    ) -> Self {
        let state = ClientState::new(&name);
        let events = feeds::Outbox::default();
        Self { name, user, tokens, environment, rng, recorder, phase, progress, state, events, connection: 0, http_calls: JoinSet::new() }
    }

    /// Runs until the run is over, and returns the history.
    pub async fn run(mut self) -> History {
        let mut lingering = Vec::new();
        let stays_away = self.environment.away.contains(&self.user);
        while self.phase() < if stays_away { Phase::Finish } else { Phase::End } {
            let born = self.phase();
            if let Some(wire) = self.connect().await {
                self.be_connected(wire, born, &mut lingering).await;
            }
            self.state.connection = None;
            let pause = if born == Phase::Run { self.rng.pause_ms(20, 800) } else { Duration::from_millis(100) };
            // A new phase ends the pause.
            let _ = timeout(pause, self.phase.wait_for(|phase| *phase != born)).await;
        }
        self.http_calls.shutdown().await;
        self.recorder.finish()
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    async fn connect(&mut self) -> Option<Wire> {
        self.connection += 1;
        let node = self.rng.index(self.environment.nodes.len());
        let is_last = self.phase() > Phase::Run;
        let device = self.state.choose_device(&mut self.rng, is_last);
        let token = self.tokens.present(&mut self.rng, !is_last);
        let mut options = restante_client::Options::new(&self.environment.nodes[node], token.text).ok()?;
        options.resume = self.state.claim(device.as_deref(), &mut self.rng);
        options.marks.clone_from(&self.state.marks);
        options.window = Some([5, 20, 50, 200][self.rng.index(4)]);
        options.batch = self.rng.chance(300);
        options.device.clone_from(&device);
        self.note_connecting(node, device.clone(), options.resume.as_ref().map_or(&[], |(_, inboxes)| inboxes.as_slice()));
        self.recorder.note(self.connection, Event::Presenting { token: token.id, issued_at: token.issued_from });
        let why = match timeout(CONNECT_MAX, Wire::connect(&options)).await {
            Ok(Ok(wire)) => {
                let acks_by_id = is_last || self.rng.chance(500);
                self.state.connection = Some(Connection::new(device, acks_by_id));
                return Some(wire);
            }
            Ok(Err(error)) => error,
            Err(_) => WireError::Silent,
        };
        self.note_closed(self.connection, &why);
        None
    }

    fn note_connecting(&mut self, node: usize, device: Option<String>, inboxes: &[(domain::Class, i64)]) {
        let since = inboxes.iter().find(|(class, _)| *class == domain::Class::Chat).map(|(_, number)| *number);
        self.recorder.note(self.connection, Event::Connecting { node, device, since });
        for (class, since) in inboxes.iter().filter(|(class, _)| *class != domain::Class::Chat) {
            self.recorder.note(self.connection, Event::Resuming { class: listener::class(*class), since: *since });
        }
    }

    /// Uses the connection until it ends, for any reason.
    async fn be_connected(&mut self, mut wire: Wire, born: Phase, lingering: &mut Vec<Lingering>) {
        let (mut sounds, mut heard_at) = (0, Instant::now());
        let mut phase = self.phase.clone();
        let mut unread_until = Instant::now();
        loop {
            let is_not_reading = Instant::now() < unread_until;
            tokio::select! {
                _ = phase.wait_for(|phase| *phase != born) => return self.leave(wire, "the phase is over"),
                heard = wire.next(), if !is_not_reading => match heard {
                    Ok(text) => self.hear(self.connection, &text, &mut wire),
                    Err(why) => return self.note_closed(self.connection, &why),
                },
                (which, heard) = next_of(lingering) => self.hear_ghost(lingering, which, heard),
                () = sleep(Duration::from_millis(TICK_MS)) => {}
            }
            if wire.sounds() != sounds || is_not_reading {
                (sounds, heard_at) = (wire.sounds(), Instant::now());
            }
            if heard_at.elapsed() > SILENCE_MAX || self.state.is_overdue() {
                return self.leave(wire, "no answer");
            }
            lingering.retain(|which| which.until > Instant::now());
            match self.act(&mut wire) {
                actions::Next::Stay => {}
                actions::Next::Leave => return self.leave(wire, "it left by chance"),
                actions::Next::Double => {
                    let until = Instant::now() + self.rng.pause_ms(500, 4000);
                    lingering.push(Lingering { wire, connection: self.connection, until });
                    return;
                }
                actions::Next::StopReading(time) => unread_until = Instant::now() + time,
            }
        }
    }

    /// Drops the connection without a close frame, as lost connections end.
    fn leave(&mut self, wire: Wire, why: &str) {
        drop(wire);
        self.recorder.note(self.connection, Event::Closed { code: None, why: why.to_owned() });
    }

    fn note_closed(&mut self, connection: u32, why: &WireError) {
        let code = if let WireError::Closed { code, .. } = why { *code } else { None };
        if code == Some(TOKEN_REFUSED) || matches!(why, WireError::Refused { status: 401, .. }) {
            self.recorder.note(connection, Event::TokenRefused);
            if connection == self.connection {
                self.tokens.refused();
            }
        }
        self.recorder.note(connection, Event::Closed { code, why: super::words(why) });
    }

    fn hear_ghost(&mut self, lingering: &mut Vec<Lingering>, which: usize, heard: Result<Utf8Bytes, WireError>) {
        let connection = lingering[which].connection;
        match heard {
            Ok(text) => self.overhear(connection, &text),
            Err(why) => {
                lingering.remove(which);
                self.note_closed(connection, &why);
            }
        }
    }

    fn note_heard(&self) {
        let heard = u64::try_from(self.environment.began.elapsed().as_millis()).unwrap_or_default();
        self.progress.heard_ms.store(heard, Ordering::Relaxed);
        self.progress.records.store(self.recorder.records(), Ordering::Relaxed);
    }
}

async fn next_of(lingering: &mut [Lingering]) -> (usize, Result<Utf8Bytes, WireError>) {
    if lingering.is_empty() {
        return pending().await;
    }
    let (heard, which, _) = select_all(lingering.iter_mut().map(|which| Box::pin(which.wire.next()))).await;
    (which, heard)
}
