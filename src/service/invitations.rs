//! Invitations to groups: listing, accepting and declining them. An admin makes and withdraws them by adding and removing members (`members`).
//!
//! Sessions of the one who is invited are told by the functions of the schema: each then looks for what waits for it.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::{InvitationView, InvitedUser, Refusal, Service};
use crate::domain::{ChatId, ChatKind, ChatSeq, ExternalId, Profile, limits};
use crate::protocol::event::Notice;
use crate::protocol::invitations::{InvitationData, InvitationListOk};
use crate::store::{Acceptance, Accepting, page_of};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// A part of the invitations that wait for a user.
#[derive(Debug, Clone)]
pub struct InvitationList {
    /// The invitations, in the order of their chats.
    pub invitations: Vec<InvitationView>,
    /// More follow behind this chat; none: these were the last.
    pub next: Option<ChatId>,
}

/// A part of the users who are invited to a chat.
#[derive(Debug, Clone)]
pub struct InvitedList {
    /// The users, in the order in which the service met them.
    pub users: Vec<InvitedUser>,
    /// More follow behind this one; none: these were the last.
    pub next: Option<ExternalId>,
}

impl Service {
    /// The invitations that wait for the caller behind `after`, at most `limit`.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn invitations(&self, caller: &Profile, after: Option<ChatId>, limit: u16) -> Result<InvitationList, Refusal> {
        let read = self.store.invitations(caller.user, after, limit + 1);
        let invitations = self.ask_for(&caller.external, limit.into(), "listing invitations", read).await?;
        let (invitations, next) = page_of(invitations, limit, |invitation| invitation.chat);
        Ok(InvitationList { invitations, next })
    }

    /// The users who are invited to a chat of the caller behind `after`, at most `limit`.
    ///
    /// # Errors
    /// [`Refusal::NotAMember`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn invited(&self, caller: &Profile, chat: ChatId, after: Option<&ExternalId>, limit: u16) -> Result<InvitedList, Refusal> {
        let read = async {
            let is_member = self.store.chat(caller.user, chat).await?.is_some();
            Ok(if is_member { Some(self.store.invited(caller.user, chat, after, limit + 1).await?) } else { None })
        };
        let users = self.ask_for(&caller.external, limit.into(), "listing who is invited", read).await?;
        let (users, next) = page_of(users.ok_or(Refusal::NotAMember)?, limit, |user| user.profile.external.clone());
        Ok(InvitedList { users, next })
    }

    /// The caller accepts an invitation: it is a member from now on, and gets messages above the number that is returned. May be repeated.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]: no invitation waits for it. [`Refusal::TooManyMembers`], [`Refusal::RateLimited`], [`Refusal::Busy`],
    /// [`Refusal::Unavailable`], or a defect.
    pub async fn accept_invitation(&self, caller: &Profile, chat: ChatId) -> Result<ChatSeq, Refusal> {
        self.delivery.limits().check_send(caller.user)?;
        let accepting = async {
            let outcome = self.store.accept_invitation(caller.user, chat).await?;
            if let Accepting::Done(accepted) = &outcome {
                // As soon as it is committed, also where the caller hears of it no more.
                self.tell_acceptance(caller, chat, accepted.clone());
            }
            Ok(outcome)
        };
        match self.in_turn(caller, chat, "accepting an invitation", accepting).await? {
            Accepting::Done(Acceptance { joined_seq, .. }) | Accepting::Again(joined_seq) => Ok(joined_seq),
            Accepting::NotFound => Err(Refusal::NotFound),
            Accepting::TooManyMembers => Err(Refusal::TooManyMembers),
        }
    }

    /// The caller declines an invitation: until it expires nobody invites it to this group again. May be repeated.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]: it has none. [`Refusal::RateLimited`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn decline_invitation(&self, caller: &Profile, chat: ChatId) -> Result<(), Refusal> {
        self.delivery.limits().check_send(caller.user)?;
        let declining = self.store.decline_invitation(caller.user, chat);
        let had_one = self.ask(&caller.external, "declining an invitation", declining).await?;
        if had_one { Ok(()) } else { Err(Refusal::NotFound) }
    }

    /// All invitations that wait for a user. However long the database is away or busy, the session gets its answer.
    pub fn waiting_invitations(&self, user: Arc<Profile>) -> impl Future<Output = Vec<InvitationView>> + Send + use<> {
        let (store, admission) = (self.store.clone(), self.bounds.admission.clone());
        async move {
            loop {
                let Ok(admitted) = admission.admit_request(&user.external).await else {
                    // The user asks for too much at once: this waits as what could not be read.
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let read = store.invitations(user.user, None, limits::INVITATIONS_MAX).await;
                drop(admitted);
                match read {
                    Ok(invitations) => return invitations,
                    Err(error) if error.could_not_run() => store.health().back().await,
                    Err(cause) => {
                        debug!(?cause, "the invitations of a user could not be read; once more");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    /// Tells the user's sessions, as those of one who is added.
    fn tell_acceptance(&self, caller: &Profile, chat: ChatId, accepted: Acceptance) {
        let Acceptance { title, joined_seq, by } = accepted;
        self.notifier.notice(vec![caller.user], Notice::Added { chat, kind: ChatKind::Group, title, joined_seq, by });
    }
}

impl From<InvitationView> for InvitationData {
    fn from(view: InvitationView) -> Self {
        Self {
            chat_id: view.chat,
            title: view.title,
            by: view.inviter.external,
            name: view.inviter.name,
            profile_picture: view.inviter.picture,
            invited_at: view.at.into(),
            expires_at: view.expires_at.into(),
        }
    }
}

impl From<InvitationList> for InvitationListOk {
    fn from(list: InvitationList) -> Self {
        Self { invitations: list.invitations.into_iter().map(InvitationData::from).collect(), next: list.next }
    }
}
