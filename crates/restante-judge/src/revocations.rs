//! Judges revocations: a token that is revoked opens nothing and is served nothing, after the time that a revocation may take; and a
//! token that nobody revoked is as good as before.
//!
//! Frames that are under way when a token is revoked still arrive, so a run states a time after which nothing does. A revocation of a user or
//! of a device is about tokens that were issued before it, as the service says when it was made.

use std::collections::HashMap;

use super::Evidence;
use super::findings::{Findings, Rule};
use super::history::{Event, History, Record, Revoked};

/// A request of an operator.
struct Revocation<'a> {
    revoked: &'a Revoked,
    /// When it was made, in milliseconds of the run.
    asked: u64,
    /// When it was answered, in milliseconds of the run, and the time of the revocation since 1970; `None`: nobody knows.
    answer: Option<(u64, i64)>,
}

/// The token of a connection, and its device.
struct Presented<'a> {
    user: &'a str,
    device: Option<&'a str>,
    token: &'a str,
    issued_at: i64,
}

pub(super) fn judge(evidence: &Evidence, findings: &mut Findings) {
    let revocations = revocations(evidence);
    for history in &evidence.histories {
        let presented = presented(history);
        let dead = |of: &Presented<'_>| revocations.iter().filter_map(|revocation| revocation.answered_for(of)).min();
        let dead: HashMap<u32, u64> =
            presented.iter().filter_map(|(connection, of)| Some((*connection, dead(of)? + evidence.revocation_max_ms))).collect();
        for Record { at_ms, connection, event } in &history.records {
            let Some(of) = presented.get(connection) else { continue };
            let name = || format!("{} (connection {connection}, token {}, at {at_ms} ms)", history.client, of.token);
            if is_served(event)
                && let Some(limit) = dead.get(connection).filter(|limit| *at_ms > **limit)
            {
                findings.add(Rule::Revoked, || format!("{} was served, and its token was worth nothing from {limit} ms on", name()));
            }
            if *event == Event::TokenRefused && !revocations.iter().any(|revocation| revocation.may_concern(of, *at_ms)) {
                findings.add(Rule::TokenRefused, || format!("{} was refused, and nobody had revoked it", name()));
            }
        }
    }
}

impl Revocation<'_> {
    fn is_about(&self, of: &Presented<'_>) -> bool {
        match self.revoked {
            Revoked::User(user) => user == of.user,
            Revoked::Device(user, device) => user == of.user && of.device == Some(device),
            Revoked::Token(token) => token == of.token,
        }
    }

    const fn is_of_one_token(&self) -> bool {
        matches!(self.revoked, Revoked::Token(_))
    }

    /// When it was answered, if it certainly concerns this token.
    fn answered_for(&self, of: &Presented<'_>) -> Option<u64> {
        let (answered, at) = self.answer.filter(|_| self.is_about(of))?;
        (self.is_of_one_token() || of.issued_at * 1000 < at).then_some(answered)
    }

    /// Tells whether it may concern this token by then.
    fn may_concern(&self, of: &Presented<'_>, by: u64) -> bool {
        let is_older = || self.answer.is_none_or(|(_, at)| of.issued_at * 1000 <= at);
        self.is_about(of) && self.asked <= by && (self.is_of_one_token() || is_older())
    }
}

fn revocations(evidence: &Evidence) -> Vec<Revocation<'_>> {
    let mut revocations = Vec::new();
    for records in evidence.histories.iter().map(|history| &history.records).chain([&evidence.acts]) {
        let answers = records.iter().filter_map(|record| match &record.event {
            Event::RevokeAnswered { ask, revoked_at_ms: Some(at), .. } => Some((*ask, (record.at_ms, *at))),
            _ => None,
        });
        let answers: HashMap<u64, (u64, i64)> = answers.collect();
        revocations.extend(records.iter().filter_map(|record| match &record.event {
            Event::RevokeAsked { ask, revoked } => Some(Revocation { revoked, asked: record.at_ms, answer: answers.get(ask).copied() }),
            _ => None,
        }));
    }
    revocations
}

/// The tokens of a client's connections. Where a history does not say, there is none.
fn presented(history: &History) -> HashMap<u32, Presented<'_>> {
    let mut devices: HashMap<u32, Option<&str>> = HashMap::new();
    let mut presented = HashMap::new();
    for Record { connection, event, .. } in &history.records {
        match event {
            Event::Connecting { device, .. } => _ = devices.insert(*connection, device.as_deref()),
            Event::Presenting { token, issued_at } => {
                let device = devices.get(connection).copied().flatten();
                presented.insert(*connection, Presented { user: &history.user, device, token, issued_at: *issued_at });
            }
            _ => {}
        }
    }
    presented
}

/// Tells whether the service says this to a session.
const fn is_served(event: &Event) -> bool {
    matches!(
        event,
        Event::Ready { .. }
            | Event::SendConfirmed { .. }
            | Event::SendRefused { .. }
            | Event::Received { .. }
            | Event::NoticeReceived { .. }
            | Event::EventReceived { .. }
            | Event::Gap { .. }
            | Event::FeedGap { .. }
            | Event::AckConfirmed { .. }
            | Event::ReadConfirmed { .. }
            | Event::PublishConfirmed { .. }
            | Event::Told(_)
            | Event::Drained { .. }
    )
}
