//! The report of a run, as text and as JSON: seed, faults, counts, timeline and verdict.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

use super::conductor::{Run, RunConfig};
use super::outcome::Tallies;
use restante_judge::{Event, Evidence, Findings, Status};

/// Counts of what happened, so that a run in which nothing happened is not taken for a good one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    fn of(evidence: &Evidence) -> Self {
        let mut counts = Self::default();
        for record in evidence.histories.iter().flat_map(|history| &history.records).chain(&evidence.acts) {
            if let Some(what) = counted(&record.event) {
                counts.add(what);
            }
        }
        counts.add_stored(evidence);
        counts
    }

    /// Counts what the database holds at the end.
    fn add_stored(&mut self, evidence: &Evidence) {
        self.0.insert("messages stored", evidence.snapshot.messages.len() as u64);
        let recalled = evidence.snapshot.messages.values().filter(|message| message.is_recalled).count();
        self.0.insert("messages recalled", recalled as u64);
        let ended = |reason: &str| evidence.snapshot.rows.iter().filter(|row| row.reason == reason).count() as u64;
        self.0.insert("rows ended by a block", ended("undelivered"));
        let sealed = evidence.snapshot.messages.values().filter(|message| message.is_sealed).count();
        self.0.insert("messages sealed", sealed as u64);
        self.0.insert("events stored", evidence.snapshot.feeds.events.len() as u64);
        self.0.insert("rows of events", evidence.snapshot.feeds.rows.len() as u64);
        self.0.insert("rows of events removed", evidence.snapshot.feeds.removed.len() as u64);
        let merged = |record: &&restante_judge::Record| matches!(record.event, Event::EventReceived { merged: Some(2..), .. });
        let records = evidence.histories.iter().flat_map(|history| &history.records);
        self.0.insert("events received that stand for several", records.filter(merged).count() as u64);
        for row in &evidence.snapshot.rows {
            self.add(match row.status {
                Status::Sent => "rows sent",
                Status::Delivered => "rows delivered",
                Status::Read => "rows read",
                Status::Failed => "rows failed",
                Status::Expired => "rows expired",
            });
        }
        self.0.insert("users who stayed away", evidence.away.len() as u64);
        self.0.insert("rows requeued", evidence.requeued.len() as u64);
    }

    fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

/// The name under which an event is counted; none: it is not.
const fn counted(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Connecting { .. } => "connections tried",
        Event::Ready { .. } => "connections greeted",
        Event::SendAttempted { .. } => "sends attempted",
        Event::SendConfirmed { duplicate: true, .. } => "sends confirmed as duplicates",
        Event::SendConfirmed { .. } => "sends confirmed",
        Event::SendRefused { .. } => "sends refused or postponed",
        Event::Received { .. } => "envelopes received",
        Event::Rejected { .. } => "envelopes rejected",
        Event::AckedIds { .. } | Event::AckedUpTo { .. } => "ack frames",
        Event::ReadUpTo { .. } => "reads",
        Event::Told(_) => "receipts",
        Event::Gap { .. } => "gaps named",
        Event::PublishAttempted(_) => "events published",
        Event::PublishConfirmed { duplicate: true, .. } => "events confirmed as duplicates",
        Event::PublishConfirmed { .. } => "events confirmed",
        Event::PublishRefused { .. } => "events refused or postponed",
        Event::EventReceived { .. } => "events received",
        Event::FeedGap { .. } => "gaps of feeds named",
        Event::FollowAnswered { is_done: true, .. } => "follows and unfollows",
        Event::RecallAsked { .. } => "recalls asked for",
        Event::RecallAnswered { recalled_at: Some(_), .. } => "recalls answered",
        Event::NoticeReceived { .. } => "notices of recalls received",
        Event::MuteAnswered { is_done: true, .. } => "changes of what is muted",
        Event::BlockAnswered { is_done: true, .. } => "blocks made and taken back",
        Event::ContactAnswered { is_done: true, .. } => "contacts made and removed",
        Event::RevokeAnswered { revoked_at_ms: Some(_), .. } => "revocations",
        Event::TokenRefused => "tokens refused",
        Event::Membership { .. } => "joins and leaves",
        Event::Closed { .. }
        | Event::AckConfirmed { .. }
        | Event::ReadConfirmed { .. }
        | Event::Drained { .. }
        | Event::Resuming { .. }
        | Event::ReadyOf { .. }
        | Event::RecallAnswered { .. }
        | Event::RecallTold { .. }
        | Event::MuteAsked { .. }
        | Event::MuteAnswered { .. }
        | Event::FollowAsked { .. }
        | Event::FollowAnswered { .. }
        | Event::BlockAsked { .. }
        | Event::BlockAnswered { .. }
        | Event::ContactAsked { .. }
        | Event::ContactAnswered { .. }
        | Event::ToldWhy { .. }
        | Event::Presenting { .. }
        | Event::RevokeAsked { .. }
        | Event::RevokeAnswered { .. }
        | Event::Unreadable { .. }
        | Event::Objection { .. } => return None,
    })
}

/// The verdict of a run.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every rule held.
    Held,
    /// At least one rule was broken.
    Broken,
    /// Every rule held, but a fault of the standby failed; the words say why.
    None(String),
}

impl Verdict {
    /// The verdict of this run and its findings.
    pub fn of(run: &Run, findings: &Findings) -> Self {
        match run.tallies.standby_failed() {
            _ if !findings.is_empty() => Self::Broken,
            Some(why) => Self::None(why),
            None => Self::Held,
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Broken => "broken",
            Self::None(_) => "none",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("HELD: nothing was lost, and everything had its effect once"),
            Self::Broken => f.write_str("BROKEN"),
            Self::None(why) => write!(f, "NO VERDICT: {why}"),
        }
    }
}

fn list(counts: &BTreeMap<&'static str, u64>) -> String {
    let words: Vec<String> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(" · ") }
}

/// The report as text.
pub fn text(setting: &RunConfig, run: &Run, findings: &Findings) -> String {
    let mut out = String::new();
    let RunConfig { seed, time, nodes, clients, .. } = setting;
    let _ = writeln!(out, "seed {seed} · {nodes} nodes · {clients} clients · faults for {} s\n", time.as_secs_f64());
    let _ = writeln!(out, "Timeline");
    for (at, words) in run.timeline.entries() {
        let _ = writeln!(out, "  {:>9}  {words}", stamp(at));
    }
    let _ = writeln!(out, "\nFaults               drawn  done  not done");
    for (kind, tally) in run.tallies.iter() {
        // Messages of PostgreSQL's programs have several lines. The timeline and the JSON have all of them.
        let why = tally.why_not().and_then(|why| why.lines().next()).map(|why| format!("  {why}")).unwrap_or_default();
        let _ = writeln!(out, "  {:<18} {:>5} {:>5} {:>9}{why}", kind.name(), tally.drawn, tally.done, tally.not_done());
    }
    let _ = writeln!(out, "\nClients    {}\n", list(&Counts::of(&run.evidence).0));
    for (rule, count, cases) in findings.iter() {
        let _ = writeln!(out, "BROKEN {} ({count}): {}", rule.name(), rule.words());
        for case in cases {
            let _ = writeln!(out, "  {case}");
        }
    }
    if !findings.is_empty() {
        for (number, log) in run.logs.iter().enumerate().filter(|(_, log)| !log.is_empty()) {
            let _ = writeln!(out, "What node {number} said last:\n{log}");
        }
    }
    let _ = write!(out, "{} (seed {seed})", Verdict::of(run, findings));
    out
}

fn faults(tallies: &Tallies) -> BTreeMap<&'static str, Value> {
    let words = tallies.iter().map(|(kind, tally)| {
        let counts = json!({"drawn": tally.drawn, "done": tally.done, "notDone": tally.not_done(), "whyNot": tally.why_not()});
        (kind.name(), counts)
    });
    words.collect()
}

/// The report as JSON.
pub fn json(setting: &RunConfig, run: &Run, findings: &Findings) -> Value {
    let broken: Vec<Value> =
        findings.iter().map(|(rule, count, cases)| json!({"rule": rule.name(), "count": count, "cases": cases})).collect();
    let timeline: Vec<Value> =
        run.timeline.entries().into_iter().map(|(at, words)| json!({"atMs": u64::try_from(at.as_millis()).ok(), "what": words})).collect();
    json!({
        "seed": setting.seed,
        "seconds": setting.time.as_secs_f64(),
        "nodes": setting.nodes,
        "clients": setting.clients,
        "faults": faults(&run.tallies),
        "counts": Counts::of(&run.evidence).0,
        "timeline": timeline,
        "broken": broken,
        "verdict": Verdict::of(run, findings).name(),
    })
}

fn stamp(at: Duration) -> String {
    format!("{:.3}", at.as_secs_f64())
}
