//! Messages: sending, reading, what became of them, and who is to be told of typing.

use std::sync::Arc;
use std::time::Duration;

use super::budget::points_of_rows;
use super::{Accepted, HistoryPage, HistoryRange, ReadDone, ReadUpTo, Refusal, Service, StatusOf};
use crate::delivery::{Chain, SendItem};
use crate::domain::{ChatId, ExternalId, LimitKind, MessageId, Profile, SessionId, UserId};
use crate::protocol::client::{SendRequest, SendTarget};
use crate::store::DirectChat;

impl Service {
    /// Sends a message, and waits until it is stored. With the id of a message that was stored before it returns the first result.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`], [`Refusal::TooManyChats`], [`Refusal::NotAMember`], [`Refusal::NotAccepted`], [`Refusal::Conflict`], [`Refusal::Purged`],
    /// [`Refusal::TooLate`], [`Refusal::Busy`], [`Refusal::Unavailable`] (what was stored then is not known: repeat with the same id), or a defect.
    pub async fn send(&self, sender: Arc<Profile>, request: SendRequest) -> Result<Accepted, Refusal> {
        self.check_send(sender.user)?;
        let chat = match &request.target {
            SendTarget::Chat(chat) => *chat,
            SendTarget::User(to) => {
                let direct = self.delivery.direct_chat(sender.user, to).await;
                direct.inspect_err(|refusal| self.metrics.refused(refusal.code()))?.chat
            }
        };
        self.send_to(sender, None, chat, Chain::default(), request).await
    }

    /// Checks that this user may send a message now, and counts the message.
    fn check_send(&self, user: UserId) -> Result<(), Refusal> {
        self.delivery.limits().check_send(user).inspect_err(|refusal| self.metrics.refused(refusal.code()))
    }

    /// Counts a message of this user against its rate. For a session, which keeps what must wait.
    ///
    /// # Errors
    /// The time to wait: the user may not send now. Nothing was counted.
    pub fn take_rate(&self, user: UserId) -> Result<(), Duration> {
        self.delivery.limits().take_send(user)
    }

    /// A message of a session is refused, since as many wait for its rate as may. Counts it.
    pub fn refused_over_rate(&self) {
        self.delivery.limits().refused(LimitKind::Messages);
    }

    /// The time that the rate leaves between two messages of this user; zero without a limit.
    pub fn pace(&self, user: UserId) -> Duration {
        self.delivery.limits().pace(user)
    }

    /// Queues a message for a chat that is known, in the order of these calls. The future ends when the message is stored; the
    /// message is sent also where nobody waits for that. `origin` is the session that it came by, `chain` what it must not overtake.
    pub fn send_to(
        &self,
        sender: Arc<Profile>,
        origin: Option<SessionId>,
        chat: ChatId,
        chain: Chain,
        request: SendRequest,
    ) -> impl Future<Output = Result<Accepted, Refusal>> + Send + use<> {
        self.delivery.send(SendItem { chain, ..SendItem::new(sender, origin, chat, request, &self.clock) })
    }

    /// The direct chat of this user with the one of this name, where the node remembers it.
    pub fn known_direct_chat(&self, user: UserId, other: &ExternalId) -> Option<ChatId> {
        self.delivery.known_direct_chat(user, other)
    }

    /// The same from the database: found, or made when it is missing and the user may begin another.
    pub fn ask_direct_chat(&self, user: UserId, other: ExternalId) -> impl Future<Output = Result<DirectChat, Refusal>> + Send + use<> {
        self.delivery.ask_direct_chat(user, other)
    }

    /// Messages of a chat in the order of their numbers, at most `limit`.
    ///
    /// # Errors
    /// [`Refusal::NotAMember`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn history(&self, caller: &Profile, chat: ChatId, range: HistoryRange, limit: u16) -> Result<HistoryPage, Refusal> {
        let read = self.store.history(caller.user, chat, range, limit);
        self.ask_for(&caller.external, limit.into(), "reading a history", read).await?.ok_or(Refusal::NotAMember)
    }

    /// Marks a chat as read up to a number or a message. The future ends when that is stored, however long the database is away.
    pub fn read(
        &self,
        reader: Arc<Profile>,
        chat: ChatId,
        up_to: ReadUpTo,
    ) -> impl Future<Output = Result<ReadDone, Refusal>> + Send + use<> {
        self.delivery.read(reader, chat, up_to)
    }

    /// The same for a session: the reader's other sessions are told, and this one is not.
    pub fn read_by_session(
        &self,
        session: SessionId,
        reader: Arc<Profile>,
        chat: ChatId,
        up_to: ReadUpTo,
    ) -> impl Future<Output = Result<ReadDone, Refusal>> + Send + use<> {
        self.delivery.read_by_session(session, reader, chat, up_to)
    }

    /// The status of a message for each recipient.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]: the caller neither sent nor got it, or there is no such message. [`Refusal::Busy`],
    /// [`Refusal::Unavailable`], or a defect.
    pub async fn statuses(&self, caller: &Profile, message: MessageId) -> Result<Vec<StatusOf>, Refusal> {
        let read = self.store.statuses(caller.user, message);
        let found = self.ask(&caller.external, "reading the statuses of a message", read).await?.ok_or(Refusal::NotFound)?;
        // One for each recipient, of whom there may be thousands.
        self.budget(&caller.external).count(points_of_rows(found.len()));
        Ok(found)
    }

    /// The members of a chat that are to be told that this one types, at most 500; nobody where it is no member.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn typing_audience(&self, typist: &Profile, chat: ChatId) -> Result<Vec<UserId>, Refusal> {
        self.ask(&typist.external, "reading the audience of typing", self.store.audience(typist.user, chat)).await
    }
}
