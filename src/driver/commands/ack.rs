//! `message:delivered`: the ack.

use crate::driver::tickets::Answer;
use crate::driver::{Driver, Outgoing};
use crate::protocol::client::{AckRequest, FrameId};
use crate::session::{AckTarget, Input};

/// Gives the session an ack. `message:delivered:ok` follows once it is committed.
pub(super) fn ack<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<FrameId>, request: AckRequest) {
    let ticket = driver.tickets.draw(reply_to, Answer::Delivered);
    driver.handle(Input::Ack { target: target(request), ticket });
}

/// The rows that an ack names, as the session takes them.
pub(in crate::driver) fn target(request: AckRequest) -> AckTarget {
    match request {
        AckRequest::Messages(messages) => AckTarget::Messages(messages),
        AckRequest::UpTo { class, seq } => AckTarget::UpTo(class, seq),
    }
}
