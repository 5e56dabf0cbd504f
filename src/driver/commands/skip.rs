//! `message:skip`: the client will not send a message again that was refused for now.

use crate::domain::MessageId;
use crate::driver::{Driver, Outgoing};
use crate::protocol::client::FrameId;
use crate::protocol::event::ServerEvent;

/// Lets later messages go that were refused behind this one. It may be repeated, and name a message that nobody waits for.
pub(super) fn skip<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<FrameId>, message: MessageId) {
    driver.sends.skip(message);
    if let Some(id) = reply_to {
        driver.outbox.event(Some(&id), &ServerEvent::SkipOk(message));
    }
}
