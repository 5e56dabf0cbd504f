//! `event:publish`: a publisher tells something to a feed, to everyone, or to users that it lists.

use std::sync::Arc;

use crate::driver::{Driver, Outgoing};
use crate::protocol::Fault;
use crate::protocol::client::FrameId;
use crate::protocol::event::ServerEvent;
use crate::protocol::publish::PublishRequest;
use crate::protocol::server;
use crate::service::{Publication, Publisher};

/// Publishes an event. `event:published` follows once it is stored.
pub(super) fn publish<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<FrameId>, request: PublishRequest) {
    let publisher = Publisher { profile: Arc::clone(&driver.client.profile), role: driver.client.role };
    // Queued here, in the order of the frames.
    let published = driver.context.service.publish(&publisher, vec![request]);
    driver.answer(reply_to, async move { (told(published.await.pop()), None) });
}

fn told(publication: Option<Publication>) -> ServerEvent {
    match publication {
        Some(Publication { event, outcome: Ok(published) }) => ServerEvent::Published(server::Published {
            event_id: event,
            created_at: published.created_at.into(),
            duplicate: published.is_duplicate,
        }),
        Some(Publication { outcome: Err(refusal), .. }) => Fault::from(refusal).into(),
        None => Fault::plain(crate::protocol::Code::Internal).into(),
    }
}
