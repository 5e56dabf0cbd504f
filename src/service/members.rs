//! Joining and leaving groups. Connected users are told of it after the commit.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;

use super::announce::{MembershipChange, announce};
use super::{Admission, Refusal, Service};
use crate::delivery::Turn;
use crate::domain::{ChatId, ChatSeq, ExternalId, Profile, UserId, limits};
use crate::store::{self, Adding, UnknownUsers};

/// The time for which a change that has its turn may wait for a permit.
const PERMIT_WAIT_MAX: Duration = Duration::from_millis(50);

/// The members that joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersAdded {
    /// Without those who were members already.
    pub users: Vec<ExternalId>,
    /// The users that are invited now, and are no members yet.
    pub invited: Vec<ExternalId>,
    /// They get messages above this number.
    pub joined_seq: ChatSeq,
}

/// The members that left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersRemoved {
    /// Without those who were no members.
    pub users: Vec<ExternalId>,
    /// The users whose invitations were withdrawn.
    pub withdrawn: Vec<ExternalId>,
    /// Messages above this number are not for them.
    pub left_seq: ChatSeq,
}

impl Service {
    /// Adds members to a group, for an admin of it. Where only contacts write to one another, others are invited. May be repeated: users that
    /// are in it or invited already are passed over.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`], [`Refusal::NotAMember`], [`Refusal::NotAGroup`], [`Refusal::NotAnAdmin`],
    /// [`Refusal::TooManyMembers`], [`Refusal::NotAccepted`], [`Refusal::InvitationsTooMany`], [`Refusal::Busy`], [`Refusal::Unavailable`],
    /// or a defect.
    pub async fn add_members(&self, caller: &Profile, chat: ChatId, names: &[ExternalId]) -> Result<MembersAdded, Refusal> {
        // It costs as much as a message to everybody concerned, and counts as one.
        self.delivery.limits().check_send(caller.user)?;
        let add = |unknown| self.in_turn(caller, chat, "adding members", self.store.add_members(caller.user, chat, names, unknown));
        let mut added = add(UnknownUsers::Count).await?;
        if let Adding::Unknown(unknown) = added {
            // They are charged to a caller that has the right to name them, and made then.
            self.delivery.limits().check_named_users(caller.user, unknown)?;
            added = add(UnknownUsers::Make).await?;
            self.metrics.users_named.inc_by(unknown as u64);
        }
        let joined = match added {
            Adding::Done(joined) => joined,
            Adding::Refused(refused) => return Err(refused.into()),
            Adding::Unknown(_) => return Err(Refusal::Internal),
        };
        let added = MembersAdded { users: externals(&joined.users), invited: joined.invited.clone(), joined_seq: joined.seq };
        announce(self, chat, caller, &MembershipChange::Joined(joined));
        Ok(added)
    }

    /// Takes members out of a group: the caller itself or, for an admin, anybody. What waits for them in this chat ends. An admin withdraws
    /// invitations likewise. May be repeated.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`], [`Refusal::NotAMember`], [`Refusal::NotAGroup`], [`Refusal::NotAnAdmin`], [`Refusal::Busy`],
    /// [`Refusal::Unavailable`], or a defect.
    pub async fn remove_members(&self, caller: &Profile, chat: ChatId, names: &[ExternalId]) -> Result<MembersRemoved, Refusal> {
        self.delivery.limits().check_send(caller.user)?;
        let removing = self.store.remove_members(caller.user, chat, names);
        let left = self.in_turn(caller, chat, "removing members", removing).await??;
        let removed = MembersRemoved { users: externals(&left.users), withdrawn: left.withdrawn.clone(), left_seq: left.seq };
        announce(self, chat, caller, &MembershipChange::Left(left));
        Ok(removed)
    }

    /// Changes a chat when it is this change's turn. `what` is done, in words for the log.
    pub(super) async fn in_turn<T>(
        &self,
        caller: &Profile,
        chat: ChatId,
        what: &'static str,
        change: impl Future<Output = store::Result<T>>,
    ) -> Result<T, Refusal> {
        let (turn, _admission) = self.turn(caller, chat).await?;
        let changed = change.await;
        if !self.notifier.is_alone() {
            turn.end_after_a_pause();
        }
        changed.map_err(|cause| Refusal::of(&cause, what))
    }

    /// The turn to change a chat, with a permit to ask the database. A change that waits for its turn holds no permit: the caller has
    /// few of them, and its other requests need them.
    async fn turn(&self, caller: &Profile, chat: ChatId) -> Result<(Turn, Admission), Refusal> {
        let turns = self.delivery.turns();
        let admission = self.admit(&caller.external).await?;
        // As a rule nobody else changes the chat, or sends to it.
        if let Some(turn) = turns.change(chat).now_or_never().flatten() {
            return Ok((turn, admission));
        }
        drop(admission);
        let _place = self.bounds.changes.enter(caller.user).await?;
        let turn = turns.change(chat).await.ok_or(Refusal::BUSY)?;
        // Others wait behind it for the turn: a caller that asks for much at once must not keep them.
        let admission = timeout(PERMIT_WAIT_MAX, self.admit(&caller.external)).await.map_err(|_| Refusal::BUSY)??;
        Ok((turn, admission))
    }

    /// Changes of members by this user that wait for their turns, for tests that look inside.
    pub fn changes_waiting(&self, user: UserId) -> usize {
        self.bounds.changes.waiting(user)
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
}

fn externals(users: &[(UserId, ExternalId)]) -> Vec<ExternalId> {
    users.iter().map(|(_, external)| external.clone()).collect()
}
