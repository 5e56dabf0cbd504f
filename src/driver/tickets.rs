//! Frames of the client that want an answer once their effect is committed: the session names them by a ticket.

use std::collections::HashMap;

use crate::domain::MessageId;
use crate::protocol::client::FrameId;
use crate::session::Ticket;

/// The answer that a ticket stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// `message:delivered:ok`.
    Delivered,
    /// `message:reject:ok` for this message.
    Reject(MessageId),
    /// `message:read:ok`; its answer comes from the lane.
    Read,
}

/// The tickets of one session that are not answered yet. Bounded by what the driver lets its client ask at once.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    open: HashMap<Ticket, (FrameId, Answer)>,
    last_no: u64,
}

impl Tickets {
    /// A ticket for a frame that wants an answer; none for one without an id.
    pub(super) fn draw(&mut self, reply_to: Option<FrameId>, answer: Answer) -> Option<Ticket> {
        let reply_to = reply_to?;
        self.last_no += 1;
        let ticket = Ticket(self.last_no);
        self.open.insert(ticket, (reply_to, answer));
        Some(ticket)
    }

    /// Takes a ticket that is to be answered now. None: no frame waits for it.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<(FrameId, Answer)> {
        self.open.remove(&ticket)
    }

    /// The frame of a ticket that is answered otherwise.
    pub(super) fn frame(&mut self, ticket: Option<Ticket>) -> Option<FrameId> {
        self.take(ticket?).map(|(frame, _)| frame)
    }

    pub(super) fn shrink(&mut self) {
        self.open.shrink_to_fit();
    }
}
