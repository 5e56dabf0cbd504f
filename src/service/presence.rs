//! Presence of users: online, or since when not. Users with whom the asker shares no chat are offline and were never seen.

use std::collections::HashMap;

use time::OffsetDateTime;

use super::{Refusal, Service};
use crate::domain::{ExternalId, Profile, SessionId, UserId};
use crate::hub::Mailbox;
use crate::store::Known;

/// The presence of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceOf {
    /// The user.
    pub user: ExternalId,
    /// It is connected, to whatever node.
    pub online: bool,
    /// When its last connection ended, by the database's clock; none: never, as far as is known.
    pub last_seen: Option<OffsetDateTime>,
}

impl Service {
    /// The presence of these users, in their order.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn presence(&self, asker: &Profile, users: Vec<ExternalId>) -> Result<Vec<PresenceOf>, Refusal> {
        let read = self.store.presence(asker.user, &users);
        let seen = self.ask_for(&asker.external, users.len(), "reading presence", read).await?;
        Ok(self.presence_of(users, &seen))
    }

    /// The same, and from now on the session is told of each change.
    ///
    /// # Errors
    /// [`Refusal::WatchesTooMany`]: it would be told of more users than it may, and is told of those of before. Or the same; then it may be
    /// told of changes all the same.
    pub async fn subscribe_presence(
        &self,
        asker: &Profile,
        (session, mailbox): (SessionId, &Mailbox),
        users: Vec<ExternalId>,
    ) -> Result<Vec<PresenceOf>, Refusal> {
        let read = async {
            let known = self.store.presence(asker.user, &users).await?;
            let watched: Vec<UserId> = known.iter().map(|(_, known)| known.user).collect();
            if self.hub.watch(session, asker.user, mailbox, &watched).is_err() {
                return Ok(None);
            }
            // Once more: nobody was told of a user that came or went before this.
            let seen = self.store.presence(asker.user, &users).await?;
            self.watch_only_whom_it_sees(asker, &watched, &seen);
            Ok(Some(seen))
        };
        let seen = self.ask_for(&asker.external, 2 * users.len(), "reading presence", read).await?.ok_or(Refusal::WatchesTooMany)?;
        Ok(self.presence_of(users, &seen))
    }

    /// Notes that the watchers know what was read. A user who is not among it was seen before: one of the two has left the chat meanwhile.
    fn watch_only_whom_it_sees(&self, asker: &Profile, watched: &[UserId], seen: &[(ExternalId, Known)]) {
        seen.iter().for_each(|(_, known)| self.hub.learn_presence(known.user, known.online));
        if seen.len() < watched.len() {
            self.hub.check_watches(&[asker.user]);
        }
    }

    fn presence_of(&self, users: Vec<ExternalId>, seen: &[(ExternalId, Known)]) -> Vec<PresenceOf> {
        let seen: HashMap<&ExternalId, &Known> = seen.iter().map(|(external, known)| (external, known)).collect();
        let presence = users.into_iter().map(|user| {
            let known = seen.get(&user);
            let online = known.is_some_and(|known| known.online || self.hub.is_here(known.user));
            PresenceOf { user, online, last_seen: known.and_then(|known| known.last_seen) }
        });
        presence.collect()
    }
}
