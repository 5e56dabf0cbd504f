//! A frame of every kind that the service sends, as the examples of `docs/protocol.md` have it.

use std::sync::Arc;

use restante::domain::{
    AttemptOutcome, ChatId, ChatKind, ChatSeq, Class, DeviceId, Envelope, Extension, ExternalId, FeedId, FeedPlace, FeedRange, FeedSeq,
    GapReason, InboxSeq, Message, MessageId, Profile, Recall, SessionId, Status, UserId,
};
use restante::protocol::client::{self, FrameId};
use restante::protocol::dialect::Dialect;
use restante::protocol::event::ServerEvent;
use restante::protocol::event_stream::EventStream;
use restante::protocol::feed_event::{event_batch_frames, event_frame};
use restante::protocol::invitations::{ChatUninvited, InvitationData, InvitationListOk, InvitationOk, InvitationStateWord};
use restante::protocol::message::{batch_frames, receive_frame, sent_echo_frame};
use restante::protocol::people::{
    BlockData, BlockListOk, BlockOk, ContactAccepted, ContactData, ContactListOk, ContactOk, ContactRemoved, ContactRequested,
    ContactStateWord,
};
use restante::protocol::recalled::{RecallOk, Recalled};
use restante::protocol::server::{self, Shape, StatusKind};
use restante::protocol::{Code, Fault, Timestamp};
use serde_json::Value;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::macros::datetime;

const AT: OffsetDateTime = datetime!(2026-11-01 12:00 UTC);
const MESSAGE: &str = "0192f0c0-7d4e-7cc3-98c4-dc0c0c07398f";
const CHAT: &str = "0192f0c0-0000-7000-8000-000000000000";
const FEED: &str = "01a20b1e-5d2c-7000-8000-000000000007";
const OTHER_MESSAGE: &str = "01a1fc78-3710-70e7-92c6-347ec7710b7d";

fn user(name: &str) -> ExternalId {
    ExternalId::try_from(name.to_owned()).unwrap()
}

fn message_id(id: &str) -> MessageId {
    MessageId(id.parse().unwrap())
}

fn message() -> Arc<Message> {
    let sender = Profile { user: UserId(1), external: user("anna"), name: Some("Anna".to_owned()), picture: None };
    Arc::new(Message {
        id: message_id(MESSAGE),
        chat: ChatId(CHAT.parse().unwrap()),
        seq: ChatSeq(1),
        sender: Arc::new(sender),
        message_type: "text".to_owned(),
        content: "hello".to_owned(),
        metadata: Some(RawValue::from_string(r#"{"color": "green"}"#.to_owned()).unwrap()),
        created_at: AT,
        expires_at: Some(datetime!(2027-01-01 0:00 UTC)),
        recall: None,
        is_unreadable: false,
        extension: Extension::default(),
    })
}

fn frame_id(json: &str) -> FrameId {
    client::parse(&format!(r#"{{"event":"ping","id":{json}}}"#)).unwrap().id.unwrap()
}

/// A frame as the code writes it.
fn frame<E: Shape>(id: &str, data: &E) -> Value {
    let id = Some(id).filter(|id| !id.is_empty()).map(frame_id);
    serde_json::from_str(&server::frame(id.as_ref(), data)).unwrap()
}

fn envelope() -> Envelope {
    Envelope {
        class: Class::Chat,
        inbox_seq: InboxSeq(1),
        status: Status::Sent,
        attempts: 0,
        message: message(),
        feed: None,
        merged: None,
        is_muted: false,
    }
}

/// A message and a heartbeat as an event stream has them.
pub fn of_an_event_stream() -> String {
    let mut dialect = EventStream::default();
    let mut written = String::new();
    for told in [ServerEvent::Ready(Box::new(ready())), ServerEvent::Envelopes(vec![(envelope(), 1)])] {
        written.clear();
        dialect.encode(None, &told, &mut |block| written.push_str(&block));
    }
    match dialect.ping() {
        axum::extract::ws::Message::Text(comment) => written + comment.as_str(),
        other => panic!("{other:?}"),
    }
}

/// One frame of every shape that the service sends.
pub fn of_the_service() -> Vec<Value> {
    let envelope = envelope();
    let mut frames = vec![
        serde_json::from_str(&receive_frame(&envelope, 1)).unwrap(),
        serde_json::from_str(&batch_frames([(&envelope, 1)])[0]).unwrap(),
        serde_json::from_str(&sent_echo_frame(&envelope.message)).unwrap(),
    ];
    frames.extend(frames_of_recalls());
    frames.extend(frames_of_feeds());
    frames.extend(frames_of_sessions());
    frames.extend(frames_of_statuses());
    frames.extend(frames_of_people());
    frames
}

fn frames_of_recalls() -> Vec<Value> {
    let (notice, at) = (message_id("5d1b4d2a-9a54-4c0f-8f0e-6d1f1b0c2a11"), datetime!(2026-11-01 12:05 UTC));
    let recall = Some(Recall::NoticeOf(message_id(MESSAGE)));
    let notice = Message { id: notice, seq: ChatSeq(-1), recall, created_at: at, ..Message::clone(&message()) };
    let envelope = Envelope {
        class: Class::Chat,
        inbox_seq: InboxSeq(2),
        status: Status::Sent,
        attempts: 0,
        message: Arc::new(notice),
        feed: None,
        merged: None,
        is_muted: false,
    };
    let (message_id, chat_id) = (message_id(MESSAGE), ChatId(CHAT.parse().unwrap()));
    let to_the_sender = Recalled { place: None, message_id, chat_id, seq: ChatSeq(1), sender_id: None, recalled_at: Timestamp(at) };
    vec![
        serde_json::from_str(&Recalled::of(&envelope, 1).unwrap().frame()).unwrap(),
        serde_json::from_str(&to_the_sender.frame()).unwrap(),
        frame("10", &RecallOk { message_id, chat_id, seq: ChatSeq(1), recalled_at: Timestamp(at) }),
    ]
}

fn frames_of_feeds() -> Vec<Value> {
    let feed = FeedId(FEED.parse().unwrap());
    let event = Message {
        message_type: "post_update".to_owned(),
        content: String::new(),
        metadata: Some(RawValue::from_string(r#"{"postId": 7, "likes": 15}"#.to_owned()).unwrap()),
        expires_at: Some(datetime!(2026-11-02 12:00 UTC)),
        ..Message::clone(&message())
    };
    let of_feed = Envelope {
        class: Class::Event,
        inbox_seq: InboxSeq(8),
        status: Status::Sent,
        attempts: 0,
        message: Arc::new(event),
        feed: Some(FeedPlace { feed, seq: FeedSeq(41) }),
        merged: Some(3),
        is_muted: false,
    };
    let listed = Envelope { class: Class::Alert, inbox_seq: InboxSeq(1), feed: None, merged: None, ..of_feed.clone() };
    let range = FeedRange { feed, from: FeedSeq(38), to: FeedSeq(40), count: 3 };
    vec![
        serde_json::from_str(&event_frame(&of_feed, 1)).unwrap(),
        serde_json::from_str(&event_batch_frames([(&listed, 1), (&of_feed, 1)])[0]).unwrap(),
        frame("", &server::Gap::new(Class::Event, InboxSeq(7), InboxSeq(7), GapReason::Capped, Some(range))),
    ]
}

fn ready() -> server::Ready {
    server::Ready {
        user_id: user("ben"),
        session_id: SessionId("01a1fc78-2f87-7442-9ba8-0acabbf8fa8e".parse().unwrap()),
        device_id: Some(DeviceId::try_from("phone".to_owned()).unwrap()),
        window: 50,
        pending: 2,
        pending_more: false,
        last_seq: InboxSeq(2),
        settled_seq: InboxSeq(0),
        alert_last_seq: InboxSeq(0),
        alert_settled_seq: InboxSeq(0),
        event_last_seq: InboxSeq(0),
        event_settled_seq: InboxSeq(0),
        acked_seq: Some(InboxSeq(0)),
        alert_acked_seq: Some(InboxSeq(0)),
        event_acked_seq: Some(InboxSeq(0)),
        epoch: "7326d5eaf7eef228".into(),
        resumed: false,
        marks_cursor: "7326d5eaf7eef228-783".into(),
        server_time: Timestamp(AT),
    }
}

fn frames_of_sessions() -> Vec<Value> {
    let gap = server::Gap::new(Class::Chat, InboxSeq(4), InboxSeq(5), GapReason::Expired, None);
    let authenticated = server::Authenticated { user_id: &user("ben"), expires_at: Timestamp(datetime!(2026-11-01 13:00 UTC)) };
    vec![
        frame("", &ready()),
        frame("\"auth\"", &authenticated),
        frame("", &server::Drained { class: Class::Chat, inbox_seq: InboxSeq(2) }),
        frame("", &gap),
        frame("", &server::Draining { reconnect_after_ms: 1_200 }),
        frame("7", &server::Pong {}),
        frame("1", &Fault::new(Code::Busy, "wait").retry_after_ms(250)),
        frame("2", &Fault::new(Code::Unavailable, "wait").retry_after_ms(1_001).behind(message_id(MESSAGE))),
    ]
}

fn frames_of_statuses() -> Vec<Value> {
    let (chat_id, message_id_) = (ChatId(CHAT.parse().unwrap()), message_id(MESSAGE));
    let sent = server::SentAnswer { message_id: message_id_, chat_id, seq: ChatSeq(1), created_at: Timestamp(AT), duplicate: false };
    let list = server::StatusList {
        kind: StatusKind::Messages,
        chat_id,
        message_ids: &[message_id_],
        seq: ChatSeq(1),
        status: Status::Delivered,
        user_id: &user("ben"),
        reason: None,
        timestamp: Timestamp(AT),
        marks_cursor: Some("7326d5eaf7eef228-776"),
    };
    let except = [server::StatusException {
        message_id: message_id(OTHER_MESSAGE),
        status: Status::Failed,
        reason: Some("cannot decode".to_owned()),
    }];
    let mark = server::StatusMark {
        kind: StatusKind::Mark,
        chat_id,
        seq: ChatSeq(4),
        status: Status::Read,
        user_id: &user("ben"),
        except: &except,
        marks_cursor: "7326d5eaf7eef228-804",
    };
    let counts = server::StatusCounts {
        kind: StatusKind::Counts,
        chat_id,
        message_id: message_id_,
        seq: ChatSeq(1),
        delivered_count: 80,
        read_count: 12,
        member_count: 120,
        marks_cursor: Some("7326d5eaf7eef228-804"),
    };
    vec![
        frame("1", &sent),
        frame("", &list),
        frame("", &mark),
        frame("", &counts),
        frame(
            "9",
            &server::Published {
                event_id: message_id("0192f0c0-9f00-7a10-8d1c-0f6f2b6a7c11"),
                created_at: Timestamp(AT),
                duplicate: false,
            },
        ),
        frame("8", &server::SkipOk { message_id: message_id_ }),
        frame("2", &server::DeliveredOk {}),
        frame("3", &server::RejectOk::new(message_id_, AttemptOutcome::Counted(1))),
        frame("4", &server::ReadOk { chat_id, seq: ChatSeq(3) }),
        frame("", &server::ChatRead { chat_id, read_seq: ChatSeq(3), marks_cursor: "7326d5eaf7eef228-804" }),
    ]
}

fn frames_of_people() -> Vec<Value> {
    let chat_id = ChatId(CHAT.parse().unwrap());
    let (anna, ben) = (user("anna"), user("ben"));
    let users = vec![
        server::Presence { user_id: ben.clone(), online: true, last_seen: None },
        server::Presence { user_id: user("cleo"), online: false, last_seen: Some(Timestamp(datetime!(2026-11-01 11:00 UTC))) },
    ];
    let added = server::ChatAdded { chat_id, kind: ChatKind::Group, title: Some("crew"), joined_seq: ChatSeq(5), by: &anna };
    let contact = ContactData { user_id: ben.clone(), name: Some("Ben".to_owned()), profile_picture: None, since: Timestamp(AT) };
    let invitation = InvitationData {
        chat_id,
        title: Some("crew".to_owned()),
        by: anna.clone(),
        name: Some("Anna".to_owned()),
        profile_picture: None,
        invited_at: Timestamp(AT),
        expires_at: Timestamp(datetime!(2026-12-01 12:00 UTC)),
    };
    let block = BlockData { user_id: user("cleo"), name: Some("Cleo".to_owned()), profile_picture: None, blocked_at: Timestamp(AT) };
    vec![
        frame("14", &ContactOk { user_id: ben.clone(), state: ContactStateWord::Requested }),
        frame("18", &ContactListOk { contacts: vec![contact], next: None }),
        frame("", &ContactRequested { user_id: &anna, by: &anna }),
        frame("", &ContactAccepted { user_id: &ben, by: &ben }),
        frame("", &ContactRemoved { user_id: &ben, by: &anna }),
        frame("11", &BlockOk { user_id: user("cleo"), is_blocked: true }),
        frame("12", &BlockListOk { blocks: vec![block], next: None }),
        frame("20", &InvitationOk { chat_id, state: InvitationStateWord::Member, joined_seq: Some(ChatSeq(5)) }),
        frame("22", &InvitationListOk { invitations: vec![invitation.clone()], next: None }),
        frame("", &invitation),
        frame("", &ChatUninvited { chat_id }),
        frame("", &server::Typing { chat_id, user_id: &ben, typing: true }),
        frame("5", &server::PresenceState { users }),
        frame("", &server::UserOnline { user_id: &ben, timestamp: Timestamp(AT) }),
        frame("", &server::UserOffline { user_id: &ben, last_seen: Timestamp(AT) }),
        frame("", &added),
        frame("", &server::ChatRemoved { chat_id, left_seq: ChatSeq(9), by: &anna }),
    ]
}
