//! Erase: goes on with users that are erased. Memberships end, what waits for the user ends and, where that was asked for, what it has said is
//! emptied. Clients are told of each as if the user had done it: it left, it recalled, it removed a contact.
//!
//! Between its two rounds the name passes on to another user, which has nothing.
//!
//! A pass is one step of one user. The users are taken in turn, so that one of which something is held keeps no other back. Each step moves
//! the place in the row of the erasure, and may be made twice.

use std::time::Duration;

use tracing::{info, warn};

use super::{DoneBy, Job, Passed, Rest};
use crate::delivery::Delivery;
use crate::domain::{ChatId, ExternalId, FeedId, Status, UserId};
use crate::presence::Node;
use crate::protocol::event::{ContactNotice, Notice};
use crate::store::{
    self, ContactAudience, ContactChange, ContactOutcome, ContactRole, ErasedContent, ErasureStage, ErasureStep, Error, FeedRole, Left,
    StatusRow, Store,
};

/// The interval between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// The second round begins so long after the erasure was asked for. A node that missed the revocation reads it within 5 s, and what was
/// under way then is stored within some more.
const SECOND_ROUND: Duration = Duration::from_secs(10);
/// The pause where something is held, or where so many recalls are under way that no more should be made.
const PAUSE: Duration = Duration::from_millis(100);
/// Messages of a step: each may have thousands of recipients.
const MESSAGES: i32 = 25;
/// Events that a step looks at.
const EVENTS: i32 = 1_000;
/// Rows of the inbox that a step looks at.
const ROWS: i32 = 500;
/// Contacts, blocks and feeds of a step, of each kind.
const PEOPLE: u16 = 20;

/// The job.
#[derive(Debug)]
pub struct Erase {
    node: Node,
    delivery: Delivery,
    second_round: Duration,
}

/// The step is done, or is to be made again after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Now(usize),
    NotYet,
}

impl Erase {
    /// A job that has not begun.
    pub const fn new(node: Node, delivery: Delivery) -> Self {
        Self { node, delivery, second_round: SECOND_ROUND }
    }

    const fn store(&self) -> &Store {
        &self.node.store
    }

    async fn step(&self, step: &ErasureStep) -> store::Result<Done> {
        match step.stage {
            ErasureStage::Chats => self.chat(step).await,
            ErasureStage::Events => self.store().erase_events(step.user, EVENTS).await.map(|_| Done::Now(0)),
            ErasureStage::Inbox => self.inbox(step).await,
            ErasureStage::People => self.people(step).await,
            ErasureStage::Name => self.store().pass_on_name(step.user).await.map(|_| Done::Now(0)),
        }
    }

    /// The user leaves the next chat, and a page of what it has said there goes.
    async fn chat(&self, step: &ErasureStep) -> store::Result<Done> {
        let Some(chat) = self.store().erased_chat(step).await? else {
            let next = if step.content == ErasedContent::Empty { ErasureStage::Events } else { ErasureStage::Inbox };
            return self.store().erasure_at(step, next).await.map(|()| Done::Now(0));
        };
        // The membership ends first: nothing of the user comes after the last page.
        if chat.may_leave {
            self.leave(step, chat.chat).await?;
        }
        // Before the name has passed on, what others write to it would be refused.
        if chat.is_direct && step.has_no_name() {
            self.leave_direct(step.user, chat.chat).await?;
        }
        if step.content == ErasedContent::Keep || !chat.has_more {
            return self.store().erasure_at_chat(step, chat.chat, true).await.map(|()| Done::Now(0));
        }
        if step.is_crowded {
            return Ok(Done::NotYet);
        }
        if !step.is_at(chat.chat) {
            self.store().erasure_at_chat(step, chat.chat, false).await?;
        }
        self.store().erase_messages(step.user, chat.chat, MESSAGES).await.map(Done::Now)
    }

    async fn leave(&self, step: &ErasureStep, chat: ChatId) -> store::Result<()> {
        let removed = self.store().remove_members(step.user, chat, std::slice::from_ref(&step.external)).await?;
        let Ok(Left { users, seq, ended, at, .. }) = removed else { return Ok(()) };
        let removed = Notice::Removed { chat, left_seq: seq, by: step.external.clone() };
        self.node.notifier.notice(users.iter().map(|(user, _)| *user).collect(), removed);
        self.ended(step, &ended, at);
        Ok(())
    }

    /// Nodes forget that the chat is the one with the user of this name.
    async fn leave_direct(&self, user: UserId, chat: ChatId) -> store::Result<()> {
        let other = self.store().leave_direct(user, chat).await?;
        self.node.notifier.people_changed([user, other.unwrap_or(user)], Some(chat));
        Ok(())
    }

    async fn inbox(&self, step: &ErasureStep) -> store::Result<Done> {
        let Some(page) = self.store().erase_inbox(step.user, ROWS).await? else { return Ok(Done::Now(0)) };
        self.ended(step, &page.rows, page.at);
        Ok(if page.is_held { Done::NotYet } else { Done::Now(page.rows.len()) })
    }

    /// Senders are told that the user has left.
    fn ended(&self, step: &ErasureStep, rows: &[StatusRow], at: time::OffsetDateTime) {
        let rows: Vec<_> = rows.iter().collect();
        let member = |_| Some(step.external.clone());
        self.delivery.receipts().moved(&rows, Status::Expired, at, Some("left".to_owned()), member);
    }

    /// Some contacts, blocks and follows go. Once there are none, the round ends.
    async fn people(&self, step: &ErasureStep) -> store::Result<Done> {
        let gone = self.contacts(step).await? + self.blocks(step.user).await? + self.follows(step.user).await?;
        if gone == 0 && self.store().end_erasure_round(step.user).await? {
            info!(user.id = %step.external, "a user was erased");
        }
        Ok(Done::Now(gone))
    }

    async fn contacts(&self, step: &ErasureStep) -> store::Result<usize> {
        let mut gone = 0;
        for role in [ContactRole::Contact, ContactRole::Requested, ContactRole::Incoming] {
            for other in self.store().contacts(step.user, role, None, PEOPLE).await? {
                let outcome = self.store().change_contact(step.user, other.profile.user, ContactChange::Remove).await?;
                if matches!(outcome, ContactOutcome::Done { audience: ContactAudience::Both, .. }) {
                    self.contact_gone(&step.external, [step.user, other.profile.user]);
                }
                gone += 1;
            }
        }
        Ok(gone)
    }

    fn contact_gone(&self, name: &ExternalId, [user, other]: [UserId; 2]) {
        self.node.notifier.people_changed([user, other], None);
        let removed = Notice::Contact { change: ContactNotice::Removed, user: name.clone(), by: name.clone() };
        self.node.notifier.notice(vec![other], removed);
    }

    async fn blocks(&self, user: UserId) -> store::Result<usize> {
        let blocked = self.store().blocks(user, None, PEOPLE).await?;
        for other in &blocked {
            self.store().take_block_back(user, other.profile.user).await?;
        }
        Ok(blocked.len())
    }

    async fn follows(&self, user: UserId) -> store::Result<usize> {
        let followed = self.store().feeds_of(user, FeedRole::Follower, None, PEOPLE).await?;
        // Nobody leaves the feed of everyone.
        let left: Vec<_> = followed.into_iter().map(|view| view.feed).filter(|feed| *feed != FeedId::EVERYONE).collect();
        for feed in &left {
            self.store().unfollow(*feed, &[user]).await?;
        }
        Ok(left.len())
    }
}

impl Job for Erase {
    fn name(&self) -> &'static str {
        "erase"
    }

    fn interval(&self) -> Duration {
        EVERY
    }

    fn done_by(&self) -> DoneBy {
        DoneBy::OneNode
    }

    async fn pass(&mut self, cursor: &str) -> store::Result<Passed> {
        let Some(step) = self.store().next_erasure(place_of(cursor), self.second_round).await? else {
            return Ok(Passed { rows: 0, rest: Rest::Nothing, cursor: Some(String::new()) });
        };
        let (rows, rest) = match self.step(&step).await {
            Ok(Done::Now(rows)) => (rows, Rest::More),
            // The next one gets its turn.
            Ok(Done::NotYet) | Err(Error::Held(_)) => (0, Rest::Later(PAUSE)),
            Err(cause) => return Err(cause),
        };
        Ok(Passed { rows, rest, cursor: Some(step.user.0.to_string()) })
    }
}

/// The user that a cursor names: the one behind it is next. The beginning, if it is empty or names none.
fn place_of(cursor: &str) -> UserId {
    let user = cursor.parse().unwrap_or_else(|_| {
        if !cursor.is_empty() {
            warn!("the cursor of the job erase is no user; it begins with the first one");
        }
        0
    });
    UserId(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_names_no_user_means_the_beginning() {
        assert_eq!([place_of("7"), place_of(""), place_of("x")], [UserId(7), UserId(0), UserId(0)]);
    }
}
