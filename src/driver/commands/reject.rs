//! `message:reject`: the client cannot take a message.

use crate::driver::tickets::Answer;
use crate::driver::{Driver, Outgoing};
use crate::protocol::client::{FrameId, RejectRequest};
use crate::session::Input;

/// Gives the session a rejection. `message:reject:ok` follows once the attempt is counted.
pub(super) fn reject<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<FrameId>, request: RejectRequest) {
    let RejectRequest { message, reason, is_final } = request;
    let ticket = driver.tickets.draw(reply_to, Answer::Reject(message));
    driver.handle(Input::Reject { message, reason, is_final, ticket });
}
