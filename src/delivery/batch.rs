//! What one transaction of an accept lane takes: bounded in items, rows and bytes, an id at most once, and nothing
//! of a chat that is put aside.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::item::{Accepted, Refusal, SendItem};
use super::routes::Routes;
use crate::domain::{ChatId, MessageId};
use crate::store::AcceptBatch;

/// Messages in one transaction.
pub(super) const ITEMS_MAX: usize = 500;
/// Rows of recipients in one transaction; a single larger message goes alone.
const ROWS_MAX: usize = 5_000;
/// Bytes of content and metadata in one transaction.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// An item and who waits for its answer.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) item: SendItem,
    pub(super) reply: oneshot::Sender<Result<Accepted, Refusal>>,
    pub(super) since: Instant,
    /// Set when a try of this item ended with its outcome unknown: the database's clock from before that try.
    pub(super) uncertain: Option<OffsetDateTime>,
}

impl Queued {
    fn bytes(&self) -> usize {
        self.item.content.len() + self.item.metadata.as_ref().map_or(0, |metadata| metadata.get().len())
    }
}

/// Takes from the front of `waiting` what one transaction may hold. Of two items with one id the second stays behind:
/// it is a duplicate of the first, and can be told so only when that one is committed.
pub(super) fn take(waiting: &mut VecDeque<Queued>, routes: &Routes) -> Vec<Queued> {
    let (mut batch, mut behind) = (Vec::new(), VecDeque::new());
    let (mut rows, mut bytes) = (0, 0);
    let mut ids: HashSet<MessageId> = HashSet::new();
    while let Some(next) = waiting.front() {
        let (next_rows, next_bytes) = (routes.recipients(next.item.chat), next.bytes());
        if batch.len() >= ITEMS_MAX || (!batch.is_empty() && (rows + next_rows > ROWS_MAX || bytes + next_bytes > BYTES_MAX)) {
            break;
        }
        let Some(next) = waiting.pop_front() else { break };
        if ids.insert(next.item.id) {
            (rows, bytes) = (rows + next_rows, bytes + next_bytes);
            batch.push(next);
        } else {
            behind.push_back(next);
        }
    }
    while let Some(item) = behind.pop_back() {
        waiting.push_front(item);
    }
    batch
}

/// The columns of a batch.
pub(super) fn columns(batch: &[Queued]) -> AcceptBatch {
    let mut columns = AcceptBatch::default();
    for Queued { item, .. } in batch {
        columns.ids.push(item.id.0);
        columns.chats.push(item.chat.0);
        columns.senders.push(item.sender.user.0);
        columns.types.push(item.message_type.clone());
        columns.contents.push(item.content.clone());
        columns.metadata.push(item.metadata.as_ref().map(|metadata| metadata.get().to_owned()));
        columns.expires.push(item.expires_at);
    }
    columns
}

/// Items of chats that somebody else holds: they wait here, in order, and delay nobody.
#[derive(Debug, Default)]
pub(super) struct Aside {
    chats: HashMap<ChatId, VecDeque<Queued>>,
    items: usize,
    next_try: Option<Instant>,
    pause: Duration,
}

/// Items put aside at most, per lane.
const ASIDE_MAX: usize = 2_000;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl Aside {
    pub(super) fn holds(&self, chat: ChatId) -> bool {
        self.chats.contains_key(&chat)
    }

    pub(super) fn chats(&self) -> usize {
        self.chats.len()
    }

    /// When to try again.
    pub(super) const fn next_try(&self) -> Option<Instant> {
        self.next_try
    }

    /// Are there too many already?
    pub(super) const fn is_full(&self) -> bool {
        self.items >= ASIDE_MAX
    }

    /// Puts an item behind those of its chat.
    pub(super) fn put(&mut self, queued: Queued, now: Instant) {
        self.items += 1;
        self.chats.entry(queued.item.chat).or_default().push_back(queued);
        if self.next_try.is_none() {
            self.pause = FIRST_PAUSE;
            self.next_try = Some(now + self.pause);
        }
    }

    /// Takes everything out to be tried again, and what has waited too long, to be refused.
    pub(super) fn take(&mut self, now: Instant, patience: Duration) -> (VecDeque<Queued>, Vec<Queued>) {
        let (mut again, mut late) = (VecDeque::new(), Vec::new());
        for queued in self.chats.drain().flat_map(|(_, items)| items) {
            // What may have been stored already is not refused: its sender would believe that it was not.
            if now - queued.since > patience && queued.uncertain.is_none() { late.push(queued) } else { again.push_back(queued) }
        }
        self.items = 0;
        self.next_try = None;
        (again, late)
    }

    /// After a try: what is here again waits longer.
    pub(super) fn tried(&mut self, now: Instant, pause_before: Duration) {
        if self.next_try.is_some() {
            self.pause = (pause_before * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.next_try = Some(now + self.pause);
        }
    }

    pub(super) const fn pause(&self) -> Duration {
        self.pause
    }
}
