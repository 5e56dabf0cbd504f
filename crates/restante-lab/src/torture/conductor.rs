//! The whole run: users and groups are made, clients run, and faults come as planned. Then everything is mended, and the clients get
//! time to come back, to drain, and to hear the last receipts. The run ends with the evidence; the judge decides over it.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::actor::{Actor, Environment, Feed, Group, Phase, Progress, Tokens};
use super::faults::{Faults, Timeline};
use super::outcome::Tallies;
use super::plan::Fault;
use super::rng::Rng;
use super::testbed::node::{ACK_TIMEOUT_MS, ATTEMPTS_MAX};
use super::testbed::{Features, Testbed};
use restante_judge::{Event, Evidence, History, Recorder, Rule};

/// The configuration of a run.
#[derive(Debug, Clone)]
pub struct RunConfig {
    /// The seed, from which all random choices follow.
    pub seed: u64,
    /// The time in which faults come.
    pub time: Duration,
    /// The number of nodes.
    pub nodes: usize,
    /// The number of clients.
    pub clients: usize,
    /// Milliseconds between two actions of a client, on average.
    pub pace_ms: u64,
    /// The things that the run has beside its nodes.
    pub features: Features,
    /// The faults.
    pub plan: Vec<Fault>,
    /// The directory for the histories; `None`: they are not written.
    pub histories: Option<PathBuf>,
}

/// A run that has ended.
pub struct Run {
    /// The judge's evidence.
    pub evidence: Evidence,
    /// The outcomes of the faults.
    pub tallies: Tallies,
    /// The events with their times, for the report.
    pub timeline: Timeline,
    /// The last lines of each node's log.
    pub logs: Vec<String>,
}

/// The clients while they run.
struct Clients {
    away: Vec<String>,
    names: Vec<(String, String)>,
    progress: Arc<[Arc<Progress>]>,
    phase: watch::Sender<Phase>,
    tasks: JoinSet<History>,
}

/// The time for which the clients may hear nothing new in the last two phases and not be at the end.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// The time that each of these phases may take in all: thousands of rows may wait for one client, on a machine that has other work.
const PHASE_MAX: Duration = Duration::from_secs(360);
/// A client that has heard nothing for this long in the last phase has heard everything: a node sends marks at once.
const QUIET_MS: u64 = 2_500;
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Records of a client, beside those of each minute: many times what a client of a service that works writes down.
const RECORDS_MAX: usize = 30_000;
/// Records of a client in a minute at the usual pace.
const RECORDS_PER_MINUTE_MAX: usize = 12_000;
const USUAL_PACE_MS: u64 = 250;
/// A revocation may take this long where nothing is broken: nodes look every 5 s.
const REVOCATION_MAX_MS: u64 = 10_000;
/// The same under faults: a node may be stopped, without a database, or behind a connection that stands still, one after another.
const REVOCATION_UNDER_FAULTS_MAX_MS: u64 = 45_000;

impl RunConfig {
    /// The records of all clients together with which the run ends, because the service repeats without an end.
    fn records_max(&self) -> usize {
        let pace = usize::try_from((USUAL_PACE_MS / self.pace_ms.max(1)).max(1)).unwrap_or(1);
        let minutes = usize::try_from(self.time.as_secs().div_ceil(60)).unwrap_or(1);
        self.clients * (RECORDS_MAX + RECORDS_PER_MINUTE_MAX * pace * minutes)
    }

    fn revocation_max_ms(&self) -> u64 {
        if self.plan.iter().all(|fault| fault.kind.is_request()) { REVOCATION_MAX_MS } else { REVOCATION_UNDER_FAULTS_MAX_MS }
    }
}

/// Runs it. At the end the nodes are ended, and PostgreSQL still runs.
///
/// # Errors
/// When the testbed, a client or the last read of the database fails.
pub async fn run(setting: &RunConfig, testbed: &Arc<Testbed>) -> anyhow::Result<Run> {
    let mut database = testbed.database.connect().await?;
    restante_judge::snapshot::watch_members(&mut database).await.context("cannot watch the members")?;
    drop(database);
    let began = Instant::now();
    let timeline = Timeline::new(began);
    let mut acts = Recorder::new("acts", "", began, setting.histories.as_deref()).context("cannot write histories")?;
    if setting.features.contacts {
        befriend(&users(setting), testbed, &mut acts).await?;
    }
    let cast = Clients::assemble(setting, testbed, began).await?;
    let faults = Faults {
        testbed: Arc::clone(testbed),
        clients: Arc::clone(&cast.progress),
        users: cast.users(),
        timeline: timeline.clone(),
        recalled: Arc::new(Mutex::new(HashSet::new())),
        requeued: Arc::new(Mutex::new(HashSet::new())),
        acts: Arc::new(Mutex::new(acts)),
        rotating: Arc::default(),
    };
    let (died, tallies, stuck) = tokio::select! {
        whole = whole_run(setting, &faults, &cast, began) => whole?,
        words = cast.overflow(setting.records_max()) => {
            timeline.note(words.clone());
            testbed.database.ensure().await?;
            (Vec::new(), Tallies::of(&setting.plan), vec![words])
        }
    };
    let (histories, away) = cast.end().await?;
    testbed.end_nodes().await;
    let snapshot = restante_judge::snapshot::read(&mut testbed.database.connect().await?).await.context("cannot read the rows")?;
    let requeued = faults.requeued.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let recalled = faults.recalled.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let acts = faults.acts.lock().unwrap_or_else(PoisonError::into_inner).take();
    let evidence = Evidence {
        histories,
        acts,
        contacts_only: setting.features.contacts,
        revocation_max_ms: setting.revocation_max_ms(),
        snapshot,
        away,
        stuck,
        died,
        recalled,
        requeued,
        attempts_max: ATTEMPTS_MAX,
        ack_timeout_ms: ACK_TIMEOUT_MS,
        // Clients leave messages unread, and send to chats that they have left.
        exempt: BTreeSet::from([Rule::Unread, Rule::Refused]),
    };
    Ok(Run { evidence, tallies, timeline, logs: testbed.nodes.iter().map(super::testbed::Node::log).collect() })
}

/// The faults, the mending and the clients' end. Returns the nodes that ended by themselves, the outcomes of the faults, and the clients that
/// did not come to their end.
async fn whole_run(
    setting: &RunConfig,
    faults: &Faults,
    cast: &Clients,
    began: Instant,
) -> anyhow::Result<(Vec<String>, Tallies, Vec<String>)> {
    let (died, tallies) = fault_time(setting, faults, began).await;
    mend(&faults.testbed, &faults.timeline).await?;
    let stuck = cast.come_to_an_end(&faults.testbed, began, &faults.timeline).await;
    Ok((died, tallies, stuck))
}

/// Runs the plan until its time is over and every fault has undone itself, and starts nodes that end by themselves. Returns those
/// nodes in words, and the outcomes of the faults.
async fn fault_time(setting: &RunConfig, faults: &Faults, began: Instant) -> (Vec<String>, Tallies) {
    let mut tallies = Tallies::of(&setting.plan);
    let mut under_way = JoinSet::new();
    let plan = async {
        for fault in &setting.plan {
            sleep_until((began + fault.at).into()).await;
            under_way.spawn(faults.clone().commit(*fault));
        }
        sleep_until((began + setting.time).into()).await;
        while let Some(ended) = under_way.join_next().await {
            // A fault whose task panicked has no outcome.
            if let Ok((kind, outcome)) = ended {
                tallies.count(kind, outcome);
            }
        }
    };
    let mut died = Vec::new();
    let watch = async {
        loop {
            sleep(POLL_INTERVAL).await;
            for (number, node) in faults.testbed.nodes.iter().enumerate() {
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

async fn mend(testbed: &Testbed, timeline: &Timeline) -> anyhow::Result<()> {
    testbed.database.ensure().await?;
    for node in &testbed.nodes {
        node.look_after().await?;
    }
    timeline.note("everything is mended".to_owned());
    Ok(())
}

impl Clients {
    async fn assemble(setting: &RunConfig, testbed: &Testbed, began: Instant) -> anyhow::Result<Self> {
        ensure!(setting.clients >= 2, "a run needs two clients");
        let users = users(setting);
        let names: Vec<(String, String)> = (0..setting.clients)
            .map(|n| {
                let user = users[n % users.len()].clone();
                (format!("{user}-{}", n / users.len() + 1), user)
            })
            .collect();
        let groups = groups(setting, testbed, &users).await?;
        let feeds = feeds(setting, testbed, &users).await?;
        // Every third user may publish to everything.
        let publishers: Vec<String> = users.iter().step_by(3).cloned().collect();
        let nodes = testbed.nodes.iter().map(|node| node.url.clone()).collect();
        let mut rng = Rng::new(setting.seed, "away");
        let away: Vec<String> = users.iter().filter(|_| rng.chance(100)).cloned().collect();
        let pace_ms = setting.pace_ms;
        let contacts = setting.features.contacts;
        let environment = Environment { nodes, users, away: away.clone(), groups, feeds, publishers, contacts, began, pace_ms };
        let environment = Arc::new(environment);
        let phase = watch::Sender::new(Phase::Run);
        let progress: Arc<[Arc<Progress>]> = names.iter().map(|_| Arc::new(Progress::default())).collect();
        let mut tasks = JoinSet::new();
        for ((name, user), progress) in names.iter().zip(progress.iter()) {
            let recorder = Recorder::new(name, user, began, setting.histories.as_deref()).context("cannot write histories")?;
            let scope = environment.publishers.contains(user).then_some("events:write");
            let who = (name.clone(), user.clone(), Tokens::new(testbed.signer.clone(), user, scope)?);
            let rng = Rng::new(setting.seed, name);
            tasks.spawn(Actor::new(who, Arc::clone(&environment), rng, recorder, phase.subscribe(), Arc::clone(progress)).run());
        }
        Ok(Self { away, names, progress, phase, tasks })
    }

    /// Two phases: first every send is answered and nothing waits; then every client connects once more, drains, and hears nothing
    /// new for a while. Returns the clients that did not come so far, each with its reason.
    async fn come_to_an_end(&self, testbed: &Testbed, began: Instant, timeline: &Timeline) -> Vec<String> {
        let mut limit = PhaseLimit::begin();
        self.enter(Phase::Finish, timeline);
        let mut stuck = self.wait(&mut limit, |client| self.unfinished(client)).await;
        while stuck.is_empty() && testbed.database.waiting(&self.away).await.unwrap_or(1) > 0 && !limit.is_over(self.heard()) {
            sleep(POLL_INTERVAL).await;
        }
        self.enter(Phase::Hear, timeline);
        stuck.extend(self.wait(&mut PhaseLimit::begin(), |client| self.not_quiet(client, began)).await);
        stuck
    }

    /// The users, each with its first client.
    fn users(&self) -> Arc<[(String, String)]> {
        let first = self.names.iter().filter(|(client, _)| client.ends_with("-1"));
        first.map(|(client, user)| (user.clone(), client.clone())).collect()
    }

    /// Waits until the clients have written down more than this. A service that repeats without an end would fill the memory.
    async fn overflow(&self, records_max: usize) -> String {
        loop {
            let records: usize = self.progress.iter().map(|progress| progress.records.load(Ordering::Relaxed)).sum();
            if records > records_max {
                return format!("the run was ended: its clients had written down {records} records, and {records_max} are the most");
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    fn enter(&self, phase: Phase, timeline: &Timeline) {
        timeline.note(format!("the clients: {phase:?}"));
        self.phase.send_replace(phase);
    }

    /// A number that changes whenever a client hears something.
    fn heard(&self) -> u64 {
        self.progress.iter().map(|progress| progress.heard_ms.load(Ordering::Relaxed)).sum()
    }

    /// Waits until `why_not` has no reason for any client that is not away, or until the limit is over. Returns the reasons that are left.
    async fn wait(&self, limit: &mut PhaseLimit, why_not: impl Fn(usize) -> Option<String>) -> Vec<String> {
        loop {
            let back = (0..self.names.len()).filter(|client| !self.away.contains(&self.names[*client].1));
            let open: Vec<String> = back.filter_map(&why_not).collect();
            if open.is_empty() || limit.is_over(self.heard()) {
                return open;
            }
            sleep(POLL_INTERVAL).await;
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

    /// Ends the clients. Returns their histories, and the users that stayed away.
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

/// The time that one of the last phases may take.
struct PhaseLimit {
    began: Instant,
    heard: u64,
    heard_at: Instant,
}

impl PhaseLimit {
    fn begin() -> Self {
        let now = Instant::now();
        Self { began: now, heard: 0, heard_at: now }
    }

    /// Returns whether nobody has heard anything for too long, or it takes too long in all. `heard` changes when a client hears something.
    fn is_over(&mut self, heard: u64) -> bool {
        let now = Instant::now();
        if heard != self.heard {
            (self.heard, self.heard_at) = (heard, now);
        }
        now.duration_since(self.heard_at) > SILENCE_MAX || now.duration_since(self.began) > PHASE_MAX
    }
}

/// The users of a run. Every third one has two clients.
fn users(setting: &RunConfig) -> Vec<String> {
    (0..setting.clients - setting.clients / 3).map(|n| format!("user-{n:02}")).collect()
}

/// Makes all users contacts of one another, before there are groups: a group is made with contacts only.
async fn befriend(users: &[String], testbed: &Testbed, acts: &mut Recorder) -> anyhow::Result<()> {
    let pairs = users.iter().flat_map(|user| users.iter().filter(move |other| *other != user).map(move |other| (user, other)));
    let pairs: Vec<(u64, (&String, &String))> = (0..).zip(pairs).collect();
    for (ask, (user, other)) in &pairs {
        acts.note(0, Event::ContactAsked { ask: *ask, user: (*user).clone(), other: (*other).clone(), wants: true });
    }
    testbed.database.befriend(users).await?;
    for (ask, _) in &pairs {
        acts.note(0, Event::ContactAnswered { ask: *ask, is_done: true, answer: "done".to_owned() });
    }
    Ok(())
}

/// Makes groups, one for every four users.
async fn groups(setting: &RunConfig, testbed: &Testbed, users: &[String]) -> anyhow::Result<Vec<Group>> {
    let mut rng = Rng::new(setting.seed, "groups");
    let mut groups = Vec::new();
    for n in 0..users.len().div_ceil(4) {
        let mut people: Vec<String> = users.iter().filter(|_| rng.chance(400)).cloned().collect();
        let admin = users[n % users.len()].clone();
        if !people.contains(&admin) {
            people.push(admin.clone());
        }
        let chat = testbed.group(&admin, &format!("group {n}"), &people).await?;
        groups.push(Group { chat, admin, people });
    }
    Ok(groups)
}

/// Makes feeds, one for every five users, with some publishers each.
async fn feeds(setting: &RunConfig, testbed: &Testbed, users: &[String]) -> anyhow::Result<Vec<Feed>> {
    let mut rng = Rng::new(setting.seed, "feeds");
    let mut feeds = Vec::new();
    for n in 0..users.len().div_ceil(5) {
        let maker = users[n % users.len()].clone();
        let mut publishers: Vec<String> = users.iter().filter(|_| rng.chance(250)).cloned().collect();
        let feed = rng.uuid();
        testbed.feed(&maker, feed, &publishers).await?;
        publishers.push(maker);
        feeds.push(Feed { feed, publishers });
    }
    Ok(feeds)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::testbed::StandbyMode;
    use super::*;

    #[tokio::test]
    async fn run_is_ended_with_a_word_once_its_clients_together_have_written_down_too_much() {
        let progress: Arc<[Arc<Progress>]> = [Arc::default(), Arc::default()].into();
        let (phase, tasks) = (watch::Sender::new(Phase::Run), JoinSet::new());
        let clients = Clients { away: Vec::new(), names: Vec::new(), progress: Arc::clone(&progress), phase, tasks };
        progress.iter().zip([60, 40]).for_each(|(client, records)| client.records.store(records, Ordering::Relaxed));
        assert_eq!(clients.overflow(100).now_or_never(), None);
        progress[1].records.store(41, Ordering::Relaxed);
        let words = clients.overflow(100).now_or_never().unwrap();
        assert!(words.contains("101 records, and 100 are the most"), "{words}");
    }

    #[test]
    fn records_that_end_a_run_are_many_more_than_one_has_and_follow_its_length_and_pace() {
        let records_max = |minutes: u64, pace_ms: u64| {
            let features = Features { standby: StandbyMode::None, encryption: false, contacts: false };
            let time = Duration::from_secs(minutes * 60);
            RunConfig { seed: 1, time, nodes: 3, clients: 24, pace_ms, features, plan: Vec::new(), histories: None }.records_max()
        };
        assert_eq!(records_max(1, 250), 24 * 42_000);
        assert_eq!(records_max(30, 250), 24 * 390_000);
        assert_eq!((records_max(1, 60), records_max(1, 60_000)), (24 * 78_000, 24 * 42_000));
    }
}
