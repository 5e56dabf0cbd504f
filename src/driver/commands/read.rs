//! `message:read`: everything of a chat up to a message is read.

use crate::driver::tickets::Answer;
use crate::driver::{Driver, Outgoing};
use crate::protocol::client::{FrameId, ReadRequest, ReadUpTo};
use crate::session::{Input, ReadTarget};

/// Gives the session a read. `message:read:ok` follows once it is committed.
pub(super) fn read<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<FrameId>, request: ReadRequest) {
    let target = match request.target {
        ReadUpTo::Seq(seq) => ReadTarget::Seq(seq),
        ReadUpTo::Message(message) => ReadTarget::Message(message),
    };
    let ticket = driver.tickets.draw(reply_to, Answer::Read);
    driver.handle(Input::Read { chat: request.chat, target, ticket });
}
