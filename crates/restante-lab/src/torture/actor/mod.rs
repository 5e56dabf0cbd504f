//! A client of the run: a user at one of the nodes, who sends, acks, rejects, reads, comes and goes as its dice fall, and
//! notes all of it. It keeps the protocol; what it may get wrong by chance (an ack that never leaves, a connection
//! that is not closed), the protocol allows.
//!
//! [`memory`] is what it knows, [`ears`] what it does about a frame, [`hands`] what it does by itself.

mod ears;
mod hands;
mod memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{pending, select_all};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use uuid::Uuid;

use super::dice::Dice;
use super::history::{History, Scribe, What};
use memory::{Memory, Session};
use restante_client::{Wire, WireError};

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything happens.
    Run,
    /// Nothing new: what is open is repeated, everything is acked.
    Finish,
    /// Once more from the beginning of a connection, to hear what there is to hear.
    Hear,
    /// Over.
    End,
}

/// What the conductor sees of a client.
#[derive(Debug, Default)]
pub struct Progress {
    /// Sends without an answer.
    pub open: AtomicUsize,
    /// This connection has drained, in the phase with this number.
    pub drained_in: AtomicU64,
    /// When a frame came last, in ms of the run.
    pub heard_ms: AtomicU64,
    /// It is asked to open a second connection beside its first.
    pub doubles: AtomicBool,
}

/// A group as everybody knows it from the beginning.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its id.
    pub chat: Uuid,
    /// Who made it.
    pub admin: String,
    /// Who may be in it.
    pub people: Vec<String>,
}

/// What all clients know.
#[derive(Debug)]
pub struct World {
    /// The nodes' addresses, each behind its proxy.
    pub nodes: Vec<String>,
    /// All users.
    pub users: Vec<String>,
    /// Those of them who never come back once the faults are over.
    pub away: Vec<String>,
    /// All groups.
    pub groups: Vec<Group>,
    /// The instant that counts as 0.
    pub began: Instant,
    /// Milliseconds between two deeds of a client, on average.
    pub pace_ms: u64,
}

/// A client.
pub struct Actor {
    name: String,
    user: String,
    token: String,
    world: Arc<World>,
    dice: Dice,
    scribe: Scribe,
    phase: watch::Receiver<Phase>,
    progress: Arc<Progress>,
    memory: Memory,
    connection: u32,
    errands: JoinSet<What>,
}

/// A connection that was left open beside a newer one: read, and never acked.
struct Ghost {
    wire: Wire,
    connection: u32,
    until: Instant,
}

const CONNECT_MAX: Duration = Duration::from_secs(6);
/// Nodes ping every 2 s in a run.
const SILENCE_MAX: Duration = Duration::from_secs(7);
const TICK_MS: u64 = 50;

impl Actor {
    /// A client of this name and user.
    pub fn new(
        (name, user, token): (String, String, String),
        world: Arc<World>,
        dice: Dice,
        scribe: Scribe,
        phase: watch::Receiver<Phase>,
        progress: Arc<Progress>,
    ) -> Self {
        let memory = Memory::new(&name);
        Self { name, user, token, world, dice, scribe, phase, progress, memory, connection: 0, errands: JoinSet::new() }
    }

    /// Lives until the run is over, and hands its history out.
    pub async fn live(mut self) -> History {
        let mut ghosts = Vec::new();
        let stays_away = self.world.away.contains(&self.user);
        while self.phase() < if stays_away { Phase::Finish } else { Phase::End } {
            let born = self.phase();
            if let Some(wire) = self.connect().await {
                self.be_connected(wire, born, &mut ghosts).await;
            }
            self.memory.session = None;
            let pause = if born == Phase::Run { self.dice.pause_ms(20, 800) } else { Duration::from_millis(100) };
            // Whatever phase comes ends the pause.
            let _ = timeout(pause, self.phase.wait_for(|phase| *phase != born)).await;
        }
        self.errands.shutdown().await;
        self.scribe.finish()
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    async fn connect(&mut self) -> Option<Wire> {
        self.connection += 1;
        let node = self.dice.index(self.world.nodes.len());
        let is_last = self.phase() > Phase::Run;
        let device = self.memory.choose_device(&mut self.dice, is_last);
        let mut options = restante_client::Options::new(&self.world.nodes[node], self.token.clone()).ok()?;
        options.since = self.memory.claim(device.as_deref(), &mut self.dice);
        options.marks.clone_from(&self.memory.marks);
        options.window = Some([5, 20, 50, 200][self.dice.index(4)]);
        options.batch = self.dice.chance(300);
        options.device.clone_from(&device);
        let since = options.since.as_ref().map(|(since, _)| *since);
        self.scribe.note(self.connection, What::Connecting { node, device: device.clone(), since });
        let why = match timeout(CONNECT_MAX, Wire::connect(&options)).await {
            Ok(Ok(wire)) => {
                let acks_by_id = is_last || self.dice.chance(500);
                self.memory.session = Some(Session::new(device, acks_by_id));
                return Some(wire);
            }
            Ok(Err(error)) => error,
            Err(_) => WireError::Silent,
        };
        self.note_closed(self.connection, &why);
        None
    }

    /// Until the connection ends, for whatever reason.
    async fn be_connected(&mut self, mut wire: Wire, born: Phase, ghosts: &mut Vec<Ghost>) {
        let (mut sounds, mut heard_at) = (0, Instant::now());
        let mut phase = self.phase.clone();
        let mut deaf_until = Instant::now();
        loop {
            let is_deaf = Instant::now() < deaf_until;
            tokio::select! {
                _ = phase.wait_for(|phase| *phase != born) => return self.leave(wire, "the phase is over"),
                heard = wire.next(), if !is_deaf => match heard {
                    Ok(text) => self.hear(self.connection, &text, &mut wire),
                    Err(why) => return self.note_closed(self.connection, &why),
                },
                (ghost, heard) = next_of(ghosts) => self.hear_ghost(ghosts, ghost, heard),
                () = sleep(Duration::from_millis(TICK_MS)) => {}
            }
            if wire.sounds() != sounds || is_deaf {
                (sounds, heard_at) = (wire.sounds(), Instant::now());
            }
            if heard_at.elapsed() > SILENCE_MAX || self.memory.is_overdue() {
                return self.leave(wire, "no answer");
            }
            ghosts.retain(|ghost| ghost.until > Instant::now());
            match self.act(&mut wire) {
                hands::Next::Stay => {}
                hands::Next::Leave => return self.leave(wire, "as the dice fell"),
                hands::Next::Double => {
                    let until = Instant::now() + self.dice.pause_ms(500, 4000);
                    ghosts.push(Ghost { wire, connection: self.connection, until });
                    return;
                }
                hands::Next::Deaf(time) => deaf_until = Instant::now() + time,
            }
        }
    }

    /// Without a goodbye, as lost connections end.
    fn leave(&mut self, wire: Wire, why: &str) {
        drop(wire);
        self.scribe.note(self.connection, What::Closed { code: None, why: why.to_owned() });
    }

    fn note_closed(&mut self, connection: u32, why: &WireError) {
        let code = if let WireError::Closed { code, .. } = why { *code } else { None };
        self.scribe.note(connection, What::Closed { code, why: super::words(why) });
    }

    fn hear_ghost(&mut self, ghosts: &mut Vec<Ghost>, which: usize, heard: Result<Utf8Bytes, WireError>) {
        let connection = ghosts[which].connection;
        match heard {
            Ok(text) => self.overhear(connection, &text),
            Err(why) => {
                ghosts.remove(which);
                self.note_closed(connection, &why);
            }
        }
    }

    fn note_heard(&self) {
        let heard = u64::try_from(self.world.began.elapsed().as_millis()).unwrap_or_default();
        self.progress.heard_ms.store(heard, Ordering::Relaxed);
    }
}

async fn next_of(ghosts: &mut [Ghost]) -> (usize, Result<Utf8Bytes, WireError>) {
    if ghosts.is_empty() {
        return pending().await;
    }
    let (heard, which, _) = select_all(ghosts.iter_mut().map(|ghost| Box::pin(ghost.wire.next()))).await;
    (which, heard)
}
