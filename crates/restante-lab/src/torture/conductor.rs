//! The run from its beginning to its end: people and groups are made, clients live, faults come as planned; then everything
//! is mended, and the clients are given time to come back, to drain, and to hear what there is to hear. What comes of it
//! is evidence; whether it is good, the checker decides.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::actor::{Actor, Group, Phase, Progress, World};
use super::checker::{self, Evidence};
use super::dice::Dice;
use super::faults::{Faults, Timeline};
use super::history::{History, Scribe};
use super::outcome::Tallies;
use super::plan::Fault;
use super::stand::node::{ACK_TIMEOUT_MS, ATTEMPTS_MAX};
use super::stand::{Stand, Standby};

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Everything that is drawn follows from it.
    pub seed: u64,
    /// How long faults come.
    pub time: Duration,
    /// How many nodes.
    pub nodes: usize,
    /// How many clients.
    pub clients: usize,
    /// Milliseconds between two deeds of a client, on average.
    pub pace_ms: u64,
    /// Does PostgreSQL have a standby?
    pub standby: Standby,
    /// What is done to them.
    pub plan: Vec<Fault>,
    /// Where histories are written.
    pub histories: Option<PathBuf>,
}

/// What came of it.
pub struct Run {
    /// For the checker.
    pub evidence: Evidence,
    /// What became of the faults.
    pub tallies: Tallies,
    /// For people.
    pub timeline: Timeline,
    /// What the nodes said last, where that may help.
    pub logs: Vec<String>,
}

/// The clients, living.
struct Cast {
    away: Vec<String>,
    names: Vec<(String, String)>,
    progress: Arc<[Arc<Progress>]>,
    phase: watch::Sender<Phase>,
    tasks: JoinSet<History>,
}

/// So long the clients may take to come to their end.
const PATIENCE: Duration = Duration::from_secs(90);
/// Whoever has heard nothing for so long in the last phase has heard everything: a node tells marks at once.
const QUIET_MS: u64 = 2_500;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs it. The stand is left as it is at the end, with its nodes ended.
pub async fn run(setting: &Setting, stand: &Arc<Stand>) -> anyhow::Result<Run> {
    let mut database = stand.database.connect().await?;
    checker::watch_members(&mut database).await?;
    drop(database);
    let began = Instant::now();
    let timeline = Timeline::new(began);
    let cast = Cast::assemble(setting, stand, began).await?;
    let faults = Faults {
        stand: Arc::clone(stand),
        clients: Arc::clone(&cast.progress),
        timeline: timeline.clone(),
        requeued: Arc::new(Mutex::new(HashSet::new())),
    };
    let (died, tallies) = fault_time(setting, &faults, began).await;
    mend(stand, &timeline).await?;
    let stuck = cast.come_to_an_end(stand, began, &timeline).await;
    let (histories, away) = cast.end().await?;
    stand.end_nodes().await;
    let ledger = checker::read(&mut stand.database.connect().await?).await?;
    let requeued = faults.requeued.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let evidence = Evidence { histories, ledger, away, stuck, died, requeued, attempts_max: ATTEMPTS_MAX, ack_timeout_ms: ACK_TIMEOUT_MS };
    Ok(Run { evidence, tallies, timeline, logs: stand.nodes.iter().map(super::stand::Node::log).collect() })
}

/// Faults come as planned, and nodes are looked after, until the time is over and every fault has undone itself. Says
/// which nodes ended by themselves, and what became of the faults.
async fn fault_time(setting: &Setting, faults: &Faults, began: Instant) -> (Vec<String>, Tallies) {
    let mut tallies = Tallies::of(&setting.plan);
    let mut under_way = JoinSet::new();
    let plan = async {
        for fault in &setting.plan {
            sleep_until((began + fault.at).into()).await;
            under_way.spawn(faults.clone().commit(*fault));
        }
        sleep_until((began + setting.time).into()).await;
        while let Some(ended) = under_way.join_next().await {
            // One that broke is missing among the outcomes.
            if let Ok((kind, outcome)) = ended {
                tallies.count(kind, outcome);
            }
        }
    };
    let mut died = Vec::new();
    let watch = async {
        loop {
            sleep(LOOK_EVERY).await;
            for (number, node) in faults.stand.nodes.iter().enumerate() {
                if let Some(words) = node.look_after().await.transpose() {
                    let words = words.unwrap_or_else(|error| format!("{error:#}"));
                    faults.timeline.note(format!("node {number} has ended by itself: {words}"));
                    died.push(format!("node {number}: {words}"));
                }
            }
        }
    };
    tokio::select! {
        () = plan => {}
        () = watch => {}
    }
    (died, tallies)
}

async fn mend(stand: &Stand, timeline: &Timeline) -> anyhow::Result<()> {
    stand.database.ensure().await?;
    for node in &stand.nodes {
        node.look_after().await?;
    }
    timeline.note("everything is mended".to_owned());
    Ok(())
}

impl Cast {
    async fn assemble(setting: &Setting, stand: &Stand, began: Instant) -> anyhow::Result<Self> {
        ensure!(setting.clients >= 2, "a run needs two clients");
        // Every third user has two clients.
        let users: Vec<String> = (0..setting.clients - setting.clients / 3).map(|n| format!("user-{n:02}")).collect();
        let names: Vec<(String, String)> = (0..setting.clients)
            .map(|n| {
                let user = users[n % users.len()].clone();
                (format!("{user}-{}", n / users.len() + 1), user)
            })
            .collect();
        let groups = groups(setting, stand, &users).await?;
        let nodes = stand.nodes.iter().map(|node| node.url.clone()).collect();
        let mut dice = Dice::new(setting.seed, "away");
        let away: Vec<String> = users.iter().filter(|_| dice.chance(100)).cloned().collect();
        let world = Arc::new(World { nodes, users, away: away.clone(), groups, began, pace_ms: setting.pace_ms });
        let phase = watch::Sender::new(Phase::Run);
        let progress: Arc<[Arc<Progress>]> = names.iter().map(|_| Arc::new(Progress::default())).collect();
        let mut tasks = JoinSet::new();
        for ((name, user), progress) in names.iter().zip(progress.iter()) {
            let scribe = Scribe::new(name, user, began, setting.histories.as_deref()).context("cannot write histories")?;
            let who = (name.clone(), user.clone(), stand.token(user)?);
            let dice = Dice::new(setting.seed, name);
            tasks.spawn(Actor::new(who, Arc::clone(&world), dice, scribe, phase.subscribe(), Arc::clone(progress)).live());
        }
        Ok(Self { away, names, progress, phase, tasks })
    }

    /// Two phases: everything open is answered and nothing waits; then every client connects once more, drains, and
    /// hears nothing new for a while. Says who did not come so far.
    async fn come_to_an_end(&self, stand: &Stand, began: Instant, timeline: &Timeline) -> Vec<String> {
        let give_up = Instant::now() + PATIENCE;
        self.enter(Phase::Finish, timeline);
        let mut stuck = self.wait(give_up, |client| self.unfinished(client)).await;
        while stuck.is_empty() && stand.database.waiting(&self.away).await.unwrap_or(1) > 0 && Instant::now() < give_up {
            sleep(LOOK_EVERY).await;
        }
        self.enter(Phase::Hear, timeline);
        stuck.extend(self.wait(give_up + PATIENCE, |client| self.not_quiet(client, began)).await);
        stuck
    }

    fn enter(&self, phase: Phase, timeline: &Timeline) {
        timeline.note(format!("the clients: {phase:?}"));
        self.phase.send_replace(phase);
    }

    /// Until this says of nobody why not; else says so of each.
    async fn wait(&self, give_up: Instant, why_not: impl Fn(usize) -> Option<String>) -> Vec<String> {
        loop {
            let back = (0..self.names.len()).filter(|client| !self.away.contains(&self.names[*client].1));
            let open: Vec<String> = back.filter_map(&why_not).collect();
            if open.is_empty() || Instant::now() > give_up {
                return open;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn unfinished(&self, client: usize) -> Option<String> {
        let (progress, name) = (&self.progress[client], &self.names[client].0);
        let open = progress.open.load(Ordering::Relaxed);
        let is_drained = progress.drained_in.load(Ordering::Relaxed) >= Phase::Finish as u64;
        (open > 0 || !is_drained).then(|| format!("{name}: {open} sends without an answer, drained: {is_drained}"))
    }

    fn not_quiet(&self, client: usize, began: Instant) -> Option<String> {
        let (progress, name) = (&self.progress[client], &self.names[client].0);
        let is_drained = progress.drained_in.load(Ordering::Relaxed) >= Phase::Hear as u64;
        let now = u64::try_from(began.elapsed().as_millis()).unwrap_or_default();
        let is_quiet = now.saturating_sub(progress.heard_ms.load(Ordering::Relaxed)) > QUIET_MS;
        (!is_drained || !is_quiet).then(|| format!("{name}: at the end drained: {is_drained}, quiet: {is_quiet}"))
    }

    /// All histories, and who stayed away.
    async fn end(mut self) -> anyhow::Result<(Vec<History>, BTreeSet<String>)> {
        self.phase.send_replace(Phase::End);
        let mut histories = Vec::new();
        while let Some(history) = self.tasks.join_next().await {
            histories.push(history.context("a client broke")?);
        }
        histories.sort_by(|a, b| a.client.cmp(&b.client));
        Ok((histories, self.away.into_iter().collect()))
    }
}

/// Groups of a few, one for every four users.
async fn groups(setting: &Setting, stand: &Stand, users: &[String]) -> anyhow::Result<Vec<Group>> {
    let mut dice = Dice::new(setting.seed, "groups");
    let mut groups = Vec::new();
    for n in 0..users.len().div_ceil(4) {
        let mut people: Vec<String> = users.iter().filter(|_| dice.chance(400)).cloned().collect();
        let admin = users[n % users.len()].clone();
        if !people.contains(&admin) {
            people.push(admin.clone());
        }
        let chat = stand.group(&admin, &format!("group {n}"), &people).await?;
        groups.push(Group { chat, admin, people });
    }
    Ok(groups)
}
