//! The outbox as the driver sees it.

use crate::protocol::client::FrameId;
use crate::protocol::event::ServerEvent;

/// Takes events for one client and keeps them, encoded, until its door has written them. Putting never waits.
pub trait Outgoing: Sized + Send + 'static {
    /// Puts an event. `reply_to` is the id of the client's frame that it answers.
    fn event(&mut self, reply_to: Option<&FrameId>, event: &ServerEvent);

    /// Ends once less waits than the bound, or at once. May be kept and awaited anywhere.
    fn room(&self) -> impl Future<Output = ()> + Send + use<Self> + 'static;

    /// Gives back room that is not needed.
    fn shrink(&mut self);
}
