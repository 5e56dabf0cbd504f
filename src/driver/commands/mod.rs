//! What a client says, one file for each command. A command changes the session, or asks the service and answers later.

mod ack;
mod authenticate;
mod presence;
mod read;
mod reject;
pub(super) mod send;
pub(super) mod typing;

pub use authenticate::verify;

use super::{Driver, Outgoing};
use crate::protocol::client::{ClientEvent, Frame};
use crate::protocol::event::ServerEvent;

/// Does what a frame says.
pub fn apply<O: Outgoing>(driver: &mut Driver<O>, frame: Frame) {
    let Frame { id, event } = frame;
    match event {
        ClientEvent::Send(request) => send::send(driver, id, request),
        ClientEvent::Delivered(request) => ack::ack(driver, id, request),
        ClientEvent::Reject(request) => reject::reject(driver, id, request),
        ClientEvent::Read(request) => read::read(driver, id, request),
        ClientEvent::Authenticate { token } => authenticate::authenticate(driver, id.as_ref(), &token),
        ClientEvent::Typing { chat, typing } => typing::typing(driver, chat, typing),
        ClientEvent::PresenceGet(users) => presence::get(driver, id, users),
        ClientEvent::PresenceSubscribe(users) => presence::subscribe(driver, id, users),
        ClientEvent::Ping => driver.outbox.event(id.as_ref(), &ServerEvent::Pong),
    }
}

/// Does what a frame says that was on its way when the connection was closed: acks count, whoever displaced it. Nothing is
/// answered.
pub fn apply_late<O: Outgoing>(driver: &mut Driver<O>, frame: Frame) {
    match frame.event {
        ClientEvent::Delivered(_) | ClientEvent::Reject(_) | ClientEvent::Read(_) => apply(driver, Frame { id: None, ..frame }),
        ClientEvent::Send(_)
        | ClientEvent::Authenticate { .. }
        | ClientEvent::Typing { .. }
        | ClientEvent::PresenceGet(_)
        | ClientEvent::PresenceSubscribe(_)
        | ClientEvent::Ping => {}
    }
}
