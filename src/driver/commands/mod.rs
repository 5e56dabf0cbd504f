//! The commands of a client, one file for each. A command changes the session, or asks the service and answers later.

pub(super) mod ack;
mod acts;
pub(super) mod authenticate;
mod people;
mod presence;
mod publish;
mod read;
mod recall;
mod reject;
pub(super) mod send;
mod skip;
pub(super) mod typing;

pub use authenticate::verify;

use super::{Driver, Outgoing};
use crate::protocol::client::{ClientEvent, Frame};
use crate::protocol::event::ServerEvent;
use crate::protocol::publish::PublishRight;
use crate::service::{Relation, may, points_of_bytes};

/// A byte of a message costs this part of a byte of anything else.
const SENT_BYTES: usize = 16;

/// Executes the command of a frame, as far as the newest token allows it.
pub fn apply<O: Outgoing>(driver: &mut Driver<O>, frame: Frame) {
    let Frame { id, event } = frame;
    if let Err(refusal) = may(driver.client.role, acts::of(&event), Relation::Unknown) {
        return driver.refuse(id.as_ref(), refusal.into());
    }
    match event {
        ClientEvent::Send(request) => send::send(driver, id, request),
        ClientEvent::Publish(request) => publish::publish(driver, id, *request),
        ClientEvent::Skip(message) => skip::skip(driver, id, message),
        ClientEvent::Delivered(request) => ack::ack(driver, id, request),
        ClientEvent::Reject(request) => reject::reject(driver, id, request),
        ClientEvent::Recall(message) => recall::recall(driver, id, message),
        ClientEvent::Read(request) => read::read(driver, id, request),
        ClientEvent::Authenticate { token } => authenticate::authenticate(driver, id, token),
        ClientEvent::Typing { chat, typing } => typing::typing(driver, chat, typing),
        ClientEvent::PresenceGet(users) => presence::get(driver, id, users),
        ClientEvent::PresenceSubscribe(users) => presence::subscribe(driver, id, users),
        ClientEvent::People(command) => people::people(driver, id, command),
        ClientEvent::Ping => driver.outbox.event(id.as_ref(), &ServerEvent::Pong),
    }
}

/// Executes the command of a frame of so many bytes. Returns its cost in points: by its length, and nothing for an ack of what was
/// emitted. A message costs by the rate of messages, and little here.
pub fn apply_counted<O: Outgoing>(driver: &mut Driver<O>, frame: Frame, bytes: usize) -> u32 {
    let points = match &frame.event {
        ClientEvent::Send(_) if driver.context.service.pace(driver.client.user()).is_zero() => 0,
        // An application that publishes for all its users asks for more than one of them.
        ClientEvent::Publish(_) if driver.client.role.publish_right() == PublishRight::Anywhere => 0,
        ClientEvent::Send(_) | ClientEvent::Publish(_) => points_of_bytes(bytes / SENT_BYTES),
        ClientEvent::Skip(_)
        | ClientEvent::Delivered(_)
        | ClientEvent::Reject(_)
        | ClientEvent::Recall(_)
        | ClientEvent::Read(_)
        | ClientEvent::Authenticate { .. }
        | ClientEvent::Typing { .. }
        | ClientEvent::PresenceGet(_)
        | ClientEvent::PresenceSubscribe(_)
        | ClientEvent::People(_)
        | ClientEvent::Ping => points_of_bytes(bytes),
    };
    let before = driver.session.acked_in_flight();
    apply(driver, frame);
    let acked = driver.session.acked_in_flight() - before;
    points.saturating_sub(u32::try_from(acked).unwrap_or(u32::MAX))
}

/// Executes a frame that arrives after the driver has decided to close. Acks, rejects and reads still count. Other commands are
/// ignored. The frame gets no answer.
pub fn apply_late<O: Outgoing>(driver: &mut Driver<O>, frame: Frame) {
    match frame.event {
        ClientEvent::Delivered(_) | ClientEvent::Reject(_) | ClientEvent::Read(_) => apply(driver, Frame { id: None, ..frame }),
        ClientEvent::Send(_)
        | ClientEvent::Publish(_)
        | ClientEvent::Skip(_)
        | ClientEvent::Recall(_)
        | ClientEvent::Authenticate { .. }
        | ClientEvent::Typing { .. }
        | ClientEvent::PresenceGet(_)
        | ClientEvent::PresenceSubscribe(_)
        | ClientEvent::People(_)
        | ClientEvent::Ping => {}
    }
}
