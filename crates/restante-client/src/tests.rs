//! The client against a service that is told what to say.

use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

use super::fake::{Fake, PATIENCE, Seat};
use super::{AckStyle, Client, ConnectError, Destination, Event, Gone, Happening, NewMessage, Options, RequestError};
use restante_session::domain::{ChatId, ChatSeq};

fn options(fake: &Fake) -> Options {
    let mut options = Options::new(&fake.url, "t-bob").unwrap();
    options.backoff_first = Duration::from_millis(5);
    options.backoff_longest = Duration::from_millis(20);
    options
}

async fn connected(fake: &Fake, options: Options) -> (Client, Seat) {
    let (client, seat) = tokio::join!(Client::connect(options), fake.seat());
    (client.unwrap().0, seat)
}

fn text(content: &str) -> NewMessage {
    NewMessage::text(Destination::Chat(ChatId(Uuid::nil())), content)
}

/// Lets the client live until it says that; everything else is passed over.
async fn until<T>(client: &mut Client, mut wanted: impl FnMut(Happening) -> Option<T>) -> T {
    loop {
        if let Some(found) = wanted(client.next().await.unwrap()) {
            return found;
        }
    }
}

#[tokio::test]
async fn message_is_acked_when_its_owner_asks_for_the_next_and_not_before() {
    let fake = Fake::start().await;
    let (mut client, mut seat) = connected(&fake, options(&fake)).await;
    let message = Uuid::now_v7();
    seat.envelope(message, 1, 1).await;
    until(&mut client, |h| matches!(h, Happening::Message(_)).then_some(())).await;
    assert!(tokio::time::timeout(Duration::from_millis(100), seat.heard()).await.is_err(), "acked before its effect");
    let (_, ack) = tokio::join!(tokio::time::timeout(Duration::from_millis(500), client.next()), seat.heard_json());
    assert_eq!((ack["event"].as_str(), &ack["data"]["messageIds"]), (Some("message:delivered"), &json!([message])));
}

/// An owner that closes after an error may have shown nothing of its last message.
#[tokio::test]
async fn closing_acks_what_the_owner_took_and_nothing_else() {
    for (took, expected) in [(false, 1), (true, 2)] {
        let fake = Fake::start().await;
        let (mut client, mut seat) = connected(&fake, options(&fake)).await;
        let messages = [Uuid::now_v7(), Uuid::now_v7()];
        for (n, message) in (1..).zip(messages) {
            seat.envelope(message, n, 1).await;
        }
        for _ in messages {
            until(&mut client, |h| matches!(h, Happening::Message(_)).then_some(())).await;
        }
        if took {
            client.took();
        }
        let service = async {
            let mut acked = Vec::new();
            loop {
                let heard = seat.heard_json().await;
                match heard["id"].as_str() {
                    // Nothing changes by it: it only asks.
                    Some(_) => {
                        seat.event("message:delivered:ok", heard["id"].as_str(), json!({})).await;
                        return acked;
                    }
                    None => acked.extend(heard["data"]["messageIds"].as_array().unwrap().iter().cloned()),
                }
            }
        };
        let (acked, ()) = tokio::join!(service, async { tokio::time::timeout(PATIENCE, client.close()).await.unwrap() });
        assert_eq!(acked, messages[..expected].iter().map(|id| json!(id)).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_client_that_shows_nothing_acks_nothing() {
    let fake = Fake::start().await;
    let mut options = options(&fake);
    options.ack_style = AckStyle::Never;
    let (mut client, mut seat) = connected(&fake, options).await;
    seat.envelope(Uuid::now_v7(), 1, 1).await;
    until(&mut client, |h| matches!(h, Happening::Message(_)).then_some(())).await;
    client.send(&text("hello"));
    let service = async {
        let heard = seat.heard_json().await;
        assert_eq!(heard["event"], "message:send", "an ack would be before it");
        seat.confirm(&heard, 1).await;
    };
    tokio::join!(service, until(&mut client, |h| matches!(h, Happening::Stored(_)).then_some(())));
}

#[tokio::test]
async fn burst_is_acked_in_one_frame() {
    let fake = Fake::start().await;
    let mut options = options(&fake);
    options.ack_style = AckStyle::UpTo;
    let (mut client, mut seat) = connected(&fake, options).await;
    let batch: Vec<_> = (1..=20)
        .map(|n| {
            json!({"messageId": Uuid::now_v7(), "chatId": Uuid::nil(), "seq": n, "class": "chat", "inboxSeq": n, "senderId": "alice",
                "content": "hi", "messageType": "text", "createdAt": "2026-01-01T00:00:00Z", "attempt": 1})
        })
        .collect();
    seat.event("message:batch", None, json!({"messages": batch})).await;
    for _ in 0..20 {
        until(&mut client, |h| matches!(h, Happening::Message(_)).then_some(())).await;
    }
    let (_, ack) = tokio::join!(tokio::time::timeout(Duration::from_millis(500), client.next()), seat.heard_json());
    assert_eq!(ack["data"], json!({"upTo": 20, "class": "chat"}));
}

#[tokio::test]
async fn events_are_handed_out_once_each_and_acked_in_the_inbox_of_their_class() {
    let fake = Fake::start().await;
    let mut options = options(&fake);
    options.ack_style = AckStyle::UpTo;
    let (mut client, mut seat) = connected(&fake, options).await;
    let event = |n: u128, class: &str| {
        json!({"eventId": Uuid::from_u128(n), "type": "tick", "data": {"n": n.to_string()}, "class": class, "inboxSeq": 1, "attempt": 1,
            "createdAt": "2026-01-01T00:00:00Z", "feedId": Uuid::from_u128(7), "feedSeq": 4})
    };
    seat.event("event:receive", None, event(1, "alert")).await;
    seat.event("event:batch", None, json!({"events": [event(2, "event"), event(1, "alert")]})).await;
    let mut took = Vec::new();
    for _ in 0..3 {
        let next = |h| match h {
            Happening::FeedEvent(event) => Some((event, true)),
            Happening::FeedEventAgain(event) => Some((event, false)),
            _ => None,
        };
        let (event, is_new) = until(&mut client, next).await;
        assert_eq!((event.event_type.as_str(), event.feed_seq.map(|seq| seq.0)), ("tick", Some(4)));
        took.push((event.event_id.0.as_u128(), is_new));
    }
    assert_eq!(took, [(1, true), (2, true), (1, false)]);
    client.took();
    let acks = async {
        [seat.heard_json().await["data"].clone(), seat.heard_json().await["data"].clone(), seat.heard_json().await["data"].clone()]
    };
    let (_, acks) = tokio::join!(tokio::time::timeout(Duration::from_millis(500), client.next()), acks);
    let repeated = json!({"messageIds": [Uuid::from_u128(1)]});
    assert_eq!(acks, [repeated, json!({"upTo": 1, "class": "alert"}), json!({"upTo": 1, "class": "event"})]);
}

#[tokio::test]
async fn message_that_comes_again_after_a_reconnect_is_recognised_and_acked_again() {
    let fake = Fake::start().await;
    let (mut client, mut seat) = connected(&fake, options(&fake)).await;
    let message = Uuid::now_v7();
    seat.envelope(message, 1, 1).await;
    until(&mut client, |h| matches!(h, Happening::Message(_)).then_some(())).await;
    drop(seat);
    let (seat, ()) = tokio::join!(fake.seat(), async {
        until(&mut client, |h| matches!(h, Happening::Ready(_)).then_some(())).await;
    });
    let mut seat = seat;
    seat.envelope(message, 1, 2).await;
    let again = until(&mut client, |h| match h {
        Happening::Again(envelope) => Some(envelope),
        Happening::Message(_) => panic!("had its effect twice"),
        _ => None,
    })
    .await;
    assert_eq!(again.attempt, 2);
    let (_, ack) = tokio::join!(tokio::time::timeout(Duration::from_millis(500), client.next()), seat.heard_json());
    assert_eq!(ack["data"]["messageIds"], json!([message]));
}

#[tokio::test]
async fn unconfirmed_send_is_repeated_with_the_same_id_after_a_reconnect() {
    let fake = Fake::start().await;
    let (mut client, mut seat) = connected(&fake, options(&fake)).await;
    let (first, second) = (text("one"), text("two"));
    client.send(&first);
    client.send(&second);
    let service = async {
        let heard = seat.heard_json().await;
        seat.confirm(&heard, 1).await;
        seat.heard_json().await; // the second one is stored, but its answer never leaves
        drop(seat);
        let mut seat = fake.seat().await;
        let heard = seat.heard_json().await;
        seat.confirm(&heard, 2).await;
        (heard, seat)
    };
    let owner = async {
        let mut stored = Vec::new();
        while stored.len() < 2 {
            stored.extend(
                until(&mut client, |h| if let Happening::Stored(sent) = h { Some(Some(sent.message_id)) } else { Some(None) }).await,
            );
        }
        stored
    };
    let ((repeated, _seat), stored) = tokio::join!(service, owner);
    assert_eq!(repeated["data"]["messageId"], json!(second.message_id));
    assert_eq!(repeated["data"]["content"], "two");
    assert_eq!(stored, [first.message_id, second.message_id]);
    assert_eq!(client.sends_open(), 0);
}

#[tokio::test]
async fn send_refused_for_now_is_repeated_and_one_refused_for_good_is_not() {
    let fake = Fake::start().await;
    let (mut client, mut seat) = connected(&fake, options(&fake)).await;
    let message = text("one");
    client.send(&message);
    let service = async {
        let heard = seat.heard_json().await;
        seat.event("error", heard["id"].as_str(), json!({"code": "busy", "message": "later", "retryAfterMs": 20})).await;
        let heard = seat.heard_json().await;
        seat.event("error", heard["id"].as_str(), json!({"code": "not_a_member", "message": "no"})).await;
    };
    let owner = async {
        until(&mut client, |h| matches!(h, Happening::Postponed(id, _) if id == message.message_id).then_some(())).await;
        until(&mut client, |h| matches!(h, Happening::Refused(id, _) if id == message.message_id).then_some(())).await;
    };
    tokio::join!(service, owner);
    assert_eq!(client.sends_open(), 0);
}

#[tokio::test]
async fn displaced_client_stays_away() {
    let fake = Fake::start().await;
    let (mut client, seat) = connected(&fake, options(&fake)).await;
    let ((), gone) = tokio::join!(seat.close(4509, "displaced"), async {
        while client.next().await.is_ok() {}
        client.next().await
    });
    assert!(matches!(gone, Err(Gone::Displaced)));
}

#[tokio::test]
async fn client_displaced_by_its_own_abandoned_attempt_comes_back_once() {
    let fake = Fake::start().await;
    let mut client = Client::new(options(&fake));
    let service = async {
        drop(fake.accept().await); // given up before `ready`
        fake.seat().await.close(4509, "displaced").await;
        fake.seat().await.close(4509, "displaced").await;
    };
    let comings = async { tokio::join!(service, async { while client.next().await.is_ok() {} }) };
    tokio::time::timeout(PATIENCE, comings).await.expect("it stays away in the end");
    assert!(matches!(client.next().await, Err(Gone::Displaced)));
}

/// The waiting time that the client names when its connection is lost.
async fn wait_before_coming_back(client: &mut Client) -> Option<Duration> {
    until(client, |h| if let Happening::Lost(_, wait) = h { Some(wait) } else { None }).await
}

#[tokio::test]
async fn client_comes_back_when_the_service_that_stops_or_refuses_wants_it_to() {
    let fake = Fake::start().await;
    let (mut client, mut seat) = connected(&fake, options(&fake)).await;
    seat.event("server:draining", None, json!({"reconnectAfterMs": 137})).await;
    seat.event("error", None, json!({"code": "restart", "message": "bye"})).await;
    let ((), wait) = tokio::join!(seat.close(1012, "restart"), wait_before_coming_back(&mut client));
    assert_eq!(wait, Some(Duration::from_millis(137)));
    // Refused before the upgrade, then after it.
    let body = r#"{"error":{"code":"restart","message":"not here","retryAfterMs":41}}"#;
    let ((), wait) = tokio::join!(fake.refuse(503, body), wait_before_coming_back(&mut client));
    assert_eq!(wait, Some(Duration::from_millis(41)));
    let busy = async {
        let mut seat = fake.accept().await;
        seat.event("error", None, json!({"code": "busy", "message": "a crowd", "retryAfterMs": 59})).await;
        seat.close(4503, "busy").await;
    };
    let ((), wait) = tokio::join!(busy, wait_before_coming_back(&mut client));
    assert_eq!(wait, Some(Duration::from_millis(59)));
}

#[tokio::test]
async fn first_connection_says_at_once_why_it_failed() {
    let fake = Fake::start().await;
    let (refused, ()) = tokio::join!(Client::connect(options(&fake)), fake.refuse(401, "expired"));
    assert!(matches!(refused, Err(ConnectError::Gone(Gone::NotAuthenticated(why))) if why == "expired"));
    let options = options(&fake);
    drop(fake);
    assert!(matches!(Client::connect(options).await, Err(ConnectError::Unreachable(_))));
}

#[tokio::test]
async fn cursor_of_receipts_is_passed_on_and_read_is_repeated_until_confirmed() {
    let fake = Fake::start().await;
    let (mut client, mut seat) = connected(&fake, options(&fake)).await;
    client.read(ChatId(Uuid::nil()), ChatSeq(7));
    let service = async {
        assert_eq!(seat.heard_json().await["event"], "message:read");
        drop(seat);
        let mut seat = fake.seat().await;
        let heard = seat.heard_json().await;
        seat.event("message:read:ok", heard["id"].as_str(), json!({"chatId": Uuid::nil(), "seq": 7})).await;
        seat
    };
    let owner = async { until(&mut client, |h| matches!(h, Happening::Event(Event::ReadOk(_))).then_some(())).await };
    let (seat, ()) = tokio::join!(service, owner);
    assert_eq!(seat.query, "marks=e1%3A5");
    assert_eq!(client.reads_open(), 0);
}

#[tokio::test]
async fn request_gets_its_own_answer_and_what_happens_meanwhile_is_kept() {
    let fake = Fake::start().await;
    let (mut client, mut seat) = connected(&fake, options(&fake)).await;
    let service = async {
        let heard = seat.heard_json().await;
        seat.envelope(Uuid::now_v7(), 1, 1).await;
        seat.event("pong", heard["id"].as_str(), json!({})).await;
        let heard = seat.heard_json().await;
        seat.event("error", heard["id"].as_str(), json!({"code": "invalid", "message": "no"})).await;
    };
    let owner = async {
        assert!(matches!(client.request("ping", &json!({})).await, Ok(Event::Pong)));
        assert!(matches!(client.request("ping", &json!({})).await, Err(RequestError::Refused(_))));
        until(&mut client, |h| matches!(h, Happening::Message(_)).then_some(())).await;
    };
    tokio::join!(service, owner);
}

#[tokio::test]
async fn request_on_a_connection_that_ends_is_lost_and_not_waited_for() {
    let fake = Fake::start().await;
    let (mut client, mut seat) = connected(&fake, options(&fake)).await;
    let service = async {
        seat.heard().await;
        drop(seat);
    };
    let nothing = json!({});
    let ((), answer) = tokio::join!(service, client.request("ping", &nothing));
    assert!(matches!(answer, Err(RequestError::Lost)));
}
