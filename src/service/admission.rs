//! The admission queue: permits to ask something of the database, for whatever a client can cause outside of the lanes.
//!
//! When thousands of clients come back at once they wait here and not in the pool, whose waiters have their statements
//! ready, some 4 KB each. There are four lines: clients that are catching up (openings and the drains behind them), sessions that are
//! live, requests (what a client asks for, over the socket or HTTP), and events for sessions. All permits together are fewer than the
//! pool has connections, so lanes and chores always find one. A crowd, requests and events never have all permits, so live delivery of
//! messages goes on beside them. Events have few permits, so that thousands of them delay no message. Within a line users take turns. Openings are refused once too many wait, or after some patience; the requests of
//! one user are refused once too many of them wait.
//!
//! It knows nothing of what is asked.

mod line;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::delivery::Refusal;
use crate::domain::{Class, ExternalId};
use crate::telemetry::Metrics;
use line::{Line, PerUser};

/// The longest time for which an opening waits. Clients give up a connection that says nothing after ten seconds or so.
const OPENING_WAIT_MAX: Duration = Duration::from_secs(8);
/// The numbers of requests of one user that may run and that may wait at the same time.
const REQUESTS_OF_A_USER: PerUser = PerUser { running_max: 4, waiting_max: 64 };
/// The same for its clients that catch up. Only an opening is refused: a session that is open gets each of its pages, and has one page
/// of a class under way.
const CATCHING_UP_OF_A_USER: PerUser = PerUser { running_max: 4, waiting_max: 128 };
/// The same for its sessions that are live, and for its events. The number of its sessions bounds those that wait.
const LIVE_OF_A_USER: PerUser = PerUser { running_max: 4, waiting_max: usize::MAX };

/// The purpose of an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To open a session.
    Opening,
    /// To read a page of the messages that waited when the client connected.
    Drain,
    /// To read messages for a session that is live.
    Live,
    /// To read events for a session, or to make rows of them.
    Events,
    /// To do what a client asks for.
    Request,
}

/// The permits of one node. Clones share them.
#[derive(Debug, Clone)]
pub struct AdmissionQueue(Arc<Inner>);

/// A permit. It ends when this is dropped.
#[derive(Debug)]
pub struct Admission {
    /// None: it belongs to nobody any more.
    queue: Option<Arc<Inner>>,
    line: usize,
    user: Name,
}

/// The number of permits that exist at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    /// Of all lines together.
    all: usize,
    /// Of those who are catching up.
    crowd: usize,
    /// Of requests.
    requests: usize,
    /// Of events.
    events: usize,
    /// Of these three together: the rest stays for messages to sessions that are live.
    all_but_live: usize,
}

impl Share {
    /// For a pool of this size. A quarter of it stays for lanes and chores. A crowd cannot have a third of the permits, and a crowd,
    /// requests and events together cannot have a sixth. Requests hold a third of the pool at most, and events a quarter of the permits.
    fn of(pool_size: u32) -> Self {
        let pool = usize::try_from(pool_size).unwrap_or(usize::MAX);
        let all = (pool - pool / 4 - usize::from(pool < 4)).max(1);
        let crowd = (all - all / 3).max(1);
        let for_live = (all / 6).max(usize::from(all >= 3));
        Self { all, crowd, requests: (pool / 3).max(1), events: (all / 4).max(1), all_but_live: all - for_live }
    }
}

#[derive(Debug)]
struct Inner {
    share: Share,
    openings_max: usize,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Permits that are given, per line.
    running: [usize; LINES],
    lines: [Line; LINES],
    /// Per line, when it was given a permit last: counted in permits.
    admitted_at: [u64; LINES],
    admitted: u64,
    openings_waiting: usize,
}

const CROWD: usize = 0;
const LIVE: usize = 1;
const REQUESTS: usize = 2;
const EVENTS: usize = 3;
const LINES: usize = 4;

/// The client that waits for its turn. A user can choose its name, and stands in no line of another kind by that.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Claimant {
    /// A user.
    User(ExternalId),
    /// A client that has no token, by its address.
    Address(IpAddr),
}

impl From<&ExternalId> for Claimant {
    fn from(user: &ExternalId) -> Self {
        Self::User(user.clone())
    }
}

impl From<IpAddr> for Claimant {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

/// The client of an admission; none: the node itself.
type Name = Option<Claimant>;

impl Purpose {
    /// To read what waited in an inbox of this class when the client connected.
    pub const fn draining(class: Class) -> Self {
        match class {
            Class::Chat => Self::Drain,
            Class::Alert | Class::Event => Self::Events,
        }
    }

    /// To read an inbox of this class for a session that is live.
    pub const fn live(class: Class) -> Self {
        match class {
            Class::Chat => Self::Live,
            Class::Alert | Class::Event => Self::Events,
        }
    }

    const fn line(self) -> usize {
        match self {
            Self::Opening | Self::Drain => CROWD,
            Self::Live => LIVE,
            Self::Request => REQUESTS,
            Self::Events => EVENTS,
        }
    }

    /// The label of the metrics.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Drain => "drain",
            Self::Live => "live",
            Self::Request => "request",
            Self::Events => "events",
        }
    }
}

impl AdmissionQueue {
    /// A queue for a pool of this size. At most `openings_max` openings may wait.
    pub fn new(pool_size: u32, openings_max: u32, metrics: Arc<Metrics>) -> Self {
        let openings_max = usize::try_from(openings_max).unwrap_or(usize::MAX);
        let lines = [CATCHING_UP_OF_A_USER, LIVE_OF_A_USER, REQUESTS_OF_A_USER, LIVE_OF_A_USER].map(Line::new);
        let state = State { running: [0; LINES], lines, admitted_at: [0; LINES], admitted: 0, openings_waiting: 0 };
        Self(Arc::new(Inner { share: Share::of(pool_size), openings_max, metrics, state: Mutex::new(state) }))
    }

    /// The number of clients that may catch up at the same time.
    pub fn crowd_at_once(&self) -> usize {
        self.0.share.crowd
    }

    /// Waits for a permit, however long. The number that waits is not bounded by this: requests come by [`AdmissionQueue::admit_request`],
    /// openings by [`AdmissionQueue::admit_opening`].
    pub async fn admit(&self, purpose: Purpose, user: Option<ExternalId>) -> Admission {
        self.admit_claimant(purpose, user.map(Claimant::User)).await
    }

    async fn admit_claimant(&self, purpose: Purpose, claimant: Name) -> Admission {
        match self.0.ask(purpose, claimant) {
            Ok(admission) => admission,
            Err(ticket) => ticket.admitted().await,
        }
    }

    /// Waits for a permit to do what this client asks for.
    ///
    /// # Errors
    /// [`Refusal::Busy`]: as many requests of this client wait already as may.
    pub async fn admit_request(&self, claimant: impl Into<Claimant>) -> Result<Admission, Refusal> {
        let claimant = Some(claimant.into());
        if !self.0.lock().lines[REQUESTS].may_wait(&claimant) {
            return Err(Refusal::BUSY);
        }
        Ok(self.admit_claimant(Purpose::Request, claimant).await)
    }

    /// Waits for a permit to open a session.
    ///
    /// # Errors
    /// [`Refusal::Crowded`]: too many wait, of all users or of this one, or this opening has waited for 8 s.
    pub async fn admit_opening(&self, user: &ExternalId) -> Result<Admission, Refusal> {
        if self.is_crowded() || !self.0.lock().lines[CROWD].may_wait(&Some(user.into())) {
            return Err(Refusal::Crowded);
        }
        tokio::time::timeout(OPENING_WAIT_MAX, self.admit(Purpose::Opening, Some(user.clone()))).await.map_err(|_| Refusal::Crowded)
    }

    /// Returns whether another opening would be refused at once.
    pub fn is_crowded(&self) -> bool {
        self.0.lock().openings_waiting >= self.0.openings_max
    }
}

/// A place in a line. Dropped, it is free again.
#[derive(Debug)]
struct Ticket {
    queue: Arc<Inner>,
    purpose: Purpose,
    no: u64,
    user: Name,
    since: Instant,
    answer: oneshot::Receiver<Admission>,
}

impl Ticket {
    async fn admitted(mut self) -> Admission {
        // A sender that is dropped is gone with the node: then nothing should wait for ever.
        (&mut self.answer).await.unwrap_or(Admission { queue: None, line: self.purpose.line(), user: None })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.lines[self.purpose.line()].leave(&self.user, self.no);
        if self.purpose == Purpose::Opening {
            state.openings_waiting -= 1;
        }
        drop(state);
        self.queue.metrics.turns_waiting.of(self.purpose.as_str()).dec();
        self.queue.metrics.turn_wait.of(self.purpose.as_str()).observe(self.since.elapsed().as_secs_f64());
    }
}

impl Inner {
    /// A permit at once, or a place in the line.
    fn ask(self: &Arc<Self>, purpose: Purpose, user: Name) -> Result<Admission, Ticket> {
        let line = purpose.line();
        let mut state = self.lock();
        if state.lines[line].is_idle() && state.lines[line].may_run(&user) && self.has_room(&state, line) {
            state.lines[line].begin(&user);
            state.count(line);
            drop(state);
            self.metrics.turn_wait.of(purpose.as_str()).observe(0.0);
            return Ok(Admission { queue: Some(Arc::clone(self)), line, user });
        }
        let (sender, answer) = oneshot::channel();
        let no = state.lines[line].enter(&user, sender);
        if purpose == Purpose::Opening {
            state.openings_waiting += 1;
        }
        drop(state);
        self.metrics.turns_waiting.of(purpose.as_str()).inc();
        Err(Ticket { queue: Arc::clone(self), purpose, no, user, since: Instant::now(), answer })
    }

    fn has_room(&self, state: &State, line: usize) -> bool {
        let [crowd, live, requests, events] = state.running;
        let all_but_live = crowd + requests + events;
        let is_below_shared = all_but_live < self.share.all_but_live;
        all_but_live + live < self.share.all
            && match line {
                CROWD => crowd < self.share.crowd && is_below_shared,
                REQUESTS => requests < self.share.requests && is_below_shared,
                EVENTS => events < self.share.events && is_below_shared,
                _ => true,
            }
    }

    /// A permit is back: those who are next are admitted.
    fn release(self: &Arc<Self>, line: usize, user: &Name) {
        let mut state = self.lock();
        state.running[line] -= 1;
        state.lines[line].end(user);
        while let Some(line) = self.next_line(&state) {
            let Some((user, sender)) = state.lines[line].next() else { return };
            state.count(line);
            if let Err(mut admission) = sender.send(Admission { queue: Some(Arc::clone(self)), line, user }) {
                // Its client has just gone away. Not dropped as it is: that would come here again, and the lock is held.
                admission.queue = None;
                state.running[line] -= 1;
                state.lines[line].end(&admission.user);
            }
        }
    }

    /// A line without a permit goes first, the one that has waited longest before others: none is ever starved. Else live sessions go
    /// first, and events last.
    fn next_line(&self, state: &State) -> Option<usize> {
        let ready = |line: &usize| !state.lines[*line].is_idle() && self.has_room(state, *line);
        let starved = [CROWD, LIVE, REQUESTS, EVENTS].into_iter().filter(|line| state.running[*line] == 0 && ready(line));
        starved.min_by_key(|line| state.admitted_at[*line]).or_else(|| [LIVE, REQUESTS, CROWD, EVENTS].into_iter().find(ready))
    }

    /// Nothing panics while it is held, and numbers that are left in the middle would be true all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a permit that is given.
    fn count(&mut self, line: usize) {
        self.running[line] += 1;
        self.admitted += 1;
        self.admitted_at[line] = self.admitted;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.release(self.line, &self.user);
        }
    }
}

#[cfg(test)]
mod tests;
