//! `message:recall`: a sender takes a message back.

use std::sync::Arc;

use crate::domain::MessageId;
use crate::driver::{Driver, Outgoing};
use crate::protocol::Fault;
use crate::protocol::client::FrameId;
use crate::protocol::event::ServerEvent;
use crate::protocol::recalled::RecallOk;
use crate::service::RecallDone;

/// Recalls a message. `message:recall:ok` follows once nobody is shown any more what it said.
pub(super) fn recall<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<FrameId>, message: MessageId) {
    let (service, sender, session) = (driver.context.service.clone(), Arc::clone(&driver.client.profile), driver.client.session);
    driver.answer(reply_to, async move {
        let answer = match service.recall(&sender, Some(session), message).await {
            Ok(RecallDone { message, chat, seq, at }) => {
                ServerEvent::RecallOk(RecallOk { message_id: message, chat_id: chat, seq, recalled_at: at.into() })
            }
            Err(refusal) => Fault::from(refusal).into(),
        };
        (answer, None)
    });
}
