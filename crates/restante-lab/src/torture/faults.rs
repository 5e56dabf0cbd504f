//! The faults of the plan, done. Each runs by itself, lasts as long as it is to last, and undoes itself; what it did and
//! what came of it goes into the timeline.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use uuid::Uuid;

use super::actor::Progress;
use super::dice::Dice;
use super::outcome::Outcome;
use super::plan::{Fault, Kind};
use super::proxy::{Half, Proxy, Weather};
use super::stand::{Backend, End, Node, Stand};
use restante::cli::exit::words as words_of;

/// Ten minutes.
const CLOCK_OFF_BY_MS_MAX: u64 = 600_000;

/// What happened, and when.
#[derive(Debug, Clone)]
pub struct Timeline {
    began: Instant,
    entries: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Timeline {
    /// An empty one.
    pub fn new(began: Instant) -> Self {
        Self { began, entries: Arc::default() }
    }

    /// Something has happened now.
    pub fn note(&self, words: String) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push((self.began.elapsed(), words));
    }

    /// All of it.
    pub fn entries(&self) -> Vec<(Duration, String)> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What faults are done to.
#[derive(Debug, Clone)]
pub struct Faults {
    /// Nodes, PostgreSQL, proxies.
    pub stand: Arc<Stand>,
    /// The clients, as far as they can be told something.
    pub clients: Arc<[Arc<Progress>]>,
    /// What is written down.
    pub timeline: Timeline,
    /// Messages that were put back, and for whom.
    pub requeued: Arc<Mutex<HashSet<(Uuid, String)>>>,
}

impl Faults {
    /// Does it, and returns when it is undone, with what became of it.
    pub async fn commit(self, fault: Fault) -> (Kind, Outcome) {
        let Fault { kind, node, lasts, .. } = fault;
        let place = if is_of_a_node(kind) { format!(" (node {node})") } else { String::new() };
        let length = if lasts.as_millis() > 1 { format!(" for {} ms", lasts.as_millis()) } else { String::new() };
        let began = Instant::now();
        self.timeline.note(format!("{}{place}{length}", kind.name()));
        let outcome = self.perform(fault).await.unwrap_or_else(|error| Outcome::Failed(words_of(error.as_ref())));
        match &outcome {
            Outcome::Done(words) if words.is_empty() && lasts.as_millis() <= 1 => {}
            Outcome::Done(words) => {
                let words = if words.is_empty() { String::new() } else { format!(": {words}") };
                self.timeline.note(format!("{}{place} over after {} ms{words}", kind.name(), began.elapsed().as_millis()));
            }
            Outcome::PassedOver(why) => self.timeline.note(format!("{}{place} passed over: {why}", kind.name())),
            Outcome::Failed(why) => self.timeline.note(format!("{}{place} could not be done: {why}", kind.name())),
        }
        (kind, outcome)
    }

    async fn perform(&self, Fault { kind, node, lasts, chance, .. }: Fault) -> anyhow::Result<Outcome> {
        let (database, node) = (&self.stand.database, &self.stand.nodes[node]);
        let mut dice = Dice::new(chance, kind.name());
        let mut words = String::new();
        match kind {
            Kind::NodeKill => node.kill(lasts).await?,
            Kind::Clock => words = turn_clock(node, &mut dice, lasts).await?,
            Kind::NodeStop => node.stop(lasts).await?,
            Kind::Cut => node.front.cut(),
            Kind::Stall => weather(&node.front, Weather::Stalled, lasts).await,
            Kind::HalfOpen => halve(&node.front, &mut dice, lasts).await,
            Kind::Delay => weather(&node.front, Weather::Delayed(dice.between(5, 150)), lasts).await,
            Kind::Slow => weather(&node.front, Weather::Slow(dice.between(4_000, 40_000)), lasts).await,
            Kind::Double => self.double(&mut dice),
            Kind::DatabaseCut => node.back.cut(),
            Kind::DatabaseStall => weather(&node.back, Weather::Stalled, lasts).await,
            Kind::DatabaseHalfOpen => halve(&node.back, &mut dice, lasts).await,
            Kind::DatabaseLoss => node.back.lose(),
            Kind::DatabaseDelay => weather(&node.back, Weather::Delayed(dice.between(2, 40)), lasts).await,
            Kind::DiskFull => weather(&node.back, Weather::DiskFull, lasts).await,
            Kind::PostmasterKill => database.restart(End::Kill, lasts).await?,
            Kind::PostmasterStop => database.stop_postmaster(lasts).await?,
            Kind::PostgresFast => database.restart(End::Fast, lasts).await?,
            Kind::PostgresImmediate => database.restart(End::Immediate, lasts).await?,
            Kind::BackendStop => words = database.stop_backend(&mut dice, lasts).await?,
            Kind::BackendKill => words = database.kill_backend(&mut dice).await?,
            Kind::BackendEnd => words = database.end_backend(Backend::Any, &mut dice).await?,
            Kind::ListenerEnd => words = database.end_backend(Backend::Listener, &mut dice).await?,
            Kind::Promote => return database.promote(&mut dice, lasts).await,
            Kind::StandbyStop => return database.stop_standby(lasts).await,
            Kind::StandbyKill => return database.kill_standby(lasts).await,
            Kind::Requeue => return self.requeue(&mut dice).await,
        }
        Ok(Outcome::Done(words))
    }

    fn double(&self, dice: &mut Dice) {
        for client in self.clients.iter().filter(|_| dice.chance(300)) {
            client.doubles.store(true, Ordering::Relaxed);
        }
    }

    async fn requeue(&self, dice: &mut Dice) -> anyhow::Result<Outcome> {
        let Some((message, user)) = self.stand.database.failed(dice).await? else {
            return Ok(Outcome::PassedOver("nothing has failed".to_owned()));
        };
        let words = format!("{message} for {user}");
        // Before it is done: an answer that does not come does not say that it was not.
        self.requeued.lock().unwrap_or_else(PoisonError::into_inner).insert((message, user.clone()));
        self.stand.database.requeue(message, &user).await?;
        Ok(Outcome::Done(words))
    }
}

const fn is_of_a_node(kind: Kind) -> bool {
    match kind {
        Kind::NodeKill | Kind::Clock | Kind::NodeStop | Kind::Cut | Kind::Stall | Kind::HalfOpen | Kind::Delay | Kind::Slow => true,
        Kind::DatabaseCut | Kind::DatabaseStall | Kind::DatabaseHalfOpen | Kind::DatabaseLoss | Kind::DatabaseDelay | Kind::DiskFull => {
            true
        }
        Kind::Double | Kind::PostmasterKill | Kind::PostmasterStop | Kind::PostgresFast | Kind::PostgresImmediate => false,
        Kind::BackendStop | Kind::BackendKill | Kind::BackendEnd | Kind::ListenerEnd | Kind::Requeue => false,
        Kind::Promote | Kind::StandbyStop | Kind::StandbyKill => false,
    }
}

/// Off by at least some seconds: less is what clocks are anyway.
async fn turn_clock(node: &Node, dice: &mut Dice, pause: Duration) -> anyhow::Result<String> {
    let off_by_ms = i64::try_from(dice.between(5_000, CLOCK_OFF_BY_MS_MAX))? * if dice.chance(500) { 1 } else { -1 };
    node.kill_and_turn_clock(pause, off_by_ms).await?;
    Ok(format!("off by {} s", off_by_ms / 1000))
}

async fn weather(proxy: &Proxy, weather: Weather, lasts: Duration) {
    proxy.set(weather);
    sleep(lasts).await;
    proxy.set(Weather::Fair);
}

async fn halve(proxy: &Proxy, dice: &mut Dice, lasts: Duration) {
    proxy.halve(if dice.chance(500) { Half::Client } else { Half::Server });
    sleep(lasts).await;
    proxy.mend();
}
