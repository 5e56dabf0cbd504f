//! The requests of a client that polls: one takes what waits, another brings packets. Each session has one of a kind at a time; a second one ends
//! the session, as the protocol asks.

use std::time::Duration;

use tokio::time::timeout;

use super::session::{Kind, Session};
use crate::protocol::socketio::{NOOP, SEPARATOR};
use crate::protocol::{Code, Fault};

/// A poll that nothing comes for is answered with nothing after this time, before proxies give it up.
const POLL_TIME_MAX: Duration = Duration::from_secs(25);

/// Takes what waits for the client, or waits until something does.
///
/// # Errors
/// `invalid`: another request polls already, which ends the session; or the session has ended.
pub(super) async fn poll(session: &Session) -> Result<String, Fault> {
    let Some(_turn) = session.begin(Kind::Poll) else { return Err(overlap(session)) };
    match session.over.run_until_cancelled(timeout(POLL_TIME_MAX, session.body())).await {
        Some(Ok(body)) => Ok(body),
        Some(Err(_)) => Ok(NOOP.to_owned()),
        None => Err(Fault::invalid("the session has ended")),
    }
}

/// Gives the packets of a body to the session, in order, as fast as it takes them.
///
/// # Errors
/// `bad_frame`: the body is not UTF-8. `invalid`: another request brings packets already, which ends the session; or the session has
/// ended. What the session had not taken by then is lost, and its client repeats it.
pub(super) async fn post(session: &Session, body: &[u8]) -> Result<(), Fault> {
    let Some(_turn) = session.begin(Kind::Post) else { return Err(overlap(session)) };
    let text = std::str::from_utf8(body).map_err(|_| Fault::new(Code::BadFrame, "the body must be UTF-8"))?;
    // A request that is broken off has brought a part of its packets: the client cannot know which, so the session is over.
    let unless_taken = session.over.clone().drop_guard();
    for packet in text.split(SEPARATOR) {
        if !session.bring(packet.into()).await {
            return Err(Fault::invalid("the session has ended"));
        }
    }
    unless_taken.disarm();
    Ok(())
}

fn overlap(session: &Session) -> Fault {
    session.over.cancel();
    Fault::invalid("the session has another request of this kind under way, which Engine.IO forbids: it has ended")
}
