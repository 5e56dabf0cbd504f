//! Frames of both sides: the service reads the frames that its client writes, and the client those of the service, each by code of its
//! own. Other texts are refused without a panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use axum::extract::Query;
use axum::http::Uri;
use proptest::prelude::*;
use restante::auth::{TokenSigner, TokenVerifier};
use restante::connection::ConnectQuery;
use restante::domain::{
    ChatId, ChatSeq, Class, DeviceId, Envelope, Extension, ExternalId, FeedId, FeedPlace, FeedRange, FeedSeq, GapReason, InboxSeq, Message,
    MessageId, Profile, Recall, SessionId, Status, UserId,
};
use restante::driver::ConnectOptions;
use restante::protocol::client::{AckRequest, ClientEvent, ReadUpTo, SendTarget, parse};
use restante::protocol::feed_event::{event_batch_frames, event_frame};
use restante::protocol::message::{batch_frames, receive_frame, sent_echo_frame};
use restante::protocol::recalled::Recalled;
use restante::protocol::{Code, ComeBack, Fault, Timestamp, codes, server};
use restante_client::{Event, Gone, WireError};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

const SECRET: &str = "a secret that only these tests know";

fn moment() -> impl Strategy<Value = OffsetDateTime> {
    // The years 0 to 9999, to the millisecond.
    (-62_167_219_200_000_i128..253_402_300_800_000).prop_map(|ms| OffsetDateTime::from_unix_timestamp_nanos(ms * 1_000_000).unwrap())
}

fn id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn user() -> impl Strategy<Value = ExternalId> {
    "[^\u{0}]{1,128}".prop_map(|text| ExternalId::try_from(text).unwrap())
}

fn number() -> impl Strategy<Value = i64> {
    0..=i64::MAX
}

/// Any, and the edges of what a client may ask for.
fn window() -> impl Strategy<Value = u16> {
    prop_oneof![any::<u16>(), prop::sample::select(vec![0, 1, 500, 501])]
}

fn status() -> impl Strategy<Value = Status> {
    prop::sample::select(vec![Status::Delivered, Status::Read, Status::Failed, Status::Expired])
}

fn class() -> impl Strategy<Value = Class> {
    prop::sample::select(Class::ALL.to_vec())
}

fn profile() -> impl Strategy<Value = Profile> {
    let shown = || prop::option::of("[^\u{0}]{1,20}");
    (user(), shown(), shown()).prop_map(|(external, name, picture)| Profile { user: UserId(1), external, name, picture })
}

fn message() -> impl Strategy<Value = Message> {
    let metadata = prop::option::of(prop::sample::select(vec![r#"{"a": [1e3, "\u0041"]}"#, "[]", "\"\\n\"", "-0"]));
    (id(), id(), number(), profile(), "[^\u{0}]{1,64}", "[^\u{0}]{0,200}", metadata, moment(), prop::option::of(moment())).prop_map(
        |(message, chat, seq, sender, message_type, content, metadata, created_at, expires_at)| Message {
            id: MessageId(message),
            chat: ChatId(chat),
            seq: ChatSeq(seq),
            sender: Arc::new(sender),
            message_type,
            content,
            metadata: metadata.map(|text| RawValue::from_string(text.to_owned()).unwrap()),
            created_at,
            expires_at,
            recall: None,
            is_unreadable: false,
            extension: Extension::default(),
        },
    )
}

/// `full-date` and `full-time` of RFC 3339 section 5.6, with one character between them.
fn has_the_form_of_a_time(text: &str) -> bool {
    let form: String = text.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
    let Some(rest) = form.get(11..).and_then(|time| time.strip_prefix("00:00:00")) else { return false };
    let offset = rest.strip_prefix(".0").map_or(rest, |fraction| fraction.trim_start_matches('0'));
    form.starts_with("0000-00-00") && matches!(offset, "Z" | "z" | "+00:00" | "-00:00")
}

/// Reads a frame of the service as the client does.
fn told(frame: &str) -> Event {
    let event = restante_client::Frame::parse(frame).event;
    assert!(!matches!(event, Event::Malformed { .. } | Event::Other { .. }), "{event:?}");
    event
}

/// Reads a frame of the client as the service does.
fn heard(event: &str, data: Value) -> ClientEvent {
    let frame = parse(&restante_client::encode(event, Some("7"), &data)).unwrap();
    assert_eq!(frame.id.unwrap().as_json(), "\"7\"");
    frame.event
}

fn same(message: &Message, envelope: &restante_client::Envelope) {
    assert_eq!((envelope.message_id, envelope.chat_id, envelope.seq), (message.id, message.chat, message.seq));
    assert_eq!(
        (&envelope.sender_id, &envelope.content, &envelope.message_type),
        (&message.sender.external, &message.content, &message.message_type)
    );
    assert_eq!(envelope.metadata.as_ref().map(|raw| raw.get()), message.metadata.as_ref().map(|raw| raw.get()));
    assert_eq!(Timestamp::parse(&envelope.created_at), Some(Timestamp(message.created_at)));
    assert_eq!((&envelope.sender.name, &envelope.sender.profile_picture), (&message.sender.name, &message.sender.picture));
}

proptest! {
    #[test]
    fn timestamps(at in moment()) {
        let text = Timestamp(at).to_string();
        prop_assert_eq!(text.len(), "2026-11-01T12:00:00.000Z".len());
        prop_assert_eq!(Timestamp::parse(&text), Some(Timestamp(at)));
    }

    #[test]
    fn what_is_no_timestamp_is_refused(
        text in "[0-9TZ:.+ -]{0,40}|.{0,40}", at in moment(), place in any::<prop::sample::Index>(), more in " |\n|[0-9TZ:.+-]|.",
    ) {
        // Anything, and a time with something more in it.
        let mut near = Timestamp(at).to_string();
        near.insert_str(place.index(near.len() + 1), &more);
        for text in [text, near] {
            let Some(at) = Timestamp::parse(&text) else { continue };
            prop_assert!(has_the_form_of_a_time(&text), "{:?}", text);
            prop_assert_eq!(Timestamp::parse(&at.to_string()).map(|read| read.0.unix_timestamp()), Some(at.0.unix_timestamp()));
        }
    }

    #[test]
    fn tokens(user in user(), seconds in 1..1_000_000_000_i64, place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (verifier, now) = (TokenVerifier::new(&SECRET.into()), OffsetDateTime::UNIX_EPOCH + Duration::days(20_000));
        let token = TokenSigner::new(&SECRET.into()).sign(&user, None, Duration::seconds(seconds), now);
        let identity = verifier.verify(&token, now).unwrap();
        prop_assert_eq!((&identity.external, identity.expires_at), (&user, now + Duration::seconds(seconds)));
        let mut changed = token.clone().into_bytes();
        changed[place.index(token.len())] = byte;
        // Either refused, or it is the same token.
        if let Ok(other) = verifier.verify(&String::from_utf8_lossy(&changed), now) {
            prop_assert_eq!(other, identity);
        }
    }

    #[test]
    fn queries(
        device in prop::option::of("[^\u{0}]{1,64}"), window in prop::option::of(window()), batch in any::<bool>(),
        epoch in prop::option::of(".{0,20}"), since in prop::option::of(any::<i64>()), marks in prop::option::of(".{0,40}"), token in ".{0,40}",
    ) {
        let mut url = reqwest::Url::parse("http://x/ws").unwrap();
        let numbers = [("window", window.map(|window| window.to_string())), ("since", since.map(|since| since.to_string()))];
        let texts = [("device", device.clone()), ("epoch", epoch.clone()), ("marks", marks.clone()), ("token", Some(token.clone()))];
        url.query_pairs_mut().extend_pairs(numbers.into_iter().chain(texts).filter_map(|(name, value)| Some((name, value?))));
        url.query_pairs_mut().append_pair("batch", if batch { "1" } else { "0" });
        let uri: Uri = url.as_str().parse().unwrap();
        let Query(query) = Query::<ConnectQuery>::try_from_uri(&uri).unwrap();
        prop_assert_eq!((&query.device, query.window, &query.since), (&device, window, &since.map(|since| since.to_string())));
        prop_assert_eq!((&query.epoch, &query.marks, query.token.as_ref()), (&epoch, &marks, Some(&token)));
        let is_since = since.is_none_or(|since| since >= 0 && epoch.is_some());
        let may_be = window.is_none_or(|window| (1..=500).contains(&window)) && is_since;
        prop_assert_eq!(ConnectOptions::try_from(query).is_ok(), may_be);
    }

    #[test]
    fn messages(message in message(), seq in number(), attempt in any::<u16>(), status in status(), is_muted in any::<bool>()) {
        let (message, class) = (Arc::new(message), Class::Chat);
        let envelope = Envelope { class, inbox_seq: InboxSeq(seq), status, attempts: 0, message: Arc::clone(&message), feed: None, merged: None, is_muted };
        let Event::Receive(read) = told(&receive_frame(&envelope, attempt)) else { panic!() };
        same(&message, &read);
        prop_assert_eq!((read.class, read.inbox_seq.0, read.attempt, read.status, read.muted), (class, seq, attempt, status, is_muted));
        let frames = batch_frames([(&envelope, attempt), (&envelope, 1)].into_iter());
        let Event::Batch(read) = told(&frames[0]) else { panic!() };
        read.iter().for_each(|read| same(&message, read));
        prop_assert_eq!(read.len(), 2);
        let Event::Sent(read) = told(&sent_echo_frame(&message)) else { panic!() };
        prop_assert_eq!((read.message_id, read.seq, read.content.as_ref()), (message.id, message.seq, Some(&message.content)));
    }

    #[test]
    fn feed_events(
        message in message(), class in prop::sample::select(vec![Class::Alert, Class::Event]), seqs in [number(), number()], feed in prop::option::of(id()),
        attempt in any::<u16>(), merged in prop::option::of(any::<u32>()), range in [number(), number()],
    ) {
        let message = Arc::new(message);
        let place = feed.map(|feed| FeedPlace { feed: FeedId(feed), seq: FeedSeq(seqs[1]) });
        let envelope = Envelope { class, inbox_seq: InboxSeq(seqs[0]), status: Status::Sent, attempts: 0, message: Arc::clone(&message), feed: place, merged, is_muted: false };
        let Event::FeedEvent(one) = told(&event_frame(&envelope, attempt)) else { panic!() };
        let Event::FeedEvents(many) = told(&event_batch_frames([(&envelope, attempt), (&envelope, 1)])[0]) else { panic!() };
        prop_assert_eq!(many.len(), 2);
        for read in many.iter().chain([&*one]) {
            prop_assert_eq!((read.event_id, &read.event_type), (message.id, &message.message_type));
            prop_assert_eq!(read.data.as_ref().map(|raw| raw.get()), message.metadata.as_ref().map(|raw| raw.get()));
            prop_assert_eq!((read.class, read.inbox_seq.0, read.feed_id), (class, seqs[0], feed.map(FeedId)));
            prop_assert_eq!((read.feed_seq, read.merged), (place.map(|place| place.seq), merged));
            prop_assert_eq!(Timestamp::parse(&read.created_at), Some(Timestamp(message.created_at)));
            prop_assert_eq!(read.expires_at.as_deref().map(Timestamp::parse), message.expires_at.map(|at| Some(Timestamp(at))));
        }
        prop_assert_eq!((one.attempt, many[1].attempt), (attempt, 1));

        let range = FeedRange { feed: FeedId(message.id.0), from: FeedSeq(range[0]), to: FeedSeq(range[1]), count: 3 };
        let gap = server::Gap::new(class, InboxSeq(seqs[0]), InboxSeq(seqs[0]), GapReason::Capped, Some(range));
        let Event::Gap(read) = told(&server::frame(None, &gap)) else { panic!() };
        prop_assert_eq!((read.feed_id, read.from_feed_seq, read.to_feed_seq, read.count), (Some(range.feed), Some(range.from), Some(range.to), 3));
        prop_assert_eq!((read.reason.as_str(), read.to_seq.0), ("capped", seqs[0]));
    }

    #[test]
    fn ready(
        user in user(), device in prop::option::of("[^\u{0}]{1,64}"), window in any::<u16>(), pending in any::<u32>(), numbers in [number(), number()],
        flags in any::<[bool; 2]>(), at in moment(), session in id(), epoch in "[0-9a-f]{16}",
    ) {
        let device = device.map(|text| DeviceId::try_from(text).unwrap());
        let data = server::Ready {
            user_id: user.clone(), session_id: SessionId(session), device_id: device.clone(), window, pending, pending_more: flags[0],
            last_seq: InboxSeq(numbers[0]), settled_seq: InboxSeq(numbers[1]), alert_last_seq: InboxSeq(numbers[0]),
            alert_settled_seq: InboxSeq(numbers[1]), event_last_seq: InboxSeq(numbers[1]),
            event_settled_seq: InboxSeq(numbers[0]), acked_seq: None,
            alert_acked_seq: None,
            event_acked_seq: None,
            epoch: epoch.as_str().into(), resumed: flags[1], marks_cursor: "e-1".into(), server_time: Timestamp(at),
        };
        let Event::Ready(read) = told(&server::frame(None, &data)) else { panic!() };
        prop_assert_eq!((&read.user_id, read.device_id.map(|text| DeviceId::try_from(text).unwrap())), (&user, device));
        prop_assert_eq!((read.window, read.pending, read.pending_more, read.resumed), (window, u64::from(pending), flags[0], flags[1]));
        prop_assert_eq!((read.last_seq.0, read.settled_seq.0, read.event_last_seq.0), (numbers[0], numbers[1], numbers[1]));
        prop_assert_eq!((read.alert_last_seq.0, read.alert_settled_seq.0), (numbers[0], numbers[1]));
        prop_assert_eq!((read.epoch, read.marks_cursor.as_deref()), (epoch, Some("e-1")));
    }

    #[test]
    fn statuses(
        chat in id(), ids in prop::collection::vec(id(), 0..5), seq in number(), status in status(), user in user(), at in moment(),
        reason in prop::option::of(".{0,40}"), counts in [number(), number()],
    ) {
        let (chat_id, message_ids): (_, Vec<_>) = (ChatId(chat), ids.into_iter().map(MessageId).collect());
        let list = server::StatusList {
            kind: server::StatusKind::Messages,
            chat_id, message_ids: &message_ids, seq: ChatSeq(seq), status, user_id: &user, reason: reason.as_deref(), timestamp: Timestamp(at),
            marks_cursor: None,
        };
        let Event::Status(read) = told(&server::frame(None, &list)) else { panic!() };
        prop_assert_eq!((read.chat_id, &read.message_ids, read.status, read.user_id.as_ref()), (chat_id, &message_ids, Some(status), Some(&user)));
        let except: Vec<_> = message_ids.iter().map(|id| server::StatusException { message_id: *id, status, reason: reason.clone() }).collect();
        let up_to = server::StatusMark { kind: server::StatusKind::Mark, chat_id, seq: ChatSeq(seq), status, user_id: &user, except: &except, marks_cursor: "e-2" };
        let Event::Status(read) = told(&server::frame(None, &up_to)) else { panic!() };
        prop_assert!(read.is_mark() && read.seq == Some(ChatSeq(seq)) && read.marks_cursor.as_deref() == Some("e-2"));
        prop_assert!(read.except.iter().map(|it| (it.message_id, &it.reason)).eq(message_ids.iter().map(|id| (*id, &reason))));
        let tally = server::StatusCounts {
            kind: server::StatusKind::Counts,
            chat_id, message_id: MessageId(chat), seq: ChatSeq(seq), delivered_count: counts[0], read_count: counts[1], member_count: 5_000,
            marks_cursor: Some("e-3"),
        };
        let Event::Status(read) = told(&server::frame(None, &tally)) else { panic!() };
        prop_assert_eq!((read.delivered_count, read.read_count), (u64::try_from(counts[0]).ok(), u64::try_from(counts[1]).ok()));
    }

    #[test]
    fn other_events(chat in id(), class in class(), seqs in [number(), number()], user in user(), typing in any::<bool>(), at in moment()) {
        let Event::Drained(read) = told(&server::frame(None, &server::Drained { class, inbox_seq: InboxSeq(seqs[0]) })) else { panic!() };
        prop_assert_eq!((read.class, read.inbox_seq.0), (class, seqs[0]));
        for reason in [GapReason::Failed, GapReason::Expired, GapReason::Left, GapReason::Recalled, GapReason::Requeued, GapReason::Purged] {
            let gap = server::Gap::new(class, InboxSeq(seqs[0]), InboxSeq(seqs[1]), reason, None);
            let Event::Gap(read) = told(&server::frame(None, &gap)) else { panic!() };
            prop_assert_eq!((read.class, read.from_seq.0, read.to_seq.0), (class, seqs[0], seqs[1]));
            prop_assert_eq!(json!(read.reason), json!(reason));
        }
        let answer = server::SentAnswer {
            message_id: MessageId(chat), chat_id: ChatId(chat), seq: ChatSeq(seqs[0]), created_at: Timestamp(at), duplicate: typing,
        };
        let Event::Sent(read) = told(&server::frame(None, &answer)) else { panic!() };
        prop_assert_eq!((read.seq.0, read.duplicate, Timestamp::parse(&read.created_at)), (seqs[0], typing, Some(Timestamp(at))));
        let Event::ReadOk(read) = told(&server::frame(None, &server::ReadOk { chat_id: ChatId(chat), seq: ChatSeq(seqs[1]) })) else { panic!() };
        prop_assert_eq!((read.chat_id.0, read.seq.0), (chat, seqs[1]));
        let elsewhere = server::ChatRead { chat_id: ChatId(chat), read_seq: ChatSeq(seqs[1]), marks_cursor: "e-4" };
        let Event::ChatRead(read) = told(&server::frame(None, &elsewhere)) else { panic!() };
        prop_assert_eq!((read.chat_id.0, read.read_seq.0, read.marks_cursor.as_deref()), (chat, seqs[1], Some("e-4")));
        let said = server::Typing { chat_id: ChatId(chat), user_id: &user, typing };
        let Event::Typing(read) = told(&server::frame(None, &said)) else { panic!() };
        prop_assert_eq!((read.chat_id.0, read.user_id.as_ref(), read.typing), (chat, Some(&user), typing));
        let Event::Online(read) = told(&server::frame(None, &server::UserOnline { user_id: &user, timestamp: Timestamp(at) })) else { panic!() };
        prop_assert_eq!(&read.user_id, &user);
    }

    #[test]
    fn recalls(notice in id(), message in id(), chat in id(), seq in 1..i64::MAX, inbox_seq in number(), attempt in 1..9_u16, sender in user(), at in moment()) {
        let profile = Profile { user: UserId(1), external: sender.clone(), name: None, picture: None };
        let of = Message {
            id: MessageId(notice), chat: ChatId(chat), seq: ChatSeq(-seq), sender: Arc::new(profile), message_type: "restante:recalled".to_owned(),
            content: String::new(), metadata: None, created_at: at, expires_at: None, recall: Some(Recall::NoticeOf(MessageId(message))), is_unreadable: false, extension: Extension::default(),
        };
        let envelope = Envelope { class: Class::Chat, inbox_seq: InboxSeq(inbox_seq), status: Status::Sent, attempts: 0, merged: None, is_muted: false, message: Arc::new(of), feed: None };
        let Event::Recalled(read) = told(&Recalled::of(&envelope, attempt).unwrap().frame()) else { panic!() };
        let place = read.place.unwrap();
        prop_assert_eq!((read.message_id, read.chat_id, read.seq, read.sender_id), (MessageId(message), ChatId(chat), ChatSeq(seq), Some(sender)));
        prop_assert_eq!((place.recall_id, place.inbox_seq.0, place.attempt, place.class.as_str()), (MessageId(notice), inbox_seq, attempt, "chat"));
        let to_the_sender = Recalled {
            place: None, message_id: MessageId(message), chat_id: ChatId(chat), seq: ChatSeq(seq), sender_id: None, recalled_at: Timestamp(at),
        };
        let Event::Recalled(read) = told(&to_the_sender.frame()) else { panic!() };
        prop_assert!(read.place.is_none() && read.sender_id.is_none() && read.message_id == MessageId(message));
        let ClientEvent::Recall(read) = heard("message:recall", json!({"messageId": message})) else { panic!() };
        prop_assert_eq!(read, MessageId(message));
    }

    #[test]
    fn errors(code in prop::sample::select(codes::TABLE), words in ".{0,60}", after in prop::option::of(any::<u64>())) {
        let fault = Fault { retry_after_ms: after, ..Fault::new(code.code, words.clone()) };
        let Event::Error(read) = told(&server::frame(None, &fault)) else { panic!() };
        prop_assert_eq!((read.code.as_str(), read.message, read.retry_after_ms), (code.name, words, after));
    }

    #[test]
    fn what_no_service_says_is_kept_as_it_came(text in ".{0,200}") {
        if let Event::Malformed { text: kept, .. } = restante_client::Frame::parse(&text).event {
            prop_assert_eq!(kept, text);
        }
    }

    #[test]
    fn what_a_client_says(message in id(), chat in id(), user in user(), content in "[^\u{0}]{0,200}", kind in "[^\u{0}]{1,64}", at in moment(), seq in number()) {
        let data = json!({
            "messageId": message, "to": user, "content": content, "messageType": kind, "expiresAt": Timestamp(at), "metadata": {"a": [content]},
        });
        let ClientEvent::Send(read) = heard("message:send", data) else { panic!() };
        prop_assert_eq!((read.message_id, &read.content, &read.message_type), (Some(MessageId(message)), &content, &kind));
        prop_assert_eq!((read.target, read.expires_at), (SendTarget::User(user.clone()), Some(at)));
        prop_assert_eq!(serde_json::from_str::<Value>(read.metadata.unwrap().get()).unwrap(), json!({"a": [content]}));
        let ClientEvent::Delivered(read) = heard("message:delivered", json!({"upTo": seq, "class": "event"})) else { panic!() };
        prop_assert_eq!(read, AckRequest::UpTo { class: Class::Event, seq: InboxSeq(seq) });
        let ClientEvent::Delivered(read) = heard("message:delivered", json!({"messageIds": [message, chat]})) else { panic!() };
        prop_assert_eq!(read, AckRequest::Messages(vec![MessageId(message), MessageId(chat)]));
        let ClientEvent::Read(read) = heard("message:read", json!({"chatId": chat, "seq": seq})) else { panic!() };
        prop_assert_eq!((read.chat, read.target), (ChatId(chat), ReadUpTo::Seq(ChatSeq(seq))));
        let ClientEvent::PresenceGet(read) = heard("presence:get", json!({"userIds": [user]})) else { panic!() };
        prop_assert_eq!(read, vec![user]);
    }
}

#[test]
fn close_codes() {
    for row in codes::TABLE {
        let Some(code) = row.close else { continue };
        let closed = WireError::Closed { code: Some(code), reason: row.name.to_owned() };
        // The client has a table of its own. It comes back where it may, save where the fault was its own.
        let may_come_back = matches!(row.come_back, ComeBack::Yes | ComeBack::Later);
        let is_its_fault = matches!(row.code, Code::BadFrame | Code::TooLarge);
        assert_eq!(Gone::from_end(&closed).is_none(), may_come_back && !is_its_fault, "{}", row.name);
        assert_eq!(Code::close(row.code), code);
    }
}
