//! Joining and leaving groups. Connected users are told of it after the commit.

use super::announce::{MembershipChange, announce};
use super::{Refusal, Service};
use crate::domain::{ChatId, ChatSeq, ExternalId, Profile, UserId};
use crate::store;

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
        let adding = async {
            let users = self.numbers(names).await?;
            self.in_turn(chat, self.store.add_members(caller.user, chat, &users)).await
        };
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
            let users = self.numbers(names).await?;
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

    async fn numbers(&self, names: &[ExternalId]) -> store::Result<Vec<UserId>> {
        Ok(if names.is_empty() { Vec::new() } else { self.store.users(names).await?.into_values().collect() })
    }
}

fn externals(users: &[(UserId, ExternalId)]) -> Vec<ExternalId> {
    users.iter().map(|(_, external)| external.clone()).collect()
}
