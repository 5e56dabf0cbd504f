//! Tells who may write to whom at what time, from the requests of a run: blocks, and contacts where only these may write to one another.
//!
//! A request takes effect somewhere between its asking and its answer, and one without an answer at any time after its asking. So there
//! are times in which a block certainly stood, and times in which it may have stood.

use std::collections::HashMap;

use uuid::Uuid;

use super::Evidence;
use super::history::{Event, Record};

/// A request to set something between two users, or to take it back.
struct Request {
    sets: bool,
    /// When it was made, in milliseconds of the run.
    asked: u64,
    /// From when on it is certainly done; `None`: nobody knows.
    done: Option<u64>,
}

impl Request {
    fn is_done_before(&self, at: u64) -> bool {
        self.done.is_some_and(|done| done < at)
    }

    /// Tells whether it may take effect after an earlier one, by then.
    fn may_follow(&self, earlier: &Self, by: u64) -> bool {
        self.asked <= by && self.done.is_none_or(|done| done >= earlier.asked)
    }

    /// Tells whether it took effect after an earlier one, and before then.
    fn has_followed(&self, earlier: &Self, before: u64) -> bool {
        earlier.is_done_before(self.asked) && self.is_done_before(before)
    }
}

/// Requests by the user that is concerned and the other one.
type Requests<'a> = HashMap<(&'a str, &'a str), Vec<Request>>;

/// The requests of a run, and the direct messages that they are about.
pub(super) struct Policies<'a> {
    contacts_only: bool,
    blocks: Requests<'a>,
    wishes: Requests<'a>,
    /// The recipient of each direct message.
    to: HashMap<Uuid, &'a str>,
}

impl<'a> Policies<'a> {
    pub(super) fn of(evidence: &'a Evidence) -> Self {
        let contacts_only = evidence.contacts_only;
        let mut policies = Self { contacts_only, blocks: HashMap::new(), wishes: HashMap::new(), to: HashMap::new() };
        for records in evidence.histories.iter().map(|history| &history.records).chain([&evidence.acts]) {
            policies.take(records);
        }
        policies
    }

    fn take(&mut self, records: &'a [Record]) {
        let answers = records.iter().filter_map(|record| match &record.event {
            Event::BlockAnswered { ask, is_done: true, .. } | Event::ContactAnswered { ask, is_done: true, .. } => {
                Some((*ask, record.at_ms))
            }
            _ => None,
        });
        let answers: HashMap<u64, u64> = answers.collect();
        let request = |record: &Record, ask, sets| Request { sets, asked: record.at_ms, done: answers.get(ask).copied() };
        for record in records {
            match &record.event {
                Event::BlockAsked { ask, user, other, blocks } => {
                    self.blocks.entry((user, other)).or_default().push(request(record, ask, *blocks));
                }
                Event::ContactAsked { ask, user, other, wants } => {
                    self.wishes.entry((user, other)).or_default().push(request(record, ask, *wants));
                }
                Event::SendAttempted { message, to: Some(to), .. } => _ = self.to.insert(*message, to),
                _ => {}
            }
        }
    }

    /// The recipient of a direct message to another user.
    pub(super) fn recipient(&self, message: Uuid, sender: &str) -> Option<&'a str> {
        self.to.get(&message).copied().filter(|to| *to != sender)
    }

    fn is_direct(&self, message: Uuid, sender: &str, recipient: &str) -> bool {
        self.recipient(message, sender) == Some(recipient)
    }

    /// Tells whether one of the two certainly blocked the other all the time between these.
    pub(super) fn is_certainly_closed(&self, one: &str, other: &str, from: u64, to: u64) -> bool {
        let stands = |requests: &[Request]| {
            let is_undone = |block: &Request| requests.iter().any(|undo| !undo.sets && undo.may_follow(block, to));
            requests.iter().any(|block| block.sets && block.is_done_before(from) && !is_undone(block))
        };
        stands(of(&self.blocks, one, other)) || stands(of(&self.blocks, other, one))
    }

    /// Tells whether the user may have blocked the other one at some time between these.
    pub(super) fn may_block(&self, user: &str, other: &str, from: u64, to: u64) -> bool {
        let requests = of(&self.blocks, user, other);
        let is_undone = |block: &Request| requests.iter().any(|undo| !undo.sets && undo.has_followed(block, from));
        requests.iter().any(|block| block.sets && block.asked <= to && !is_undone(block))
    }

    fn may_be_closed(&self, one: &str, other: &str, from: u64, to: u64) -> bool {
        self.may_block(one, other, from, to) || self.may_block(other, one, from, to)
    }

    /// Tells whether the user ever asked to block somebody.
    pub(super) fn has_ever_blocked(&self, user: &str) -> bool {
        self.blocks.keys().any(|(by, _)| *by == user)
    }

    /// Tells whether a block may have ended the row of a direct message.
    pub(super) fn may_have_ended(&self, message: Uuid, sender: &str, recipient: &str) -> bool {
        self.is_direct(message, sender, recipient) && self.may_block(recipient, sender, 0, u64::MAX)
    }

    /// Tells whether a block may hide from its sender what a direct message has become since then: it is not told then, nor later.
    pub(super) fn may_hide(&self, message: Uuid, sender: &str, recipient: &str, since: u64) -> bool {
        self.is_direct(message, sender, recipient) && self.may_be_closed(sender, recipient, since, u64::MAX)
    }

    /// From when on a message that was accepted by then has certainly ended for its recipient, if it still waited. All that waits ends with
    /// the block, and stays ended.
    pub(super) fn ended_by(&self, recipient: &str, sender: &str, accepted: u64) -> Option<u64> {
        let blocks = of(&self.blocks, recipient, sender).iter().filter(|request| request.sets && accepted < request.asked);
        blocks.filter_map(|request| request.done).min()
    }

    /// Tells whether there may be a reason to refuse a direct message at some time between these.
    pub(super) fn may_be_refused(&self, one: &str, other: &str, from: u64, to: u64) -> bool {
        self.may_be_closed(one, other, from, to) || (self.contacts_only && !self.are_certainly_contacts(one, other, from, to))
    }

    /// Tells whether both certainly wanted one another all the time between these. Each may end that by a removal or a block.
    fn are_certainly_contacts(&self, one: &str, other: &str, from: u64, to: u64) -> bool {
        let ends = |requests: &[Request], wish: &Request, sets: bool| {
            requests.iter().any(|request| request.sets == sets && request.may_follow(wish, to))
        };
        let is_over = |wish: &Request| {
            let by = |user, other| ends(of(&self.wishes, user, other), wish, false) || ends(of(&self.blocks, user, other), wish, true);
            by(one, other) || by(other, one)
        };
        let wants = |requests: &[Request]| requests.iter().any(|wish| wish.sets && wish.is_done_before(from) && !is_over(wish));
        wants(of(&self.wishes, one, other)) && wants(of(&self.wishes, other, one))
    }

    /// Tells whether only contacts may write to one another, and the two were certainly none all the time between these: one had removed the
    /// other, which takes back what both wanted. A block need not do that, if there was one before.
    pub(super) fn are_certainly_strangers(&self, one: &str, other: &str, from: u64, to: u64) -> bool {
        let may_want = |removal: &Request, requests: &[Request]| requests.iter().any(|wish| wish.sets && wish.may_follow(removal, to));
        let wishes = [of(&self.wishes, one, other), of(&self.wishes, other, one)];
        let mut removals = wishes.iter().copied().flatten().filter(|request| !request.sets && request.is_done_before(from));
        self.contacts_only && removals.any(|removal| wishes.iter().any(|requests| !may_want(removal, requests)))
    }
}

fn of<'b>(requests: &'b Requests<'_>, user: &'b str, other: &'b str) -> &'b [Request] {
    requests.get(&(user, other)).map_or(&[], Vec::as_slice)
}
