//! Contacts: two users that both want to be. A change is told to the sessions of both, whatever node they are connected to.

use super::{ContactView, Refusal, Service};
use crate::domain::{DirectMessages, ExternalId, Profile, SessionId, UserId};
use crate::protocol::event::{ContactNotice, Notice};
use crate::protocol::people::{ContactCommand, ContactData, ContactListOk, ContactListing, ContactStateWord};
use crate::store::{ContactAudience, ContactChange, ContactOutcome, ContactRole, ContactState, page_of};

/// A part of a list of contacts.
#[derive(Debug, Clone)]
pub struct ContactList {
    /// The users, in the order in which the service met them.
    pub users: Vec<ContactView>,
    /// More follow behind this one; none: these were the last.
    pub next: Option<ExternalId>,
}

impl Service {
    /// Changes what the caller has with another user, and returns what that is then. May be repeated. `origin` is the session that it came by.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]: there is no request to accept or decline. [`Refusal::Oneself`], [`Refusal::HasBlocked`],
    /// [`Refusal::TooManyContacts`], [`Refusal::RateLimited`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn change_contact(
        &self,
        caller: &Profile,
        origin: Option<SessionId>,
        change: ContactChange,
        name: &ExternalId,
    ) -> Result<ContactState, Refusal> {
        let other = self.other_than(caller, name).await?;
        let changing = async {
            let outcome = self.store.change_contact(caller.user, other, change).await?;
            if let ContactOutcome::Done { state, audience } = outcome {
                // As soon as it is committed, also where the caller hears of it no more.
                self.contact_changed(caller, origin, (other, name), (state, audience));
            }
            Ok(outcome)
        };
        match self.ask(&caller.external, "changing a contact", changing).await? {
            ContactOutcome::Done { state, .. } => Ok(state),
            ContactOutcome::NotFound => Err(Refusal::NotFound),
            ContactOutcome::Blocked => Err(Refusal::HasBlocked),
            ContactOutcome::TooMany => Err(Refusal::TooManyContacts),
        }
    }

    /// The users in a list of the caller behind `after`, at most `limit`.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn contacts(
        &self,
        caller: &Profile,
        role: ContactRole,
        after: Option<&ExternalId>,
        limit: u16,
    ) -> Result<ContactList, Refusal> {
        let read = self.store.contacts(caller.user, role, after, limit + 1);
        let users = self.ask_for(&caller.external, limit.into(), "listing contacts", read).await?;
        let (users, next) = page_of(users, limit, |user| user.profile.external.clone());
        Ok(ContactList { users, next })
    }

    /// Tells each side of the other one. The caller's other sessions hear of it whatever the other one may know.
    pub(super) fn contact_changed(
        &self,
        caller: &Profile,
        origin: Option<SessionId>,
        (other, name): (UserId, &ExternalId),
        (state, audience): (ContactState, ContactAudience),
    ) {
        let change = match state {
            ContactState::None => ContactNotice::Removed,
            ContactState::Requested => ContactNotice::Requested,
            ContactState::Contact => ContactNotice::Accepted,
        };
        let told = |user: &ExternalId| Notice::Contact { change, user: user.clone(), by: caller.external.clone() };
        if audience != ContactAudience::Nobody {
            self.notifier.notice_to_others(caller.user, origin, told(name));
        }
        if audience != ContactAudience::Both {
            return;
        }
        match state {
            ContactState::Requested => {}
            ContactState::None => self.notifier.people_changed([caller.user, other], None),
            ContactState::Contact if self.store.direct_messages() == DirectMessages::Contacts => {
                self.notifier.may_see([caller.user, other])
            }
            ContactState::Contact => {}
        }
        self.notifier.notice(vec![other], told(&caller.external));
    }
}

impl From<ContactList> for ContactListOk {
    fn from(list: ContactList) -> Self {
        let contacts = list.users.into_iter().map(|ContactView { profile, since }| ContactData {
            user_id: profile.external,
            name: profile.name,
            profile_picture: profile.picture,
            since: since.into(),
        });
        Self { contacts: contacts.collect(), next: list.next }
    }
}

impl From<ContactCommand> for ContactChange {
    fn from(command: ContactCommand) -> Self {
        match command {
            ContactCommand::Request => Self::Request,
            ContactCommand::Accept => Self::Accept,
            ContactCommand::Decline => Self::Decline,
            ContactCommand::Remove => Self::Remove,
        }
    }
}

impl From<ContactListing> for ContactRole {
    fn from(listing: ContactListing) -> Self {
        match listing {
            ContactListing::Contact => Self::Contact,
            ContactListing::Requested => Self::Requested,
            ContactListing::Incoming => Self::Incoming,
        }
    }
}

impl From<ContactState> for ContactStateWord {
    fn from(state: ContactState) -> Self {
        match state {
            ContactState::None => Self::None,
            ContactState::Requested => Self::Requested,
            ContactState::Contact => Self::Contact,
        }
    }
}
