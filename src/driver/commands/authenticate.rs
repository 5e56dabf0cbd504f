//! `authenticate`: a new token of the same user carries the connection on.

use futures_util::FutureExt;
use secrecy::{ExposeSecret, SecretString};

use crate::auth::{AuthError, Identity};
use crate::delivery::Refusal;
use crate::domain::AddressBlock;
use crate::driver::opening::is_revoked;
use crate::driver::{Context, Driver, Outgoing, instant_of};
use crate::protocol::client::FrameId;
use crate::protocol::event::ServerEvent;
use crate::protocol::{Code, Fault};
use crate::service::{Act, Relation, Role, may};

/// The identity of a token that a session may live on, from a client at this address. Waits for the key of the token where that may be new, at
/// most 5 s. The inner fault says what is wrong: the token is not valid, its key cannot be looked up now, or its scope opens no session.
///
/// # Errors
/// [`Refusal::RateLimited`]: too many tokens have come from the address that were worth nothing, and this one was not looked at.
pub async fn verify(context: &Context, address: Option<AddressBlock>, token: &SecretString) -> Result<Result<Identity, Fault>, Refusal> {
    let judging = async { for_session(context.verifier.verify_or_wait(token.expose_secret(), || context.clock.both()).await) };
    context.service.limits().judge_token(address, judging).await
}

/// A session gets what waits for its user, and acks it.
fn for_session(judged: Result<Identity, AuthError>) -> Result<Identity, Fault> {
    let identity = judged?;
    may(Role::of(&identity.scope), Act::Connect, Relation::Unknown)?;
    Ok(identity)
}

/// Takes a new token, at once or when its key is known.
pub(super) fn authenticate<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<FrameId>, token: SecretString) {
    let (context, address) = (driver.context.clone(), driver.client.address);
    let mut judging = Box::pin(async move { verify(&context, address, &token).await? });
    match judging.as_mut().now_or_never() {
        Some(judged) => renew(driver, reply_to.as_ref(), judged),
        None => driver.operations.push_renewal(reply_to, judging),
    }
}

/// Takes the identity of a new token. One of another user is refused.
pub(in crate::driver) fn renew<O: Outgoing>(driver: &mut Driver<O>, reply_to: Option<&FrameId>, judged: Result<Identity, Fault>) {
    match judged {
        Ok(identity) if identity.external == driver.client.profile.external => {
            driver.client.role = Role::of(&identity.scope);
            driver.client.token.replace(identity.held());
            if is_revoked(&driver.context, &driver.client) {
                return driver.close(Code::TokenRevoked);
            }
            driver.token_expires = instant_of(identity.expires_at, &driver.context.clock);
            let taken = ServerEvent::Authenticated { user: identity.external, expires_at: identity.expires_at };
            driver.outbox.event(reply_to, &taken);
        }
        Ok(_) => driver.refuse(reply_to, Fault::plain(Code::OtherUser)),
        Err(fault) => driver.refuse(reply_to, fault),
    }
}
