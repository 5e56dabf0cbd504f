//! Properties of the protocol: hostile text never gets further than an error, what is written can be read
//! again, and limits hold exactly.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

use super::client::{AckRequest, ClientEvent, Frame, FrameError, ReadUpTo, SendTarget, parse};
use super::codec::{Codec, JsonFrames};
use super::event::ServerEvent;
use super::feed_event::{EventData, event_frame};
use super::message::{MessageData, ReceiveData, batch_frames, fragment, receive_frame, sent_echo_frame};
use super::publish::PublishBody;
use super::server::{Pong, SentAnswer, StatusKind, StatusMark, frame};
use super::{Code, Fault};
use crate::domain::*;

const NOW: OffsetDateTime = datetime!(2026-11-01 12:00 UTC);
const ID: &str = "0192d3b4-7a10-7c3e-8f00-1234567890ab";

fn parsed(text: &str) -> Result<Frame, FrameError> {
    parse(text)
}

fn fault(text: &str) -> Fault {
    parsed(text).expect_err(text).fault
}

/// The frame `event` with id 7 and this data.
fn with_data(event: &str, data: &str) -> String {
    format!(r#"{{"event":"{event}","id":7,"data":{data}}}"#)
}

fn send(fields: &str) -> String {
    with_data("message:send", &format!(r#"{{"chatId":"{ID}"{fields}}}"#))
}

fn valid_frames() -> Vec<String> {
    let metadata = r#"{"a":[1,2.5e3,"\ud83d\ude00",{"b":null}]}"#;
    vec![
        send(&format!(r#","content":"hello \"world\"","messageType":"text","metadata":{metadata},"expiresAt":"2027-01-01T00:00:00Z""#)),
        with_data("message:send", r#"{"to":"anna","content":""}"#),
        with_data("message:delivered", &format!(r#"{{"messageIds":["{ID}"]}}"#)),
        with_data("message:delivered", r#"{"upTo":9,"class":"event"}"#),
        with_data("message:reject", &format!(r#"{{"messageId":"{ID}","reason":"no","final":true}}"#)),
        with_data("message:read", &format!(r#"{{"chatId":"{ID}","seq":4}}"#)),
        with_data("typing", &format!(r#"{{"chatId":"{ID}","typing":true}}"#)),
        with_data("presence:get", r#"{"userIds":["anna","ben"]}"#),
        with_data("presence:subscribe", r#"{"userIds":[]}"#),
        with_data("authenticate", r#"{"token":"a.b.c"}"#),
        r#"{"event":"ping"}"#.to_owned(),
        with_data("event:publish", &format!(r#"{{"eventId":"{ID}","type":"new_post","data":{metadata},"to":{{"users":["anna"]}}}}"#)),
        with_data("event:publish", &format!(r#"{{"type":"x","to":{{"feed":"{ID}"}},"except":["ben"],"ttlMs":60000,"urgent":true}}"#)),
    ]
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = parsed(&text);
    }

    #[test]
    fn mutated_frames_never_panic(which in 0..13_usize, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = valid_frames()[which].clone().into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at); } else { bytes[at] = byte; }
        let _ = parsed(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn spliced_frames_never_panic(a in 0..13_usize, b in 0..13_usize, at in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let (a, b) = (&valid_frames()[a], &valid_frames()[b]);
        let text = format!("{}{}", &a[..at.index(a.len())], &b[to.index(b.len())..]);
        let _ = parsed(&text);
    }

    #[test]
    fn arbitrary_bodies_of_events_never_panic(bytes in any::<Vec<u8>>(), which in 11..13_usize, at in any::<prop::sample::Index>()) {
        let _ = PublishBody::parse(&bytes);
        let frame = valid_frames()[which].clone();
        let mut list = format!(r#"{{"events":[{frame},{frame}]}}"#).into_bytes();
        let at = at.index(list.len());
        list.splice(at..at + 1, bytes);
        let _ = PublishBody::parse(&list);
    }

    #[test]
    fn every_content_without_nul_comes_through(content in "[^\u{0}]{0,200}", user in "[^\u{0}]{1,128}") {
        let text = json!({"event": "message:send", "data": {"to": user, "content": content}}).to_string();
        let Ok(Frame { event: ClientEvent::Send(request), id: None }) = parsed(&text) else { panic!("{text}") };
        prop_assert_eq!(request.content, content);
        prop_assert_eq!(request.target, SendTarget::User(ExternalId::try_from(user).unwrap()));
    }

    #[test]
    fn a_receive_frame_reads_as_its_message(message in message(), seq in 1..i64::MAX, attempt in 1..20_u16) {
        let envelope = envelope(&Arc::new(message), seq);
        let frame: Value = serde_json::from_str(&receive_frame(&envelope, attempt)).unwrap();
        let data = serde_json::to_value(ReceiveData::new(&envelope, attempt)).unwrap();
        prop_assert_eq!(frame, json!({"event": "message:receive", "data": data}));
    }
}

proptest! {
    #[test]
    fn an_event_frame_reads_as_its_event(message in message(), seq in 1..i64::MAX, attempt in 1..20_u16, feed in prop::option::of(any::<u128>())) {
        let feed = feed.map(|feed| FeedPlace { feed: FeedId(Uuid::from_u128(feed)), seq: FeedSeq(seq) });
        let envelope = Envelope { class: Class::Event, feed, ..envelope(&Arc::new(message), seq) };
        let frame: Value = serde_json::from_str(&event_frame(&envelope, attempt)).unwrap();
        prop_assert_eq!(&frame, &json!({"event": "event:receive", "data": serde_json::to_value(EventData::new(&envelope, attempt)).unwrap()}));
        let has = |field: &str| frame["data"].get(field).is_some();
        prop_assert!(!["chatId", "sender", "senderId", "content", "messageId", "metadata"].into_iter().any(has), "{}", frame);
        prop_assert_eq!([has("feedId"), has("feedSeq")], [feed.is_some(); 2]);
    }

    #[test]
    fn what_goes_out_together_keeps_its_order_and_each_kind_has_its_frames(classes in prop::collection::vec(0..Class::ALL.len(), 0..12)) {
        let item = |(seq, class): (i64, &usize)| {
            (Envelope { class: Class::ALL[*class], ..envelope(&Arc::new(with_content(String::new())), seq) }, 1)
        };
        let items: Vec<(Envelope, u16)> = (1..).zip(&classes).map(item).collect();
        for is_batched in [false, true] {
            let mut frames: Vec<Value> = Vec::new();
            let event = ServerEvent::Envelopes(items.clone());
            JsonFrames { is_batched }.encode(None, &event, &mut |frame| frames.push(serde_json::from_str(&frame).unwrap()));
            let told: Vec<(i64, Class)> = frames.iter().flat_map(told).collect();
            prop_assert_eq!(told, items.iter().map(|(envelope, _)| (envelope.inbox_seq.0, envelope.class)).collect::<Vec<_>>());
        }
    }
}

/// The numbers and classes that a frame tells, which must be of its kind.
fn told(frame: &Value) -> Vec<(i64, Class)> {
    let (data, one) = (&frame["data"], std::slice::from_ref(&frame["data"]));
    let (items, is_message) = match frame["event"].as_str().unwrap() {
        "message:receive" => (one, true),
        "event:receive" => (one, false),
        "message:batch" => (data["messages"].as_array().unwrap().as_slice(), true),
        "event:batch" => (data["events"].as_array().unwrap().as_slice(), false),
        other => panic!("{other}"),
    };
    let read = |item: &Value| {
        let class: Class = serde_json::from_value(item["class"].clone()).unwrap();
        assert_eq!(class == Class::Chat, is_message, "{frame}");
        (item["inboxSeq"].as_i64().unwrap(), class)
    };
    items.iter().map(read).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn batches_hold_everything_in_order_within_the_limit(sizes in prop::collection::vec(0..limits::CONTENT_BYTES_MAX, 0..40)) {
        let envelopes: Vec<_> = (1..).zip(&sizes).map(|(seq, size)| envelope(&Arc::new(with_content("\u{1}".repeat(*size))), seq)).collect();
        let frames = batch_frames(envelopes.iter().map(|envelope| (envelope, 1)));
        let mut seqs = Vec::new();
        for frame in &frames {
            prop_assert!(frame.len() <= limits::BATCH_FRAME_BYTES_MAX);
            let frame: Value = serde_json::from_str(frame).unwrap();
            seqs.extend(frame["data"]["messages"].as_array().unwrap().iter().map(|message| message["inboxSeq"].as_i64().unwrap()));
        }
        prop_assert_eq!(seqs, (1..=sizes.len() as i64).collect::<Vec<_>>());
    }
}

fn message() -> impl Strategy<Value = Message> {
    (".{0,80}", ".{1,20}", prop::option::of("[^\u{0}]{0,20}"), any::<bool>()).prop_map(|(content, message_type, name, extra)| Message {
        message_type,
        sender: Arc::new(Profile { user: UserId(1), external: ExternalId::try_from("anna".to_owned()).unwrap(), name, picture: None }),
        metadata: extra.then(|| RawValue::from_string(r#"{"a": [1e3, "\u0041"]}"#.to_owned()).unwrap()),
        expires_at: extra.then_some(NOW),
        ..with_content(content)
    })
}

fn with_content(content: String) -> Message {
    let sender = Profile { user: UserId(1), external: ExternalId::try_from("anna".to_owned()).unwrap(), name: None, picture: None };
    Message {
        id: MessageId(Uuid::parse_str(ID).unwrap()),
        chat: ChatId(Uuid::parse_str(ID).unwrap()),
        seq: ChatSeq(3),
        sender: Arc::new(sender),
        message_type: "text".to_owned(),
        content,
        metadata: None,
        created_at: NOW,
        expires_at: None,
        recall: None,
        is_unreadable: false,
        extension: Extension::default(),
    }
}

fn envelope(message: &Arc<Message>, seq: i64) -> Envelope {
    Envelope {
        class: Class::Chat,
        inbox_seq: InboxSeq(seq),
        status: Status::Sent,
        attempts: 0,
        message: message.clone(),
        feed: None,
        merged: None,
        is_muted: false,
    }
}

#[test]
fn all_valid_frames_are_understood() {
    for text in valid_frames() {
        parsed(&text).expect(&text);
    }
}

#[test]
fn fields_come_out_as_they_went_in() {
    let Ok(Frame { id: Some(id), event: ClientEvent::Send(request) }) = parsed(&valid_frames()[0]) else { panic!() };
    assert_eq!(id.as_json(), "7");
    assert_eq!(request.target, SendTarget::Chat(ChatId(Uuid::parse_str(ID).unwrap())));
    assert_eq!(request.content, "hello \"world\"");
    assert_eq!(request.metadata.unwrap().get(), r#"{"a":[1,2.5e3,"\ud83d\ude00",{"b":null}]}"#);
    assert_eq!(request.expires_at, Some(datetime!(2027-01-01 0:00 UTC)));
    let Ok(Frame { event: ClientEvent::Delivered(ack), .. }) = parsed(&valid_frames()[3]) else { panic!() };
    assert_eq!(ack, AckRequest::UpTo { class: Class::Event, seq: InboxSeq(9) });
    let Ok(Frame { event: ClientEvent::Read(read), .. }) = parsed(&valid_frames()[5]) else { panic!() };
    assert_eq!(read.target, ReadUpTo::Seq(ChatSeq(4)));
}

#[test]
fn frame_ids_are_echoed_exactly_as_they_came() {
    for id in [r#""a-1""#, r#""\u0041 \"x\"""#, "17", "-1.50e2", r#""""#, "123456789012345678901234567890"] {
        let text = format!(r#"{{"id": {id} ,"event":"ping"}}"#);
        let read = parsed(&text).unwrap().id.unwrap();
        assert_eq!(&*frame(Some(&read), &Pong {}), format!(r#"{{"event":"pong","id":{id},"data":{{}}}}"#));
    }
    assert_eq!(parsed(r#"{"id":null,"event":"ping"}"#).unwrap().id, None);
    for id in ["true", "[]", "{}", &format!("\"{}\"", "x".repeat(129)), &"1".repeat(129)] {
        assert_eq!(fault(&format!(r#"{{"id":{id},"event":"ping"}}"#)).code, Code::Invalid, "{id}");
    }
}

#[test]
fn errors_carry_the_frames_id_wherever_it_could_be_read() {
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    for text in [
        with_data("no:such", "{}"),
        with_data("typing", "[]"),
        with_data("typing", "{}"),
        with_data("message:send", &format!(r#"{{"to":"a","content":"","metadata":{deep}}}"#)),
        r#"{"id":7}"#.to_owned(),
        r#"{"event":5,"id":7}"#.to_owned(),
    ] {
        assert_eq!(parsed(&text).expect_err(&text).id.map(|id| id.as_json().to_owned()).as_deref(), Some("7"), "{text}");
    }
}

#[test]
fn codes_tell_what_is_wrong() {
    for text in ["", "hello", "[]", "7", r#"{"event":"ping"} x"#, r#"{"event":null}"#, "{}", r#"{"event":7}"#, "\u{feff}{}"] {
        assert_eq!(fault(text).code, Code::BadFrame, "{text}");
    }
    assert_eq!(fault(r#"{"event":"nope"}"#).code, Code::UnknownEvent);
    assert_eq!(fault(&format!(r#"{{"event":"ping","x":"{}"}}"#, "x".repeat(limits::FRAME_BYTES_MAX))).code, Code::TooLarge);
}

#[test]
fn invalid_fields_are_named() {
    let long = "x".repeat(limits::CONTENT_BYTES_MAX + 1);
    let cases = [
        (send(""), "`content` is missing"),
        (send(r#","content":5"#), "`content` must be a string"),
        (send(r#","content":"\u0000""#), "`content` must not hold"),
        (send(r#","content":"\ud800""#), "`content` must not hold"),
        (send(&format!(r#","content":"{long}""#)), "`content` must be at most"),
        (send(r#","content":"","to":"anna""#), "exactly one of `chatId` and `to`"),
        (send(r#","content":"","messageId":"1""#), "`messageId` must be a UUID"),
        (send(r#","content":"","messageType":"""#), "`messageType` must be 1 to 64"),
        (send(r#","content":"","metadata":1e200000"#), "`metadata` must not hold numbers"),
        (send(r#","content":"","metadata":{"\u0000":1}"#), "`metadata` must not hold"),
        (send(r#","content":"","metadata":["\udc00"]"#), "`metadata` must not hold"),
        (send(&format!(r#","content":"","metadata":"{}""#, &long[..limits::METADATA_BYTES_MAX])), "`metadata` must be at most"),
        (send(&format!(r#","content":"","metadata":[{}1]"#, "1e300,".repeat(1000))), "`metadata` must be at most"),
        (send(r#","content":"","expiresAt":1793534400"#), "`expiresAt` must be a time"),
        (with_data("message:send", r#"{"to":"","content":""}"#), "`to` is not valid"),
        (with_data("message:delivered", r#"{"messageIds":["x"]}"#), "`messageIds[0]` must be a UUID"),
        (with_data("message:delivered", "{}"), "exactly one of"),
        (with_data("message:read", &format!(r#"{{"chatId":"{ID}"}}"#)), "exactly one of `messageId` and `seq`"),
        (with_data("typing", &format!(r#"{{"chatId":"{ID}","typing":1}}"#)), "`typing` must be true or false"),
        (with_data("presence:get", r#"{"userIds":"anna"}"#), "`userIds` must be an array"),
        (with_data("ping", "5").replace("ping", "typing"), "the data must be a JSON object"),
    ];
    for (text, words) in cases {
        let fault = fault(&text);
        assert!(fault.code == Code::Invalid && fault.message.contains(words), "{words}: {fault}");
    }
}

#[test]
fn nesting_is_allowed_up_to_the_limit_and_not_beyond() {
    let nested = |depth: usize| send(&format!(r#","content":"","metadata":{}{}"#, "[".repeat(depth), "]".repeat(depth)));
    assert!(parsed(&nested(limits::JSON_DEPTH_MAX - 2)).is_ok());
    assert_eq!(fault(&nested(limits::JSON_DEPTH_MAX - 1)).code, Code::Invalid);
    assert_eq!(fault(&nested(100_000)).code, Code::Invalid);
}

#[test]
fn a_token_is_never_printed() {
    let frame = parsed(&with_data("authenticate", r#"{"token":"secret.secret.secret"}"#)).unwrap();
    assert!(!format!("{frame:?}").contains("secret.secret"));
}

#[test]
fn the_fragment_is_written_once_for_all_recipients() {
    let message = Arc::new(with_content("x".to_owned()));
    assert_eq!(format!("{:?}", message.extension), "Extension(empty)");
    let frame = receive_frame(&envelope(&message, 5), 2);
    let first = fragment(&message);
    assert!(frame.ends_with(&format!(r#""inboxSeq":5,"attempt":2,"status":"sent",{first}}}}}"#)), "{frame}");
    assert!(receive_frame(&envelope(&message, 6), 1).ends_with(&format!("{first}}}}}")));
    assert!(std::ptr::eq(first, fragment(&message)), "it is the same text, not an equal one");
}

#[test]
fn the_echo_holds_the_answer_and_the_message() {
    let message = with_content("hello".to_owned());
    let echo: Value = serde_json::from_str(&sent_echo_frame(&message)).unwrap();
    let answer = SentAnswer {
        message_id: message.id,
        chat_id: message.chat,
        seq: message.seq,
        created_at: message.created_at.into(),
        duplicate: false,
    };
    let mut expected = serde_json::to_value(MessageData::from(&message)).unwrap();
    for (key, value) in serde_json::to_value(&answer).unwrap().as_object().unwrap() {
        expected[key] = value.clone();
    }
    assert_eq!(echo, json!({"event": "message:sent", "data": expected}));
}

#[test]
fn frames_are_written_as_documented() {
    let fault = Fault::new(Code::Busy, "wait").retry_after_ms(250);
    assert_eq!(&*frame(None, &fault), r#"{"event":"error","data":{"code":"busy","message":"wait","retryAfterMs":250}}"#);
    let anna = ExternalId::try_from("anna".to_owned()).unwrap();
    let chat_id = ChatId(Uuid::parse_str(ID).unwrap());
    let status = StatusMark {
        kind: StatusKind::Mark,
        chat_id,
        seq: ChatSeq(4),
        status: Status::Read,
        user_id: &anna,
        except: &[],
        marks_cursor: "e.1",
    };
    let expected = format!(
        r#"{{"event":"message:status","data":{{"kind":"mark","chatId":"{ID}","seq":4,"status":"read","userId":"anna","except":[],"marksCursor":"e.1"}}}}"#
    );
    assert_eq!(&*frame(None, &status), expected);
}
