//! The notifier passes on: which sessions find which news, and that those of others find nothing.

use time::OffsetDateTime;

use super::*;
use crate::domain::HeldToken;
use crate::domain::{ChatId, Extension, ExternalId, MessageId, Profile, ReceiptCounts};
use crate::hub::{AckWay, Found, Reader, Registered, SharedToken, mailbox};

const ANNA: UserId = UserId(1);
const BEN: UserId = UserId(2);

fn device(name: &str) -> DeviceId {
    DeviceId::try_from(name.to_owned()).unwrap()
}

fn held() -> SharedToken {
    let external = ExternalId::try_from("anna".to_owned()).unwrap();
    SharedToken::new(HeldToken { external, id: None, login_id: None, issued_from: None })
}

/// A node where Anna is connected, with the fifth connection of her phone, and watches Ben.
fn node() -> (Notifier, Reader) {
    let (hub, (mailbox, reader), session) = (Hub::new(20), mailbox(), SessionId::generate());
    hub.register(
        ANNA,
        Registered { session, device: Some((device("phone"), 5)), mailbox: mailbox.clone(), acks: AckWay::Connection, token: held() },
    )
    .unwrap();
    hub.watch(session, ANNA, &mailbox, &[BEN]).unwrap();
    (Notifier::new(hub, Bus::new(NodeId::generate()), Arc::default()), reader)
}

/// The entry that Anna's session finds once this was received.
fn finds(event: BusEvent) -> Vec<String> {
    let (notifier, mut reader) = node();
    notifier.received(event);
    std::iter::from_fn(|| reader.try_next()).flat_map(words).collect()
}

fn words(found: Found) -> Vec<String> {
    match found {
        Found::Closing(code) => vec![format!("close: {}", code.as_str())],
        Found::Note(Note::Offer(envelope)) => vec![format!("offer {}", envelope.inbox_seq)],
        Found::Note(Note::Receipt(_)) => vec!["receipt".to_owned()],
        Found::Note(Note::ReadUpTo(_, seq)) => vec![format!("read up to {seq}")],
        Found::Note(Note::Notice(notice)) => vec![format!("{:?}", *notice)],
        Found::Note(Note::EchoOf(_)) => vec!["echo of".to_owned()],
        Found::Note(Note::Answered(answer)) => vec![format!("{answer:?}")],
        Found::Note(Note::PreferencesChanged) => vec!["preferences".to_owned()],
        Found::Note(Note::MaySee(user)) => vec![format!("may see {user:?}")],
        Found::Note(Note::Echo(message)) => vec![format!("echo {}", message.seq)],
        Found::Missed(missed) => {
            let wakes = Class::ALL.into_iter().filter(|class| missed.wakes(*class)).map(|class| format!("wake {class}"));
            let marks = wakes.chain(missed.receipts().then(|| "marks".to_owned()));
            let ended = marks.chain(missed.ended().then(|| "ended".to_owned()));
            ended.chain(missed.preferences().then(|| "preferences".to_owned())).collect()
        }
    }
}

fn offer(sender: UserId, places: Vec<(UserId, InboxSeq)>) -> BusMessage {
    let external = ExternalId::try_from("sender".to_owned()).unwrap();
    let message = Message {
        id: MessageId::generate(),
        chat: ChatId::generate(),
        seq: ChatSeq(1),
        sender: Arc::new(Profile { user: sender, external, name: None, picture: None }),
        message_type: "text".to_owned(),
        content: "hello".to_owned(),
        metadata: None,
        created_at: OffsetDateTime::UNIX_EPOCH,
        expires_at: None,
        recall: None,
        is_unreadable: false,
        extension: Extension::default(),
    };
    BusMessage::Offer { class: Class::Chat, message: Arc::new(message), places }
}

fn online() -> Encoded<Notice> {
    let user = ExternalId::try_from("ben".to_owned()).unwrap();
    Encoded::new(Notice::Online { user, at: OffsetDateTime::UNIX_EPOCH })
}

fn counted() -> Arc<Receipt> {
    let (chat, message) = (ChatId::generate(), MessageId::generate());
    Arc::new(Receipt::Counted(ReceiptCounts { chat, message, seq: ChatSeq(1), delivered: 1, read: 0, members: 60 }))
}

#[test]
fn news_of_every_kind_reach_the_sessions_that_they_are_for() {
    for (message, found) in [
        (offer(BEN, vec![(UserId(3), InboxSeq(6)), (ANNA, InboxSeq(7))]), "offer 7"),
        (BusMessage::Wake(Class::Event, vec![UserId(3), ANNA]), "wake event"),
        (BusMessage::CheckMarks(vec![UserId(3), ANNA]), "marks, ended"),
        (BusMessage::Receipt(ANNA, counted()), "receipt"),
        (BusMessage::ReadUpTo(ANNA, ChatId::generate(), ChatSeq(4)), "read up to 4"),
        (BusMessage::Notice(vec![UserId(3), ANNA], online()), "Online { user: ExternalId(\"ben\"), at: 1970-01-01 0:00:00.0 +00:00:00 }"),
        (BusMessage::Watched(BEN, online()), "Online { user: ExternalId(\"ben\"), at: 1970-01-01 0:00:00.0 +00:00:00 }"),
        (BusMessage::EchoOf(ANNA, MessageId::generate()), "echo of"),
        (BusMessage::PreferencesChanged(vec![UserId(3), ANNA]), "preferences"),
        (BusMessage::Displaced(ANNA, device("phone"), 6), "close: displaced"),
    ] {
        assert_eq!(finds(BusEvent::Message(message)).join(", "), found);
    }
    let echo = finds(BusEvent::Message(offer(ANNA, vec![(UserId(3), InboxSeq(6))])));
    assert_eq!(echo, ["echo 1"]);
    let all = ["wake chat", "wake alert", "wake event", "marks", "ended", "preferences"];
    assert_eq!(finds(BusEvent::Message(BusMessage::CheckAll)), all);
    assert_eq!(finds(BusEvent::Missed), all);
    assert_eq!(finds(BusEvent::Wake(vec![ANNA])), ["wake chat", "wake alert", "wake event"]);
    assert_eq!(finds(BusEvent::Marks(vec![ANNA])), ["marks", "ended"]);
}

#[test]
fn news_for_others_reach_nobody() {
    for message in [
        offer(BEN, vec![(BEN, InboxSeq(1))]),
        BusMessage::Wake(Class::Chat, vec![BEN]),
        BusMessage::CheckMarks(vec![BEN]),
        BusMessage::Receipt(BEN, counted()),
        BusMessage::ReadUpTo(BEN, ChatId::generate(), ChatSeq(4)),
        BusMessage::Notice(vec![BEN], online()),
        BusMessage::Watched(ANNA, online()),
        BusMessage::EchoOf(BEN, MessageId::generate()),
        BusMessage::PreferencesChanged(vec![BEN]),
        BusMessage::Displaced(ANNA, device("phone"), 5),
        BusMessage::Displaced(ANNA, device("laptop"), 6),
        BusMessage::Displaced(BEN, device("phone"), 6),
    ] {
        assert_eq!(finds(BusEvent::Message(message.clone())), [""; 0], "{message:?}");
    }
    assert_eq!(finds(BusEvent::Unknown), [""; 0]);
}

#[tokio::test]
async fn streams_that_move_here_or_elsewhere_or_in_sql_wait_for_the_service_and_wake_nobody_by_themselves() {
    let (notifier, mut reader) = node();
    let streams = [ChatId::generate(), ChatId::generate(), ChatId::generate()];
    notifier.feed_moved(streams[0]);
    notifier.received(BusEvent::Message(BusMessage::FeedsMoved(vec![streams[1]])));
    notifier.received(BusEvent::Feeds(vec![streams[2]]));
    let MovedFeeds::Streams(moved) = notifier.moved_feeds().await else { panic!("they are few") };
    assert!(moved.len() == 3 && streams.iter().all(|stream| moved.contains(stream)));
    assert!(reader.try_next().is_none());
    notifier.look_again_at_feeds(&moved);
    assert!(matches!(notifier.moved_feeds().await, MovedFeeds::Streams(again) if again.len() == 3));
}

#[test]
fn each_of_many_users_is_woken_in_one_class() {
    let (notifier, mut reader) = node();
    notifier.wake_each(vec![UserId(3), BEN, ANNA], Class::Event);
    assert_eq!(std::iter::from_fn(|| reader.try_next()).flat_map(words).collect::<Vec<_>>(), ["wake event"]);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_wakes_that_nobody_signed_wakes_a_user_once_a_round_and_the_last_of_them_too() {
    let (notifier, mut reader) = node();
    let mut woken = 0;
    let rounds = notifier.wake_in_rounds();
    let flood = async {
        for _ in 0..40 {
            notifier.received(BusEvent::Wake(vec![ANNA, BEN, UserId(-1), ANNA]));
            woken += std::iter::from_fn(|| reader.try_next()).count();
            tokio::time::sleep(ROUND / 20).await;
        }
        tokio::time::sleep(ROUND * 2).await;
        woken += std::iter::from_fn(|| reader.try_next()).count();
    };
    tokio::select! {
        () = rounds => {}
        () = flood => {}
    }
    assert!((3..=5).contains(&woken), "{woken}");
}
