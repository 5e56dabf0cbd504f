//! A client takes messages of its own back, over the socket and over HTTP, and mutes types of events.

use uuid::Uuid;

use super::Actor;
use super::actions::HTTP_CALL_MAX;
use super::feeds::MUTED_TYPES;
use restante_client::{Http, Recalled, Wire, encode};
use restante_judge::history::Event;
use restante_session::domain::MessageId;
use serde_json::json;

impl Actor {
    /// Draws a message of its own, as a rule the newest, and recalls it. It may not be stored yet, or be recalled already.
    pub(super) fn recall_something(&mut self, wire: &mut Wire) {
        let (sent, under_way) = (self.state.confirmed.len(), self.state.outbox.back());
        let newest = if self.rng.chance(150) { under_way } else { self.state.confirmed.back() };
        let drawn = if self.rng.chance(600) { newest } else { self.state.confirmed.get(self.rng.index(sent)) };
        let Some(message) = drawn.map(|outgoing| outgoing.message) else { return };
        if self.rng.chance(300) {
            return self.recall_over_http(message);
        }
        let ask = self.state.ask();
        self.state.recalls.insert(ask);
        self.recorder.note(self.connection, Event::RecallAsked { ask, message });
        wire.queue(encode("message:recall", Some(&ask.to_string()), &json!({"messageId": message})));
    }

    /// The call runs in the background, because it may take long.
    fn recall_over_http(&mut self, message: Uuid) {
        let ask = self.state.number();
        self.recorder.note(self.connection, Event::RecallAsked { ask, message });
        let (token, url) = self.any_node();
        self.http_calls.spawn(async move {
            let call = async { anyhow::Ok(Http::new(&url)?.recall(&token, MessageId(message)).await?) };
            match tokio::time::timeout(HTTP_CALL_MAX, call).await {
                Ok(Ok(done)) => Event::RecallAnswered { ask, recalled_at: Some(done.recalled_at), answer: "done".to_owned() },
                Ok(Err(error)) => Event::RecallAnswered { ask, recalled_at: None, answer: error.to_string() },
                Err(_) => Event::RecallAnswered { ask, recalled_at: None, answer: "no answer".to_owned() },
            }
        });
    }

    /// The service has recalled a message.
    pub(super) fn recall_done(&mut self, connection: u32, id: Option<&str>, done: &Recalled) {
        let Some(ask) = id.and_then(|id| id.parse().ok()) else { return };
        self.state.recalls.remove(&ask);
        let recalled_at = Some(done.recalled_at.clone());
        self.answered(connection, id, |ask| Event::RecallAnswered { ask, recalled_at, answer: "done".to_owned() });
    }

    /// Records the notice of a recall. Returns its place, if it lies in the inbox.
    pub(super) fn note_notice(&mut self, connection: u32, notice: &Recalled) -> Option<(restante_session::domain::Class, Uuid, i64)> {
        let message = notice.message_id.0;
        let Some(place) = notice.place else {
            self.recorder.note(connection, Event::RecallTold { message });
            return None;
        };
        let received = Event::NoticeReceived {
            notice: place.recall_id.0,
            message,
            chat: notice.chat_id.0,
            seq: notice.seq.0,
            class: super::listener::class(place.class),
            inbox_seq: place.inbox_seq.0,
            attempt: place.attempt,
        };
        self.recorder.note(connection, received);
        Some((place.class, place.recall_id.0, place.inbox_seq.0))
    }

    /// Mutes some of the types, or none. The call runs in the background, because it may take long.
    pub(super) fn change_mutes(&mut self) {
        let types: Vec<String> = MUTED_TYPES.iter().filter(|_| self.rng.chance(400)).map(|&muted| muted.to_owned()).collect();
        let ask = self.state.number();
        self.recorder.note(self.connection, Event::MuteAsked { ask, types: types.clone() });
        let (token, url) = self.any_node();
        self.http_calls.spawn(async move {
            let call = async { anyhow::Ok(Http::new(&url)?.mute_types(&token, &types).await?) };
            match tokio::time::timeout(HTTP_CALL_MAX, call).await {
                Ok(Ok(())) => Event::MuteAnswered { ask, is_done: true, answer: "done".to_owned() },
                Ok(Err(error)) => Event::MuteAnswered { ask, is_done: false, answer: error.to_string() },
                Err(_) => Event::MuteAnswered { ask, is_done: false, answer: "no answer".to_owned() },
            }
        });
    }

    /// The client's token and the address of some node.
    pub(super) fn any_node(&mut self) -> (String, String) {
        let node = self.rng.index(self.environment.nodes.len());
        (self.tokens.current().text.clone(), self.environment.nodes[node].clone())
    }
}
