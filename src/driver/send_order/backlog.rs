//! The sends of a connection that its user's rate does not allow yet. They wait in their order, and other commands overtake them.
//!
//! The backlog is bounded, and a client that sends more is refused. The socket is read on in any case: an ack that nobody reads
//! would cost the client its connection.

use std::collections::VecDeque;

use super::pending::PendingSend;

/// Sends that wait at most.
pub(super) const SENDS_MAX: usize = 100;
/// Bytes of what they say, likewise.
pub(super) const BYTES_MAX: usize = 1024 * 1024;

/// The sends that wait, in order.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    sends: VecDeque<PendingSend>,
    bytes: usize,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    /// Sends that wait.
    pub(super) fn len(&self) -> usize {
        self.sends.len()
    }

    /// Puts a send behind the others.
    ///
    /// # Errors
    /// The send itself, where it does not fit.
    pub(super) fn push(&mut self, send: PendingSend) -> Result<(), Box<PendingSend>> {
        let bytes = send.bytes();
        if self.sends.len() >= SENDS_MAX || self.bytes + bytes > BYTES_MAX {
            return Err(Box::new(send));
        }
        self.bytes += bytes;
        self.sends.push_back(send);
        Ok(())
    }

    /// Takes the first one.
    pub(super) fn pop(&mut self) -> Option<PendingSend> {
        let send = self.sends.pop_front()?;
        self.bytes -= send.bytes();
        Some(send)
    }

    /// Takes out those that this is true of, in order.
    pub(super) fn take_out(&mut self, is_taken: impl Fn(&PendingSend) -> bool) -> Vec<PendingSend> {
        if !self.sends.iter().any(&is_taken) {
            return Vec::new();
        }
        let (taken, left): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.sends).into_iter().partition(is_taken);
        self.sends = left;
        self.bytes -= taken.iter().map(PendingSend::bytes).sum::<usize>();
        taken.into()
    }

    /// Gives back the room that a busier time has left behind.
    pub(super) fn shrink(&mut self) {
        self.sends.shrink_to_fit();
    }
}
