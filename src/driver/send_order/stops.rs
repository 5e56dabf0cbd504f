//! Chats of a connection in which a message was refused for now. Later messages to them are refused too, or they would be stored
//! before the one that the client is about to repeat.
//!
//! A stop ends when its message comes again, when the client names it in `message:skip`, when the message's own time has passed,
//! or some time after the client could have repeated it. The list is bounded: where it is full, one stop holds for every chat.

use std::time::{Duration, Instant};

use super::pending::Place;
use crate::domain::MessageId;
use crate::protocol::{Code, Fault};

/// A stop ends this long after the time at which its message may be sent again.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Chats that are stopped one by one at most.
const STOPS_MAX: usize = 100;
/// The time to wait that is told where the first refusal has not arrived here yet.
const USUAL_RETRY: Duration = Duration::from_millis(500);
/// Messages that are refused behind one that was refused are told times at least this far apart, so that they come back in order.
const STEP: Duration = Duration::from_millis(1);

/// A message that was refused for now.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    /// Its id.
    pub(super) message: MessageId,
    /// Its place among the sends of the connection. What was received before it is not stopped.
    pub(super) no: u64,
    /// The time at which it ends by itself; none: it never does.
    pub(super) expires_at: Option<Instant>,
    /// The time that the rate leaves between two messages; zero where it was refused for another reason.
    pub(super) pace: Duration,
}

/// The stops of a connection.
#[derive(Debug, Default)]
pub(super) struct Stops(Vec<Stop>);

#[derive(Debug)]
struct Stop {
    holds: Holds,
    message: MessageId,
    no: u64,
    code: Code,
    retry_at: Instant,
    until: Instant,
    pace: Duration,
    /// Messages that were refused behind it.
    behind: u32,
}

/// The sends that a stop holds for.
#[derive(Debug, PartialEq, Eq)]
enum Holds {
    /// Those to this place.
    To(Place),
    /// All.
    All,
}

impl Stops {
    /// Stops a place behind this message, which may be sent again after `retry_after`. Of two messages to the same place the one
    /// that was received first stops it.
    pub(super) fn stop(&mut self, now: Instant, place: Place, refused: &Refused, code: Code, retry_after: Duration) {
        let is_same = |stop: &Stop| matches!(&stop.holds, Holds::To(other) if other.meets(&place));
        self.0.retain(|stop| stop.until > now && !(is_same(stop) && stop.no > refused.no));
        if self.0.iter().any(is_same) {
            return;
        }
        let is_full = self.0.len() >= STOPS_MAX;
        if is_full {
            self.0.retain(|stop| stop.holds != Holds::All);
        }
        let retry_at = now + retry_after;
        let given_up = retry_at + PATIENCE;
        self.0.push(Stop {
            holds: if is_full { Holds::All } else { Holds::To(place) },
            message: refused.message,
            no: refused.no,
            code,
            retry_at,
            until: refused.expires_at.map_or(given_up, |end| given_up.min(end)),
            pace: refused.pace.max(STEP),
            behind: 0,
        });
    }

    /// The refusal of a send to this place that was received as this number; none: it may go.
    pub(super) fn refusal(&mut self, now: Instant, place: &Place, no: u64) -> Option<Fault> {
        if self.0.is_empty() {
            return None;
        }
        self.0.retain(|stop| stop.until > now);
        let stop = self.0.iter_mut().find(|stop| stop.no < no && stop.holds_for(place))?;
        Some(stop.refuse(now))
    }

    /// The refusal of a send behind this message.
    pub(super) fn refusal_behind(&mut self, now: Instant, message: MessageId) -> Fault {
        match self.0.iter_mut().find(|stop| stop.message == message) {
            Some(stop) => stop.refuse(now),
            None => fault(Code::Busy, USUAL_RETRY, message),
        }
    }

    /// The message has come again, or will not: what was stopped behind it may go.
    pub(super) fn lift(&mut self, message: MessageId) {
        self.0.retain(|stop| stop.message != message);
    }

    /// Gives back the room that a busier time has left behind.
    pub(super) fn shrink(&mut self, now: Instant) {
        self.0.retain(|stop| stop.until > now);
        self.0.shrink_to_fit();
    }
}

impl Stop {
    fn holds_for(&self, place: &Place) -> bool {
        match &self.holds {
            Holds::To(stopped) => stopped.meets(place),
            Holds::All => true,
        }
    }

    fn refuse(&mut self, now: Instant) -> Fault {
        self.behind = self.behind.saturating_add(1);
        let wait = self.retry_at.saturating_duration_since(now) + self.pace.saturating_mul(self.behind);
        fault(self.code, wait, self.message)
    }
}

fn fault(code: Code, wait: Duration, message: MessageId) -> Fault {
    let words = "An earlier message to this chat was refused, and this one would overtake it: send that one again first, or name it in `message:skip`.";
    let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    Fault::new(code, words).retry_after_ms(ms).behind(message)
}

#[cfg(test)]
mod tests;
