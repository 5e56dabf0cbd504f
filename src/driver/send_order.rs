//! The order of a connection's sends: which may go now, which wait, and which are refused because they would overtake another.
//!
//! The messages of a connection to one chat are stored in the order in which they were received. What the user's rate does not
//! allow yet waits in `backlog`, what names a user whose chat is not known yet in `names`. What is on its way to a lane is in a
//! chain (`chains`). Where a message is refused for now, its chat is stopped behind it (`stops`), and what waits for the same
//! chat is refused too. A send without an id of the client's own takes no part in that: nobody can name it.
//!
//! This module uses neither the database nor the socket nor the clock: it answers in [`Step`]s.

mod backlog;
mod chains;
mod names;
mod pending;
mod stops;

#[cfg(test)]
mod properties;

use std::time::{Duration, Instant};

use crate::delivery::Chain;
use crate::domain::{ChatId, ExternalId, MessageId};
use crate::protocol::client::{FrameId, SendTarget};
use crate::protocol::{Code, Fault};
use backlog::Backlog;
use chains::Chains;
use names::{NameOrder, Question, Released};
pub(super) use pending::{PendingSend, Place};
use stops::{Refused, Stops};

/// The shortest time for which the rate is waited for: the clocks that count it may differ by less.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// The questions that the order asks of others.
pub(super) trait Gate {
    /// Counts a message against the user's rate, or says how long to wait.
    fn take_rate(&self) -> Result<(), Duration>;
    /// The time that the rate leaves between two messages.
    fn pace(&self) -> Duration;
    /// The direct chat with this user, where it is known.
    fn known(&self, name: &ExternalId) -> Option<ChatId>;
    /// The time in which a message ends by itself; none: it never does.
    fn expires_in(&self, send: &PendingSend) -> Option<Duration>;
}

/// The next thing to do.
#[derive(Debug)]
pub(super) enum Step {
    /// The direct chat with this user is to be looked up.
    Ask(ExternalId),
    /// The send goes to its lane. Its answer is given to [`SendOrder::answered`].
    Go(PendingSend, Departure),
    /// The send is refused, and the client is told under the id of its frame.
    Refuse(Option<FrameId>, Fault),
}

/// The part of a send that is kept until its answer has come.
#[derive(Debug)]
pub(super) struct Departure {
    /// Its chat.
    pub(super) chat: ChatId,
    /// Its chain.
    pub(super) chain: Chain,
    name: Option<ExternalId>,
    message: Option<MessageId>,
    no: u64,
    /// The time at which the message ends by itself.
    expires_at: Option<Instant>,
}

/// The sends of a connection that have no answer yet, and the chats that are stopped.
#[derive(Debug, Default)]
pub(super) struct SendOrder {
    backlog: Backlog,
    names: NameOrder,
    chains: Chains,
    stops: Stops,
    last_no: u64,
    /// When the first of the backlog may go.
    wake_at: Option<Instant>,
}

impl SendOrder {
    /// True when no send waits for its chat. Sends that wait for the rate do not count: they were promised nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Sends that wait for their chat.
    pub(super) const fn len(&self) -> usize {
        self.names.len()
    }

    /// True when more may be taken in.
    pub(super) const fn has_room(&self) -> bool {
        self.names.has_room()
    }

    /// True when sends wait for the rate.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Names that are not resolved.
    pub(super) fn names(&self) -> impl Iterator<Item = &ExternalId> {
        self.names.names()
    }

    /// The time of the next [`SendOrder::release`].
    pub(super) const fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    /// A send was received.
    pub(super) fn arrived(&mut self, now: Instant, send: PendingSend, gate: &impl Gate) -> Vec<Step> {
        self.last_no += 1;
        let send = PendingSend { no: self.last_no, ..send };
        let place = self.place_of(&send, gate);
        if let Some(message) = send.message() {
            // The chain has an end that the client has not heard of in full. Its first message may come again after that.
            if let Some(first) = place.chat.and_then(|chat| self.chains.broken_by(chat)) {
                return vec![Step::Refuse(send.id, self.behind(now, first, message))];
            }
            self.stops.lift(message);
            if let Some(fault) = self.stops.refusal(now, &place, send.no) {
                return vec![Step::Refuse(send.id, fault)];
            }
        }
        if !self.has_backlog() {
            match gate.take_rate() {
                Ok(()) => return vec![self.go(now, send, &place, gate)].into_iter().flatten().collect(),
                Err(wait) => self.wake_at = Some(now + wait.max(WAIT_MIN)),
            }
        }
        match self.backlog.push(send) {
            Ok(()) => Vec::new(),
            Err(send) => self.refuse_over_rate(now, *send, place, gate),
        }
    }

    /// Lets go what the rate allows by now, `room` sends at most.
    pub(super) fn release(&mut self, now: Instant, room: usize, gate: &impl Gate) -> Vec<Step> {
        let (mut steps, mut room) = (Vec::new(), room);
        self.wake_at = None;
        while room > 0 && self.has_backlog() && self.names.has_room() {
            if let Err(wait) = gate.take_rate() {
                self.wake_at = Some(now + wait.max(WAIT_MIN));
                break;
            }
            room -= 1;
            let Some(send) = self.backlog.pop() else { break };
            let place = self.place_of(&send, gate);
            steps.extend(self.go(now, send, &place, gate));
        }
        steps
    }

    /// The direct chat with this user was found or made, or cannot be.
    pub(super) fn resolved(&mut self, now: Instant, name: &ExternalId, chat: Result<ChatId, Fault>, gate: &impl Gate) -> Vec<Step> {
        let Released { sends, refused } = self.names.resolved(name, chat.as_ref().ok().copied());
        let mut steps = Vec::new();
        if let Err(fault) = chat {
            let place = Place { name: Some(name.clone()), chat: None };
            let mut is_stopped = false;
            for send in refused {
                let behind = send.message().filter(|_| is_stopped).and_then(|_| self.stops.refusal(now, &place, send.no));
                if let (Some(message), None) = (send.message(), &behind) {
                    let refused = Refused { message, no: send.no, expires_at: expires_at(now, &send, gate), pace: Duration::ZERO };
                    is_stopped = is_for_now(&fault);
                    steps.push(Step::Refuse(send.id, fault.clone()));
                    steps.extend(self.stop(now, &place, &refused, &fault, gate));
                } else {
                    steps.push(Step::Refuse(send.id, behind.unwrap_or_else(|| fault.clone())));
                }
            }
        }
        steps.extend(sends.into_iter().map(|(chat, send)| self.depart(now, chat, send, gate)));
        steps
    }

    /// A send that went has its answer: it is stored, or refused. Returns what the client is told of the refusal, and what follows.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        departure: &Departure,
        result: Result<(), Fault>,
        gate: &impl Gate,
    ) -> (Option<Fault>, Vec<Step>) {
        let Some(message) = departure.message else { return (result.err(), Vec::new()) };
        self.chains.leave(departure.chat);
        let fault = match result {
            Ok(()) => {
                self.stops.lift(message);
                return (None, Vec::new());
            }
            Err(fault) => fault,
        };
        match fault.behind {
            Some(first) => (Some(self.behind(now, first, message)), Vec::new()),
            None => {
                let place = Place { name: departure.name.clone(), chat: Some(departure.chat) };
                let refused = Refused { message, no: departure.no, expires_at: departure.expires_at, pace: Duration::ZERO };
                let steps = self.stop(now, &place, &refused, &fault, gate);
                (Some(fault), steps)
            }
        }
    }

    /// The client will not send this message again.
    pub(super) fn skip(&mut self, message: MessageId) {
        self.stops.lift(message);
    }

    /// Gives back the room that a busier time has left behind.
    pub(super) fn shrink(&mut self, now: Instant) {
        self.backlog.shrink();
        self.names.shrink();
        self.chains.shrink();
        self.stops.shrink(now);
    }

    fn place_of(&self, send: &PendingSend, gate: &impl Gate) -> Place {
        place_of(&self.names, send, gate)
    }

    /// To its lane, or to those that wait for a chat.
    fn go(&mut self, now: Instant, send: PendingSend, place: &Place, gate: &impl Gate) -> Option<Step> {
        let (chat, send) = match (&send.request.target, place.chat) {
            (SendTarget::Chat(chat), _) => (*chat, self.names.follow(*chat, send)),
            (SendTarget::User(_), Some(chat)) => (chat, self.names.follow_known(chat, send)),
            (SendTarget::User(name), None) => {
                let name = name.clone();
                let question = self.names.hold(name.clone(), send);
                return (question == Question::ToAsk).then_some(Step::Ask(name));
            }
        };
        send.map(|send| self.depart(now, chat, send, gate))
    }

    /// To its lane. A stop of its chat may have come while it waited under another name.
    fn depart(&mut self, now: Instant, chat: ChatId, send: PendingSend, gate: &impl Gate) -> Step {
        let (name, message) = (send.name().cloned(), send.message());
        if message.is_some()
            && let Some(fault) = self.stops.refusal(now, &Place { name: name.clone(), chat: Some(chat) }, send.no)
        {
            return Step::Refuse(send.id, fault);
        }
        let chain = message.map(|_| self.chains.enter(chat, send.no)).unwrap_or_default();
        let expires_at = expires_at(now, &send, gate);
        let no = send.no;
        Step::Go(send, Departure { chat, chain, name, message, no, expires_at })
    }

    /// The backlog is full: again once it may be empty.
    fn refuse_over_rate(&mut self, now: Instant, send: PendingSend, place: Place, gate: &impl Gate) -> Vec<Step> {
        let pace = gate.pace();
        let first = self.wake_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let wait = first + pace.saturating_mul(u32::try_from(self.backlog.len()).unwrap_or(u32::MAX));
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let fault = Fault::plain(Code::RateLimited).retry_after_ms(ms);
        if let Some(message) = send.message() {
            let refused = Refused { message, no: send.no, expires_at: expires_at(now, &send, gate), pace };
            self.stops.stop(now, place, &refused, fault.code, Duration::from_millis(ms));
        }
        vec![Step::Refuse(send.id, fault)]
    }

    /// Stops a place behind a message that had gone and was refused for now, and refuses what waits for the same place.
    fn stop(&mut self, now: Instant, place: &Place, refused: &Refused, fault: &Fault, gate: &impl Gate) -> Vec<Step> {
        let Some(ms) = fault.retry_after_ms.filter(|_| is_for_now(fault)) else { return Vec::new() };
        self.stops.stop(now, place.clone(), refused, fault.code, Duration::from_millis(ms));
        let is_stopped = |send: &PendingSend| send.message().is_some() && send.no > refused.no;
        let mut waiting = self.names.take_out(place.name.as_ref(), place.chat, is_stopped);
        let names = &self.names;
        waiting.extend(self.backlog.take_out(|send| is_stopped(send) && place_of(names, send, gate).meets(place)));
        waiting.into_iter().map(|send| Step::Refuse(send.id, self.stops.refusal_behind(now, refused.message))).collect()
    }

    /// The refusal of a message behind another one of its chain, or of that one itself.
    fn behind(&mut self, now: Instant, first: MessageId, message: MessageId) -> Fault {
        let fault = self.stops.refusal_behind(now, first);
        if first == message { Fault { behind: None, ..fault } } else { fault }
    }
}

/// True when the same send may succeed later.
fn is_for_now(fault: &Fault) -> bool {
    matches!(fault.code, Code::Busy | Code::Unavailable | Code::RateLimited | Code::TooManyChats | Code::PolicyUnavailable)
}

/// While a name is being asked for it has no chat yet, also where others know it: what comes later waits behind the question.
fn place_of(names: &NameOrder, send: &PendingSend, gate: &impl Gate) -> Place {
    match &send.request.target {
        SendTarget::Chat(chat) => Place { name: None, chat: Some(*chat) },
        SendTarget::User(name) => Place { name: Some(name.clone()), chat: if names.awaits(name) { None } else { gate.known(name) } },
    }
}

/// The time at which a message ends by itself, by the clock of this process.
fn expires_at(now: Instant, send: &PendingSend, gate: &impl Gate) -> Option<Instant> {
    gate.expires_in(send).and_then(|time| now.checked_add(time))
}
