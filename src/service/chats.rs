//! Chats: listing them, looking at one, making one.

use super::announce::{MembershipChange, announce};
use super::{ChatView, Member, Refusal, Service};
use crate::domain::{ChatId, ChatSeq, ExternalId, Profile};
use crate::store::{DirectChat, Grouping, Joined, page_of};

/// A part of a user's chats, in the order of their ids.
#[derive(Debug, Clone)]
pub struct ChatList {
    /// The chats.
    pub chats: Vec<ChatView>,
    /// More follow behind this chat; none: these were the last.
    pub next: Option<ChatId>,
}

/// A chat with a part of its members.
#[derive(Debug, Clone)]
pub struct ChatDetails {
    /// The chat as the caller sees it.
    pub chat: ChatView,
    /// The number of members of the chat.
    pub member_count: i64,
    /// Members in the order in which the service met them.
    pub members: Vec<Member>,
    /// More follow behind this member; none: these were the last.
    pub members_next: Option<ExternalId>,
}

/// A part of a chat's members.
#[derive(Debug, Clone, Copy)]
pub struct MembersPart<'a> {
    /// Behind this member; none: from the first on.
    pub after: Option<&'a ExternalId>,
    /// The largest number of members.
    pub limit: u16,
}

/// A chat to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewChat {
    /// The direct chat with this user, who may be the caller itself.
    Direct(ExternalId),
    /// A group, whose admin is the caller.
    Group {
        /// Its id, where the caller chose one: a group of this id is made once. None: the service chooses.
        id: Option<ChatId>,
        /// Its title.
        title: Option<String>,
        /// Its members beside the caller, each once.
        members: Vec<ExternalId>,
    },
}

/// A chat that is there.
#[derive(Debug, Clone)]
pub struct NewChatResult {
    /// The chat as the caller sees it.
    pub chat: ChatView,
    /// It was made for this request.
    pub is_new: bool,
}

impl Service {
    /// The caller's chats behind `after`, at most `limit`.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn chats(&self, caller: &Profile, after: Option<ChatId>, limit: u16) -> Result<ChatList, Refusal> {
        let read = self.store.chats(caller.user, after, limit + 1);
        let chats = self.ask_for(&caller.external, limit.into(), "listing chats", read).await?;
        let (chats, next) = page_of(chats, limit, |chat| chat.chat);
        Ok(ChatList { chats, next })
    }

    /// One chat of the caller, with a part of its members.
    ///
    /// # Errors
    /// [`Refusal::NotAMember`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn chat(&self, caller: &Profile, chat: ChatId, part: MembersPart<'_>) -> Result<ChatDetails, Refusal> {
        let read = async {
            let Some(view) = self.store.chat(caller.user, chat).await? else { return Ok(None) };
            let members = self.store.members(caller.user, chat, part.after, part.limit + 1).await?;
            Ok(Some((view, members, self.store.member_count(chat).await?)))
        };
        let found = self.ask_for(&caller.external, part.limit.into(), "reading a chat", read).await?;
        let (view, members, member_count) = found.ok_or(Refusal::NotAMember)?;
        let (members, members_next) = page_of(members, part.limit, |member| member.profile.external.clone());
        Ok(ChatDetails { chat: view, member_count, members, members_next })
    }

    /// Makes a chat; a direct chat that is there already, or a group of the id that the caller chose, is found as it is now.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`] for a group, [`Refusal::TooManyChats`] for a direct chat, [`Refusal::NotAMember`]: the group of this id is
    /// there, and the caller has left it. [`Refusal::NotAccepted`]: another member takes no messages from the caller, or can neither be added to
    /// groups nor invited by it. [`Refusal::InvitationsTooMany`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn create_chat(&self, caller: &Profile, new: NewChat) -> Result<NewChatResult, Refusal> {
        let DirectChat { chat, is_new } = match new {
            NewChat::Direct(other) => self.delivery.direct_chat(caller.user, &other).await?,
            NewChat::Group { id, title, members } => {
                // A group reaches strangers as a message does, so making one counts as one.
                self.delivery.limits().check_send(caller.user)?;
                let chat = id.unwrap_or_else(|| ChatId::generate_by(&self.clock));
                // A repeated request names nobody anew: it is not charged for its members, and makes none of them known.
                let is_there = id.is_some() && self.ask(&caller.external, "looking for a group", self.store.chat_is_there(chat)).await?;
                if !is_there {
                    self.delivery.limits().check_group(caller.user)?;
                }
                DirectChat { chat, is_new: !is_there && self.create_group(caller, chat, title, &members).await? }
            }
        };
        let view = self.ask(&caller.external, "reading a new chat", self.store.chat(caller.user, chat)).await?;
        Ok(NewChatResult { chat: view.ok_or(if is_new { Refusal::Internal } else { Refusal::NotAMember })?, is_new })
    }

    /// Makes a group, and tells its members. False: there is one of this id, and nothing was done.
    async fn create_group(&self, caller: &Profile, chat: ChatId, title: Option<String>, members: &[ExternalId]) -> Result<bool, Refusal> {
        let mut known = self.ask(&caller.external, "making a group", self.store.known_users(members)).await?;
        known.extend(self.make_named(caller, &known, members).await?);
        let numbers: Vec<_> = known.values().copied().collect();
        let making = self.store.create_group(chat, caller.user, title.as_deref(), &numbers);
        match self.ask(&caller.external, "making a group", making).await? {
            Grouping::Made(invited) => known.retain(|_, user| !invited.contains(user)),
            Grouping::IsThere => return Ok(false),
            Grouping::Refused(refused) => return Err(refused.into()),
        }
        let mut users: Vec<_> = known.into_iter().map(|(external, user)| (user, external)).collect();
        users.push((caller.user, caller.external.clone()));
        announce(self, chat, caller, &MembershipChange::Joined(Joined { users, invited: Vec::new(), seq: ChatSeq(0), title }));
        Ok(true)
    }
}
