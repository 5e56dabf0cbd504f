//! Blocks: a user wants nothing from another one, and shows it nothing. Who is blocked is told nothing.

use super::{BlockedUser, Refusal, Service};
use crate::domain::{ExternalId, Profile, Status, UserId};
use crate::protocol::people::{BlockData, BlockListOk};
use crate::store::{Blocking, ContactState, NewBlock, Unblocking, page_of};

/// A part of the users that somebody has blocked.
#[derive(Debug, Clone)]
pub struct BlockList {
    /// The users, in the order in which the service met them.
    pub users: Vec<BlockedUser>,
    /// More follow behind this one; none: these were the last.
    pub next: Option<ExternalId>,
}

impl Service {
    /// The caller blocks a user: what waits from it in their direct chat ends, and nothing new is accepted there. May be repeated.
    ///
    /// # Errors
    /// [`Refusal::Oneself`], [`Refusal::TooManyBlocks`], [`Refusal::RateLimited`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn block(&self, caller: &Profile, name: &ExternalId) -> Result<(), Refusal> {
        let other = self.other_than(caller, name).await?;
        let blocking = async {
            let outcome = self.store.put_block(caller.user, other).await?;
            if let Blocking::Done(made) = &outcome {
                // As soon as it is committed, also where the caller hears of it no more.
                self.block_made(caller, (other, name), made);
            }
            Ok(outcome)
        };
        match self.ask(&caller.external, "blocking a user", blocking).await? {
            Blocking::Done(_) | Blocking::Again => Ok(()),
            Blocking::TooMany => Err(Refusal::TooManyBlocks),
        }
    }

    /// The caller blocks a user no more. What has ended stays ended. May be repeated.
    ///
    /// # Errors
    /// [`Refusal::Oneself`], [`Refusal::RateLimited`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn unblock(&self, caller: &Profile, name: &ExternalId) -> Result<(), Refusal> {
        let other = self.other_than(caller, name).await?;
        let unblocking = async {
            let outcome = self.store.take_block_back(caller.user, other).await?;
            if let Unblocking::Done(chat) = outcome {
                self.notifier.people_changed([caller.user, other], chat);
                if chat.is_some() {
                    self.notifier.may_see([caller.user, other]);
                }
            }
            Ok(())
        };
        self.ask(&caller.external, "unblocking a user", unblocking).await
    }

    /// The users that the caller has blocked, behind `after`, at most `limit`.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn blocks(&self, caller: &Profile, after: Option<&ExternalId>, limit: u16) -> Result<BlockList, Refusal> {
        let read = self.store.blocks(caller.user, after, limit + 1);
        let users = self.ask_for(&caller.external, limit.into(), "listing blocks", read).await?;
        let (users, next) = page_of(users, limit, |user| user.profile.external.clone());
        Ok(BlockList { users, next })
    }

    /// The sender is told nothing of what has ended. The sessions of the one that blocks look at what they hold.
    fn block_made(&self, caller: &Profile, (other, name): (UserId, &ExternalId), made: &NewBlock) {
        self.notifier.people_changed([caller.user, other], made.chat);
        let ended: Vec<_> = made.ended.iter().collect();
        self.delivery.receipts().moved(&ended, Status::Expired, made.at, None, |_| None);
        // One who is blocked learns the same as one who is removed.
        self.contact_changed(caller, None, (other, name), (ContactState::None, made.contact_audience));
        if made.chat.is_some() {
            self.delivery.receipts().ended(caller.user);
        }
    }

    /// The user of this name, who is not the caller; made where it is new. A change between people counts as a message.
    pub(super) async fn other_than(&self, caller: &Profile, name: &ExternalId) -> Result<UserId, Refusal> {
        if *name == caller.external {
            return Err(Refusal::Oneself);
        }
        self.delivery.limits().check_send(caller.user)?;
        let names = std::slice::from_ref(name);
        let mut users = self.ask(&caller.external, "finding a user", self.store.known_users(names)).await?;
        users.extend(self.make_named(caller, &users, names).await?);
        users.remove(name).ok_or(Refusal::Internal)
    }
}

impl From<BlockList> for BlockListOk {
    fn from(list: BlockList) -> Self {
        let blocks = list.users.into_iter().map(|BlockedUser { profile, at }| BlockData {
            user_id: profile.external,
            name: profile.name,
            profile_picture: profile.picture,
            blocked_at: at.into(),
        });
        Self { blocks: blocks.collect(), next: list.next }
    }
}
