//! Receipts: telling senders, after the commit, what became of their messages.
//!
//! They are hints to connected senders. Other senders read the marks in the database later. In chats of more than
//! [`MEMBERS_REPORTED_MAX`] members a receipt per member would be more traffic than the messages themselves, so there
//! the counts are told, at most twice a second for each of a sender's chats (`teller`).

mod teller;

use std::collections::BTreeMap;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::{ChatId, ChatSeq, Class, ExternalId, MessageId, Profile, SessionId, Status, UserId};
use crate::notifier::Notifier;
use crate::protocol::event::Notice;
use crate::store::{ReadRows, RecallPart, StatusRow, Store};
use crate::telemetry::Metrics;
use teller::Teller;

#[cfg(doc)]
use crate::domain::limits::MEMBERS_REPORTED_MAX;

/// Receipts that may wait to be told. Beyond it they are dropped: the marks tell.
const PENDING_MAX: usize = 8_192;

/// The new status of one row.
#[derive(Debug)]
struct PendingReceipt {
    sender: UserId,
    chat: ChatId,
    member: ExternalId,
    messages: Vec<MessageId>,
    /// The lowest number of the messages, and the highest.
    first: ChatSeq,
    seq: ChatSeq,
    status: Status,
    at: OffsetDateTime,
    reason: Option<String>,
}

/// Tells senders. Clones share one task.
#[derive(Debug, Clone)]
pub struct Receipts {
    pending: mpsc::Sender<PendingReceipt>,
    notifier: Notifier,
    metrics: Arc<Metrics>,
}

impl Receipts {
    pub(super) fn start(store: Store, notifier: Notifier, metrics: Arc<Metrics>, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let (pending, incoming) = mpsc::channel(PENDING_MAX);
        let teller = Teller::new(store, notifier.clone(), Arc::clone(&metrics));
        tasks.spawn(stop.run_until_cancelled_owned(teller.run(incoming)));
        Self { pending, notifier, metrics }
    }

    /// Receipts that nobody hears; their metrics count what was told.
    #[cfg(test)]
    pub(super) fn unheard() -> Self {
        let metrics = Arc::new(Metrics::default());
        Self { pending: mpsc::channel(1).0, notifier: Notifier::to_nobody(Arc::clone(&metrics)), metrics }
    }

    /// The rows that were told to have come to this status.
    #[cfg(test)]
    pub(super) fn told(&self, status: &'static str) -> u64 {
        self.metrics.rows_settled.of(status).get()
    }

    /// Rows of several users have moved to this status. `member` names a user as it is shown. Publishers of alerts and events are told
    /// nothing: they ask for the progress of an event. Nor is anybody told what became of the notice of a recall.
    pub fn moved(
        &self,
        rows: &[&StatusRow],
        status: Status,
        at: OffsetDateTime,
        reason: Option<String>,
        member: impl Fn(UserId) -> Option<ExternalId>,
    ) {
        self.metrics.settled(status, rows.len() as u64);
        let mut groups: BTreeMap<(UserId, ChatId, UserId), Vec<(ChatSeq, MessageId)>> = BTreeMap::new();
        for row in rows.iter().filter(|row| is_told(row) && self.notifier.may_be_there(row.sender)) {
            groups.entry((row.sender, row.chat, row.user)).or_default().push((row.chat_seq, row.message));
        }
        for ((sender, chat, user), messages) in groups {
            let Some(member) = member(user) else { continue };
            self.put(sender, chat, member, messages, status, at, reason.clone());
        }
    }

    /// A part of a recall is done: its sender is told of what ended, and recipients look for their notices, and at what they hold. The
    /// first part also tells the sender's sessions but `origin`, by which it recalled the message.
    pub fn recalled(&self, part: &RecallPart, origin: Option<SessionId>) {
        let RecallPart { message, chat, seq, sender, at, .. } = *part;
        if part.is_first {
            self.notifier.notice_to_others(sender, origin, Notice::Recalled { message, chat, seq, at });
        }
        for ended in &part.ended {
            self.ended(ended.row.user);
            self.moved(&[&ended.row], Status::Expired, at, Some("recalled".to_owned()), |_| Some(ended.member.clone()));
        }
        // One connection of a recipient has acked it, and another may hold it still.
        part.noticed.iter().for_each(|user| self.ended(*user));
        self.notifier.wake_each(part.noticed.clone(), part.class);
    }

    /// Rows of this user have ended: its sessions look at what they hold.
    pub fn ended(&self, user: UserId) {
        self.notifier.rows_ended(user);
    }

    /// A member has read some messages. Its sessions but the one that reads are told too: they need not show them as unread.
    pub fn read(&self, member: &Profile, chat: ChatId, read: &ReadRows, origin: Option<SessionId>) {
        if read.advanced || !read.rows.is_empty() {
            self.notifier.read_up_to(member.user, origin, chat, read.up_to);
        }
        let expired = read.rows.iter().filter(|row| row.ended.is_some()).count();
        self.metrics.settled(Status::Read, (read.rows.len() - expired) as u64);
        self.metrics.settled(Status::Expired, expired as u64);
        let mut groups: BTreeMap<_, Vec<(ChatSeq, MessageId)>> = BTreeMap::new();
        for row in read.rows.iter().filter(|row| self.notifier.may_be_there(row.sender)) {
            groups.entry((row.sender, row.ended.as_deref())).or_default().push((row.chat_seq, row.message));
        }
        for ((sender, ended), messages) in groups {
            let status = if ended.is_some() { Status::Expired } else { Status::Read };
            self.put(sender, chat, member.external.clone(), messages, status, read.at, ended.map(str::to_owned));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one value, put together here and nowhere else")]
    fn put(
        &self,
        sender: UserId,
        chat: ChatId,
        member: ExternalId,
        mut messages: Vec<(ChatSeq, MessageId)>,
        status: Status,
        at: OffsetDateTime,
        reason: Option<String>,
    ) {
        messages.sort_unstable();
        let Some(((first, _), (seq, _))) = messages.first().copied().zip(messages.last().copied()) else { return };
        let messages = messages.into_iter().map(|(_, message)| message).collect();
        if self.pending.try_send(PendingReceipt { sender, chat, member, messages, first, seq, status, at, reason }).is_err() {
            // The teller is behind: the sender's sessions check the marks instead.
            self.notifier.check_marks(sender);
        }
    }
}

/// Returns whether senders are told of this row.
fn is_told(row: &StatusRow) -> bool {
    row.class == Class::Chat && !row.chat_seq.is_of_notice()
}
