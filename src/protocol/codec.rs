//! From events to what goes over a wire. The only place where an event becomes text.

use axum::extract::ws::Utf8Bytes;

use super::Timestamp;
use super::client::FrameId;
use super::event::{ContactNotice, Notice, ServerEvent};
use super::feed_event::{event_batch_frames, event_frame};
use super::invitations::ChatUninvited;
use super::message::{batch_frames, receive_frame, sent_echo_frame};
use super::people::{ContactAccepted, ContactRemoved, ContactRequested, PeopleAnswer};
use super::recalled::Recalled;
use super::server::{
    Authenticated, ChatAdded, ChatRead, ChatRemoved, DeliveredOk, Pong, Shape, SkipOk, StatusCounts, StatusKind, StatusList, StatusMark,
    Typing, UserOffline, UserOnline, frame,
};
use crate::domain::{Class, Envelope, Receipt, ReceiptCounts};

/// Writes events for one kind of client.
pub trait Codec {
    /// A unit of what is written.
    type Frame;

    /// Writes an event as one frame or several, in order. `reply_to` is the id of the client's frame that it answers.
    fn encode(&self, reply_to: Option<&FrameId>, event: &ServerEvent, put: &mut dyn FnMut(Self::Frame));
}

/// The frames of `/ws`: JSON text.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonFrames {
    /// Envelopes come as `message:batch`, many in a frame.
    pub is_batched: bool,
}

impl Codec for JsonFrames {
    type Frame = Utf8Bytes;

    fn encode(&self, reply_to: Option<&FrameId>, event: &ServerEvent, put: &mut dyn FnMut(Utf8Bytes)) {
        match event {
            ServerEvent::Envelopes(envelopes) => self.envelopes(envelopes).into_iter().for_each(put),
            ServerEvent::Echo(message) => put(message.json(|message| sent_echo_frame(message))),
            ServerEvent::Notice(notice) => put(notice.json(|notice| {
                let mut encoded = Utf8Bytes::default();
                write_notice(&mut Frames(&mut |frame| encoded = frame), notice);
                encoded
            })),
            event => write_event(&mut Frames(put), reply_to, event),
        }
    }
}

/// Puts each shape as a frame.
struct Frames<'a>(&'a mut dyn FnMut(Utf8Bytes));

impl WriteShape for Frames<'_> {
    fn write<E: Shape>(&mut self, reply_to: Option<&FrameId>, data: &E) {
        (self.0)(frame(reply_to, data));
    }
}

impl JsonFrames {
    /// The frames of envelopes in their order. In a batch are neighbours of one kind: messages, or alerts and events. The notice of a
    /// recall has a frame of its own.
    fn envelopes(self, envelopes: &[(Envelope, u16)]) -> Vec<Utf8Bytes> {
        let runs = envelopes.chunk_by(|(one, _), (next, _)| Kind::of(one) == Kind::of(next));
        let frames = runs.flat_map(|run| {
            let items = run.iter().map(|(envelope, attempt)| (envelope, *attempt));
            match (Kind::of(&run[0].0), self.is_batched) {
                (Kind::Message, true) => batch_frames(items),
                (Kind::Message, false) => items.map(|(envelope, attempt)| receive_frame(envelope, attempt)).collect(),
                (Kind::Event, true) => event_batch_frames(items),
                (Kind::Event, false) => items.map(|(envelope, attempt)| event_frame(envelope, attempt)).collect(),
                (Kind::Notice, _) => items.filter_map(|(envelope, attempt)| Some(Recalled::of(envelope, attempt)?.frame())).collect(),
            }
        });
        frames.collect()
    }
}

/// The kind of frame that carries an envelope.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message of a chat.
    Message,
    /// An alert or an event.
    Event,
    /// The notice of a recall.
    Notice,
}

impl Kind {
    /// That of this envelope.
    pub(super) fn of(envelope: &Envelope) -> Self {
        match envelope.class {
            Class::Chat if envelope.message.seq.is_of_notice() => Self::Notice,
            Class::Chat => Self::Message,
            Class::Alert | Class::Event => Self::Event,
        }
    }
}

/// Writes shapes as one kind of client reads them.
pub(super) trait WriteShape {
    /// Writes one. `reply_to` is the id of the client's frame that it answers.
    fn write<E: Shape>(&mut self, reply_to: Option<&FrameId>, data: &E);
}

/// Writes the shape of an event. Envelopes and echoes have none: they carry messages, which each codec writes in its own way. Nor has what was acked.
pub(super) fn write_event(out: &mut impl WriteShape, reply_to: Option<&FrameId>, event: &ServerEvent) {
    match event {
        ServerEvent::Envelopes(_) | ServerEvent::Echo(_) | ServerEvent::Acked(_) => {}
        ServerEvent::Ready(ready) => out.write(reply_to, ready.as_ref()),
        ServerEvent::Authenticated { user, expires_at } => {
            out.write(reply_to, &Authenticated { user_id: user, expires_at: Timestamp(*expires_at) });
        }
        ServerEvent::Drained(drained) => out.write(reply_to, drained),
        ServerEvent::Gap(gap) => out.write(reply_to, gap),
        ServerEvent::Sent(answer) => out.write(reply_to, answer),
        ServerEvent::Published(published) => out.write(reply_to, published),
        ServerEvent::SkipOk(message_id) => out.write(reply_to, &SkipOk { message_id: *message_id }),
        ServerEvent::Receipt(receipt, marks_cursor) => write_receipt(out, receipt, marks_cursor),
        ServerEvent::MarkMoved { chat, seq, status, member, except, marks_cursor } => out.write(
            reply_to,
            &StatusMark { kind: StatusKind::Mark, chat_id: *chat, seq: *seq, status: *status, user_id: member, except, marks_cursor },
        ),
        ServerEvent::Counted(counts, marks_cursor) => write_counts(out, counts, marks_cursor),
        ServerEvent::ChatRead(chat, seq, marks_cursor) => {
            out.write(reply_to, &ChatRead { chat_id: *chat, read_seq: *seq, marks_cursor });
        }
        ServerEvent::DeliveredOk => out.write(reply_to, &DeliveredOk {}),
        ServerEvent::RejectOk(done) => out.write(reply_to, done),
        ServerEvent::RecallOk(done) => out.write(reply_to, done),
        ServerEvent::ReadOk(done) => out.write(reply_to, done),
        ServerEvent::Presence(state) => out.write(reply_to, state),
        ServerEvent::People(PeopleAnswer::Contact(done)) => out.write(reply_to, done),
        ServerEvent::People(PeopleAnswer::Contacts(list)) => out.write(reply_to, list),
        ServerEvent::People(PeopleAnswer::Block(done)) => out.write(reply_to, done),
        ServerEvent::People(PeopleAnswer::Blocks(list)) => out.write(reply_to, list),
        ServerEvent::People(PeopleAnswer::Invitation(done)) => out.write(reply_to, done),
        ServerEvent::People(PeopleAnswer::Invitations(list)) => out.write(reply_to, list),
        ServerEvent::Invited(invitation) => out.write(reply_to, invitation.as_ref()),
        ServerEvent::Uninvited(chat) => out.write(reply_to, &ChatUninvited { chat_id: *chat }),
        ServerEvent::Notice(notice) => write_notice(out, notice),
        ServerEvent::Draining(draining) => out.write(reply_to, draining),
        ServerEvent::Pong => out.write(reply_to, &Pong {}),
        ServerEvent::Error(fault) => out.write(reply_to, fault),
    }
}

/// Writes the shape of a notice.
pub(super) fn write_notice(out: &mut impl WriteShape, notice: &Notice) {
    match notice {
        Notice::Typing { chat, user, typing } => out.write(None, &Typing { chat_id: *chat, user_id: user, typing: *typing }),
        Notice::Online { user, at } => out.write(None, &UserOnline { user_id: user, timestamp: Timestamp(*at) }),
        Notice::Offline { user, last_seen } => out.write(None, &UserOffline { user_id: user, last_seen: Timestamp(*last_seen) }),
        Notice::Added { chat, kind, title, joined_seq, by } => {
            out.write(None, &ChatAdded { chat_id: *chat, kind: *kind, title: title.as_deref(), joined_seq: *joined_seq, by });
        }
        Notice::Contact { change: ContactNotice::Requested, user, by } => out.write(None, &ContactRequested { user_id: user, by }),
        Notice::Contact { change: ContactNotice::Accepted, user, by } => out.write(None, &ContactAccepted { user_id: user, by }),
        Notice::Contact { change: ContactNotice::Removed, user, by } => out.write(None, &ContactRemoved { user_id: user, by }),
        Notice::Recalled { message, chat, seq, at } => out.write(
            None,
            &Recalled { place: None, message_id: *message, chat_id: *chat, seq: *seq, sender_id: None, recalled_at: Timestamp(*at) },
        ),
        Notice::Removed { chat, left_seq, by } => out.write(None, &ChatRemoved { chat_id: *chat, left_seq: *left_seq, by }),
    }
}

fn write_receipt(out: &mut impl WriteShape, receipt: &Receipt, marks_cursor: &str) {
    match receipt {
        Receipt::Moved { chat, messages, first: _, seq, status, member, at, reason } => out.write(
            None,
            &StatusList {
                kind: StatusKind::Messages,
                chat_id: *chat,
                message_ids: messages,
                seq: *seq,
                status: *status,
                user_id: member,
                reason: reason.as_deref(),
                timestamp: Timestamp(*at),
                marks_cursor: Some(marks_cursor),
            },
        ),
        Receipt::Counted(counts) => write_counts(out, counts, marks_cursor),
    }
}

fn write_counts(out: &mut impl WriteShape, counts: &ReceiptCounts, marks_cursor: &str) {
    out.write(
        None,
        &StatusCounts {
            kind: StatusKind::Counts,
            chat_id: counts.chat,
            message_id: counts.message,
            seq: counts.seq,
            delivered_count: counts.delivered,
            read_count: counts.read,
            member_count: counts.members,
            marks_cursor: Some(marks_cursor),
        },
    );
}

#[cfg(test)]
mod tests {
    use super::super::event::Encoded;
    use super::*;
    use crate::domain::{ChatId, ExternalId};

    #[test]
    fn an_event_for_many_is_encoded_once() {
        let user = ExternalId::try_from("anna".to_owned()).unwrap();
        let event = ServerEvent::Notice(Encoded::new(Notice::Typing { chat: ChatId::generate(), user, typing: true }));
        // All are kept: a text that is dropped could give its place to the next one.
        let mut frames = Vec::new();
        for _ in 0..5_000 {
            JsonFrames::default().encode(None, &event, &mut |frame| frames.push(frame));
        }
        let places: std::collections::HashSet<_> = frames.iter().map(|frame| frame.as_str().as_ptr()).collect();
        assert_eq!((frames.len(), places.len()), (5_000, 1));
    }
}
