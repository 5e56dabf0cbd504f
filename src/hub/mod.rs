//! The sessions of this node: user → mailboxes of live sessions, and which session watches the presence of which users.
//!
//! Everything that goes through here is a hint. A mailbox is bounded. A note that does not fit leaves a mark
//! ("check the database"), and the session finds in the database what it was not told.

mod mailbox;
mod watchers;

pub use mailbox::{Found, Mailbox, Missed, Note, Reader, mailbox};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::domain::{Class, DeviceId, Envelope, HeldToken, SessionId, UserId};
use crate::protocol::Code;
use crate::protocol::client::CommittedAnswer;
use crate::protocol::event::{Encoded, Notice};
use watchers::Watchers;
pub use watchers::{OutdatedWatch, WatchesTooMany};

/// A live session as the hub knows it.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Its id.
    pub session: SessionId,
    /// Its device and the number of this connection of it.
    pub device: Option<(DeviceId, i64)>,
    /// The sending end of its mailbox.
    pub mailbox: Mailbox,
    /// The way by which the acks of its client come.
    pub acks: AckWay,
    /// The token that it lives on.
    pub token: SharedToken,
}

/// The token that a session lives on now. Clones share it.
#[derive(Debug, Clone)]
pub struct SharedToken(Arc<Mutex<HeldToken>>);

impl SharedToken {
    /// A session begins with this token.
    pub fn new(token: HeldToken) -> Self {
        Self(Arc::new(Mutex::new(token)))
    }

    /// Another token takes its place.
    pub fn replace(&self, token: HeldToken) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Answers something about it.
    pub fn ask<T>(&self, question: impl FnOnce(&HeldToken) -> T) -> T {
        question(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The way by which a client acks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckWay {
    /// Its own connection.
    Connection,
    /// Requests of HTTP, to whatever node: its connection carries nothing from the client.
    Http,
}

/// The sessions of one node.
#[derive(Debug)]
pub struct Hub {
    users: DashMap<UserId, Vec<Registered>>,
    watchers: Watchers,
    sessions: AtomicUsize,
    sessions_per_user_max: usize,
}

/// The reason why a session was not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRegistered {
    /// The user has as many sessions as allowed.
    #[error("the user has as many sessions as allowed")]
    TooMany,
    /// A newer connection of the same device is here already.
    #[error("a newer connection of the same device is here already")]
    Displaced,
}

/// The effect of a departure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It was the user's last session here.
    Last,
    /// The user has other sessions here.
    OthersRemain,
}

impl Hub {
    /// An empty hub.
    pub fn new(sessions_per_user_max: usize) -> Arc<Self> {
        Arc::new(Self { users: DashMap::new(), watchers: Watchers::default(), sessions: AtomicUsize::new(0), sessions_per_user_max })
    }

    /// Registers a session. An older connection of the same device is told to yield; a newer one makes this one yield.
    ///
    /// # Errors
    /// [`NotRegistered`]: the user has too many sessions, or a newer connection of the device is here.
    pub fn register(&self, user: UserId, newcomer: Registered) -> Result<(), NotRegistered> {
        let mut sessions = self.users.entry(user).or_default();
        if let Some((device, number)) = &newcomer.device {
            let same = |other: &Registered| other.device.as_ref().is_some_and(|(name, _)| name == device);
            if sessions.iter().any(|other| same(other) && other.device.as_ref().is_some_and(|(_, theirs)| theirs > number)) {
                return Err(NotRegistered::Displaced);
            }
            // The older one leaves the list at once. All that comes now is for the newer one.
            sessions.retain(|other| {
                let yields = same(other);
                if yields {
                    other.mailbox.close(Code::Displaced);
                    self.sessions.fetch_sub(1, Ordering::Relaxed);
                }
                !yields
            });
        }
        if sessions.len() >= self.sessions_per_user_max {
            return Err(NotRegistered::TooMany);
        }
        // Most users have one: a list that grows by itself begins with room for four.
        sessions.reserve_exact(1);
        sessions.push(newcomer);
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A device has a connection of this number, wherever: older ones yield.
    pub fn displace(&self, user: UserId, device: &DeviceId, session_no: i64) {
        let Some(mut sessions) = self.users.get_mut(&user) else { return };
        sessions.retain(|other| {
            let yields = other.device.as_ref().is_some_and(|(name, number)| name == device && *number < session_no);
            if yields {
                other.mailbox.close(Code::Displaced);
                self.sessions.fetch_sub(1, Ordering::Relaxed);
            }
            !yields
        });
    }

    /// Takes a session out. Harmless for one that is out already.
    pub fn unregister(&self, user: UserId, session: SessionId) -> Departure {
        self.watchers.forget(session);
        let Entry::Occupied(mut entry) = self.users.entry(user) else { return Departure::Last };
        let before = entry.get().len();
        entry.get_mut().retain(|other| other.session != session);
        self.sessions.fetch_sub(before - entry.get().len(), Ordering::Relaxed);
        if entry.get().is_empty() {
            entry.remove();
            return Departure::Last;
        }
        Departure::OthersRemain
    }

    /// Closes the sessions that live on a token of which this is true, with their device if they have one. Returns how many.
    pub fn close_tokens(&self, code: Code, is_concerned: impl Fn(&HeldToken, Option<&DeviceId>) -> bool) -> usize {
        let mut closed = 0;
        for entry in &self.users {
            for registered in entry.value() {
                let device = registered.device.as_ref().map(|(device, _)| device);
                if registered.token.ask(|token| is_concerned(token, device)) {
                    registered.mailbox.close(code);
                    closed += 1;
                }
            }
        }
        closed
    }

    /// Returns whether this user is connected to this node.
    pub fn is_here(&self, user: UserId) -> bool {
        self.users.get(&user).is_some_and(|sessions| !sessions.is_empty())
    }

    /// Returns whether this user has a session on this node other than `but`.
    pub fn has_others(&self, user: UserId, but: Option<SessionId>) -> bool {
        self.users.get(&user).is_some_and(|sessions| sessions.iter().any(|registered| Some(registered.session) != but))
    }

    /// The devices of this user that are connected here.
    pub fn devices(&self, user: UserId) -> Vec<DeviceId> {
        let named = |registered: &Registered| registered.device.as_ref().map(|(device, _)| device.clone());
        self.users.get(&user).map(|sessions| sessions.iter().filter_map(named).collect()).unwrap_or_default()
    }

    /// The users who are connected here.
    pub fn users(&self) -> Vec<UserId> {
        self.users.iter().filter(|entry| !entry.value().is_empty()).map(|entry| *entry.key()).collect()
    }

    /// Live sessions on this node.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Offers a message that was just committed to every session of its recipient.
    pub fn offer(&self, user: UserId, envelope: &Envelope) {
        self.each(user, |mailbox| mailbox.offer(envelope.clone()));
    }

    /// Something may wait for this user.
    pub fn wake(&self, user: UserId, class: Class) {
        self.each(user, |mailbox| mailbox.wake(class));
    }

    /// Something may wait for everybody in this class: every session reads a page.
    pub fn wake_everybody(&self, class: Class) {
        for entry in &self.users {
            entry.value().iter().for_each(|registered| registered.mailbox.wake(class));
        }
    }

    /// Receipts for this user did not fit somewhere: its sessions check the marks.
    pub fn check_marks(&self, user: UserId) {
        self.each(user, Mailbox::check_marks);
    }

    /// Something that waited for this user has ended: its sessions check what they hold.
    pub fn rows_ended(&self, user: UserId) {
        self.each(user, Mailbox::check_rows);
    }

    /// Anything may have been missed by anybody: every session checks everything.
    pub fn check_all(&self) {
        for entry in &self.users {
            for registered in entry.value() {
                registered.mailbox.check_all();
            }
        }
        self.watchers.outdate_all();
    }

    /// Tells something to every session of a user.
    pub fn tell(&self, user: UserId, note: &Note) {
        self.each(user, |mailbox| mailbox.put(note.clone()));
    }

    /// Tells something to every session of a user but one.
    pub fn tell_others(&self, user: UserId, but: Option<SessionId>, note: &Note) {
        if let Some(sessions) = self.users.get(&user) {
            for registered in sessions.iter().filter(|registered| Some(registered.session) != but) {
                registered.mailbox.put(note.clone());
            }
        }
    }

    /// A client has answered over HTTP. `device` is the client's; none: it has named none. The sessions of this client are told whose
    /// answers come that way.
    pub fn answered(&self, user: UserId, device: Option<&DeviceId>, answer: &Arc<CommittedAnswer>) {
        let Some(sessions) = self.users.get(&user) else { return };
        let is_client = |to: &Registered| to.acks == AckWay::Http && to.device.as_ref().map(|(named, _)| named) == device;
        for registered in sessions.iter().filter(|registered| is_client(registered)) {
            registered.mailbox.put(Note::Answered(Arc::clone(answer)));
        }
    }

    /// A session wants to know when these users come and go. What it wanted before stays wanted.
    ///
    /// # Errors
    /// [`WatchesTooMany`]: it would watch more than [`PRESENCE_WATCHED_MAX`](crate::domain::limits::PRESENCE_WATCHED_MAX). Nothing has changed.
    pub fn watch(&self, watcher: SessionId, asker: UserId, mailbox: &Mailbox, watched: &[UserId]) -> Result<(), WatchesTooMany> {
        self.watchers.add(watcher, asker, mailbox, watched)
    }

    /// A session watches these users too, unless it would be too many. It has not asked for them: it is told of those who are online, once
    /// it is found that it may see them.
    pub fn watch_missing(&self, watcher: SessionId, asker: UserId, mailbox: &Mailbox, watched: &[UserId]) {
        self.watchers.add_missing(watcher, asker, mailbox, watched);
    }

    /// Those who watch a user have read whether it is online.
    pub fn learn_presence(&self, user: UserId, is_online: bool) {
        self.watchers.learn(user, is_online);
    }

    /// These users have left a chat: whom they may see, and who may see them, is to be checked.
    pub fn check_watches(&self, users: &[UserId]) {
        let sessions = |user| self.users.get(&user).map(|all| all.iter().map(|registered| registered.session).collect());
        self.watchers.outdate(users, |user| sessions(user).unwrap_or_default());
    }

    /// Waits until something that sessions watch is to be checked. May return without reason.
    pub async fn watches_outdated(&self) {
        self.watchers.outdated().await;
    }

    /// Pairs of an asker and a user to check, at most `pairs_max`; empty: none is left.
    pub fn take_outdated_watches(&self, pairs_max: usize) -> Vec<OutdatedWatch> {
        self.watchers.take_outdated(pairs_max)
    }

    /// These pairs could not be checked: they are to be checked again.
    pub fn put_back_watches(&self, pairs: &[OutdatedWatch]) {
        self.watchers.put_back(pairs);
    }

    /// The asker of this pair may no longer see the user.
    pub fn end_watch(&self, pair: OutdatedWatch) {
        self.watchers.end(pair);
    }

    /// The state of the user of this pair was read. Those who watch it are told by `notice`, unless they know it.
    pub fn confirm_watch(&self, pair: OutdatedWatch, is_online: bool, notice: impl FnOnce() -> Notice) {
        self.watchers.confirm(pair, is_online, notice);
    }

    /// Pairs of a session and a user that it watches.
    pub fn watches(&self) -> usize {
        self.watchers.count()
    }

    /// Tells those who watch a user that it came or went.
    pub fn tell_watchers(&self, user: UserId, notice: &Encoded<Notice>) {
        self.watchers.tell(user, notice);
    }

    fn each(&self, user: UserId, tell: impl Fn(&Mailbox)) {
        if let Some(sessions) = self.users.get(&user) {
            sessions.iter().for_each(|registered| tell(&registered.mailbox));
        }
    }
}
