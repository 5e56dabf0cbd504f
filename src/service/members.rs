//! Joining and leaving groups. Connected users are told of it after the commit.

use std::collections::HashMap;

use super::announce::{MembershipChange, announce};
use super::{Refusal, Service};
use crate::domain::{ChatId, ChatSeq, ExternalId, Profile, UserId, limits};
use crate::store;

/// A number that no user has.
const NOBODY: UserId = UserId(0);

/// The members that joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersAdded {
    /// Without those who were members already.
    pub users: Vec<ExternalId>,
    /// They get messages above this number.
    pub joined_seq: ChatSeq,
}

/// The members that left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersRemoved {
    /// Without those who were no members.
    pub users: Vec<ExternalId>,
    /// Messages above this number are not for them.
    pub left_seq: ChatSeq,
}

impl Service {
    /// Adds members to a group, for an admin of it. May be repeated: members that are in it already are passed over.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`], [`Refusal::NotAMember`], [`Refusal::NotAGroup`], [`Refusal::NotAnAdmin`],
    /// [`Refusal::TooManyMembers`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn add_members(&self, caller: &Profile, chat: ChatId, names: &[ExternalId]) -> Result<MembersAdded, Refusal> {
        // It costs as much as a message to everybody concerned, and counts as one.
        self.delivery.limits().check_send(caller.user)?;
        let mut users = self.find_members(caller, chat, names).await?;
        users.extend(self.make_named(caller, &users, names).await?);
        let numbers: Vec<UserId> = users.into_values().collect();
        let adding = self.in_turn(chat, self.store.add_members(caller.user, chat, &numbers));
        let joined = self.ask(&caller.external, "adding members", adding).await?.ok_or(Refusal::BUSY)??;
        let added = MembersAdded { users: externals(&joined.users), joined_seq: joined.seq };
        announce(self, chat, caller, &MembershipChange::Joined(joined));
        Ok(added)
    }

    /// Takes members out of a group: the caller itself or, for an admin, anybody. What waits for them in this chat ends. May be
    /// repeated.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`], [`Refusal::NotAMember`], [`Refusal::NotAGroup`], [`Refusal::NotAnAdmin`], [`Refusal::Busy`],
    /// [`Refusal::Unavailable`], or a defect.
    pub async fn remove_members(&self, caller: &Profile, chat: ChatId, names: &[ExternalId]) -> Result<MembersRemoved, Refusal> {
        self.delivery.limits().check_send(caller.user)?;
        let removing = async {
            let users = self.known_or_nobody(names).await?;
            self.in_turn(chat, self.store.remove_members(caller.user, chat, &users)).await
        };
        let left = self.ask(&caller.external, "removing members", removing).await?.ok_or(Refusal::BUSY)??;
        let removed = MembersRemoved { users: externals(&left.users), left_seq: left.seq };
        announce(self, chat, caller, &MembershipChange::Left(left));
        Ok(removed)
    }

    /// Changes a chat when it is this change's turn. None: others change the chat, and the turn did not come in time.
    async fn in_turn<T>(&self, chat: ChatId, change: impl Future<Output = store::Result<T>>) -> store::Result<Option<T>> {
        let Some(turn) = self.delivery.turns().change(chat).await else { return Ok(None) };
        let changed = change.await;
        if !self.notifier.is_alone() {
            turn.end_after_a_pause();
        }
        changed.map(Some)
    }

    /// Those of these users that there are. Where some are not, it looks first whether the caller may add them: nothing is made for
    /// somebody who may not.
    async fn find_members(&self, caller: &Profile, chat: ChatId, names: &[ExternalId]) -> Result<HashMap<ExternalId, UserId>, Refusal> {
        let looking = async {
            let known = self.store.known_users(names).await?;
            let unknown = names.iter().filter(|name| !known.contains_key(name)).count();
            let numbers: Vec<UserId> = known.values().copied().collect();
            let refused = if unknown == 0 { None } else { self.store.why_not_add(caller.user, chat, &numbers, unknown).await? };
            Ok((known, refused))
        };
        match self.ask(&caller.external, "adding members", looking).await? {
            (known, None) => Ok(known),
            (_, Some(refused)) => Err(refused.into()),
        }
    }

    /// Makes the users of these names that are not known, and returns them. They are charged to the caller, who has the right to
    /// name them.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]: the caller has named too many. [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub(super) async fn make_named(
        &self,
        caller: &Profile,
        known: &HashMap<ExternalId, UserId>,
        names: &[ExternalId],
    ) -> Result<HashMap<ExternalId, UserId>, Refusal> {
        let unknown: Vec<ExternalId> = names.iter().filter(|name| !known.contains_key(name)).cloned().collect();
        if unknown.is_empty() {
            return Ok(HashMap::new());
        }
        self.delivery.limits().check_named_users(caller.user, unknown.len())?;
        self.make_users(caller, &unknown).await
    }

    /// Makes users that the caller has the right to name, a few at a time: each statement holds the names that it makes until its
    /// commit.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect. Some may be made then.
    pub(super) async fn make_users(&self, caller: &Profile, unknown: &[ExternalId]) -> Result<HashMap<ExternalId, UserId>, Refusal> {
        let mut made = HashMap::with_capacity(unknown.len());
        for names in unknown.chunks(limits::IDS_MAX) {
            made.extend(self.ask(&caller.external, "making users that are named", self.store.users(names)).await?);
            self.metrics.users_named.inc_by(names.len() as u64);
        }
        Ok(made)
    }

    /// The numbers of these users, and one that no user has where a name is that of nobody: only an admin may name others than itself.
    async fn known_or_nobody(&self, names: &[ExternalId]) -> store::Result<Vec<UserId>> {
        let known = self.store.known_users(names).await?;
        let nobody = names.iter().any(|name| !known.contains_key(name)).then_some(NOBODY);
        Ok(known.into_values().chain(nobody).collect())
    }
}

fn externals(users: &[(UserId, ExternalId)]) -> Vec<ExternalId> {
    users.iter().map(|(_, external)| external.clone()).collect()
}
