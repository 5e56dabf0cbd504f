//! Tells connected users, wherever they are: those of this node through the hub, those of others over the bus.
//!
//! Code that commits something tells it here, once. Telling is a hint and never waits. A node passes what other nodes tell to
//! its own sessions only, so nothing circulates. What nobody has signed only wakes users, within the bounds of `wake_limiter`.
//! It does not know which users follow a feed: streams that have moved wait in `moved_feeds` until the service has looked.

mod moved_feeds;
#[cfg(test)]
mod tests;
mod wake_limiter;

pub use moved_feeds::MovedFeeds;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, broadcast};
use tracing::warn;

use crate::bus::{Bus, BusEvent, BusMessage, Posted, Rejected};
use crate::domain::{ChatId, ChatSeq, Class, DeviceId, Envelope, InboxSeq, Message, NodeId, Receipt, SessionId, Spent, Status, UserId};
use crate::hub::{Hub, Note};
use crate::protocol::client::CommittedAnswer;
use crate::protocol::event::{Encoded, Notice};
use crate::telemetry::Metrics;
use moved_feeds::MovedStreams;
use wake_limiter::{Check, ROUND, WakeLimiter};

/// Changes of members that the receiver may be behind.
const CHANGED_CHATS_MAX: usize = 1_024;
/// Tellings of what users have spent elsewhere that the receiver may be behind.
const SPENT_MAX: usize = 1_024;

/// The sessions of every node. Clones share it.
#[derive(Debug, Clone)]
pub struct Notifier {
    hub: Arc<Hub>,
    bus: Bus,
    metrics: Arc<Metrics>,
    /// Chats that have changed, wherever that was done.
    changed_chats: broadcast::Sender<ChangedChat>,
    unsigned: Arc<Unsigned>,
    moved: Arc<MovedStreams>,
    /// Rung when tokens were revoked, as far as this node hears of it.
    revoked: Arc<Notify>,
    limits: LimitHints,
}

/// Hints about the limits of users.
#[derive(Debug, Clone)]
struct LimitHints {
    /// The spendings of users at other nodes.
    spent: broadcast::Sender<Arc<[Spent]>>,
    /// Rung when the limits of a user were raised.
    raised: Arc<Notify>,
}

/// A chat that is not as it was, so that its receipts may have another form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangedChat {
    /// Its members have changed: their number too.
    Members(ChatId),
    /// It is closed between its two members, or open again, or one of them was erased. SQL functions say so as well, and anybody who may connect to the database can.
    Closing(ChatId),
    /// Any of them may have changed.
    Any,
}

/// Wakes that nobody has signed.
#[derive(Debug, Default)]
struct Unsigned {
    limiter: Mutex<WakeLimiter>,
    /// Rung when a round begins.
    ring: Notify,
}

impl Notifier {
    /// Those of this hub, and those beyond this bus.
    pub fn new(hub: Arc<Hub>, bus: Bus, metrics: Arc<Metrics>) -> Self {
        let changed_chats = broadcast::Sender::new(CHANGED_CHATS_MAX);
        let limits = LimitHints { spent: broadcast::Sender::new(SPENT_MAX), raised: Arc::default() };
        Self { hub, bus, metrics, changed_chats, unsigned: Arc::default(), moved: Arc::default(), revoked: Arc::default(), limits }
    }

    /// A message was refused in a direct chat: this node may not have been told what has become of it.
    pub fn found_closed(&self, chat: ChatId) {
        self.chat_changed(ChangedChat::Closing(chat));
    }

    /// A notifier for a node without sessions and without other nodes.
    #[cfg(test)]
    pub fn to_nobody(metrics: Arc<Metrics>) -> Self {
        Self::new(Hub::new(1), Bus::new(crate::domain::NodeId::generate()), metrics)
    }

    /// From now on, the chats that have changed, as this node makes or hears of it. A hint, as everything here; a receiver that is behind is
    /// told so.
    pub fn changed_chats(&self) -> broadcast::Receiver<ChangedChat> {
        self.changed_chats.subscribe()
    }

    /// Returns whether this user is connected to this node.
    pub fn is_here(&self, user: UserId) -> bool {
        self.hub.is_here(user)
    }

    /// The sessions of this user at this node check the marks.
    pub fn check_marks_here(&self, user: UserId) {
        self.hub.check_marks(user);
    }

    /// The node that tells.
    pub fn node(&self) -> NodeId {
        self.bus.me()
    }

    /// Returns whether this user may be connected to some node. True while another node lives.
    pub fn may_be_there(&self, user: UserId) -> bool {
        self.hub.is_here(user) || !self.bus.is_alone()
    }

    /// Returns whether no other node is known to live.
    pub fn is_alone(&self) -> bool {
        self.bus.is_alone()
    }

    /// A message was committed: it is offered to its recipients and shown to the sender's other sessions. `message` is
    /// made only if anybody may be there to get it.
    pub fn offer(
        &self,
        class: Class,
        sender: UserId,
        origin: Option<SessionId>,
        places: &[(UserId, InboxSeq)],
        message: impl FnOnce() -> Message,
    ) {
        let is_alone = self.bus.is_alone();
        if is_alone && !self.hub.is_here(sender) && !places.iter().any(|(user, _)| self.hub.is_here(*user)) {
            return;
        }
        let message = Arc::new(message());
        self.offer_here(class, origin, places, &message);
        if !is_alone {
            self.post(&BusMessage::Offer { class, message, places: places.to_vec() });
        }
    }

    /// Something may wait for this user.
    pub fn wake(&self, user: UserId, class: Class) {
        self.metrics.wakes.of("wake").inc();
        self.hub.wake(user, class);
        self.post(&BusMessage::Wake(class, vec![user]));
    }

    /// Something may wait for each of these users.
    pub fn wake_each(&self, users: Vec<UserId>, class: Class) {
        if users.is_empty() {
            return;
        }
        for user in users.iter().copied().filter(|user| self.hub.is_here(*user)) {
            self.metrics.wakes.of("wake").inc();
            self.hub.wake(user, class);
        }
        self.post(&BusMessage::Wake(class, users));
    }

    /// Something was published to this stream of a feed: those who follow it and are connected, to whatever node, look. A stream that
    /// moves often is looked at once for all that has come together.
    pub fn feed_moved(&self, stream: ChatId) {
        self.moved.put(&[stream]);
        self.post(&BusMessage::FeedsMoved(vec![stream]));
    }

    /// Waits until streams of feeds have moved, as this node makes or hears of it, and takes them. One task calls this.
    pub async fn moved_feeds(&self) -> MovedFeeds {
        self.moved.take().await
    }

    /// These streams could not be looked at: they are looked at later.
    pub fn look_again_at_feeds(&self, streams: &[ChatId]) {
        self.moved.put(streams);
    }

    /// Receipts for this user could not be told: its sessions check the marks.
    pub fn check_marks(&self, user: UserId) {
        self.hub.check_marks(user);
        self.post(&BusMessage::CheckMarks(vec![user]));
    }

    /// This user has changed what it mutes: its sessions read it. Those here do so before they emit what is offered from now on.
    pub fn preferences_changed(&self, user: UserId) {
        self.hub.tell(user, &Note::PreferencesChanged);
        self.post(&BusMessage::PreferencesChanged(vec![user]));
    }

    /// These two users may know more or less of one another than before: the users that they watch are checked, and the form in which the
    /// receipts of their direct chat are told. They are told nothing.
    pub fn people_changed(&self, users: [UserId; 2], chat: Option<ChatId>) {
        self.people_changed_here(&users, chat);
        self.post(&BusMessage::PeopleChanged(users, chat));
    }

    /// These two users may see one another now: the sessions of each watch the other, and are told if it is online.
    pub fn may_see(&self, users: [UserId; 2]) {
        self.may_see_here(users);
        self.post(&BusMessage::MaySee(users));
    }

    /// Something that waited for this user has ended: its sessions check what they hold.
    pub fn rows_ended(&self, user: UserId) {
        self.hub.rows_ended(user);
        self.post(&BusMessage::CheckMarks(vec![user]));
    }

    /// Tells a sender what became of its messages.
    pub fn receipt(&self, sender: UserId, receipt: Receipt) {
        let receipt = Arc::new(receipt);
        self.hub.tell(sender, &Note::Receipt(Arc::clone(&receipt)));
        self.post(&BusMessage::Receipt(sender, receipt));
    }

    /// A user has read a chat up to here: its sessions but this one need not show it as unread.
    pub fn read_up_to(&self, user: UserId, but: Option<SessionId>, chat: ChatId, seq: ChatSeq) {
        self.hub.tell_others(user, but, &Note::ReadUpTo(chat, seq));
        self.post(&BusMessage::ReadUpTo(user, chat, seq));
    }

    /// A client has answered over HTTP, and that is committed: its sessions whose answers come that way, at whatever node, free the places
    /// in their windows.
    pub fn answered(&self, user: UserId, device: Option<DeviceId>, answer: CommittedAnswer) {
        let answer = Arc::new(answer);
        self.hub.answered(user, device.as_ref(), &answer);
        self.post(&BusMessage::Answered(user, device, answer));
    }

    /// Tells a notice to every session of these users.
    pub fn notice(&self, users: Vec<UserId>, notice: Notice) {
        if users.is_empty() {
            return;
        }
        self.note_change(&users, &notice);
        let notice = Encoded::new(notice);
        users.iter().for_each(|user| self.hub.tell(*user, &Note::Notice(notice.clone())));
        self.post(&BusMessage::Notice(users, notice));
    }

    /// Tells a notice to the sessions of this user but one.
    pub fn notice_to_others(&self, user: UserId, but: Option<SessionId>, notice: Notice) {
        let notice = Encoded::new(notice);
        self.hub.tell_others(user, but, &Note::Notice(notice.clone()));
        self.post(&BusMessage::Notice(vec![user], notice));
    }

    /// Tells a notice to those who watch this user.
    pub fn notice_to_watchers(&self, user: UserId, notice: Notice) {
        let notice = Encoded::new(notice);
        self.hub.tell_watchers(user, &notice);
        self.post(&BusMessage::Watched(user, notice));
    }

    /// A device has a newer connection, here: those at other nodes yield.
    pub fn displace(&self, user: UserId, device: &DeviceId, session_no: i64) {
        self.post(&BusMessage::Displaced(user, device.clone(), session_no));
    }

    /// Nodes that are known to live, this one too.
    pub fn live_nodes(&self) -> u32 {
        self.bus.live_nodes()
    }

    /// This was spent of limits at this node: the others count it too.
    pub fn spent(&self, spent: Vec<Spent>) {
        self.post(&BusMessage::Spent(spent));
    }

    /// From now on, what is spent of limits at other nodes. A receiver that is behind has missed some.
    pub fn spent_elsewhere(&self) -> broadcast::Receiver<Arc<[Spent]>> {
        self.limits.spent.subscribe()
    }

    /// Waits until the limits of a user were raised, or may have been. One task calls this.
    pub async fn limits_moved(&self) {
        self.limits.raised.notified().await;
    }

    /// Waits until tokens were revoked, or may have been. One task calls this.
    pub async fn revocations_moved(&self) {
        self.revoked.notified().await;
    }

    /// Passes on to the sessions of this node what was received.
    pub fn received(&self, event: BusEvent) {
        match event {
            BusEvent::Wake(users) => {
                self.metrics.bus_received.of("sql").inc();
                self.wake_within_limits(users, Check::Inboxes);
            }
            BusEvent::Marks(users) => self.wake_within_limits(users, Check::Marks),
            BusEvent::Feeds(streams) => {
                self.metrics.bus_received.of("sql").inc();
                self.moved.put_unsigned(&streams);
            }
            BusEvent::Chats(chats) => {
                self.metrics.bus_received.of("sql").inc();
                chats.into_iter().for_each(|chat| self.chat_changed(ChangedChat::Closing(chat)));
            }
            BusEvent::Revoked => {
                self.metrics.bus_received.of("sql").inc();
                self.revoked.notify_one();
            }
            BusEvent::LimitsRaised => {
                self.metrics.bus_received.of("sql").inc();
                self.limits.raised.notify_one();
            }
            BusEvent::Message(message) => {
                self.metrics.bus_received.of(message.kind()).inc();
                self.pass_on(message);
            }
            BusEvent::Unknown => {
                self.metrics.bus_received.of("unknown").inc();
            }
            BusEvent::Rejected(reason) => {
                let is_first = self.metrics.bus_rejected.of(reason.as_str()).inc() == 0;
                match reason {
                    Rejected::Forged | Rejected::Replayed if is_first => warn!(
                        reason = reason.as_str(),
                        "something was told to this node that no other node has told: who may connect to the database?"
                    ),
                    Rejected::Unreadable if is_first => warn!(
                        "another node tells what this one cannot read: does this one have all master keys, and is encryption on, or to be \
                         read, at both? Until then messages from there come late"
                    ),
                    Rejected::Forged | Rejected::Replayed | Rejected::Unreadable | Rejected::Unlisted => {}
                }
            }
            BusEvent::Missed => self.check_all(),
        }
    }

    /// Wakes users whose wakes had to wait, round by round, until it is dropped.
    pub async fn wake_in_rounds(&self) {
        loop {
            self.unsigned.ring.notified().await;
            loop {
                tokio::time::sleep(ROUND).await;
                let due = self.limiter().next_round();
                if due.is_empty() {
                    break;
                }
                due.into_iter().for_each(|(user, check)| self.wake_here(user, check));
            }
        }
    }

    /// Users who are not here wake nobody and count for nothing.
    fn wake_within_limits(&self, users: Vec<UserId>, check: Check) {
        for user in users.into_iter().filter(|user| self.hub.is_here(*user)) {
            if self.limiter().admit(user, check) {
                self.wake_here(user, check);
            }
            self.unsigned.ring.notify_one();
        }
    }

    fn wake_here(&self, user: UserId, check: Check) {
        match check {
            Check::Inboxes => Class::ALL.into_iter().for_each(|class| self.hub.wake(user, class)),
            Check::Marks => {
                self.hub.check_marks(user);
                // A block that was made in SQL is told by nothing else.
                self.hub.check_watches(&[user]);
            }
        }
    }

    fn limiter(&self) -> MutexGuard<'_, WakeLimiter> {
        // Code under the lock cannot panic half-way: a panicking thread leaves the value whole.
        self.unsigned.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Anything may have been missed: every session of this node checks everything.
    pub fn check_all(&self) {
        self.metrics.wakes.of("check").inc();
        self.chat_changed(ChangedChat::Any);
        self.revoked.notify_one();
        self.limits.raised.notify_one();
        self.hub.check_all();
    }

    fn pass_on(&self, message: BusMessage) {
        match message {
            BusMessage::Offer { class, message, places } => self.offer_here(class, None, &places, &message),
            BusMessage::Wake(class, users) => users.into_iter().for_each(|user| self.hub.wake(user, class)),
            BusMessage::CheckMarks(users) => users.into_iter().for_each(|user| self.hub.check_marks(user)),
            BusMessage::Receipt(sender, receipt) => self.hub.tell(sender, &Note::Receipt(receipt)),
            BusMessage::ReadUpTo(user, chat, seq) => self.hub.tell(user, &Note::ReadUpTo(chat, seq)),
            BusMessage::Answered(user, device, answer) => self.hub.answered(user, device.as_ref(), &answer),
            BusMessage::Notice(users, notice) => {
                self.note_change(&users, &notice);
                let note = Note::Notice(notice);
                users.into_iter().for_each(|user| self.hub.tell(user, &note));
            }
            BusMessage::Watched(user, notice) => self.hub.tell_watchers(user, &notice),
            BusMessage::EchoOf(sender, message) => self.hub.tell(sender, &Note::EchoOf(message)),
            BusMessage::Displaced(user, device, session_no) => self.hub.displace(user, &device, session_no),
            BusMessage::FeedsMoved(streams) => self.moved.put(&streams),
            BusMessage::PreferencesChanged(users) => users.into_iter().for_each(|user| self.hub.tell(user, &Note::PreferencesChanged)),
            BusMessage::PeopleChanged(users, chat) => self.people_changed_here(&users, chat),
            BusMessage::MaySee(users) => self.may_see_here(users),
            // An error says that no task listens.
            BusMessage::Spent(spent) => drop(self.limits.spent.send(spent.into())),
            BusMessage::CheckAll => self.check_all(),
            // The bus has taken note.
            BusMessage::Hello | BusMessage::Bye => {}
        }
    }

    fn may_see_here(&self, [one, other]: [UserId; 2]) {
        self.hub.tell(one, &Note::MaySee(other));
        self.hub.tell(other, &Note::MaySee(one));
    }

    fn people_changed_here(&self, users: &[UserId], chat: Option<ChatId>) {
        self.hub.check_watches(users);
        if let Some(chat) = chat {
            self.chat_changed(ChangedChat::Closing(chat));
        }
    }

    fn note_change(&self, users: &[UserId], notice: &Notice) {
        if let Notice::Removed { .. } = notice {
            self.hub.check_watches(users);
        }
        if let Notice::Added { chat, .. } | Notice::Removed { chat, .. } = notice {
            self.chat_changed(ChangedChat::Members(*chat));
        }
    }

    fn chat_changed(&self, change: ChangedChat) {
        // An error says that no task listens.
        let _ = self.changed_chats.send(change);
    }

    fn offer_here(&self, class: Class, origin: Option<SessionId>, places: &[(UserId, InboxSeq)], message: &Arc<Message>) {
        let sender = message.sender.user;
        if self.hub.has_others(sender, origin) {
            self.hub.tell_others(sender, origin, &Note::Echo(Encoded::new(Arc::clone(message))));
        }
        for (user, inbox_seq) in places.iter().copied().filter(|(user, _)| self.hub.is_here(*user)) {
            self.metrics.wakes.of("offer").inc();
            self.hub.offer(
                user,
                &Envelope {
                    class,
                    inbox_seq,
                    status: Status::Sent,
                    attempts: 0,
                    message: Arc::clone(message),
                    feed: None,
                    merged: None,
                    is_muted: false,
                },
            );
        }
    }

    fn post(&self, message: &BusMessage) {
        match self.bus.post(message) {
            Posted::Alone => {}
            Posted::Whole => {
                self.metrics.bus_sent.of(message.kind()).inc();
            }
            Posted::InShort | Posted::Dropped => {
                self.metrics.bus_degraded.of(message.kind()).inc();
            }
        }
    }
}
