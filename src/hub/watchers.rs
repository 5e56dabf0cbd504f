//! The sessions that are told when a user comes online or goes offline.
//!
//! A session watches only users whom its own user may see. Where that may have changed, or where a change of presence may not have been
//! told, the pair of both users is outdated: it is checked against the database, by somebody else.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use tokio::sync::Notify;

use super::mailbox::{Mailbox, Note};
use crate::domain::limits::PRESENCE_WATCHED_MAX;
use crate::domain::{SessionId, UserId};
use crate::protocol::event::{Encoded, Notice};

/// Both directions, so that a session that ends can be forgotten without a search.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    by_watched: DashMap<UserId, Watched>,
    by_watcher: DashMap<SessionId, HashSet<UserId>>,
    count: AtomicUsize,
    outdated: Mutex<BTreeSet<Pair>>,
    /// Rung when something is outdated.
    ring: Notify,
}

/// The user who asked, and the user who is watched for it.
type Pair = (UserId, UserId);

/// A user who is watched.
#[derive(Debug, Default)]
struct Watched {
    watchers: Vec<Watcher>,
    /// The state that the watchers were told last; none: they were told nothing, and take the user for offline.
    is_online: Option<bool>,
    /// Grows with each watcher that comes and each change that is told.
    version: u64,
}

#[derive(Debug)]
struct Watcher {
    session: SessionId,
    asker: UserId,
    mailbox: Mailbox,
    /// It was told nothing yet, and has not asked: a check tells it that the user is online.
    is_new: bool,
}

/// A pair to check against the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutdatedWatch {
    /// The user who asked.
    pub asker: UserId,
    /// The user who is watched.
    pub watched: UserId,
    /// The version of the watched user then.
    version: u64,
}

/// The session would watch more users than it may. It watches what it watched before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session would watch too many users")]
pub struct WatchesTooMany;

impl Watchers {
    /// All of these users, or none where the session would watch too many. Those that it watches already count once.
    pub(super) fn add(&self, watcher: SessionId, asker: UserId, mailbox: &Mailbox, watched: &[UserId]) -> Result<(), WatchesTooMany> {
        self.add_all(watched, || Watcher { session: watcher, asker, mailbox: mailbox.clone(), is_new: false })
    }

    /// Those of these users that the session does not watch yet, or none where it would watch too many. They are to be checked: it is
    /// told of those who are online.
    pub(super) fn add_missing(&self, watcher: SessionId, asker: UserId, mailbox: &Mailbox, watched: &[UserId]) {
        let new: Vec<UserId> = match self.by_watcher.get(&watcher) {
            Some(mine) => watched.iter().copied().filter(|user| !mine.contains(user)).collect(),
            None => watched.to_vec(),
        };
        if self.add_all(&new, || Watcher { session: watcher, asker, mailbox: mailbox.clone(), is_new: true }).is_ok() {
            self.put(new.into_iter().map(|user| (asker, user)).collect());
        }
    }

    fn add_all(&self, watched: &[UserId], make: impl Fn() -> Watcher) -> Result<(), WatchesTooMany> {
        let Some(watcher) = (!watched.is_empty()).then(|| make().session) else { return Ok(()) };
        let mut mine = self.by_watcher.entry(watcher).or_default();
        let new: HashSet<UserId> = watched.iter().copied().filter(|user| !mine.contains(user)).collect();
        if mine.len() + new.len() > PRESENCE_WATCHED_MAX {
            return Err(WatchesTooMany);
        }
        self.count.fetch_add(new.len(), Ordering::Relaxed);
        for user in watched {
            let mut entry = self.by_watched.entry(*user).or_default();
            // A check that is under way saw the time before this.
            entry.version += 1;
            if new.contains(user) && mine.insert(*user) {
                entry.watchers.push(make());
            }
        }
        Ok(())
    }

    /// Pairs of a session and a user that it watches.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn forget(&self, watcher: SessionId) {
        let Some((_, watched)) = self.by_watcher.remove(&watcher) else { return };
        self.count.fetch_sub(watched.len(), Ordering::Relaxed);
        for user in watched {
            self.remove(user, watcher);
        }
    }

    pub(super) fn tell(&self, user: UserId, notice: &Encoded<Notice>) {
        if let Some(mut watched) = self.by_watched.get_mut(&user) {
            watched.tell(notice);
        }
    }

    /// The watchers of this user have read its state.
    pub(super) fn learn(&self, user: UserId, is_online: bool) {
        if let Some(mut watched) = self.by_watched.get_mut(&user) {
            watched.is_online.get_or_insert(is_online);
        }
    }

    /// The users that these may see, and those that may see them, may have changed. `sessions` are those of a user.
    pub(super) fn outdate(&self, users: &[UserId], sessions: impl Fn(UserId) -> Vec<SessionId>) {
        let mut pairs = BTreeSet::new();
        for user in users {
            let asked = sessions(*user).into_iter().filter_map(|session| self.by_watcher.get(&session).map(|watched| watched.clone()));
            pairs.extend(asked.flatten().map(|watched| (*user, watched)));
            let watchers =
                self.by_watched.get(user).map(|watched| watched.watchers.iter().map(|watcher| watcher.asker).collect::<Vec<_>>());
            pairs.extend(watchers.into_iter().flatten().map(|asker| (asker, *user)));
        }
        self.put(pairs);
    }

    /// Anything may have changed.
    pub(super) fn outdate_all(&self) {
        let mut pairs = BTreeSet::new();
        for watched in &self.by_watched {
            pairs.extend(watched.watchers.iter().map(|watcher| (watcher.asker, *watched.key())));
        }
        self.put(pairs);
    }

    /// Waits until something is outdated. May return without reason.
    pub(super) async fn outdated(&self) {
        self.ring.notified().await;
    }

    /// Pairs that are outdated, at most `pairs_max`. They count as checked from now on.
    pub(super) fn take_outdated(&self, pairs_max: usize) -> Vec<OutdatedWatch> {
        let mut outdated = self.lock();
        let mut taken = Vec::new();
        while taken.len() < pairs_max
            && let Some((asker, watched)) = outdated.pop_first()
        {
            taken.extend(self.by_watched.get(&watched).map(|known| OutdatedWatch { asker, watched, version: known.version }));
        }
        taken
    }

    /// These pairs could not be checked.
    pub(super) fn put_back(&self, pairs: &[OutdatedWatch]) {
        self.put(pairs.iter().map(|pair| (pair.asker, pair.watched)).collect());
    }

    /// The asker may no longer see the user: its sessions watch it no more. Where either has changed since the pair was taken, it is
    /// checked again.
    pub(super) fn end(&self, pair: OutdatedWatch) {
        let of_asker = |watched: &Watched| -> Vec<SessionId> {
            watched.watchers.iter().filter(|watcher| watcher.asker == pair.asker).map(|watcher| watcher.session).collect()
        };
        let sessions = self.by_watched.get(&pair.watched).map(|watched| of_asker(&watched)).unwrap_or_default();
        for session in sessions {
            // Both under one lock, in the order of `add`: a session that asks for the user meanwhile gets it.
            let Some(mut mine) = self.by_watcher.get_mut(&session) else { continue };
            if !self.is_current(pair) {
                return self.put_back(&[pair]);
            }
            if mine.remove(&pair.watched) {
                self.count.fetch_sub(1, Ordering::Relaxed);
                self.remove(pair.watched, session);
            }
        }
    }

    /// The user is online, or is not: its watchers are told unless they were. Where it has changed since the pair was taken, it is
    /// checked again.
    pub(super) fn confirm(&self, pair: OutdatedWatch, is_online: bool, notice: impl FnOnce() -> Notice) {
        let Some(mut watched) = self.by_watched.get_mut(&pair.watched) else { return };
        if watched.version != pair.version {
            drop(watched);
            self.put_back(&[pair]);
        } else if watched.is_online.unwrap_or(false) != is_online {
            watched.tell(&Encoded::new(notice()));
            // Other pairs of this user that were taken with this one are no less true for it.
            watched.version = pair.version;
        } else if watched.watchers.iter().any(|watcher| watcher.is_new && watcher.asker == pair.asker) {
            watched.tell_new(pair.asker, is_online.then(|| Encoded::new(notice())).as_ref());
        }
    }

    fn is_current(&self, pair: OutdatedWatch) -> bool {
        self.by_watched.get(&pair.watched).is_none_or(|watched| watched.version == pair.version)
    }

    fn remove(&self, user: UserId, watcher: SessionId) {
        if let Some(mut watched) = self.by_watched.get_mut(&user) {
            watched.watchers.retain(|other| other.session != watcher);
        }
        self.by_watched.remove_if(&user, |_, watched| watched.watchers.is_empty());
    }

    fn put(&self, pairs: BTreeSet<Pair>) {
        if !pairs.is_empty() {
            self.lock().extend(pairs);
            self.ring.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Pair>> {
        // Code under the lock cannot panic half-way: a panicking thread leaves the value whole.
        self.outdated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn tell(&mut self, notice: &Encoded<Notice>) {
        self.version += 1;
        self.is_online = Some(matches!(**notice, Notice::Online { .. }));
        for watcher in &mut self.watchers {
            watcher.is_new = false;
            watcher.mailbox.put(Note::Notice(notice.clone()));
        }
    }

    /// The state is the one that others were told. None: the user is offline, which needs no word.
    fn tell_new(&mut self, asker: UserId, online: Option<&Encoded<Notice>>) {
        for watcher in self.watchers.iter_mut().filter(|watcher| watcher.is_new && watcher.asker == asker) {
            watcher.is_new = false;
            if let Some(notice) = online {
                watcher.mailbox.put(Note::Notice(notice.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::domain::ExternalId;
    use crate::hub::{Reader, mailbox};

    const ANNA: UserId = UserId(1);
    const BEN: UserId = UserId(2);

    #[test]
    fn a_session_watches_as_many_users_as_it_may_and_more_are_refused_without_a_change() {
        let (watchers, session, (mailbox, _reader)) = (Watchers::default(), SessionId::generate(), mailbox());
        let users = |range: std::ops::Range<i64>| range.map(UserId).collect::<Vec<_>>();
        watchers.add(session, ANNA, &mailbox, &users(0..1_999)).unwrap();
        assert_eq!(watchers.add(session, ANNA, &mailbox, &users(1_998..2_001)), Err(WatchesTooMany));
        assert_eq!(watchers.count(), 1_999);
        assert!(!watchers.by_watched.contains_key(&UserId(1_999)));
        // Those that it watches already cost nothing, nor does one that is named twice.
        watchers.add(session, ANNA, &mailbox, &users(0..2_000)).unwrap();
        watchers.add(session, ANNA, &mailbox, &[UserId(7), UserId(7)]).unwrap();
        assert_eq!(watchers.count(), 2_000);
        watchers.forget(session);
        assert!(watchers.count() == 0 && watchers.by_watched.is_empty() && watchers.by_watcher.is_empty());
    }

    /// Anna watches Ben, and was told that he is online.
    fn watching() -> (Watchers, SessionId, Reader) {
        let (watchers, session, (mailbox, mut reader)) = (Watchers::default(), SessionId::generate(), mailbox());
        watchers.add(session, ANNA, &mailbox, &[BEN]).unwrap();
        watchers.tell(BEN, &Encoded::new(says(true)));
        assert!(reader.try_next().is_some());
        (watchers, session, reader)
    }

    fn says(is_online: bool) -> Notice {
        let (user, at) = (ExternalId::try_from("ben".to_owned()).unwrap(), OffsetDateTime::UNIX_EPOCH);
        if is_online { Notice::Online { user, at } } else { Notice::Offline { user, last_seen: at } }
    }

    #[test]
    fn a_pair_is_outdated_by_either_of_its_users_and_by_nobody_else() {
        let (watchers, session, _reader) = watching();
        let sessions = |user| if user == ANNA { vec![session] } else { Vec::new() };
        for (users, taken) in [(vec![ANNA], 1), (vec![BEN], 1), (vec![BEN, ANNA], 1), (vec![UserId(3)], 0)] {
            watchers.outdate(&users, sessions);
            assert_eq!(watchers.take_outdated(10).len(), taken, "{users:?}");
        }
        watchers.outdate_all();
        assert_eq!(watchers.take_outdated(10).len(), 1);
        assert!(watchers.take_outdated(10).is_empty());
    }

    #[test]
    fn who_may_not_be_seen_any_more_is_watched_no_more() {
        let (watchers, session, mut reader) = watching();
        watchers.outdate_all();
        watchers.end(watchers.take_outdated(1)[0]);
        assert!(watchers.count() == 0 && watchers.by_watched.is_empty() && watchers.by_watcher.get(&session).unwrap().is_empty());
        watchers.tell(BEN, &Encoded::new(says(false)));
        assert!(reader.try_next().is_none());
    }

    #[test]
    fn a_state_that_was_not_told_is_told_once_and_one_that_was_is_not() {
        let (watchers, _, mut reader) = watching();
        for (is_online, told) in [(true, 0), (false, 1), (false, 0)] {
            watchers.outdate_all();
            watchers.confirm(watchers.take_outdated(1)[0], is_online, || says(is_online));
            assert_eq!(std::iter::from_fn(|| reader.try_next()).count(), told, "{is_online}");
        }
    }

    #[test]
    fn one_who_watches_from_a_check_on_is_told_once_that_a_user_is_online_and_others_are_not_told_again() {
        let (watchers, _, mut reader) = watching();
        let (carol, session, (mailbox, mut new)) = (UserId(3), SessionId::generate(), mailbox());
        for _ in 0..2 {
            watchers.add_missing(session, carol, &mailbox, &[BEN]);
            for pair in watchers.take_outdated(10) {
                watchers.confirm(pair, true, || says(true));
            }
        }
        assert_eq!((std::iter::from_fn(|| new.try_next()).count(), reader.try_next().is_none()), (1, true));
        watchers.tell(BEN, &Encoded::new(says(false)));
        assert_eq!((std::iter::from_fn(|| new.try_next()).count(), watchers.count()), (1, 2));
    }

    /// Else a check would tell what was true before, or end what was asked for after it.
    #[test]
    fn what_changes_while_it_is_checked_is_checked_again() {
        let (watchers, session, mut reader) = watching();
        let (mailbox, _other) = mailbox();
        let changes: [&dyn Fn(); 2] = [&|| watchers.tell(BEN, &Encoded::new(says(true))), &|| {
            watchers.add(session, ANNA, &mailbox, &[BEN]).unwrap();
        }];
        for change in changes {
            for ends in [true, false] {
                watchers.outdate_all();
                let pair = watchers.take_outdated(1)[0];
                change();
                while reader.try_next().is_some() {}
                if ends {
                    watchers.end(pair)
                } else {
                    watchers.confirm(pair, false, || says(false))
                }
                assert!(watchers.count() == 1 && reader.try_next().is_none());
                assert_eq!(watchers.take_outdated(1).len(), 1, "once more");
            }
        }
    }
}
