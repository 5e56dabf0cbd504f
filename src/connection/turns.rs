//! Turns at the database for what connections read by themselves: openings, pages, looks.
//!
//! When thousands of clients come back at once they wait here and not in the pool, whose waiters have their statements
//! ready, some 4 KB each. Two lines: those who are catching up (openings, the drains behind them) and those who are
//! live. A crowd never has all turns, so who is live is served beside it, and all turns together are fewer than the pool
//! has connections, so requests are. Within a line users take turns, however many connections each of them has. Openings
//! are refused once too many wait, or after some patience: told when to come back, a client is better off than waiting.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::domain::{ExternalId, SessionId};
use crate::protocol::{Code, Fault};
use crate::telemetry::Metrics;

use super::shutdown::chance;

/// An opening waits for so long. Clients give up a connection that says nothing after ten seconds or so.
const PATIENCE: Duration = Duration::from_secs(8);
/// Who is refused is told to come back after this or up to three times as long.
const REFUSAL_MS: u64 = 2_000;

/// What a turn is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To open a session.
    Opening,
    /// To read a page of what waited when the client connected.
    Drain,
    /// To read for a session that is live.
    Live,
}

/// The turns of one node. Clones share them.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Inner>);

/// Somebody's turn. It ends when this is dropped.
#[derive(Debug)]
pub struct Turn {
    /// None: it is nobody's any more.
    turns: Option<Arc<Inner>>,
    line: usize,
}

/// Too many wait, or this one has waited for long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many clients come at once")]
pub struct Crowded;

#[derive(Debug)]
struct Inner {
    at_once: usize,
    /// Of these, for those who are catching up.
    crowd_at_once: usize,
    openings_max: usize,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Per line.
    running: [usize; 2],
    lines: [Line; 2],
    openings_waiting: usize,
}

const CROWD: usize = 0;
const LIVE: usize = 1;

/// Whose a turn is; none: the node's own.
type Name = Option<ExternalId>;

/// Users in the order in which they are next.
#[derive(Debug, Default)]
struct Line {
    order: BTreeMap<u64, Name>,
    users: HashMap<Name, Waiting>,
    next: u64,
}

/// What waits of one user.
#[derive(Debug)]
struct Waiting {
    place: u64,
    tickets: VecDeque<(u64, oneshot::Sender<Turn>)>,
}

impl Purpose {
    const fn line(self) -> usize {
        match self {
            Self::Opening | Self::Drain => CROWD,
            Self::Live => LIVE,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Drain => "drain",
            Self::Live => "live",
        }
    }
}

impl Turns {
    /// For a pool of this size: a quarter of it stays for requests and chores, and a third of the turns for who is live.
    pub fn new(pool_size: u32, openings_max: u32, metrics: Arc<Metrics>) -> Self {
        let pool = usize::try_from(pool_size).unwrap_or(usize::MAX);
        let at_once = (pool - pool / 4 - usize::from(pool < 4)).max(1);
        let crowd_at_once = (at_once - at_once / 3).max(1);
        let openings_max = usize::try_from(openings_max).unwrap_or(usize::MAX);
        Self(Arc::new(Inner { at_once, crowd_at_once, openings_max, metrics, state: Mutex::default() }))
    }

    /// How many may read to catch up at the same time.
    pub fn crowd_at_once(&self) -> usize {
        self.0.crowd_at_once
    }

    /// Waits for a turn, however long.
    pub async fn take(&self, purpose: Purpose, user: Name) -> Turn {
        let mut ticket = match self.0.ask(purpose, user) {
            Ok(turn) => return turn,
            Err(ticket) => ticket,
        };
        // Whoever could answer no more is gone with the node: then nobody should wait for ever.
        (&mut ticket.answer).await.unwrap_or(Turn { turns: None, line: ticket.line })
    }

    /// Waits for a turn to open a session.
    pub async fn take_to_open(&self, user: &ExternalId) -> Result<Turn, Crowded> {
        if self.is_crowded() {
            return Err(Crowded);
        }
        tokio::time::timeout(PATIENCE, self.take(Purpose::Opening, Some(user.clone()))).await.map_err(|_| Crowded)
    }

    /// Would another opening be refused at once?
    pub fn is_crowded(&self) -> bool {
        self.0.lock().openings_waiting >= self.0.openings_max
    }
}

impl From<Crowded> for Fault {
    /// With a waiting time of its own for each, or the crowd would only come again.
    fn from(_: Crowded) -> Self {
        Self::plain(Code::Busy).retry_after_ms(spread(REFUSAL_MS))
    }
}

/// This or up to three times as long, by chance.
pub fn spread(ms: u64) -> u64 {
    ms + 2 * ms * u64::from(chance(SessionId::generate())) / u64::from(u16::MAX)
}

/// A place in a line. Dropped, it is free again.
#[derive(Debug)]
struct Ticket {
    turns: Arc<Inner>,
    purpose: Purpose,
    line: usize,
    no: u64,
    user: Name,
    since: Instant,
    answer: oneshot::Receiver<Turn>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        state.lines[self.line].leave(&self.user, self.no);
        if self.purpose == Purpose::Opening {
            state.openings_waiting -= 1;
        }
        drop(state);
        self.turns.metrics.turns_waiting.of(self.purpose.as_str()).dec();
        self.turns.metrics.turn_wait.of(self.purpose.as_str()).observe(self.since.elapsed().as_secs_f64());
    }
}

impl Inner {
    /// A turn at once, or a place in the line.
    fn ask(self: &Arc<Self>, purpose: Purpose, user: Name) -> Result<Turn, Ticket> {
        let line = purpose.line();
        let mut state = self.lock();
        if state.lines[line].order.is_empty() && self.has_room(&state, line) {
            state.running[line] += 1;
            drop(state);
            self.metrics.turn_wait.of(purpose.as_str()).observe(0.0);
            return Ok(Turn { turns: Some(Arc::clone(self)), line });
        }
        let (sender, answer) = oneshot::channel();
        let no = state.lines[line].enter(&user, sender);
        if purpose == Purpose::Opening {
            state.openings_waiting += 1;
        }
        drop(state);
        self.metrics.turns_waiting.of(purpose.as_str()).inc();
        Err(Ticket { turns: Arc::clone(self), purpose, line, no, user, since: Instant::now(), answer })
    }

    fn has_room(&self, state: &State, line: usize) -> bool {
        let [crowd, live] = state.running;
        crowd + live < self.at_once && (line == LIVE || crowd < self.crowd_at_once)
    }

    /// A turn has ended: whoever is next may begin.
    fn release(self: &Arc<Self>, line: usize) {
        let mut state = self.lock();
        state.running[line] -= 1;
        while let Some(line) = self.next_line(&state) {
            let Some(sender) = state.lines[line].next() else { return };
            state.running[line] += 1;
            if let Err(mut turn) = sender.send(Turn { turns: Some(Arc::clone(self)), line }) {
                // It has just gone away. Not dropped as it is: that would come here again, and the lock is held.
                turn.turns = None;
                state.running[line] -= 1;
            }
        }
    }

    /// Who is live goes first, but the crowd is never without a turn.
    fn next_line(&self, state: &State) -> Option<usize> {
        let order = if state.running[CROWD] == 0 { [CROWD, LIVE] } else { [LIVE, CROWD] };
        order.into_iter().find(|line| !state.lines[*line].order.is_empty() && self.has_room(state, *line))
    }

    /// Nothing panics while it is held, and numbers that are left in the middle would be true all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.release(self.line);
        }
    }
}

impl Line {
    /// Behind everybody else, or behind what this user has waiting already.
    fn enter(&mut self, user: &Name, sender: oneshot::Sender<Turn>) -> u64 {
        self.next += 1;
        let (no, order) = (self.next, &mut self.order);
        let waiting = self.users.entry(user.clone()).or_insert_with(|| {
            order.insert(no, user.clone());
            Waiting { place: no, tickets: VecDeque::with_capacity(1) }
        });
        waiting.tickets.push_back((no, sender));
        no
    }

    /// The first of the user who is next; the user goes to the end of the line if there is more.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let (_, user) = self.order.pop_first()?;
        let waiting = self.users.get_mut(&user)?;
        let (_, sender) = waiting.tickets.pop_front()?;
        if waiting.tickets.is_empty() {
            self.users.remove(&user);
        } else {
            self.next += 1;
            waiting.place = self.next;
            self.order.insert(self.next, user);
        }
        Some(sender)
    }

    /// Harmless for one that has had its turn.
    fn leave(&mut self, user: &Name, no: u64) {
        let Some(waiting) = self.users.get_mut(user) else { return };
        waiting.tickets.retain(|(ticket, _)| *ticket != no);
        if waiting.tickets.is_empty() {
            self.order.remove(&waiting.place);
            self.users.remove(user);
        }
    }
}

#[cfg(test)]
mod tests;
