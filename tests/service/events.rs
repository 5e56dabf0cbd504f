//! Receiving alerts and events: their frames, their acks, their windows, and who is woken.

mod collapsing;
mod merging;
mod wakes;

use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::fixtures::{assert_consistent, number};
use crate::support::{Connect, Database, Node, Socket, database, rows, until_true, users};

/// A node and its database.
async fn start() -> (Database, Node, PgPool) {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    (db, node, pool)
}

/// Publishes an event to these users, to this feed or to everyone, and returns its id.
async fn publish(node: &Node, to: Value, event_type: &str, more: Value) -> Value {
    let mut event = json!({"type": event_type, "data": {"n": 1}, "to": to});
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, published) = node.publisher("shop").post("/v1/events", event).await;
    assert_eq!(status, 200, "{published}");
    published["eventId"].clone()
}

/// A feed that these users follow.
async fn feed(node: &Node, followers: &[&str]) -> String {
    let (status, made) = node.publisher("shop").post("/v1/feeds", json!({"title": "news"})).await;
    assert_eq!(status, 201, "{made}");
    let feed = made["feedId"].as_str().unwrap().to_owned();
    for follower in followers {
        assert_eq!(node.api(follower).post(&format!("/v1/feeds/{feed}/follow"), json!({})).await.0, 200);
    }
    feed
}

/// Publishes so many events to everyone, inside one statement. Nothing is a row yet.
async fn publish_many(pool: &PgPool, count: i32, urgent: bool) {
    let publish = "select count(restante_publish('shop', 'tick', to_jsonb(n), p_urgent => $2)) from generate_series(1, $1) n";
    sqlx::query(publish).bind(count).bind(urgent).execute(pool).await.unwrap();
}

fn fields(event: &Value) -> Vec<&str> {
    event.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn an_event_comes_in_a_frame_of_its_own_without_a_chat_and_names_only_feeds_that_clients_know() {
    let (_db, node, pool) = start().await;
    let feed = feed(&node, &["bob"]).await;
    let mut bob = node.connect("bob").await;
    let to_feed = publish(&node, json!({"feed": feed}), "new_post", json!({})).await;
    let of_feed = bob.event("event:receive").await;
    let shape = ["attempt", "class", "createdAt", "data", "eventId", "expiresAt", "feedId", "feedSeq", "inboxSeq", "type"];
    assert_eq!(fields(&of_feed), shape);
    assert_eq!((&of_feed["eventId"], &of_feed["feedId"], &of_feed["feedSeq"]), (&to_feed, &json!(feed), &json!(1)));
    assert_eq!((&of_feed["type"], &of_feed["data"], &of_feed["class"]), (&json!("new_post"), &json!({"n": 1}), &json!("event")));

    let listed = publish(&node, json!({"users": ["bob"]}), "alarm", json!({"urgent": true, "data": null})).await;
    let alert = bob.event("event:receive").await;
    assert_eq!(fields(&alert), ["attempt", "class", "createdAt", "data", "eventId", "expiresAt", "inboxSeq", "type"]);
    assert_eq!((&alert["eventId"], &alert["class"], &alert["data"]), (&listed, &json!("alert"), &json!(null)));

    let everyone = publish(&node, json!({"everyone": true}), "news", json!({})).await;
    let of_all = bob.event("event:receive").await;
    assert_eq!((&of_all["eventId"], &of_all["feedId"]), (&everyone, &json!("00000000-0000-0000-0000-000000000001")));
    assert!(bob.until_pong().await.iter().all(|frame| frame["event"] != "message:receive"));
    assert_eq!(number(&pool, "select count(*) from message_status where status <> 'sent'").await, 0);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn one_ack_names_ids_of_every_class_and_the_publisher_is_told_nothing() {
    let (_db, node, pool) = start().await;
    let (mut shop, mut bob) = (node.open(Connect::publisher("shop")).await, node.connect("bob").await);
    let message = shop.send("bob", "hello").await["messageId"].clone();
    let event = publish(&node, json!({"everyone": true}), "news", json!({})).await;
    let alert = publish(&node, json!({"users": ["bob"]}), "alarm", json!({"urgent": true})).await;
    for _ in 0..3 {
        bob.envelope().await;
    }
    let acked = bob.ask("message:delivered", json!({"messageIds": [event, message, alert, Uuid::now_v7()]})).await;
    assert_eq!(acked["event"], "message:delivered:ok");
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'delivered'").await, 3);
    let told = shop.event("message:status").await;
    assert_eq!(told["messageIds"], json!([message]));
    // One event is refused for good, another one is acked over HTTP: no receipt either.
    let refused = publish(&node, json!({"users": ["bob"]}), "odd", json!({})).await;
    bob.envelope().await;
    let answer = bob.ask("message:reject", json!({"messageId": refused, "reason": "what is it?", "final": true})).await;
    assert_eq!((&answer["event"], &answer["data"]["status"]), (&json!("message:reject:ok"), &json!("failed")));
    publish(&node, json!({"users": ["bob"]}), "last", json!({})).await;
    let last = bob.envelope().await["eventId"].clone();
    assert_eq!(node.api("bob").post("/v1/inbox/ack", json!({"messageId": last})).await.0, 200);
    // A receipt for a message that is sent after all of it has come is the end of what could be told.
    let message = shop.send("bob", "bye").await["messageId"].clone();
    bob.envelope().await;
    bob.ask("message:delivered", json!({"messageId": message})).await;
    assert_eq!(shop.event("message:status").await["messageIds"], json!([message]));
    assert!(shop.skipped().iter().all(|frame| frame["event"] != "message:status"), "{:?}", shop.skipped());
    assert_eq!(number(&pool, "select count(*) from marks m join feeds f using (chat_id)").await, 0, "events have no marks");
    let (_, dead) = node.admin().get("/v1/admin/dead-letters").await;
    assert_eq!(dead["deadLetters"].as_array().unwrap().len(), 1, "operators see what failed: {dead}");
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn a_rejected_event_comes_again_and_a_read_that_names_its_feed_settles_nothing() {
    let (_db, node, pool) = start().await;
    let feed = feed(&node, &["bob"]).await;
    let mut bob = node.connect("bob").await;
    publish(&node, json!({"feed": feed}), "new_post", json!({})).await;
    let event = bob.event("event:receive").await;
    for named in [json!({"chatId": feed, "seq": 9}), json!({"chatId": feed, "messageId": event["eventId"]})] {
        let answer = bob.ask("message:read", named).await;
        assert_eq!(answer["data"]["code"], "not_a_member", "a feed is no chat: {answer}");
    }
    let rejected = bob.ask("message:reject", json!({"messageId": event["eventId"]})).await;
    assert_eq!(rejected["data"]["status"], "sent");
    let again = bob.event("event:receive").await;
    assert_eq!((&again["eventId"], &again["attempt"]), (&event["eventId"], &json!(2)));
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'sent'").await, 1);
    // The recipients of an event do not know one another, and it is no message of a chat.
    let status = format!("/v1/messages/{}/status", event["eventId"].as_str().unwrap());
    let history = format!("/v1/chats/{feed}/messages");
    for (path, code) in [(status, "not_found"), (history, "not_a_member"), (format!("/v1/chats/{feed}"), "not_a_member")] {
        for name in ["bob", "shop", "cleo"] {
            assert_eq!(node.api(name).get(&path).await.1["error"]["code"], code, "{path} as {name}");
        }
    }
    let acked = bob.ask("message:delivered", json!({"upTo": again["inboxSeq"], "class": "event"})).await;
    assert_eq!(acked["event"], "message:delivered:ok");
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'delivered'").await, 1);
    node.stop().await;
}

#[tokio::test]
async fn batches_hold_messages_apart_from_alerts_and_events() {
    let (_db, node, pool) = start().await;
    users(&pool, &["bob"]).await;
    let mut anna = node.connect("anna").await;
    anna.send("bob", "hello").await;
    publish_many(&pool, 2, true).await;
    publish_many(&pool, 3, false).await;
    let mut bob = node.open(Connect::user("bob").with("batch", 1)).await;
    let (mut alerts, mut events) = (0, 0);
    while alerts + events < 5 {
        let frame = bob.event("event:batch").await;
        assert_eq!(fields(&frame), ["events"]);
        for event in frame["events"].as_array().unwrap() {
            assert!(event["eventId"].is_string() && event.get("chatId").is_none(), "{event}");
            *(if event["class"] == "alert" { &mut alerts } else { &mut events }) += 1;
        }
    }
    assert_eq!((alerts, events), (2, 3));
    assert_eq!(bob.event("message:batch").await["messages"].as_array().unwrap().len(), 1);
    node.stop().await;
}

/// Acks whatever comes of this class, so many of them at once, until so many have come. Returns their numbers.
async fn drain(socket: &mut Socket, class: &str, count: usize) -> Vec<i64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let envelope = socket.wait(class, |frame| frame["event"] == "event:receive" && frame["data"]["class"] == class).await;
        numbers.push(envelope["data"]["inboxSeq"].as_i64().unwrap());
        if numbers.len() % 5 == 0 || numbers.len() == count {
            socket.tell("message:delivered", json!({"upTo": numbers.last(), "class": class})).await;
        }
    }
    numbers
}

#[tokio::test]
async fn what_waited_in_feeds_comes_window_by_window_and_is_drained_when_all_of_it_is_acked() {
    let (_db, node, pool) = start().await;
    users(&pool, &["bob"]).await;
    publish_many(&pool, 130, false).await;
    publish_many(&pool, 30, true).await;
    assert_eq!(number(&pool, "select count(*) from message_status").await, 0, "nobody has come for them");
    let mut bob = node.open(Connect::user("bob").with("window", 10)).await;
    assert_eq!((&bob.ready["pending"], &bob.ready["eventLastSeq"]), (&json!(160), &json!(0)));
    assert_eq!(drain(&mut bob, "alert", 30).await, (1..=30).collect::<Vec<_>>());
    assert_eq!(drain(&mut bob, "event", 129).await, (1..=129).collect::<Vec<_>>());
    let is_drained = |frame: &Value| frame["event"] == "queue:drained" && frame["data"]["class"] == "event";
    assert!(!bob.until_pong().await.iter().any(is_drained), "the last one is not acked");
    bob.tell("message:delivered", json!({"upTo": 130, "class": "event"})).await;
    let drained = bob.wait("the end of the drain", is_drained).await;
    assert_eq!(drained["data"]["inboxSeq"], 130);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn a_window_of_events_that_is_full_and_an_endless_feed_hold_no_message() {
    let (_db, node, pool) = start().await;
    users(&pool, &["bob"]).await;
    // 10,000 events, of which no more than 1,000 of a class may wait.
    for _ in 0..5 {
        publish_many(&pool, 1_000, false).await;
        publish_many(&pool, 1_000, true).await;
    }
    let (mut anna, mut bob) = (node.connect("anna").await, node.open(Connect::user("bob").with("window", 2)).await);
    // Both windows of events are full, and stay so.
    for _ in 0..4 {
        bob.event("event:receive").await;
    }
    for n in 0..20 {
        anna.send("bob", &n.to_string()).await;
        let message = bob.event("message:receive").await;
        assert_eq!(message["content"], n.to_string());
        bob.ack(&message).await;
        publish_many(&pool, 1, n % 2 == 0).await;
    }
    assert!(rows(&pool, "bob").await.iter().all(|row| row.status == "delivered"));
    assert_eq!(number(&pool, "select delivered_seq from marks m join users u on u.id = m.user_id where u.external_id = 'bob'").await, 20);
    node.stop().await;
}

#[tokio::test]
async fn what_ended_before_it_was_a_row_is_one_number_that_names_its_range_and_resuming_goes_on_behind_it() {
    let (_db, node, pool) = start().await;
    let feed = feed(&node, &["bob"]).await;
    let short = "select count(restante_publish('shop', 'short', null, p_feed => $1, p_ttl => '1 millisecond')) from generate_series(1, 4)";
    sqlx::query(short).bind(Uuid::parse_str(&feed).unwrap()).execute(&pool).await.unwrap();
    until_true(&pool, "select count(*) = 4 from messages where expires_at <= clock_timestamp()").await;
    publish(&node, json!({"feed": feed}), "long", json!({})).await;
    let phone = || Connect::user("bob").device("phone");
    let mut bob = node.open(phone()).await;
    let gap = json!({"class": "event", "fromSeq": 1, "toSeq": 1, "count": 4, "reason": "expired", "feedId": feed, "fromFeedSeq": 1, "toFeedSeq": 4});
    assert_eq!(bob.event("queue:gap").await, gap);
    let event = bob.event("event:receive").await;
    assert_eq!((&event["inboxSeq"], &event["feedSeq"]), (&json!(2), &json!(5)));
    bob.cut();
    let mut bob = node.open(phone()).await;
    assert_eq!(bob.event("queue:gap").await, gap, "until something at or above it is acked");
    let acked = bob.ask("message:delivered", json!({"upTo": 1, "class": "event"})).await;
    assert_eq!(acked["event"], "message:delivered:ok");
    bob.close().await;
    let mut bob = node.open(phone()).await;
    assert_eq!(bob.event("event:receive").await["inboxSeq"], 2);
    assert!(bob.until_pong().await.iter().all(|frame| frame["event"] != "queue:gap"));
    bob.close().await;
    let epoch = { node.connect("bob").await.ready["epoch"].as_str().unwrap().to_owned() };
    publish(&node, json!({"feed": feed}), "later", json!({})).await;
    let mut bob = node.open(Connect::user("bob").with("epoch", epoch).with("since", "event:2")).await;
    assert_eq!(bob.event("event:receive").await["inboxSeq"], 3);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn each_device_gets_every_event_whatever_another_one_has_acked() {
    let (_db, node, pool) = start().await;
    let devices = ["phone", "laptop"];
    for device in devices {
        node.open(Connect::user("bob").device(device)).await.close().await;
    }
    publish_many(&pool, 60, false).await;
    for device in devices {
        let mut bob = node.open(Connect::user("bob").device(device)).await;
        assert_eq!(drain(&mut bob, "event", 60).await, (1..=60).collect::<Vec<_>>(), "{device}");
        let confirmed = bob.ask("message:delivered", json!({"messageIds": []})).await;
        assert_eq!(confirmed["event"], "message:delivered:ok");
        bob.close().await;
    }
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'delivered'").await, 60);
    assert_eq!(number(&pool, "select min(acked_seq) from device_cursors where class = 'event'").await, 60);
    node.stop().await;
}

#[tokio::test]
async fn over_http_events_are_listed_as_events_and_an_ack_covers_nothing_that_was_not_given_out() {
    let (_db, node, pool) = start().await;
    let bob = node.api("bob");
    users(&pool, &["bob"]).await;
    publish_many(&pool, 3, false).await;
    for up_to in [1, 3] {
        let (status, ahead) = bob.post("/v1/inbox/ack", json!({"upTo": up_to, "class": "event"})).await;
        assert_eq!((status, &ahead["error"]["code"]), (409, &json!("ack_ahead")), "nobody has seen them");
    }
    let (_, inbox) = bob.get("/v1/inbox?class=event&limit=2").await;
    assert_eq!(fields(&inbox), ["class", "events", "lastSeq", "more"]);
    assert_eq!((&inbox["class"], &inbox["more"]), (&json!("event"), &json!(true)));
    let events = inbox["events"].as_array().unwrap();
    let shape = ["attempt", "class", "createdAt", "data", "eventId", "expiresAt", "feedId", "feedSeq", "inboxSeq", "type"];
    assert!(events.len() == 2 && events.iter().all(|event| fields(event) == shape), "{inbox}");
    let (_, rest) = bob.get("/v1/inbox?class=event&after=2").await;
    assert_eq!((&rest["events"][0]["data"], &rest["more"]), (&json!(3), &json!(false)));
    assert_eq!(bob.post("/v1/inbox/ack", json!({"upTo": 3, "class": "event"})).await.0, 200);
    assert_eq!(bob.get("/v1/inbox?class=event").await.1["events"], json!([]));
    assert_eq!(bob.get("/v1/inbox?class=alert").await.1["events"], json!([]));
    assert_eq!(bob.get("/v1/inbox").await.1["messages"], json!([]));
    node.stop().await;
}
