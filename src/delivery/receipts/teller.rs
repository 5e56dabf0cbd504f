//! The task that tells receipts: members by name, or counts where a chat has many members.
//!
//! The form follows the size of the chat, and is remembered. Of a direct chat in which one has blocked the other nothing is told, and once it is open
//! again nothing of what moved meanwhile, should it come late. A chat whose members have changed is looked at anew, and where it is
//! large, or was, its senders at this node are told how it stands. Whatever is lost here is found by the next check of the marks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashlink::LruCache;
use tokio::sync::{broadcast, mpsc};
use tracing::debug;

use super::PendingReceipt;
use crate::domain::{ChatId, ChatSeq, MessageId, Receipt, Status, UserId};
use crate::notifier::{ChangedChat, Notifier};
use crate::store::{self, HiddenReceipts, ReceiptCountsRequest, RecountedChat, Store};
use crate::telemetry::Metrics;

/// The form of a chat's receipts is read anew after this time.
const FORM_BELIEVED: Duration = Duration::from_secs(30);
/// Chats whose form is remembered. The one that was not asked for longest goes first.
const FORMS_MAX: usize = 10_000;
/// The interval between two reports of counts.
const COUNT_INTERVAL: Duration = Duration::from_millis(500);
/// Pairs of chats and senders whose counts may wait to be told. Beyond it senders check the marks.
const TO_COUNT_MAX: usize = 10_000;
/// Chats with changed members that may wait to be looked at. Beyond it they are left to the next check of the marks.
const CHANGED_MAX: usize = 10_000;
/// Senders of one chat that are told at once that its members have changed.
const RECOUNTED_SENDERS_MAX: usize = 200;
/// Receipts that are taken at once.
const RECEIPTS_AT_ONCE: usize = 512;

/// The form in which the receipts of a chat are told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// Members by name.
    Names,
    /// The same, in a direct chat that was closed once: what moved while it was is hidden.
    NamesAbove(Vec<HiddenReceipts>),
    /// Counts.
    Counts,
    /// Not at all: one of the two members of a direct chat has blocked the other.
    Nothing,
}

/// The task, and what it remembers.
#[derive(Debug)]
pub(super) struct Teller {
    store: Store,
    notifier: Notifier,
    metrics: Arc<Metrics>,
    changes: broadcast::Receiver<ChangedChat>,
    /// The form of a chat's receipts, and the time at which it was read.
    forms: LruCache<ChatId, (Form, Instant)>,
    /// Per chat and sender: the newest message that moved; none: its newest message is to be counted.
    to_count: HashMap<(ChatId, UserId), Option<(ChatSeq, MessageId)>>,
    /// Chats whose members have changed.
    changed: HashSet<ChatId>,
}

impl Teller {
    pub(super) fn new(store: Store, notifier: Notifier, metrics: Arc<Metrics>) -> Self {
        let (changes, forms) = (notifier.changed_chats(), LruCache::new(FORMS_MAX));
        Self { store, notifier, metrics, changes, forms, to_count: HashMap::new(), changed: HashSet::new() }
    }

    /// Tells what comes in until nobody is left who could put something in.
    pub(super) async fn run(mut self, mut incoming: mpsc::Receiver<PendingReceipt>) {
        let mut due = tokio::time::interval(COUNT_INTERVAL);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut received = Vec::new();
        loop {
            let has_work = !self.to_count.is_empty() || !self.changed.is_empty();
            tokio::select! {
                taken = incoming.recv_many(&mut received, RECEIPTS_AT_ONCE) => {
                    if taken == 0 {
                        return;
                    }
                    // An ack after a change of members is told in the form that follows from it.
                    self.take_changes();
                    self.learn_forms(&received).await;
                    received.drain(..).for_each(|item| self.tell(item));
                }
                change = self.changes.recv() => self.take_change(change.unwrap_or(ChangedChat::Any)),
                _ = due.tick(), if has_work => self.report().await,
            }
            self.metrics.chat_sizes_known.set(gauge(self.forms.len()));
            self.metrics.receipts_to_count.set(gauge(self.to_count.len() + self.changed.len()));
        }
    }

    fn take_changes(&mut self) {
        loop {
            match self.changes.try_recv() {
                Ok(change) => self.take_change(change),
                Err(broadcast::error::TryRecvError::Lagged(_)) => self.take_change(ChangedChat::Any),
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => return,
            }
        }
    }

    /// The form of a chat is read anew. Anybody may notify that a chat is closed, so that brings about nothing else.
    fn take_change(&mut self, change: ChangedChat) {
        match change {
            ChangedChat::Any => self.forms.clear(),
            ChangedChat::Closing(chat) => {
                self.forms.remove(&chat);
            }
            ChangedChat::Members(chat) => {
                self.forms.remove(&chat);
                if self.changed.len() < CHANGED_MAX {
                    self.changed.insert(chat);
                }
            }
        }
    }

    async fn learn_forms(&mut self, receipts: &[PendingReceipt]) {
        let now = Instant::now();
        let chats: HashSet<ChatId> = receipts.iter().map(|item| item.chat).collect();
        let is_unknown = |chat: &ChatId| self.forms.get(chat).is_none_or(|(_, seen)| now - *seen >= FORM_BELIEVED);
        let unknown: Vec<ChatId> = chats.into_iter().filter(is_unknown).collect();
        if unknown.is_empty() {
            return;
        }
        match self.forms_of(&unknown).await {
            Ok(forms) => forms.into_iter().for_each(|(chat, form)| {
                self.forms.insert(chat, (form, now));
            }),
            Err(cause) => debug!(?cause, "the forms of some chats could not be read; their senders look for themselves"),
        }
    }

    async fn forms_of(&self, chats: &[ChatId]) -> store::Result<Vec<(ChatId, Form)>> {
        let large: HashSet<ChatId> = self.store.large_chats(chats).await?.into_iter().collect();
        let mut hidden: HashMap<ChatId, Vec<HiddenReceipts>> = HashMap::new();
        for one in self.store.hidden_receipts(chats).await? {
            hidden.entry(one.chat).or_default().push(one);
        }
        let mut form = |chat: &ChatId| match (hidden.remove(chat), large.contains(chat)) {
            (Some(hidden), _) if hidden.iter().any(|one| one.is_closed) => Form::Nothing,
            (Some(hidden), _) => Form::NamesAbove(hidden),
            (None, true) => Form::Counts,
            (None, false) => Form::Names,
        };
        Ok(chats.iter().map(|chat| (*chat, form(chat))).collect())
    }

    fn tell(&mut self, receipt: PendingReceipt) {
        let is_large = match self.forms.get(&receipt.chat).map(|(form, _)| form) {
            Some(Form::Names) => false,
            Some(Form::NamesAbove(hidden)) if !receipt.is_hidden(hidden) => false,
            Some(Form::Counts) => true,
            Some(Form::Nothing) => return,
            // Some of it may be hidden, or the form could not be read: the sender's sessions look at what they may see.
            Some(Form::NamesAbove(_)) | None => return self.notifier.check_marks(receipt.sender),
        };
        let is_counted = matches!(receipt.status, Status::Delivered | Status::Read);
        if is_large {
            // A message that failed or expired is no hole any more: later messages may be counted now.
            self.count_later(
                receipt.chat,
                receipt.sender,
                receipt.messages.last().filter(|_| is_counted).map(|message| (receipt.seq, *message)),
            );
        }
        // A message that failed or expired is told by name in any chat: no count shows it.
        if is_large && is_counted {
            return;
        }
        self.metrics.receipts.inc();
        let PendingReceipt { sender, chat, member, messages, first, seq, status, at, reason } = receipt;
        self.notifier.receipt(sender, Receipt::Moved { chat, messages, first, seq, status, member, at, reason });
    }

    /// The counts of a chat are to be told to one of its senders: those of the message that moved, and of its newest.
    fn count_later(&mut self, chat: ChatId, sender: UserId, moved: Option<(ChatSeq, MessageId)>) {
        if self.to_count.len() >= TO_COUNT_MAX && !self.to_count.contains_key(&(chat, sender)) {
            return self.notifier.check_marks(sender);
        }
        let entry = self.to_count.entry((chat, sender)).or_default();
        *entry = (*entry).max(moved);
    }

    async fn report(&mut self) {
        if !self.changed.is_empty() {
            self.recount().await;
        }
        if !self.to_count.is_empty()
            && let Err(cause) = self.count().await
        {
            // They are counted again with the next ack, or by the sender's next check of the marks.
            debug!(?cause, "the members who have some messages could not be counted");
        }
    }

    /// Senders of chats that are large, or were, are told how they stand now: counts anew, or members by name.
    async fn recount(&mut self) {
        let chats: Vec<ChatId> = self.changed.drain().collect();
        let recounted = self.store.recounted(&chats).await.unwrap_or_else(|cause| {
            debug!(?cause, "chats whose members have changed could not be looked at");
            Vec::new()
        });
        for RecountedChat { chat, is_large, senders } in recounted {
            if !is_large {
                self.to_count.retain(|(counted, _), _| *counted != chat);
            }
            let notifier = self.notifier.clone();
            for sender in senders.into_iter().filter(|sender| notifier.is_here(*sender)).take(RECOUNTED_SENDERS_MAX) {
                if is_large { self.count_later(chat, sender, None) } else { notifier.check_marks_here(sender) }
            }
        }
    }

    async fn count(&mut self) -> store::Result<()> {
        let to_count = std::mem::take(&mut self.to_count);
        let pairs: Vec<(ChatId, UserId)> = to_count.keys().copied().collect();
        let moved = to_count.into_iter().filter_map(|((chat, sender), moved)| {
            let (seq, message) = moved?;
            Some(ReceiptCountsRequest { chat, sender, message, seq })
        });
        let newest = self.store.newest_messages(&pairs).await?;
        // Each message once, a chat's together and in their order: the newest is told last.
        let requests: BTreeMap<_, _> = moved.chain(newest).map(|it| ((it.chat, it.seq, it.message), it)).collect();
        let requests: Vec<ReceiptCountsRequest> = requests.into_values().collect();
        let senders: HashMap<MessageId, UserId> = requests.iter().map(|request| (request.message, request.sender)).collect();
        let mut all = self.store.receipt_counts(&requests).await?;
        all.sort_unstable_by_key(|counts| (counts.chat, counts.seq));
        for counts in all {
            let Some(sender) = senders.get(&counts.message) else { continue };
            self.metrics.receipts.inc();
            self.notifier.receipt(*sender, Receipt::Counted(counts));
        }
        Ok(())
    }
}

impl PendingReceipt {
    /// Returns whether some of its messages lie where the other member's moves are hidden from the sender.
    fn is_hidden(&self, hidden: &[HiddenReceipts]) -> bool {
        let of_member = hidden.iter().filter(|one| one.member.is_some_and(|member| member != self.sender));
        of_member.map(|one| if self.status == Status::Read { one.read } else { one.delivered }).any(|up_to| self.first <= up_to)
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
