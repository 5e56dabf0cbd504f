//! The sessions that are told when a user comes online or goes offline.

use dashmap::DashMap;

use super::mailbox::{Mailbox, Note};
use crate::domain::{SessionId, UserId};
use crate::protocol::event::{Encoded, Notice};

/// Both directions, so that a session that ends can be forgotten without a search.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    by_watched: DashMap<UserId, Vec<(SessionId, Mailbox)>>,
    by_watcher: DashMap<SessionId, Vec<UserId>>,
}

/// Users one session may watch; the connection asks for fewer.
const WATCHED_MAX: usize = 2_000;

impl Watchers {
    pub(super) fn add(&self, watcher: SessionId, mailbox: &Mailbox, watched: &[UserId]) {
        let mut mine = self.by_watcher.entry(watcher).or_default();
        for user in watched {
            if mine.len() >= WATCHED_MAX {
                return;
            }
            if !mine.contains(user) {
                mine.push(*user);
                self.by_watched.entry(*user).or_default().push((watcher, mailbox.clone()));
            }
        }
    }

    pub(super) fn forget(&self, watcher: SessionId) {
        let Some((_, watched)) = self.by_watcher.remove(&watcher) else { return };
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
