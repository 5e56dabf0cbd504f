//! A client closes something: it blocks its rival, or blocks it no more, removes it from its contacts, and as an operator it revokes tokens
//! of its own. Each over HTTP or, for blocks, over the socket.

use std::time::{Duration, Instant};

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Actor;
use restante_client::{Http, NewRevocation, Wire, encode};
use restante_judge::history::{Event, Revoked};

/// The time after which a call is given up. A request without an answer may be done at any time later, so that the judge learns little of
/// what follows: this is longer than for other calls.
const CALL_MAX: Duration = Duration::from_secs(20);
/// One request about blocks and contacts at a time, or the judge would know of no time what held then. An answer may be lost.
const ANSWER_MAX: Duration = Duration::from_secs(5);

impl Actor {
    fn may_ask_anew(&mut self) -> bool {
        if self.state.asked_at.is_some_and(|asked| asked.elapsed() < ANSWER_MAX) {
            return false;
        }
        self.state.asked_at = Some(Instant::now());
        true
    }

    /// A user to be blocked, or to be a contact: the rival as a rule.
    fn somebody_else(&mut self) -> Option<String> {
        let rival = self.rival().cloned();
        let any = self.rng.one_of(&self.environment.users).cloned();
        rival.filter(|_| self.rng.chance(850)).or(any).filter(|other| *other != self.user)
    }

    /// The user that this one has most to do with: they write to one another, and block one another.
    pub(super) fn rival(&self) -> Option<&String> {
        let place = self.environment.users.iter().position(|user| *user == self.user)?;
        self.environment.users.get(place ^ 1)
    }

    /// Draws a user to block, or to block no more.
    pub(super) fn change_a_block(&mut self, wire: &mut Wire) {
        let Some(other) = self.somebody_else().filter(|_| self.may_ask_anew()) else { return };
        let blocks = self.rng.chance(450);
        let is_over_http = self.rng.chance(600);
        let ask = if is_over_http { self.state.number() } else { self.state.ask() };
        let asked = Event::BlockAsked { ask, user: self.user.clone(), other: other.clone(), blocks };
        self.recorder.note(self.connection, asked);
        if is_over_http {
            return self.block_over_http(ask, other, blocks);
        }
        self.state.blocks.insert(ask);
        let event = if blocks { "block:add" } else { "block:remove" };
        wire.queue(encode(event, Some(&ask.to_string()), &json!({"userId": other})));
    }

    /// The call runs in the background, because it may take long.
    fn block_over_http(&mut self, ask: u64, other: String, blocks: bool) {
        let (token, url) = self.any_node();
        self.http_calls.spawn(async move {
            let (is_done, answer) = answer_of(async { anyhow::Ok(Http::new(&url)?.set_block(&token, &other, blocks).await?) }).await;
            Event::BlockAnswered { ask, is_done, answer }
        });
    }

    /// Wants a user as a contact, or is none of it any more. The call runs in the background, because it may take long.
    pub(super) fn change_a_contact(&mut self) {
        let Some(other) = self.somebody_else().filter(|_| self.may_ask_anew()) else { return };
        let (ask, wants) = (self.state.number(), self.rng.chance(600));
        let asked = Event::ContactAsked { ask, user: self.user.clone(), other: other.clone(), wants };
        self.recorder.note(self.connection, asked);
        let (token, url) = self.any_node();
        self.http_calls.spawn(async move {
            let (is_done, answer) = answer_of(async { anyhow::Ok(Http::new(&url)?.set_contact(&token, &other, wants).await?) }).await;
            Event::ContactAnswered { ask, is_done, answer }
        });
    }

    /// The service has done what was asked of a block. The answer counts also where the client has a newer connection.
    pub(super) fn block_done(&mut self, connection: u32, id: Option<&str>) {
        let Some(ask) = id.and_then(|id| id.parse().ok()) else { return };
        self.state.answered(ask);
        if self.state.blocks.remove(&ask) {
            self.state.asked_at = None;
            self.recorder.note(connection, Event::BlockAnswered { ask, is_done: true, answer: "done".to_owned() });
        }
    }

    /// Revokes what the client holds: its token, those of its device, or all of its user. It gets a new one when it is told.
    pub(super) fn revoke_something(&mut self) {
        let device = self.state.connection.as_ref().and_then(|session| session.device.clone());
        let revoked = match (self.rng.between(1, 10), device) {
            (1..=4, _) => Revoked::User(self.user.clone()),
            (5..=7, Some(device)) => Revoked::Device(self.user.clone(), device),
            _ => Revoked::Token(self.tokens.current().id.clone()),
        };
        let Ok(token) = self.tokens.operator() else { return };
        let ask = self.state.number();
        self.recorder.note(self.connection, Event::RevokeAsked { ask, revoked: revoked.clone() });
        let (_, url) = self.any_node();
        self.http_calls.spawn(async move {
            let call = async { anyhow::Ok(Http::new(&url)?.revoke(&token, &request(revoked)).await?.revoked_at) };
            let (revoked_at_ms, answer) = match tokio::time::timeout(CALL_MAX, call).await {
                Ok(Ok(at)) => (milliseconds(&at), at),
                Ok(Err(error)) => (None, error.to_string()),
                Err(_) => (None, "no answer".to_owned()),
            };
            Event::RevokeAnswered { ask, revoked_at_ms, answer }
        });
    }
}

/// Tells whether a call was answered as done, and the answer in words.
async fn answer_of(call: impl Future<Output = anyhow::Result<()>>) -> (bool, String) {
    match tokio::time::timeout(CALL_MAX, call).await {
        Ok(Ok(())) => (true, "done".to_owned()),
        Ok(Err(error)) => (false, error.to_string()),
        Err(_) => (false, "no answer".to_owned()),
    }
}

fn request(revoked: Revoked) -> NewRevocation {
    let nothing = NewRevocation::default();
    match revoked {
        Revoked::User(user) => NewRevocation { user_id: Some(user), ..nothing },
        Revoked::Device(user, device) => NewRevocation { user_id: Some(user), device_id: Some(device), ..nothing },
        Revoked::Token(token) => NewRevocation { token_id: Some(token), ..nothing },
    }
}

/// A time (RFC 3339) in milliseconds since 1970.
fn milliseconds(time: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(time, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_a_revocation_is_read_to_the_millisecond() {
        assert_eq!(milliseconds("1970-01-01T00:01:40.250Z"), Some(100_250));
        assert_eq!(milliseconds("soon"), None);
    }

    #[test]
    fn revocation_names_what_it_is_about_and_nothing_else() {
        let body = |revoked| serde_json::to_value(request(revoked)).unwrap();
        assert_eq!(body(Revoked::User("anna".into())), json!({"userId": "anna"}));
        assert_eq!(body(Revoked::Device("anna".into(), "phone".into())), json!({"userId": "anna", "deviceId": "phone"}));
        assert_eq!(body(Revoked::Token("7".into())), json!({"tokenId": "7"}));
    }
}
