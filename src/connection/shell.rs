//! The loop of a connection: wait for whatever comes first, give it to the session, do what it says.
//!
//! Nothing in it waits for the database or for another client: whatever takes time is an operation that runs beside
//! the loop and comes back as something that happened.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, Utf8Bytes};
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{FutureExt, StreamExt};
use time::OffsetDateTime;
use tokio::time::sleep_until;

use super::directing::Directing;
use super::handshake::{Socket, answer_close, fault_of, linger};
use super::marks::{Cursors, SlowLook, ToldRead};
use super::open::{Ended, Pace, Who, jittered, leave};
use super::outbox::{Outbox, Written};
use super::stop::Leave;
use super::{Shared, frames};
use crate::delivery::{Acks, Refusal};
use crate::domain::{AttemptOutcome, ChatId, Class, Clock, InboxSeq, MessageId, UserId};
use crate::hub::{Mailbox, Reader};
use crate::protocol::client::FrameId;
use crate::protocol::{Code, Fault, server};
use crate::session::{Effect, Input, Session, SettlementNo, Ticket};
use crate::store::Overview;

/// Answers that a client may wait for at once, beyond acks; then its frames are not read until some have come.
const ANSWERS_MAX: usize = 256;

/// Frames taken while something else might be ready too: a client that floods must not keep its token's end, or whoever
/// displaces it, from being heard.
const FRAMES_IN_A_ROW: u32 = 64;
/// Operations that have ended, taken before the loop looks at everything else again.
const OPERATIONS_AT_ONCE: usize = 64;

/// The socket, one half for each direction.
pub(super) type Sink = SplitSink<Socket, Message>;
pub(super) type Incoming = SplitStream<Socket>;

/// Something that runs beside the loop.
pub(super) type Operation = Pin<Box<dyn Future<Output = Done> + Send>>;

/// How it ended.
pub(super) enum Done {
    /// The session is to know.
    Happened(Input),
    /// An attempt against this message was counted.
    Attempted(MessageId, Input, AttemptOutcome),
    /// Settlements, from the first number to the last, were written, or cannot be.
    Settled([SettlementNo; 2], Result<(), Refusal>),
    /// An answer to the client, and perhaps something for the session.
    Answer(Utf8Bytes, Option<Input>),
    /// A look at the user's chats: marks that moved.
    Overview(Box<Overview>),
    /// Messages go to this user, and here is the chat.
    Directed(Box<frames::Directed>),
    /// Members of a chat, to be told of typing.
    Audience(ChatId, Vec<UserId>),
    /// Nothing to do.
    Nothing,
}

/// A connection in its prime.
pub(super) struct Shell {
    pub(super) shared: Shared,
    pub(super) who: Who,
    pub(super) mailbox: Mailbox,
    pub(super) outbox: Outbox,
    pub(super) session: Session,
    pub(super) cursors: Cursors,
    pub(super) operations: FuturesUnordered<Operation>,
    /// What was acked since the lane was last given something. It goes there once no frame is left that has arrived, so
    /// that a burst of acks is one job; and in its order: a mark that is proposed counts on those before it.
    pub(super) unsettled: Option<Unsettled>,
    /// The lane is full: this one waits for room, and those behind it for this one.
    pub(super) settling: Option<Operation>,
    /// Messages whose chat has to be found or made first, and those that must not overtake them.
    pub(super) directing: Directing,
    pub(super) answers_under_way: usize,
    /// Frames that want `…:ok`, by their ticket.
    pub(super) tickets: HashMap<Ticket, (FrameId, frames::Asked)>,
    pub(super) next_ticket: u64,
    pub(super) token_expires: Instant,
    pub(super) marks_reading: MarksReading,
    pub(super) marks_look: SlowLook,
    pub(super) told_read: ToldRead,
    pub(super) typing: frames::TypingState,
    closing: Option<Fault>,
    stay: Stay,
    heartbeat_at: Instant,
    pings_unanswered: u8,
}

/// Settlements that no lane has yet, as one job.
pub(super) struct Unsettled {
    pub(super) first: SettlementNo,
    pub(super) last: SettlementNo,
    pub(super) acks: Acks,
}

/// How long does the connection stay?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// As long as its client wants.
    Open,
    /// The node stops, and the client knows when to come back.
    Until(Leave),
    /// Its moment has come: nothing new is emitted, the last acks and answers are waited for.
    LastCall(Leave),
}

/// Is a look at the marks under way?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarksReading {
    No,
    Yes,
    /// And another is needed after it.
    Again,
}

impl Shell {
    pub(super) fn new(
        shared: Shared,
        who: Who,
        mailbox: Mailbox,
        outbox: Outbox,
        session: Session,
        token_expires: OffsetDateTime,
        cursors: Cursors,
    ) -> Self {
        let now = Instant::now();
        Self {
            heartbeat_at: now + shared.settings.heartbeat,
            token_expires: instant_of(token_expires, &shared.clock),
            told_read: ToldRead::default(),
            marks_look: SlowLook::new(now, jittered(shared.settings.session.look_interval, who.session)),
            shared,
            who,
            mailbox,
            outbox,
            session,
            cursors,
            operations: FuturesUnordered::new(),
            unsettled: None,
            settling: None,
            directing: Directing::default(),
            answers_under_way: 0,
            tickets: HashMap::new(),
            next_ticket: 0,
            marks_reading: MarksReading::No,
            typing: frames::TypingState::default(),
            closing: None,
            stay: Stay::Open,
            pings_unanswered: 0,
        }
    }

    /// Runs until the connection ends, by whomever, and says goodbye to those who knew of it.
    pub(super) async fn run(mut self: Box<Self>, sink: Sink, incoming: Incoming, notes: Reader, pace: Pace) {
        let metrics = Arc::clone(&self.shared.metrics);
        metrics.sessions.inc();
        if pace == Pace::Alone {
            metrics.sessions_emitting_alone.inc();
        }
        let code = self.live(sink, incoming, notes).await;
        // What the client acked and sent before it went counts.
        self.settle_unsettled();
        self.send_what_waits();
        metrics.sessions.dec();
        if pace == Pace::Alone {
            metrics.sessions_emitting_alone.dec();
        }
        let (anything_emitted, anything_acked) = (self.session.anything_emitted(), self.session.anything_acked());
        Box::pin(leave(&self.shared, &self.who, Ended { code, anything_emitted, anything_acked })).await;
    }

    /// The loop. Returns why the connection ended; none: the client left, or was lost.
    async fn live(&mut self, mut sink: Sink, mut incoming: Incoming, mut notes: Reader) -> Option<Code> {
        let mut health = self.shared.service.health().subscribe();
        let stop = self.shared.stop.clone();
        let mut timer = std::pin::pin!(sleep_until(self.deadline().into()));
        if *health.borrow_and_update() {
            self.happened(Input::DatabaseAway);
        }
        let mut frames_in_a_row = 0;
        loop {
            self.leave_when_quiet();
            if let Some(fault) = self.closing.take() {
                return Box::pin(self.say_goodbye(&fault, &mut sink, &mut incoming)).await;
            }
            let has_room = self.outbox.has_room();
            let others_turn = frames_in_a_row >= FRAMES_IN_A_ROW;
            let may_read = has_room && !others_turn && self.may_read();
            let may_settle = self.unsettled.is_some() && self.settling.is_none();
            timer.as_mut().reset(self.deadline().into());
            // Frames that have arrived come before deadlines: an ack on its way must not be counted as missing. And
            // before what they cause is written: what a burst of them causes leaves with one flush.
            tokio::select! {
                biased;
                frame = incoming.next(), if may_read => match self.frame(frame) {
                    Heard::GoOn => {
                        frames_in_a_row += 1;
                        continue;
                    }
                    Heard::Left => {
                        answer_close(&mut incoming).await;
                        return None;
                    }
                },
                // No frame has arrived that is not taken, or it is the others' turn.
                () = std::future::ready(()), if may_settle => self.settle_unsettled(),
                written = self.outbox.write(&mut sink) => match written {
                    Written::Room => {}
                    Written::TooSlow => return Some(Code::TooSlow),
                    Written::Lost | Written::Closed => return None,
                },
                () = stop.begun(), if self.stay == Stay::Open => self.stop_begins(),
                Some(done) = self.operations.next(), if !self.operations.is_empty() => self.done_with(done),
                done = pending_or(&mut self.settling) => { self.settling = None; self.done(done); }
                found = notes.next(), if has_room => self.found(found, &mut notes),
                Ok(()) = health.changed() => {
                    let is_away = *health.borrow_and_update();
                    self.happened(if is_away { Input::DatabaseAway } else { Input::DatabaseBack });
                }
                () = &mut timer => self.deadline_passed(&mut incoming, &mut notes),
                () = std::future::ready(()), if others_turn => {}
            }
            frames_in_a_row = 0;
        }
    }

    /// Says why, after what is in the outbox, and hears what was on its way.
    async fn say_goodbye(&mut self, fault: &Fault, sink: &mut Sink, incoming: &mut Incoming) -> Option<Code> {
        self.outbox.text(server::frame(None, fault));
        self.outbox.close_for(fault);
        self.outbox.finish(sink).await;
        linger(incoming, |text| self.late(text)).await;
        Some(fault.code)
    }

    /// Gives the session something that happened, and does what it says.
    pub(super) fn happened(&mut self, input: Input) {
        let effects = self.session.handle(Instant::now(), input);
        self.perform(effects);
    }

    /// Closes the connection with this code, after what is in the outbox.
    pub(super) fn close(&mut self, code: Code) {
        self.closing.get_or_insert_with(|| Fault::plain(code));
    }

    /// An ack for everything up to a number, from a client that resumes: not more than what waits, a page at a time.
    pub(super) fn ack_up_to(&mut self, settled: InboxSeq, since: InboxSeq) {
        let (service, user) = (self.shared.service.clone(), Arc::clone(&self.who.profile));
        self.operations.push(Box::pin(async move {
            service.ack_waiting_up_to(user, Class::Chat, settled, since).await;
            Done::Nothing
        }));
    }

    fn may_read(&self) -> bool {
        let answers = self.answers_under_way + self.directing.sends();
        self.session.may_read() && self.directing.has_room() && answers < ANSWERS_MAX
    }

    fn deadline(&self) -> Instant {
        let first = match self.stay {
            Stay::Open => self.heartbeat_at.min(self.token_expires).min(self.marks_look.at()),
            Stay::Until(leave) => self.heartbeat_at.min(self.token_expires).min(self.marks_look.at()).min(leave.at),
            Stay::LastCall(leave) => self.token_expires.min(leave.at_the_latest),
        };
        self.session.next_deadline().map_or(first, |at| at.min(first))
    }

    fn deadline_passed(&mut self, incoming: &mut Incoming, notes: &mut Reader) {
        let now = Instant::now();
        match self.stay {
            Stay::Until(leave) if leave.at <= now => {
                self.stay = Stay::LastCall(leave);
                return self.happened(Input::Leave);
            }
            Stay::LastCall(leave) if leave.at_the_latest <= now => return self.close(Code::Restart),
            Stay::Open | Stay::Until(_) | Stay::LastCall(_) => {}
        }
        if self.token_expires <= now {
            return self.close(Code::TokenExpired);
        }
        if self.heartbeat_at <= now {
            self.heartbeat(now);
            self.shrink(notes);
        }
        // Where no other node is, nothing is lost on the way.
        if self.marks_look.is_due(now) && !self.shared.reach.is_alone() {
            self.look_at_marks();
        }
        if self.session.next_deadline().is_some_and(|at| at <= now) {
            // What has come in since the loop last looked is heard first.
            while self.closing.is_none() && self.may_read() && self.outbox.has_room() {
                let Some(frame) = incoming.next().now_or_never() else { break };
                if let Heard::Left = self.frame(frame) {
                    return;
                }
            }
            self.happened(Input::Deadline);
        }
    }

    /// The client is told at once, so that it may prepare; its frames are served until its moment and beyond.
    fn stop_begins(&mut self) {
        let Some(leave) = self.shared.stop.leave(self.who.session) else { return };
        let reconnect_after_ms = u64::try_from(leave.reconnect_after.as_millis()).unwrap_or(u64::MAX);
        self.outbox.text(server::frame(None, &server::Draining { reconnect_after_ms }));
        self.stay = Stay::Until(leave);
    }

    /// After the last call: closes once every ack and every answer that is under way has arrived.
    fn leave_when_quiet(&mut self) {
        let Stay::LastCall(_) = self.stay else { return };
        let is_settled = self.session.is_quiet() && self.unsettled.is_none() && self.settling.is_none();
        if is_settled && self.answers_under_way == 0 && self.directing.is_empty() {
            self.close(Code::Restart);
        }
    }

    fn heartbeat(&mut self, now: Instant) {
        if self.pings_unanswered >= 2 {
            // Two pings without a sign of life: there is nobody to close it for.
            return self.close(Code::NoAcks);
        }
        self.pings_unanswered += 1;
        self.outbox.ping();
        self.heartbeat_at = now + self.shared.settings.heartbeat;
    }

    fn frame(&mut self, frame: Option<Result<Message, axum::Error>>) -> Heard {
        self.pings_unanswered = 0;
        match frame {
            Some(Ok(Message::Text(text))) => self.text(&text),
            Some(Ok(Message::Binary(_))) => self.refuse(None, &crate::protocol::client::refuse_binary().fault),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => return Heard::Left,
            Some(Err(error)) => match fault_of(&error) {
                Some(fault) => {
                    self.closing.get_or_insert(fault);
                }
                None => return Heard::Left,
            },
        }
        Heard::GoOn
    }

    /// Answers with an error.
    pub(super) fn refuse(&mut self, id: Option<&FrameId>, fault: &Fault) {
        self.outbox.text(server::frame(id, fault));
    }

    /// Gives back the room that a busier time has left behind.
    fn shrink(&mut self, notes: &mut Reader) {
        notes.shrink();
        self.outbox.shrink();
        self.session.shrink();
        self.tickets.shrink_to_fit();
        self.directing.shrink();
        self.told_read.forget(Instant::now());
    }

    /// Takes what has ended, and whatever else has by now: a commit ends many at once, and one flush is enough for all.
    fn done_with(&mut self, first: Done) {
        self.done(first);
        for _ in 1..OPERATIONS_AT_ONCE {
            let Some(Some(done)) = self.operations.next().now_or_never() else { return };
            self.done(done);
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Happened(input) => self.happened(input),
            Done::Attempted(message, input, outcome) => {
                for (_, asked) in self.tickets.values_mut() {
                    if let frames::Asked::Reject(rejected, answer) = asked
                        && *rejected == message
                    {
                        *answer = Some(outcome);
                    }
                }
                self.happened(input);
            }
            Done::Settled([first, last], Ok(())) => (first.0..=last.0).for_each(|no| self.happened(Input::Committed(SettlementNo(no)))),
            // The client must not believe that its acks are kept: it comes back and repeats them.
            Done::Settled(_, Err(refusal)) => self.close(Fault::from(refusal).code),
            Done::Answer(frame, input) => {
                self.answers_under_way = self.answers_under_way.saturating_sub(1);
                self.outbox.text(frame);
                if let Some(input) = input {
                    self.happened(input);
                }
            }
            Done::Overview(overview) => self.overview_read(*overview),
            Done::Directed(directed) => self.directed(*directed),
            Done::Audience(chat, users) => self.audience(chat, &users),
            Done::Nothing => {}
        }
    }

    /// An answer that will come.
    pub(super) fn answer(&mut self, answer: impl Future<Output = (Utf8Bytes, Option<Input>)> + Send + 'static) {
        self.answers_under_way += 1;
        self.operations.push(Box::pin(answer.map(|(frame, input)| Done::Answer(frame, input))));
    }

    /// Looks at effects in their order.
    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.effect(effect);
        }
    }
}

/// Did the client leave?
enum Heard {
    GoOn,
    Left,
}

async fn pending_or(operation: &mut Option<Operation>) -> Done {
    match operation {
        Some(operation) => operation.await,
        None => std::future::pending().await,
    }
}

/// When a token's time is over, by the node's clock as it is now; one that is set later is not followed.
pub(super) fn instant_of(at: OffsetDateTime, clock: &Clock) -> Instant {
    let left = at - clock.now();
    Instant::now() + Duration::try_from(left).unwrap_or_default().min(Duration::from_secs(86_400 * 365))
}
