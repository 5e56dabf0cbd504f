//! The operations of a driver: reads and writes that are in progress, and the result that each of them returns.

use std::pin::Pin;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use super::send_order::Departure;
use super::settlements::LaneQueue;
use crate::auth::Identity;
use crate::delivery::{Accepted, Refusal};
use crate::domain::{ChatId, ExternalId, Message, MutedChats, UserId};
use crate::protocol::Fault;
use crate::protocol::client::FrameId;
use crate::protocol::event::ServerEvent;
use crate::service::InvitationView;
use crate::session::{Input, SettlementNo};
use crate::store::{DirectChat, Overview};

/// Something that runs beside the driver.
pub(super) type Operation = Pin<Box<dyn Future<Output = OperationResult> + Send>>;

/// The result of an operation.
pub enum OperationResult {
    /// The session is to know.
    Input(Input),
    /// Settlements from the first number to the last were written, or cannot be.
    Settled {
        /// The first.
        first: SettlementNo,
        /// The last.
        last: SettlementNo,
        /// `Ok` if they are committed.
        result: Result<(), Refusal>,
        /// Says if they had to wait for the lane's queue.
        queue: LaneQueue,
    },
    /// An answer to the client, and perhaps something for the session.
    Answer(Option<FrameId>, Box<ServerEvent>, Option<Input>),
    /// A message is stored, or refused.
    Sent(Box<SendResult>),
    /// Marks that moved, read after so many changes of what is muted.
    Overview(u64, Box<Overview>),
    /// The chats that the user has muted, read after so many changes of them.
    MutedChats(u64, MutedChats),
    /// All invitations that wait for the user.
    Invitations(Vec<InvitationView>),
    /// Messages that the user has sent at another node.
    Echoes(Vec<Message>),
    /// The direct chat with this user was found or made, or cannot be.
    DirectChat(ExternalId, Result<DirectChat, Refusal>),
    /// The members of a chat who are told of typing.
    Audience(ChatId, Vec<UserId>),
    /// The identity of a token that is to carry the connection on, or its refusal.
    Renewal(Option<FrameId>, Box<Result<Identity, Fault>>),
    /// Nothing to do.
    Nothing,
}

/// The answer to a message that went to its lane.
pub struct SendResult {
    /// The id of the client's frame.
    pub(super) reply_to: Option<FrameId>,
    /// The way that it went.
    pub(super) departure: Departure,
    /// The stored message, or the refusal.
    pub(super) result: Result<Accepted, Refusal>,
}

/// The operations of one driver.
#[derive(Default)]
pub struct Operations {
    running: FuturesUnordered<Operation>,
    answers: usize,
}

impl Operations {
    /// Waits for the next result. None while nothing runs. May be dropped and called again at any time.
    pub async fn next(&mut self) -> Option<OperationResult> {
        self.running.next().await
    }

    /// Returns whether nothing runs.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn push(&mut self, operation: Operation) {
        self.running.push(operation);
    }

    pub(super) fn push_answer(
        &mut self,
        reply_to: Option<FrameId>,
        answer: impl Future<Output = (ServerEvent, Option<Input>)> + Send + 'static,
    ) {
        self.answers += 1;
        self.push(Box::pin(answer.map(|(event, input)| OperationResult::Answer(reply_to, Box::new(event), input))));
    }

    pub(super) fn push_renewal(
        &mut self,
        reply_to: Option<FrameId>,
        judged: impl Future<Output = Result<Identity, Fault>> + Send + 'static,
    ) {
        self.answers += 1;
        self.push(Box::pin(judged.map(|judged| OperationResult::Renewal(reply_to, Box::new(judged)))));
    }

    pub(super) fn push_send(&mut self, sent: impl Future<Output = SendResult> + Send + 'static) {
        self.answers += 1;
        self.push(Box::pin(sent.map(|sent| OperationResult::Sent(Box::new(sent)))));
    }

    /// Answers that the client waits for.
    pub(super) const fn answers(&self) -> usize {
        self.answers
    }

    /// One of them has come.
    pub(super) const fn answered(&mut self) {
        self.answers = self.answers.saturating_sub(1);
    }
}
