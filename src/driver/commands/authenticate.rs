//! `authenticate`: a new token of the same user carries the connection on.

use secrecy::{ExposeSecret, SecretString};

use crate::auth::Identity;
use crate::driver::{Context, Driver, Outgoing, instant_of};
use crate::protocol::client::FrameId;
use crate::protocol::event::ServerEvent;
use crate::protocol::{Code, Fault};

/// The identity of a token.
///
/// # Errors
/// The token is not valid. The fault says in what way.
pub fn verify(context: &Context, token: &SecretString) -> Result<Identity, Fault> {
    context.verifier.verify(token.expose_secret(), context.clock.now()).map_err(Fault::from)
}

/// Takes a new token. One of another user is refused.
pub(super) fn authenticate<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<&FrameId>, token: &SecretString) {
    match verify(&driver.context, token) {
        Ok(identity) if identity.external == driver.client.profile.external => {
            driver.client.publish_right = identity.scope.publish_right();
            driver.token_expires = instant_of(identity.expires_at, &driver.context.clock);
            let taken = ServerEvent::Authenticated { user: identity.external, expires_at: identity.expires_at };
            driver.outbox.event(reply_to, &taken);
        }
        Ok(_) => driver.refuse(reply_to, Fault::plain(Code::OtherUser)),
        Err(fault) => driver.refuse(reply_to, fault),
    }
}
