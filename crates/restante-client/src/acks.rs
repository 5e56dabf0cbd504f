//! The acks that are due, and the messages that were taken before. Pure: no socket, no clock.
//!
//! A message is taken when the owner of the client asks for the next happening. So the client acks only messages that have had their
//! effect. Duplicates are found by message id and never by the highest number, because a number may be emitted late.

use std::collections::HashMap;

use serde_json::json;

use super::payloads::Ready;
use super::{AckStyle, encode};
use restante_session::domain::limits::IDS_MAX;
use restante_session::domain::{Class, InboxSeq, MessageId, PerClass};

/// The messages that have had their effect.
#[derive(Debug, Default)]
pub(super) struct Seen {
    ids: HashMap<MessageId, (Class, InboxSeq)>,
    epoch: String,
}

impl Seen {
    /// Notes the message; says whether this is the first time.
    pub(super) fn is_new(&mut self, message: MessageId, class: Class, number: InboxSeq) -> bool {
        self.ids.insert(message, (class, number)).is_none()
    }

    /// Forgets what cannot come again: numbers that are settled, in the same epoch. A device keeps all of it:
    /// what another device has settled may still be given to this one.
    pub(super) fn connected(&mut self, ready: &Ready) {
        if ready.device_id.is_none() && ready.epoch == self.epoch {
            self.ids.retain(|_, (class, number)| *number > ready.settled(*class));
        }
        self.epoch.clone_from(&ready.epoch);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

#[derive(Debug, Clone, Copy)]
struct Taken {
    message: MessageId,
    class: Class,
    number: InboxSeq,
}

/// The acks that have not left yet.
#[derive(Debug)]
pub(super) struct Acks {
    style: AckStyle,
    pending: Vec<Taken>,
    /// Taken on a connection that has ended: named by id, since `upTo` covers only what a connection emitted itself.
    inherited: Vec<MessageId>,
    /// Per class, the highest number taken on this connection.
    highest: PerClass<InboxSeq>,
    last: Option<MessageId>,
}

impl Acks {
    pub(super) fn new(style: AckStyle) -> Self {
        Self { style, pending: Vec::new(), inherited: Vec::new(), highest: PerClass::default(), last: None }
    }

    /// This envelope has had its effect (now, or when it came before).
    pub(super) fn took(&mut self, message: MessageId, class: Class, number: InboxSeq) {
        if self.style == AckStyle::Never {
            return;
        }
        self.pending.push(Taken { message, class, number });
        self.last = Some(message);
    }

    /// The number of acks that wait to leave.
    pub(super) const fn len(&self) -> usize {
        self.pending.len() + self.inherited.len()
    }

    /// The connection ended. What had not left is named on the next one.
    pub(super) fn disconnected(&mut self) {
        self.inherited.extend(self.pending.drain(..).map(|taken| taken.message));
        self.highest = PerClass::default();
    }

    /// Everything that waits, as frames; nothing waits afterwards.
    pub(super) fn frames(&mut self) -> Vec<String> {
        let mut by_id = std::mem::take(&mut self.inherited);
        let mut up_to: PerClass<Option<InboxSeq>> = PerClass::default();
        for taken in self.pending.drain(..) {
            let highest = &mut self.highest[taken.class];
            let is_in_order = taken.number > *highest;
            *highest = (*highest).max(taken.number);
            match self.style {
                AckStyle::UpTo if is_in_order => up_to[taken.class] = Some(taken.number),
                AckStyle::UpTo | AckStyle::Ids | AckStyle::Never => by_id.push(taken.message),
            }
        }
        let named = by_id.chunks(IDS_MAX).map(|ids| encode("message:delivered", None, &json!({"messageIds": ids})));
        let ranges = up_to
            .into_iter()
            .filter_map(|(class, number)| Some(encode("message:delivered", None, &json!({"upTo": number?, "class": class}))));
        named.chain(ranges).collect()
    }

    /// An ack that changes nothing; its answer covers every ack before it on the connection.
    pub(super) fn probe(&self) -> Option<serde_json::Value> {
        self.last.map(|message| json!({"messageId": message}))
    }

    /// Nothing waits to leave.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.inherited.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> MessageId {
        MessageId(Uuid::from_u128(n))
    }

    fn ready(device: Option<&str>, epoch: &str, settled: i64) -> Ready {
        serde_json::from_value(json!({"userId": "b", "sessionId": "s", "deviceId": device, "window": 50, "pending": 0, "lastSeq": 9,
            "settledSeq": settled, "epoch": epoch}))
        .unwrap()
    }

    fn data(frames: &[String]) -> Vec<Value> {
        frames.iter().map(|frame| serde_json::from_str::<Value>(frame).unwrap()["data"].clone()).collect()
    }

    #[test]
    fn burst_in_order_is_one_up_to() {
        let mut acks = Acks::new(AckStyle::UpTo);
        for n in 1..=3 {
            acks.took(id(n), Class::Chat, InboxSeq(n as i64));
        }
        assert_eq!(data(&acks.frames()), [json!({"upTo": 3, "class": "chat"})]);
        assert!(acks.frames().is_empty());
    }

    #[test]
    fn number_out_of_order_is_named() {
        let mut acks = Acks::new(AckStyle::UpTo);
        for n in [1, 5, 3] {
            acks.took(id(n), Class::Chat, InboxSeq(n as i64));
        }
        assert_eq!(data(&acks.frames()), [json!({"messageIds": [id(3)]}), json!({"upTo": 5, "class": "chat"})]);
    }

    #[test]
    fn what_was_taken_on_an_ended_connection_is_named_on_the_next() {
        let mut acks = Acks::new(AckStyle::UpTo);
        acks.took(id(1), Class::Chat, InboxSeq(1));
        acks.disconnected();
        acks.took(id(2), Class::Chat, InboxSeq(2));
        assert_eq!(data(&acks.frames()), [json!({"messageIds": [id(1)]}), json!({"upTo": 2, "class": "chat"})]);
        assert!(acks.is_empty());
    }

    #[test]
    fn more_ids_than_a_frame_may_hold_are_split() {
        let mut acks = Acks::new(AckStyle::Ids);
        for n in 1..=501 {
            acks.took(id(n), Class::Chat, InboxSeq(n as i64));
        }
        assert_eq!(acks.frames().len(), 2);
    }

    #[test]
    fn settled_numbers_are_forgotten_in_the_same_epoch_and_without_a_device_only() {
        let mut seen = Seen::default();
        seen.connected(&ready(None, "e1", 0));
        for n in 1..=4 {
            assert!(seen.is_new(id(n), Class::Chat, InboxSeq(n as i64)));
            assert!(!seen.is_new(id(n), Class::Chat, InboxSeq(n as i64)));
        }
        seen.connected(&ready(Some("phone"), "e1", 3));
        assert_eq!(seen.len(), 4);
        seen.connected(&ready(None, "e2", 3));
        assert_eq!(seen.len(), 4);
        seen.connected(&ready(None, "e2", 3));
        assert_eq!(seen.len(), 1);
    }
}
