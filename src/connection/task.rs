//! The task of a connection: a loop that waits for whatever comes first and gives it to the driver.
//!
//! It keeps the socket's own promises: frames in and out, heartbeat, the order of a planned stop, the close. Nothing in it
//! waits for the database or for another client.

use std::time::{Duration, Instant};

use axum::extract::ws::Message;
use futures_util::{FutureExt, Sink, Stream, StreamExt};
use tokio::time::sleep_until;

use super::Shared;
use super::closing::{answer_close, fault_of, linger};
use super::outbox::Outbox;
use super::reading::Reading;
use super::shutdown::PlannedClose;
use super::writer::{Writer, Written};
use crate::domain::SessionId;
use crate::driver::{Driver, Outgoing, commands};
use crate::hub::Reader;
use crate::protocol::client::refuse_binary;
use crate::protocol::dialect::{Decoded, Dialect};
use crate::protocol::event::ServerEvent;
use crate::protocol::{Code, Fault, server};
use crate::service::points_of_bytes;
use crate::session::Input;

/// Frames taken while something else might be ready too: a client that floods must not keep its token's end, or a newer
/// connection of its device, from being heard.
const FRAMES_IN_A_ROW: u32 = 64;
/// Work on frames after which other tasks have their turn. Lanes run on the same threads, and frames that are large take long.
const TURN: Duration = Duration::from_millis(1);
/// The number of unanswered pings after which the connection is closed.
const PINGS_MAX: u8 = 2;

/// The half of a socket that frames come from.
trait Incoming: Stream<Item = Result<Message, axum::Error>> + Unpin {}

impl<T: Stream<Item = Result<Message, axum::Error>> + Unpin> Incoming for T {}

struct Task<D> {
    shared: Shared,
    session: SessionId,
    driver: Box<Driver<Outbox<D>>>,
    writer: Writer,
    reading: Reading,
    stay: Stay,
    heartbeat_at: Instant,
    pings_unanswered: u8,
}

/// The time for which the connection stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// No bound: its client decides.
    Open,
    /// The node stops, and the client knows when to come back.
    Until(PlannedClose),
    /// Its moment has come: nothing new is emitted, the last acks and answers are waited for.
    Draining(PlannedClose),
}

/// Says if the client left.
enum Heard {
    GoOn,
    Left,
}

/// Runs until the connection ends, by whichever side.
pub(super) fn run<D: Dialect, O: Sink<Message> + Unpin + Send, I: Stream<Item = Result<Message, axum::Error>> + Unpin + Send>(
    shared: Shared,
    session: SessionId,
    emits_alone: bool,
    driver: Box<Driver<Outbox<D>>>,
    sink: O,
    incoming: I,
    notes: Reader,
) -> impl Future<Output = ()> + Send + use<D, O, I> {
    let heartbeat_at = Instant::now() + shared.settings.heartbeat;
    let reading = Reading::new(driver.budget(), std::sync::Arc::clone(&shared.context.metrics));
    let task = Task { shared, session, driver, writer: Writer::default(), reading, stay: Stay::Open, heartbeat_at, pings_unanswered: 0 };
    Box::new(task).run(emits_alone, sink, incoming, notes)
}

impl<D: Dialect> Task<D> {
    async fn run(mut self: Box<Self>, emits_alone: bool, sink: impl Sink<Message> + Unpin, incoming: impl Incoming, notes: Reader) {
        let metrics = std::sync::Arc::clone(&self.shared.context.metrics);
        metrics.sessions.inc();
        if emits_alone {
            metrics.sessions_emitting_alone.inc();
        }
        let code = self.live(sink, incoming, notes).await;
        self.driver.hand_over();
        metrics.sessions.dec();
        if emits_alone {
            metrics.sessions_emitting_alone.dec();
        }
        metrics.connection_closed(code);
        Box::pin(self.driver.end(code)).await;
    }

    /// The loop. Returns why the connection ended; none: the client left, or was lost.
    async fn live(&mut self, mut sink: impl Sink<Message> + Unpin, mut incoming: impl Incoming, mut notes: Reader) -> Option<Code> {
        let mut health = self.shared.context.service.health().subscribe();
        let shutdown = self.shared.shutdown.clone();
        let mut timer = std::pin::pin!(sleep_until(self.deadline().into()));
        if *health.borrow_and_update() {
            self.driver.handle(Input::DatabaseAway);
        }
        let (mut frames_in_a_row, mut worked) = (0, Duration::ZERO);
        loop {
            self.leave_when_quiet();
            if let Some(fault) = self.driver.closing() {
                return Box::pin(self.say_goodbye(&fault, &mut sink, &mut incoming)).await;
            }
            let has_room = self.driver.outbox.has_room();
            let others_turn = frames_in_a_row >= FRAMES_IN_A_ROW;
            let may_read = self.may_read() && has_room && !others_turn;
            let may_settle = self.driver.may_settle();
            timer.as_mut().reset(self.deadline().into());
            // Frames that have arrived come before deadlines: an ack on its way must not be counted as missing. And
            // before what they cause is written: what a burst of them causes leaves with one flush.
            tokio::select! {
                biased;
                frame = incoming.next(), if may_read => {
                    self.driver.hear_of_revocations().await;
                    if self.driver.is_closing() {
                        continue;
                    }
                    let begun = Instant::now();
                    if let Heard::Left = self.frame(frame) {
                        answer_close(&mut incoming).await;
                        return None;
                    }
                    frames_in_a_row += 1;
                    worked += begun.elapsed();
                    if worked >= TURN {
                        worked = Duration::ZERO;
                        tokio::task::yield_now().await;
                    }
                    continue;
                }
                // No frame has arrived that is not taken, or it is the others' turn.
                () = std::future::ready(()), if may_settle => self.driver.settle(),
                written = self.writer.write(&mut self.driver.outbox, &mut sink) => match written {
                    Written::Room => {}
                    Written::TooSlow => return Some(Code::TooSlow),
                    Written::Lost | Written::Closed => return None,
                },
                () = shutdown.begun(), if self.stay == Stay::Open => self.shutdown_begins(),
                Some(result) = self.driver.operations.next(), if !self.driver.operations.is_empty() => self.driver.ended(result),
                found = notes.next(), if has_room => self.driver.found(found, &mut notes),
                Ok(()) = health.changed() => {
                    let is_away = *health.borrow_and_update();
                    self.driver.handle(if is_away { Input::DatabaseAway } else { Input::DatabaseBack });
                }
                () = &mut timer => self.deadline_passed(&mut incoming, &mut notes),
                () = std::future::ready(()), if others_turn => {}
            }
            if may_read {
                // No frame was there, or it would have come first.
                self.reading.caught_up();
            }
            frames_in_a_row = 0;
        }
    }

    /// Says why, after what is in the outbox, and hears what was on its way.
    async fn say_goodbye(&mut self, fault: &Fault, sink: &mut (impl Sink<Message> + Unpin), incoming: &mut impl Incoming) -> Option<Code> {
        self.driver.refuse(None, fault.clone());
        self.driver.outbox.close_for(fault);
        self.writer.finish(&mut self.driver.outbox, sink).await;
        linger(incoming, |text| {
            if self.reading.is_free() {
                self.reading.count(points_of_bytes(text.len()));
                if let Decoded::Command(frame) = self.driver.outbox.decode(text) {
                    commands::apply_late(&mut self.driver, frame);
                }
            }
        })
        .await;
        Some(fault.code)
    }

    /// Returns whether frames may be taken. To be called before the deadline is looked at: it ends a pause whose time is over.
    fn may_read(&mut self) -> bool {
        self.reading.may_go_on() && self.driver.may_read()
    }

    fn frame(&mut self, frame: Option<Result<Message, axum::Error>>) -> Heard {
        self.pings_unanswered = 0;
        match frame {
            Some(Ok(Message::Text(text))) => return self.text(&text),
            Some(Ok(Message::Binary(bytes))) => {
                self.reading.count(points_of_bytes(bytes.len()));
                self.driver.refuse(None, refuse_binary().fault);
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => self.reading.count(1),
            Some(Ok(Message::Close(_))) | None => return Heard::Left,
            Some(Err(error)) => match fault_of(&error) {
                Some(fault) => self.driver.close_with(fault),
                None => return Heard::Left,
            },
        }
        Heard::GoOn
    }

    fn text(&mut self, text: &str) -> Heard {
        let points = points_of_bytes(text.len());
        match self.driver.outbox.decode(text) {
            Decoded::Command(frame) => {
                let points = commands::apply_counted(&mut self.driver, frame, text.len());
                self.reading.count(points);
            }
            Decoded::Answered(frame, answer) => {
                let points = commands::apply_counted(&mut self.driver, frame, text.len());
                self.reading.count(points);
                self.driver.outbox.text(answer);
            }
            Decoded::Refused(error) => {
                self.reading.count(points);
                self.driver.refuse(error.id.as_ref(), error.fault);
            }
            Decoded::Answer(answer) => {
                self.reading.count(points);
                self.driver.outbox.text(answer);
            }
            Decoded::Nothing => self.reading.count(points),
            Decoded::Left => return Heard::Left,
        }
        Heard::GoOn
    }

    fn deadline(&self) -> Instant {
        let deadline = match self.stay {
            Stay::Open => self.driver.deadline(false).min(self.heartbeat_at),
            Stay::Until(close) => self.driver.deadline(false).min(self.heartbeat_at).min(close.at),
            Stay::Draining(close) => self.driver.deadline(true).min(close.deadline),
        };
        self.reading.resumes_at().map_or(deadline, |at| deadline.min(at))
    }

    fn deadline_passed(&mut self, incoming: &mut impl Incoming, notes: &mut Reader) {
        let now = Instant::now();
        match self.stay {
            Stay::Until(close) if close.at <= now => {
                self.stay = Stay::Draining(close);
                return self.driver.handle(Input::Leave);
            }
            Stay::Draining(close) if close.deadline <= now => return self.driver.close(Code::Restart),
            Stay::Open | Stay::Until(_) | Stay::Draining(_) => {}
        }
        self.driver.deadline_passed(now);
        if self.driver.is_closing() {
            return;
        }
        if self.heartbeat_at <= now {
            self.heartbeat(now);
            notes.shrink();
            self.driver.shrink();
        }
        if self.driver.is_session_due(now) {
            // Frames that have arrived since the last read are handled first.
            while !self.driver.is_closing() && self.may_read() && self.driver.outbox.has_room() && self.driver.knows_revocations() {
                let Some(frame) = incoming.next().now_or_never() else { break };
                if let Heard::Left = self.frame(frame) {
                    return;
                }
            }
            if self.reading.is_behind() {
                self.driver.handle(Input::FramesUnread);
            }
            self.driver.handle(Input::Deadline);
        }
    }

    fn heartbeat(&mut self, now: Instant) {
        if self.reading.is_behind() || !self.driver.outbox.is_ping_answered() {
            // An answer may lie unread, or none is to come.
            self.pings_unanswered = 0;
        }
        if self.pings_unanswered >= PINGS_MAX {
            return self.driver.close(Code::NoAcks);
        }
        self.pings_unanswered += 1;
        self.driver.outbox.ping();
        self.heartbeat_at = now + self.shared.settings.heartbeat;
    }

    /// The client is told at once, so that it may prepare; its frames are served until its moment and beyond.
    fn shutdown_begins(&mut self) {
        let Some(close) = self.shared.shutdown.planned_close(self.session) else { return };
        let reconnect_after_ms = u64::try_from(close.reconnect_after.as_millis()).unwrap_or(u64::MAX);
        self.driver.outbox.event(None, &ServerEvent::Draining(server::Draining { reconnect_after_ms }));
        self.stay = Stay::Until(close);
    }

    /// Once its moment has come: closes when every ack and every answer that is under way has arrived.
    fn leave_when_quiet(&mut self) {
        if let Stay::Draining(_) = self.stay
            && self.driver.is_quiet()
        {
            self.driver.close(Code::Restart);
        }
    }
}
