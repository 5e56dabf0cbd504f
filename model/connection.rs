//! A connection and its session, in the terms of `crates/restante-session/src/session/inbox.rs` and `crates/restante-session/src/session/drain.rs`: the cursor, what is
//! buffered, what is in flight, and what is known of rows above the cursor. Beside it, what is on the wire both ways.

use super::database::{Message, Node, Page, Seq, Set};
use super::defect::Defect;

/// The strongest hint that came while a page was being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Nudge {
    Quiet,
    Offered(Seq),
    Woken,
}

/// The connection's knowledge of the rows above its cursor. `MayWait` lasts only while something is buffered; then it asks for a page.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Supply {
    MayWait,
    Reading { nudge: Nudge, page: Option<Page> },
    Live,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// `restante_open` has answered; the hub does not know the connection.
    Opened,
    /// Hints reach it.
    Registered,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Connection {
    pub(crate) node: Node,
    /// The connection's number among those of its device; 0 without a device.
    pub(crate) number: u8,
    pub(crate) phase: Phase,
    pub(crate) cursor: Seq,
    pub(crate) supply: Supply,
    pub(crate) buffer: Vec<(Seq, Message)>,
    pub(crate) flight: Vec<(Seq, Message)>,
    /// The device's cursor: highest number acked, and how far without a hole.
    acked: Seq,
    covered: Seq,
    /// Envelopes on their way to the client, and acks on their way back. Both are lost with the connection.
    pub(crate) down: Vec<Message>,
    pub(crate) up: Set,
    /// Rows whose commit was addressed to this connection, by a hint that has not arrived yet. It may never.
    pub(crate) owed: Set,
}

impl Connection {
    pub(crate) fn opened(node: Node, (cursor, number): (Seq, u8), defect: Option<Defect>) -> Self {
        // The page is asked for once the connection is registered, or too early.
        let supply = match defect {
            Some(Defect::RegistersAfterReading) => Supply::Reading { nudge: Nudge::Quiet, page: None },
            _ => Supply::MayWait,
        };
        Self {
            node,
            number,
            phase: Phase::Opened,
            cursor,
            supply,
            buffer: Vec::new(),
            flight: Vec::new(),
            acked: cursor,
            covered: cursor,
            down: Vec::new(),
            up: Set::default(),
            owed: Set::default(),
        }
    }

    /// May it be registered now?
    pub(crate) fn registers(&self, defect: Option<Defect>) -> bool {
        let has_read = !matches!(self.supply, Supply::Reading { .. });
        self.phase == Phase::Opened && (has_read || defect != Some(Defect::RegistersAfterReading))
    }

    /// `Inbox::nudge`.
    pub(crate) fn nudge(&mut self, hint: Nudge, defect: Option<Defect>) {
        match &mut self.supply {
            Supply::MayWait | Supply::Live => self.supply = Supply::MayWait,
            Supply::Reading { .. } if defect == Some(Defect::ForgetsHintsWhileReading) => {}
            Supply::Reading { nudge, .. } => *nudge = hint.max(*nudge),
        }
    }

    /// `Inbox::offer`: emitted only when it is exactly the next row and nothing is in its way.
    pub(crate) fn offer(&mut self, seq: Seq, message: Message, window: usize, defect: Option<Defect>) {
        if seq <= self.cursor {
            return;
        }
        if self.supply == Supply::Live && self.buffer.is_empty() && self.flight.len() < window && seq == self.cursor + 1 {
            self.cursor = seq;
            self.emit(seq, message);
        } else {
            self.nudge(Nudge::Offered(seq), defect);
        }
    }

    /// The page that was asked for is read.
    pub(crate) fn read(&mut self, read: impl FnOnce(Seq) -> Page) -> bool {
        let Supply::Reading { page: page @ None, .. } = &mut self.supply else { return false };
        *page = Some(read(self.cursor));
        true
    }

    /// The defect: `last_seq` comes from a statement of its own.
    pub(crate) fn read_last_seq(&mut self, last: Seq) -> bool {
        let Supply::Reading { page: Some(Page { last_seq: last_seq @ None, .. }), .. } = &mut self.supply else { return false };
        *last_seq = Some(last);
        true
    }

    /// `Session::looked`, of a look that finds numbers above the cursor, or events that are no rows yet.
    pub(crate) fn look(&mut self, last_seq: Seq, is_untaken: bool) -> bool {
        let finds = self.supply == Supply::Live && (last_seq > self.cursor || is_untaken);
        if finds {
            self.nudge(if is_untaken { Nudge::Woken } else { Nudge::Offered(last_seq) }, None);
        }
        finds
    }

    /// A page is asked for and has not been read.
    pub(crate) fn is_reading(&self) -> bool {
        matches!(self.supply, Supply::Reading { page: None, .. })
    }

    /// The client takes the next envelope, keeps it, and acks.
    pub(crate) fn client_receives(&mut self, keep: impl FnOnce(Message)) -> bool {
        if self.down.is_empty() {
            return false;
        }
        let message = self.down.remove(0);
        keep(message);
        self.up.insert(message);
        true
    }

    /// `Inbox::page`. False when none has been read.
    pub(crate) fn page_arrives(&mut self) -> bool {
        let Supply::Reading { nudge, page: Some(Page { rows, is_last, last_seq: Some(last_seq) }) } = &mut self.supply else {
            return false;
        };
        let (nudge, rows, is_last, last_seq) = (*nudge, std::mem::take(rows), *is_last, *last_seq);
        let before = self.cursor;
        for (seq, message) in rows {
            if seq > self.cursor {
                self.cursor = seq;
                self.buffer.push((seq, message));
            }
        }
        if is_last {
            self.cursor = self.cursor.max(last_seq);
        }
        let saw_everything = match nudge {
            Nudge::Quiet => true,
            Nudge::Offered(seq) => seq <= last_seq,
            Nudge::Woken => false,
        };
        let goes_on = !is_last && self.cursor > before;
        self.supply = if goes_on || !saw_everything { Supply::MayWait } else { Supply::Live };
        true
    }

    /// `Session::carry_on`: emits while the window has room, and asks for the next page once nothing is buffered.
    pub(crate) fn carry_on(&mut self, window: usize) {
        while self.flight.len() < window && !self.buffer.is_empty() {
            let (seq, message) = self.buffer.remove(0);
            self.emit(seq, message);
        }
        if self.supply == Supply::MayWait && self.buffer.is_empty() {
            self.supply = Supply::Reading { nudge: Nudge::Quiet, page: None };
        }
    }

    fn emit(&mut self, seq: Seq, message: Message) {
        // A row that was requeued comes under its new number.
        self.flight.retain(|(_, other)| *other != message);
        self.flight.push((seq, message));
        self.down.push(message);
    }

    /// `Session::ack`: the slot is free, the device's cursor moves up to what is still held. Returns where it is.
    pub(crate) fn ack(&mut self, message: Message, defect: Option<Defect>) -> Seq {
        if let Some(at) = self.flight.iter().position(|(_, other)| *other == message) {
            self.acked = self.acked.max(self.flight.remove(at).0);
        }
        let lowest_held = self.flight.iter().chain(&self.buffer).map(|(seq, _)| *seq).min();
        let hole = if defect == Some(Defect::DeviceCursorJumpsOverHoles) { None } else { lowest_held };
        self.covered = self.covered.max(hole.map_or(self.acked, |hole| self.acked.min(hole - 1)));
        self.covered
    }

    /// Tells whether this row is taken and not acked.
    pub(crate) fn holds(&self, seq: Seq) -> bool {
        self.flight.iter().chain(&self.buffer).any(|(held, _)| *held == seq)
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.phase == Phase::Registered
    }
}
