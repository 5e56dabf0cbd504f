//! Runs the faults of the plan. Each fault has a task of its own, lasts as long as the plan says, and undoes itself. The timeline has its
//! begin, its end and its outcome.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use uuid::Uuid;

use super::actor::Progress;
use super::outcome::FaultOutcome;
use super::plan::{Fault, Kind};
use super::proxy::{Half, NetworkState, Proxy};
use super::rng::Rng;
use super::testbed::{Backend, End, Node, Testbed};
use restante::cli::exit::words as words_of;
use restante_judge::Recorder;

/// A clock is off by at most ten minutes.
const CLOCK_OFF_BY_MS_MAX: u64 = 600_000;

/// The events of a run with their times. Clones share one list.
#[derive(Debug, Clone)]
pub struct Timeline {
    began: Instant,
    entries: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Timeline {
    /// An empty timeline. `began` is its time 0.
    pub fn new(began: Instant) -> Self {
        Self { began, entries: Arc::default() }
    }

    /// Adds an event of this moment.
    pub fn note(&self, words: String) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push((self.began.elapsed(), words));
    }

    /// All events, in the order in which they were added.
    pub fn entries(&self) -> Vec<(Duration, String)> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The targets of the faults.
#[derive(Debug, Clone)]
pub struct Faults {
    /// Nodes, PostgreSQL and proxies.
    pub testbed: Arc<Testbed>,
    /// The clients' flags, through which a fault can ask something of a client.
    pub clients: Arc<[Arc<Progress>]>,
    /// The users, each with one of its clients.
    pub users: Arc<[(String, String)]>,
    /// The run's timeline.
    pub timeline: Timeline,
    /// Messages that were recalled in SQL.
    pub recalled: Arc<Mutex<HashSet<Uuid>>>,
    /// Messages that were put back, with the recipient.
    pub requeued: Arc<Mutex<HashSet<(Uuid, String)>>>,
    /// The acts of an application and an operator in SQL.
    pub acts: Arc<Mutex<Recorder>>,
    /// Held by the rotation of data keys that is under way.
    pub rotating: Arc<tokio::sync::Mutex<()>>,
}

impl Faults {
    /// Runs the fault, and returns when it is undone, with its outcome.
    pub async fn commit(self, fault: Fault) -> (Kind, FaultOutcome) {
        let Fault { kind, node, lasts, .. } = fault;
        let place = if is_of_a_node(kind) { format!(" (node {node})") } else { String::new() };
        let length = if lasts.as_millis() > 1 { format!(" for {} ms", lasts.as_millis()) } else { String::new() };
        let began = Instant::now();
        self.timeline.note(format!("{}{place}{length}", kind.name()));
        let outcome = self.perform(fault).await.unwrap_or_else(|error| FaultOutcome::Failed(words_of(error.as_ref())));
        match &outcome {
            FaultOutcome::Done(words) if words.is_empty() && lasts.as_millis() <= 1 => {}
            FaultOutcome::Done(words) => {
                let words = if words.is_empty() { String::new() } else { format!(": {words}") };
                self.timeline.note(format!("{}{place} over after {} ms{words}", kind.name(), began.elapsed().as_millis()));
            }
            FaultOutcome::PassedOver(why) => self.timeline.note(format!("{}{place} passed over: {why}", kind.name())),
            FaultOutcome::Failed(why) => self.timeline.note(format!("{}{place} could not be done: {why}", kind.name())),
        }
        (kind, outcome)
    }

    async fn perform(&self, Fault { kind, node, lasts, chance, .. }: Fault) -> anyhow::Result<FaultOutcome> {
        let (database, node) = (&self.testbed.database, &self.testbed.nodes[node]);
        let mut rng = Rng::new(chance, kind.name());
        let mut words = String::new();
        match kind {
            Kind::NodeKill => node.kill(lasts).await?,
            Kind::Clock => words = turn_clock(node, &mut rng, lasts).await?,
            Kind::NodeStop => node.stop(lasts).await?,
            Kind::Cut => node.front.cut(),
            Kind::Stall => network(&node.front, NetworkState::Stalled, lasts).await,
            Kind::HalfOpen => halve(&node.front, &mut rng, lasts).await,
            Kind::Delay => network(&node.front, NetworkState::Delayed(rng.between(5, 150)), lasts).await,
            Kind::Slow => network(&node.front, NetworkState::Slow(rng.between(4_000, 40_000)), lasts).await,
            Kind::Double => self.double(&mut rng),
            Kind::DatabaseCut => node.back.cut(),
            Kind::DatabaseStall => network(&node.back, NetworkState::Stalled, lasts).await,
            Kind::DatabaseHalfOpen => halve(&node.back, &mut rng, lasts).await,
            Kind::DatabaseLoss => node.back.lose(),
            Kind::DatabaseDelay => network(&node.back, NetworkState::Delayed(rng.between(2, 40)), lasts).await,
            Kind::DiskFull => network(&node.back, NetworkState::DiskFull, lasts).await,
            Kind::PostmasterKill => database.restart(End::Kill, lasts).await?,
            Kind::PostmasterStop => database.stop_postmaster(lasts).await?,
            Kind::PostgresFast => database.restart(End::Fast, lasts).await?,
            Kind::PostgresImmediate => database.restart(End::Immediate, lasts).await?,
            Kind::BackendStop => words = database.stop_backend(&mut rng, lasts).await?,
            Kind::BackendKill => words = database.kill_backend(&mut rng).await?,
            Kind::BackendEnd => words = database.end_backend(Backend::Any, &mut rng).await?,
            Kind::ListenerEnd => words = database.end_backend(Backend::Listener, &mut rng).await?,
            Kind::Promote => return database.promote(&mut rng, lasts).await,
            Kind::StandbyStop => return database.stop_standby(lasts).await,
            Kind::StandbyKill => return database.kill_standby(lasts).await,
            Kind::Requeue => return self.requeue(&mut rng).await,
            Kind::Recall => return self.recall(&mut rng).await,
            Kind::Block => return self.block(&mut rng).await,
            Kind::Revoke => return self.revoke(&mut rng).await,
            Kind::Rotate => return self.rotate(node, lasts).await,
            Kind::MasterKeys => self.testbed.turn_master_keys(lasts).await?,
            Kind::Purge => match database.purge(&mut rng).await? {
                Some((user, gone)) => words = format!("{gone} rows of {user}"),
                None => return Ok(FaultOutcome::PassedOver("nobody has events".to_owned())),
            },
        }
        Ok(FaultOutcome::Done(words))
    }

    fn double(&self, rng: &mut Rng) {
        for client in self.clients.iter().filter(|_| rng.chance(300)) {
            client.doubles.store(true, Ordering::Relaxed);
        }
    }

    async fn recall(&self, rng: &mut Rng) -> anyhow::Result<FaultOutcome> {
        let Some((message, sender)) = self.testbed.database.recallable(rng).await? else {
            return Ok(FaultOutcome::PassedOver("nobody has sent anything".to_owned()));
        };
        // Noted before it is done: when no answer comes, it may have been done all the same.
        self.recalled.lock().unwrap_or_else(PoisonError::into_inner).insert(message);
        self.testbed.database.recall(message, &sender).await?;
        Ok(FaultOutcome::Done(format!("{message} of {sender}")))
    }

    async fn requeue(&self, rng: &mut Rng) -> anyhow::Result<FaultOutcome> {
        let Some((message, user)) = self.testbed.database.failed(rng).await? else {
            return Ok(FaultOutcome::PassedOver("nothing has failed".to_owned()));
        };
        let words = format!("{message} for {user}");
        // Noted before it is done: when no answer comes, it may have been done all the same.
        self.requeued.lock().unwrap_or_else(PoisonError::into_inner).insert((message, user.clone()));
        self.testbed.database.requeue(message, &user).await?;
        Ok(FaultOutcome::Done(words))
    }
}

const fn is_of_a_node(kind: Kind) -> bool {
    match kind {
        Kind::NodeKill | Kind::Clock | Kind::NodeStop | Kind::Cut | Kind::Stall | Kind::HalfOpen | Kind::Delay | Kind::Slow => true,
        Kind::DatabaseCut | Kind::DatabaseStall | Kind::DatabaseHalfOpen | Kind::DatabaseLoss | Kind::DatabaseDelay | Kind::DiskFull => {
            true
        }
        Kind::Rotate => true,
        Kind::Block | Kind::Revoke | Kind::MasterKeys => false,
        Kind::Double | Kind::PostmasterKill | Kind::PostmasterStop | Kind::PostgresFast | Kind::PostgresImmediate => false,
        Kind::BackendStop | Kind::BackendKill | Kind::BackendEnd | Kind::ListenerEnd | Kind::Requeue | Kind::Recall | Kind::Purge => false,
        Kind::Promote | Kind::StandbyStop | Kind::StandbyKill => false,
    }
}

/// Kills the node and turns its clock by at least five seconds: clocks differ by less anyway.
async fn turn_clock(node: &Node, rng: &mut Rng, pause: Duration) -> anyhow::Result<String> {
    let off_by_ms = i64::try_from(rng.between(5_000, CLOCK_OFF_BY_MS_MAX))? * if rng.chance(500) { 1 } else { -1 };
    node.kill_and_turn_clock(pause, off_by_ms).await?;
    Ok(format!("off by {} s", off_by_ms / 1000))
}

async fn network(proxy: &Proxy, network: NetworkState, lasts: Duration) {
    proxy.set(network);
    sleep(lasts).await;
    proxy.set(NetworkState::Normal);
}

async fn halve(proxy: &Proxy, rng: &mut Rng, lasts: Duration) {
    proxy.halve(if rng.chance(500) { Half::Client } else { Half::Server });
    sleep(lasts).await;
    proxy.mend();
}
