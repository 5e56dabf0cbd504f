//! The driver of one session: it turns what a client says into inputs, performs the session's effects against the service,
//! and hands events to an outbox. It knows no socket: every door runs it, whatever its transport.
//!
//! In reading order: `client` (the client of a session), `opening` (from a known user to a session that knows where it
//! starts), this file (the driver), `commands` (one file for each thing a client says), `effects` (what the session wants
//! done), `notes` (what others say), `operations` (what runs beside the driver), `settlements` and `send_order` (what waits
//! for its turn), `receipts` and `echoes` (what a sender is told), `mutes` (chats that are muted), `invitations` (those that the client was told), `crash_loops` (clients that end without an ack, again and again).
//!
//! Nothing here waits: whatever takes time is an operation that comes back as an [`OperationResult`].

mod client;
pub mod commands;
mod crash_loops;
mod echoes;
mod effects;
mod invitations;
mod mutes;
mod notes;
mod opening;
mod operations;
mod outgoing;
mod receipts;
mod send_order;
mod settlements;
mod tickets;

pub use client::{Client, ConnectOptions, Resume};
pub use crash_loops::CrashLoops;
pub use opening::{Opened, open};
pub use operations::{OperationResult, Operations};
pub use outgoing::Outgoing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use time::OffsetDateTime;
use tokio_util::task::TaskTracker;

use crate::auth::TokenVerifier;
use crate::domain::Clock;
use crate::hub::{Hub, Reader};
use crate::notifier::Notifier;
use crate::presence::Presence;
use crate::protocol::client::FrameId;
use crate::protocol::event::ServerEvent;
use crate::protocol::{Code, Fault};
use crate::service::{Budget, Service};
use crate::session::{self, Effect, Input, Session, SettlementNo};
use crate::store::Epoch;
use crate::telemetry::Metrics;
use commands::typing::TypingState;
use mutes::Mutes;
use operations::Operation;
use receipts::Receipts;
use send_order::SendOrder;
use settlements::Settlements;
use tickets::Tickets;

/// Answers that a client may wait for at once, beyond acks; then its frames are not read until some have come.
const ANSWERS_MAX: usize = 256;
/// Operations that have ended, taken before the caller looks at everything else again.
const OPERATIONS_AT_ONCE: usize = 64;

/// The parts of a node that its sessions share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// The way in for everything that a client asks for.
    pub service: Service,
    /// The sessions of this node.
    pub hub: Arc<Hub>,
    /// The way to the sessions of every node.
    pub notifier: Notifier,
    /// The users who are online.
    pub presence: Presence,
    /// The metrics of this node.
    pub metrics: Arc<Metrics>,
    /// Tells the user of a token.
    pub verifier: Arc<TokenVerifier>,
    /// This node's clock.
    pub clock: Clock,
    /// The epoch of the database: numbers are comparable within one only.
    pub epoch: Epoch,
    /// Clients that end without an ack, again and again.
    pub crash_loops: Arc<CrashLoops>,
    /// The settings with which a session starts. The client chooses the window.
    pub session: Arc<session::Settings>,
    /// Connections run here, so that a stop can wait for them.
    pub tasks: TaskTracker,
}

/// One session with everything that its task does for it.
pub struct Driver<O> {
    /// The queue for outgoing events. The door writes from it.
    pub outbox: O,
    /// The operations in progress. The door waits for them and gives the results to [`Driver::ended`].
    pub operations: Operations,
    context: Context,
    client: Client,
    session: Session,
    receipts: Receipts,
    settlements: Settlements,
    sends: SendOrder,
    tickets: Tickets,
    typing: TypingState,
    token_expires: Instant,
    closing: Option<Fault>,
}

impl<O: Outgoing> Driver<O> {
    /// Begins a session that is open: tells `ready`, what moved meanwhile, and reads the first pages.
    pub fn begin(context: Context, opened: Opened, outbox: O, token_expires: OffsetDateTime) -> (Box<Self>, Reader) {
        let Opened { mut client, notes, start, resumed, ready, overview, receipts } = opened;
        client.mutes = Mutes::new(overview.muted);
        let settled = start.classes.map(|class| class.settled_seq);
        let acked = start.keeps_cursor.then(|| start.classes.map(|class| class.cursor));
        let (session, effects) = Session::start(Instant::now(), start);
        let mut driver = Box::new(Self {
            outbox,
            operations: Operations::default(),
            token_expires: instant_of(token_expires, &context.clock),
            context,
            client,
            session,
            receipts,
            settlements: Settlements::default(),
            sends: SendOrder::default(),
            tickets: Tickets::default(),
            typing: TypingState::default(),
            closing: None,
        });
        // Before `ready`, which carries it to clients that resume from what they acked.
        if let Some(acked) = acked {
            driver.outbox.event(None, &ServerEvent::Acked(acked));
        }
        driver.outbox.event(None, &ServerEvent::Ready(ready));
        let effects = opening::without_empty_pages(&mut driver.session, effects, overview.ends);
        notes::tell_marks(&mut driver, overview.marks);
        for (class, since) in resumed {
            if let Some(since) = since {
                effects::ack_up_to(&mut driver, class, settled[class], since);
            }
        }
        opening::greet(&driver, &overview.peers);
        invitations::look(&mut driver, overview.is_invited);
        driver.perform(effects);
        (driver, notes)
    }

    /// Gives the session something that happened, and does what it says.
    pub fn handle(&mut self, input: Input) {
        let effects = self.session.handle(Instant::now(), input);
        self.perform(effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        effects.into_iter().for_each(|effect| effects::perform(self, effect));
    }

    /// Takes what was found in the session's mailbox, and some of what follows.
    pub fn found(&mut self, first: crate::hub::Found, more: &mut Reader) {
        notes::found(self, first, more);
    }

    /// Takes the result of an operation, and of whatever else has ended by now: a commit ends many at once, and one flush
    /// is enough for all.
    pub fn ended(&mut self, first: OperationResult) {
        self.operation_ended(first);
        for _ in 1..OPERATIONS_AT_ONCE {
            let Some(Some(result)) = self.operations.next().now_or_never() else { break };
            self.operation_ended(result);
        }
        // Answers have made room for what waits.
        if self.sends.wake_at().is_none() {
            commands::send::release(self);
        }
    }

    fn operation_ended(&mut self, result: OperationResult) {
        match result {
            OperationResult::Input(input) => self.handle(input),
            OperationResult::Settled { first, last, result, queue } => {
                self.settlements.written(queue);
                match result {
                    Ok(()) => (first.0..=last.0).for_each(|no| self.handle(Input::Committed(SettlementNo(no)))),
                    // The client must not believe that its acks are kept: it comes back and repeats them.
                    Err(refusal) => self.close(Fault::from(refusal).code),
                }
            }
            OperationResult::Answer(reply_to, event, input) => {
                self.operations.answered();
                if let ServerEvent::ReadOk(read) = &*event {
                    self.receipts.own_read(read.chat_id, read.seq);
                }
                self.outbox.event(reply_to.as_ref(), &event);
                if let Some(input) = input {
                    self.handle(input);
                }
            }
            OperationResult::Sent(sent) => {
                self.operations.answered();
                commands::send::answered(self, *sent);
            }
            OperationResult::Overview(changes, overview) => notes::overview_read(self, changes, *overview),
            OperationResult::MutedChats(changes, chats) => mutes::were_read(self, changes, chats),
            OperationResult::Invitations(waiting) => invitations::were_read(self, waiting),
            OperationResult::Echoes(messages) => notes::echoes_read(self, messages),
            OperationResult::DirectChat(to, chat) => commands::send::direct_chat_found(self, &to, chat),
            OperationResult::Audience(chat, users) => commands::typing::audience_found(self, chat, users),
            OperationResult::Renewal(reply_to, judged) => {
                self.operations.answered();
                commands::authenticate::renew(self, reply_to.as_ref(), *judged);
            }
            OperationResult::Nothing => {}
        }
    }

    /// An answer that will come, with an input for the session perhaps.
    fn answer(&mut self, reply_to: Option<FrameId>, answer: impl Future<Output = (ServerEvent, Option<Input>)> + Send + 'static) {
        self.operations.push_answer(reply_to, answer);
    }

    fn run(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    /// Answers with an error.
    pub fn refuse(&mut self, reply_to: Option<&FrameId>, fault: Fault) {
        self.outbox.event(reply_to, &fault.into());
    }

    /// Waits until the node knows of all revocations but those of the last seconds, as a rule not at all; and closes where the token of this
    /// client is revoked, or that cannot be known.
    pub async fn hear_of_revocations(&mut self) {
        if self.knows_revocations() {
            return;
        }
        match self.context.service.know_revocations().await {
            Ok(()) if opening::is_revoked(&self.context, &self.client) => self.close(Code::TokenRevoked),
            Ok(()) => {}
            Err(refusal) => self.close_with(refusal.into()),
        }
    }

    /// Returns whether [`Self::hear_of_revocations`] would not wait.
    pub fn knows_revocations(&self) -> bool {
        self.context.service.knows_revocations()
    }

    /// Closes the connection with this code, after what is in the outbox. The first code counts.
    pub fn close(&mut self, code: Code) {
        self.closing.get_or_insert_with(|| Fault::plain(code));
    }

    /// The same with a fault of its own words.
    pub fn close_with(&mut self, fault: Fault) {
        self.closing.get_or_insert(fault);
    }

    /// Returns whether the connection is to be closed.
    pub const fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// The fault that the connection is to be closed with, if any.
    pub const fn closing(&mut self) -> Option<Fault> {
        self.closing.take()
    }

    /// Returns whether more may be read from the client: not while it waits for too many answers, or its acks cannot be taken.
    pub fn may_read(&self) -> bool {
        self.session.may_read() && self.sends.has_room() && self.answers_left() > 0
    }

    /// Answers that the client may wait for beyond those that it waits for. What waits for the rate is not among them.
    fn answers_left(&self) -> usize {
        ANSWERS_MAX.saturating_sub(self.operations.answers() + self.sends.len())
    }

    /// Returns whether [`Driver::settle`] has something to do.
    pub const fn may_settle(&self) -> bool {
        self.settlements.may_go()
    }

    /// Gives the lane what was acked since the last time. To be called once no frame is left that has arrived, so that a burst
    /// of acks is one job.
    pub fn settle(&mut self) {
        effects::settle_now(self);
    }

    /// Returns whether every ack and every answer that was under way has arrived.
    pub fn is_quiet(&self) -> bool {
        self.session.is_quiet() && self.settlements.is_empty() && self.operations.answers() == 0 && self.sends.is_empty()
    }

    /// The request budget of the session's user.
    pub fn budget(&self) -> Budget {
        self.context.service.budget(&self.client.profile.external)
    }

    /// The time of the next [`Driver::deadline_passed`], for a connection that stays, or for one that leaves.
    pub fn deadline(&self, is_leaving: bool) -> Instant {
        let own = if is_leaving { self.token_expires } else { self.token_expires.min(self.receipts.poll_at()) };
        [self.session.next_deadline(), self.sends.wake_at(), self.typing.deadline()].into_iter().flatten().fold(own, Instant::min)
    }

    /// Returns whether the session waits for an [`Input::Deadline`]. Frames that have arrived are to be handled before it.
    pub fn is_session_due(&self, now: Instant) -> bool {
        self.session.next_deadline().is_some_and(|at| at <= now)
    }

    /// Performs the work that is due at this time, except for the session's own deadline.
    pub fn deadline_passed(&mut self, now: Instant) {
        if self.token_expires <= now {
            return self.close(Code::TokenExpired);
        }
        commands::typing::due(self, now);
        if self.sends.wake_at().is_some_and(|at| at <= now) {
            commands::send::release(self);
        }
        // Without another node no receipt is lost between nodes.
        if self.receipts.is_poll_due(now) && !self.context.notifier.is_alone() {
            notes::read_moved_marks(self);
        }
    }

    /// Gives back the room that a busier time has left behind.
    pub fn shrink(&mut self) {
        self.outbox.shrink();
        self.session.shrink();
        self.tickets.shrink();
        self.sends.shrink(Instant::now());
        self.receipts.forget(Instant::now());
    }

    /// The connection has ended: what its client acked and sent before counts, and goes to the lanes.
    pub fn hand_over(&mut self) {
        self.settle();
        commands::send::send_what_waits(self);
        commands::typing::end(self);
    }

    /// Those who knew of the session are told that its connection has ended, with this code or by its client.
    pub async fn end(self: Box<Self>, code: Option<Code>) {
        let (emitted, acked) = (self.session.anything_emitted(), self.session.anything_acked());
        let Self { context, client, .. } = *self;
        if emitted {
            context.crash_loops.ended(client.user(), client.options.device.as_ref(), acked);
        }
        opening::leave(&context, &client, code).await;
    }
}

/// The instant at which a token's time is over, by the node's clock as it is now; one that is set later is not followed.
fn instant_of(at: OffsetDateTime, clock: &Clock) -> Instant {
    let left = at - clock.now();
    Instant::now() + Duration::try_from(left).unwrap_or_default().min(Duration::from_secs(86_400 * 365))
}
