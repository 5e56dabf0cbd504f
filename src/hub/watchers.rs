//! The sessions that are told when a user comes online or goes offline.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use super::mailbox::{Mailbox, Note};
use crate::domain::limits::PRESENCE_WATCHED_MAX;
use crate::domain::{SessionId, UserId};
use crate::protocol::event::{Encoded, Notice};

/// Both directions, so that a session that ends can be forgotten without a search.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    by_watched: DashMap<UserId, Vec<(SessionId, Mailbox)>>,
    by_watcher: DashMap<SessionId, HashSet<UserId>>,
    count: AtomicUsize,
}

/// The session would watch more users than it may. It watches what it watched before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session would watch too many users")]
pub struct WatchesTooMany;

impl Watchers {
    /// All of these users, or none where the session would watch too many. Those that it watches already count once.
    pub(super) fn add(&self, watcher: SessionId, mailbox: &Mailbox, watched: &[UserId]) -> Result<(), WatchesTooMany> {
        let mut mine = self.by_watcher.entry(watcher).or_default();
        let new: HashSet<UserId> = watched.iter().copied().filter(|user| !mine.contains(user)).collect();
        if mine.len() + new.len() > PRESENCE_WATCHED_MAX {
            return Err(WatchesTooMany);
        }
        self.count.fetch_add(new.len(), Ordering::Relaxed);
        for user in new {
            mine.insert(user);
            self.by_watched.entry(user).or_default().push((watcher, mailbox.clone()));
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
            if let Some(mut watchers) = self.by_watched.get_mut(&user) {
                watchers.retain(|(session, _)| *session != watcher);
            }
            self.by_watched.remove_if(&user, |_, watchers| watchers.is_empty());
        }
    }

    pub(super) fn tell(&self, user: UserId, notice: &Encoded<Notice>) {
        if let Some(watchers) = self.by_watched.get(&user) {
            for (_, mailbox) in watchers.iter() {
                mailbox.put(Note::Notice(notice.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::mailbox;

    #[test]
    fn a_session_watches_as_many_users_as_it_may_and_more_are_refused_without_a_change() {
        let (watchers, session, (mailbox, _reader)) = (Watchers::default(), SessionId::generate(), mailbox());
        let users = |range: std::ops::Range<i64>| range.map(UserId).collect::<Vec<_>>();
        watchers.add(session, &mailbox, &users(0..1_999)).unwrap();
        assert_eq!(watchers.add(session, &mailbox, &users(1_998..2_001)), Err(WatchesTooMany));
        assert_eq!(watchers.count(), 1_999);
        assert!(!watchers.by_watched.contains_key(&UserId(1_999)));
        // Those that it watches already cost nothing, nor does one that is named twice.
        watchers.add(session, &mailbox, &users(0..2_000)).unwrap();
        watchers.add(session, &mailbox, &[UserId(7), UserId(7)]).unwrap();
        assert_eq!(watchers.count(), 2_000);
        watchers.forget(session);
        assert!(watchers.count() == 0 && watchers.by_watched.is_empty() && watchers.by_watcher.is_empty());
    }
}
