//! Receipts: telling senders, after the commit, what became of their messages.
//!
//! They are hints to connected senders. Other senders read the marks in the database later. In chats of more than
//! [`MEMBERS_REPORTED_MAX`] members a receipt per member would be more traffic than the messages themselves, so there
//! the counts are told, at most twice a second for each of a sender's chats.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::domain::{ChatId, ChatSeq, ExternalId, MessageId, Profile, Receipt, SessionId, Status, UserId};
use crate::notifier::Notifier;
use crate::store::{ReadRows, ReceiptCountsRequest, StatusRow, Store};
use crate::telemetry::Metrics;

#[cfg(doc)]
use crate::domain::limits::MEMBERS_REPORTED_MAX;

/// The size of a chat is read anew after this time.
const SIZE_BELIEVED: Duration = Duration::from_secs(30);
/// The interval between two reports of counts.
const COUNT_INTERVAL: Duration = Duration::from_millis(500);
/// PendingReceipt that may wait to be told. Beyond it they are dropped: the marks tell.
const NEWS_MAX: usize = 8_192;

/// One row's news.
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
    news: mpsc::Sender<PendingReceipt>,
    notifier: Notifier,
    metrics: Arc<Metrics>,
}

impl Receipts {
    pub(super) fn start(store: Store, notifier: Notifier, metrics: Arc<Metrics>, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let (news, incoming) = mpsc::channel(NEWS_MAX);
        let teller =
            Teller { store, notifier: notifier.clone(), metrics: Arc::clone(&metrics), sizes: HashMap::new(), to_count: HashMap::new() };
        tasks.spawn(stop.run_until_cancelled_owned(teller.run(incoming)));
        Self { news, notifier, metrics }
    }

    /// Receipts that nobody hears; their metrics count what was told.
    #[cfg(test)]
    pub(super) fn unheard() -> Self {
        let metrics = Arc::new(Metrics::default());
        Self { news: mpsc::channel(1).0, notifier: Notifier::to_nobody(Arc::clone(&metrics)), metrics }
    }

    /// The rows that were told to have come to this status.
    #[cfg(test)]
    pub(super) fn told(&self, status: &'static str) -> u64 {
        self.metrics.rows_settled.of(status).get()
    }

    /// Rows of several users have moved to this status. `member` names a user as it is shown.
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
        for row in rows.iter().filter(|row| self.notifier.may_be_there(row.sender)) {
            groups.entry((row.sender, row.chat, row.user)).or_default().push((row.chat_seq, row.message));
        }
        for ((sender, chat, user), messages) in groups {
            let Some(member) = member(user) else { continue };
            self.put(sender, chat, member, messages, status, at, reason.clone());
        }
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
        self.metrics.settled(Status::Read, read.rows.len() as u64);
        let mut groups: BTreeMap<UserId, Vec<(ChatSeq, MessageId)>> = BTreeMap::new();
        for row in read.rows.iter().filter(|row| self.notifier.may_be_there(row.sender)) {
            groups.entry(row.sender).or_default().push((row.chat_seq, row.message));
        }
        for (sender, messages) in groups {
            self.put(sender, chat, member.external.clone(), messages, Status::Read, read.at, None);
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
        if self.news.try_send(PendingReceipt { sender, chat, member, messages, first, seq, status, at, reason }).is_err() {
            // The teller is behind: the sender's sessions look at the marks instead.
            self.notifier.look_at_marks(sender);
        }
    }
}

/// The task behind it.
#[derive(Debug)]
struct Teller {
    store: Store,
    notifier: Notifier,
    metrics: Arc<Metrics>,
    /// Whether a chat is large, and the time at which its size was read.
    sizes: HashMap<ChatId, (bool, Instant)>,
    /// Per chat and sender: the newest message that moved.
    to_count: HashMap<(ChatId, UserId), (ChatSeq, MessageId)>,
}

impl Teller {
    async fn run(mut self, mut incoming: mpsc::Receiver<PendingReceipt>) {
        let mut due = tokio::time::interval(COUNT_INTERVAL);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut news = Vec::new();
        loop {
            tokio::select! {
                taken = incoming.recv_many(&mut news, 512) => {
                    if taken == 0 {
                        return;
                    }
                    self.learn_sizes(&news).await;
                    news.drain(..).for_each(|item| self.tell(item));
                }
                _ = due.tick(), if !self.to_count.is_empty() => self.count().await,
            }
        }
    }

    async fn learn_sizes(&mut self, news: &[PendingReceipt]) {
        let now = Instant::now();
        if self.sizes.len() > 10_000 {
            self.sizes.retain(|_, (_, seen)| now - *seen < SIZE_BELIEVED);
        }
        let is_known = |chat: &ChatId| self.sizes.get(chat).is_some_and(|(_, seen)| now - *seen < SIZE_BELIEVED);
        let mut unknown: Vec<ChatId> = news.iter().map(|item| item.chat).filter(|chat| !is_known(chat)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            return;
        }
        match self.store.large_chats(&unknown).await {
            Ok(large) => self.sizes.extend(unknown.into_iter().map(|chat| (chat, (large.contains(&chat), now)))),
            Err(cause) => debug!(?cause, "the sizes of some chats could not be read; their members are reported one by one"),
        }
    }

    fn tell(&mut self, news: PendingReceipt) {
        let is_large = self.sizes.get(&news.chat).is_some_and(|(is_large, _)| *is_large);
        // A message that failed or expired is told by name in any chat: no count shows it.
        if is_large && matches!(news.status, Status::Delivered | Status::Read) {
            let newest = news.messages.last().copied();
            if let Some(message) = newest {
                let entry = self.to_count.entry((news.chat, news.sender)).or_insert((news.seq, message));
                *entry = (*entry).max((news.seq, message));
            }
            return;
        }
        self.metrics.receipts.inc();
        let PendingReceipt { sender, chat, member, messages, first, seq, status, at, reason } = news;
        self.notifier.receipt(sender, Receipt::Moved { chat, messages, first, seq, status, member, at, reason });
    }

    async fn count(&mut self) {
        let requests: Vec<ReceiptCountsRequest> = std::mem::take(&mut self.to_count)
            .into_iter()
            .map(|((chat, sender), (seq, message))| ReceiptCountsRequest { chat, sender, message, seq })
            .collect();
        match self.store.receipt_counts(&requests).await {
            Ok(all) => {
                let senders: HashMap<MessageId, UserId> = requests.iter().map(|request| (request.message, request.sender)).collect();
                for counts in all {
                    let Some(sender) = senders.get(&counts.message) else { continue };
                    self.metrics.receipts.inc();
                    self.notifier.receipt(*sender, Receipt::Counted(counts));
                }
            }
            // They are counted again with the next ack, or by the sender's next look at the marks.
            Err(cause) => debug!(?cause, "the members who have some messages could not be counted"),
        }
    }
}
