//! Inboxes: pages for sessions, and the inbox of a caller without a session: look, ack, reject. Looking marks nothing; only the ack
//! makes a message delivered.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::{Purpose, Refusal, Service};
use crate::delivery::{Acks, Attempt, AttemptTarget, Writing};
use crate::domain::{
    AttemptOutcome, Class, DeviceId, ExternalId, InboxSeq, MessageId, MutedChats, Page, PageRow, Profile, RowState, UserId,
};
use crate::protocol::client::{AckRequest, CommittedAnswer, RejectRequest};
use crate::store::{self, Inbox, PageRead, PageRequest, Place};

/// Rows acked in one go for an `upTo`.
const ACK_PAGE: u16 = 500;
/// A place behind every number that is ever given.
const BEHIND_EVERYTHING: InboxSeq = InboxSeq(i64::MAX / 2);
/// Between two tries to read a page.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A page that a session wants of an inbox.
#[derive(Debug, Clone)]
pub struct PageQuery {
    /// The rows that it shall hold.
    pub request: PageRequest,
    /// The owner of the inbox.
    pub user: Arc<Profile>,
    /// The inbox.
    pub class: Class,
    /// Rows above this number.
    pub after: InboxSeq,
    /// The largest number of rows.
    pub limit: u16,
    /// The line in which the read waits: [`Purpose::Drain`], [`Purpose::Live`] or [`Purpose::Events`].
    pub purpose: Purpose,
}

impl Service {
    /// Reads a page for a session once `room` has ended. However long the database is away, the session gets its page.
    pub fn page<R: Future<Output = ()> + Send + 'static>(&self, query: PageQuery, room: R) -> impl Future<Output = Page> + Send + use<R> {
        let (store, admission, metrics) = (self.store.clone(), self.bounds.admission.clone(), Arc::clone(&self.metrics));
        let notifier = self.notifier.clone();
        async move {
            // A window of large messages would otherwise be read into memory for a client that takes nothing.
            room.await;
            let PageQuery { request, user, class, after, limit, purpose } = query;
            metrics.page_read(class);
            let mut pause = FIRST_PAUSE;
            loop {
                let read = {
                    let _admission = admission.admit(purpose, Some(user.external.clone())).await;
                    // Boxed, as what is rare below: what it needs is there only while it runs. When many clients come at once
                    // thousands of these wait to be admitted.
                    Box::pin(store.take_and_read(request, user.user, class, after, limit)).await
                };
                match read {
                    Ok(PageRead { page, superseded }) => {
                        if superseded {
                            notifier.rows_ended(user.user);
                        }
                        metrics.unreadable_rows.inc_by(page.unreadable_rows());
                        return page;
                    }
                    Err(error) if error.could_not_run() => Box::pin(store.health().back()).await,
                    Err(error) => warn!(cause = ?error, "a page of an inbox could not be read"),
                }
                Box::pin(tokio::time::sleep(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// The state of rows that a session holds. However long the database is away, the session gets its answer.
    pub fn row_states(
        &self,
        user: Arc<Profile>,
        class: Class,
        seqs: Vec<InboxSeq>,
        purpose: Purpose,
    ) -> impl Future<Output = Vec<(InboxSeq, RowState)>> + Send + use<> {
        let (store, admission) = (self.store.clone(), self.bounds.admission.clone());
        async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let read = {
                    let _admission = admission.admit(purpose, Some(user.external.clone())).await;
                    store.row_states(user.user, class, &seqs).await
                };
                match read {
                    Ok(states) => return states,
                    Err(error) if error.could_not_run() => Box::pin(store.health().back()).await,
                    Err(error) => warn!(cause = ?error, "what became of some rows could not be read"),
                }
                Box::pin(tokio::time::sleep(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// The page of an inbox above `after`, if it is empty: asked for many sessions at once. None: something waits, or it could not be
    /// told.
    pub async fn empty_page(&self, user: UserId, class: Class, after: InboxSeq) -> Option<Page> {
        self.batched.fallback_poll.empty_page(user, class, after).await
    }

    /// Moves the low watermark of an inbox (`settled_seq`), and returns it. Only a hint for where to begin next time: zero, which is
    /// always true, where it could not be moved.
    pub async fn advance_low_watermark(&self, user: UserId, class: Class) -> InboxSeq {
        self.batched.low_watermarks.advance(user, class).await
    }

    /// Writes acks of a connection, which must be committed in order. `Ok`: they are queued, the next may follow. `Err`: the lane is
    /// full; the next must wait until this future has ended.
    ///
    /// # Errors
    /// None: both are the future that ends when the acks are committed.
    pub fn settle_or_wait(&self, acks: Acks) -> Result<Writing, Writing> {
        self.delivery.settle_or_wait(acks)
    }

    /// Counts an attempt against a row of this user.
    pub fn count_attempt(&self, attempt: Attempt) -> impl Future<Output = Result<AttemptOutcome, Refusal>> + Send + use<> {
        self.delivery.count_attempt(attempt)
    }

    /// Acks what waits in `(after, up_to]`, a page at a time, for a client that resumes. Waits for a database that is away. Ends early
    /// when the node stops: the client resumes again.
    pub async fn ack_waiting_up_to(&self, user: Arc<Profile>, class: Class, mut after: InboxSeq, up_to: InboxSeq) {
        loop {
            let read = {
                let _admission = self.bounds.admission.admit(Purpose::draining(class), Some(user.external.clone())).await;
                self.store.waiting_up_to(user.user, class, after, up_to, ACK_PAGE).await
            };
            let waiting = match read {
                Ok(waiting) => waiting,
                Err(error) if error.could_not_run() => {
                    self.health().back().await;
                    continue;
                }
                Err(error) => return warn!(cause = ?error, "what a client resumed behind could not be read"),
            };
            if self.settle(&user, waiting.messages).await.is_err() {
                return;
            }
            let Some(next) = waiting.next else { return };
            after = next;
        }
    }

    /// Rows that wait above a number in an inbox of the caller, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect.
    pub async fn inbox(&self, caller: &Profile, class: Class, after: InboxSeq, limit: u16) -> Result<Page, Refusal> {
        let read = async {
            // Nothing waits at or below the low watermark: the read starts there, and not at the beginning of a long life.
            let mut place = self.low_watermark(caller.user, class).await?.max(after);
            loop {
                self.metrics.page_read(class);
                let PageRead { page, superseded } = self.store.take_and_read(PageRequest::Poll, caller.user, class, place, limit).await?;
                if superseded {
                    self.notifier.rows_ended(caller.user);
                }
                self.metrics.unreadable_rows.inc_by(page.unreadable_rows());
                // Of a page that is nothing but gaps the client would have no number to go on from.
                match page.rows.last() {
                    Some(PageRow::Gap { to, .. }) if !page.is_last && page.is_all_gaps() => place = *to,
                    _ => break self.with_muted_marked(caller, page).await,
                }
            }
        };
        self.ask_for(&caller.external, limit.into(), "reading an inbox", read).await
    }

    /// The page with its messages of muted chats marked.
    async fn with_muted_marked(&self, caller: &Profile, mut page: Page) -> store::Result<Page> {
        if page.class != Class::Chat || page.is_all_gaps() {
            return Ok(page);
        }
        let muted: MutedChats = self.store.preferences(caller.user).await?.muted_chats.into_iter().collect();
        for row in &mut page.rows {
            if let PageRow::Envelope(envelope) = row {
                envelope.is_muted = muted.contains(envelope.message.chat);
            }
        }
        Ok(page)
    }

    /// Acks messages, and waits for the commit. `device` is that of the client, if it has named one: a session of the client whose acks
    /// come this way is told.
    ///
    /// # Errors
    /// [`Refusal::AckAhead`], [`Refusal::Busy`], [`Refusal::Unavailable`], or a defect. Acks of connections wait for a database that is
    /// away; a request would rather be repeated.
    pub async fn ack(&self, caller: &Arc<Profile>, device: Option<DeviceId>, request: AckRequest) -> Result<(), Refusal> {
        if self.health().is_away() {
            return Err(Refusal::Unavailable);
        }
        match &request {
            AckRequest::Messages(messages) => self.settle(caller, messages.clone()).await?,
            AckRequest::UpTo { class, seq } => self.ack_up_to(caller, *class, *seq).await?,
        }
        self.notifier.answered(caller.user, device, CommittedAnswer::Acks(request));
        Ok(())
    }

    /// Counts a reject against a message of the caller's inbox. `device` is as for an ack.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Unavailable`], or a defect.
    pub async fn reject(&self, caller: Arc<Profile>, device: Option<DeviceId>, request: RejectRequest) -> Result<AttemptOutcome, Refusal> {
        let (user, RejectRequest { message, reason, is_final }) = (caller.user, request);
        let attempt = Attempt { user: caller, target: AttemptTarget::Message(message), reason, is_final };
        let outcome = self.count_attempt(attempt).await?;
        match outcome {
            AttemptOutcome::Counted(attempts) => self.notifier.answered(user, device, CommittedAnswer::Reject { message, attempts }),
            // Its end is told to every session.
            AttemptOutcome::Failed(_) | AttemptOutcome::Settled(..) => {}
        }
        Ok(outcome)
    }

    /// Without a connection nothing was emitted, so everything that was given out may be acked.
    async fn ack_up_to(&self, caller: &Arc<Profile>, class: Class, up_to: InboxSeq) -> Result<(), Refusal> {
        const WHAT: &str = "reading what is acked";
        let (user, name): (UserId, &ExternalId) = (caller.user, &caller.external);
        let places = async {
            // Not a page: that would give numbers to events, which nobody has seen yet, and this would ack them.
            let peeked = self.store.peek(&[Place { user, class, after: BEHIND_EVERYTHING }]).await?;
            let end = peeked.into_iter().flatten().next().map_or(InboxSeq(0), |peek| peek.last_seq);
            Ok((end, self.low_watermark(user, class).await?))
        };
        let (end, mut after) = self.ask(name, WHAT, places).await?;
        if up_to > end {
            return Err(Refusal::AckAhead(end));
        }
        loop {
            let waiting = self.ask(name, WHAT, self.store.waiting_up_to(user, class, after, up_to, ACK_PAGE)).await?;
            // Not while it is admitted: a lane may have to wait.
            self.settle(caller, waiting.messages).await?;
            let Some(next) = waiting.next else { return Ok(()) };
            after = next;
        }
    }

    async fn low_watermark(&self, user: UserId, class: Class) -> store::Result<InboxSeq> {
        Ok(self.store.advance_settled(&[Inbox { user, class }]).await?.into_iter().flatten().next().unwrap_or_default())
    }

    async fn settle(&self, user: &Arc<Profile>, by_id: Vec<MessageId>) -> Result<(), Refusal> {
        if by_id.is_empty() {
            return Ok(());
        }
        self.delivery.settle(Acks { user: Arc::clone(user), rows: Vec::new(), by_id, marks: Vec::new(), device: None }).await
    }
}
