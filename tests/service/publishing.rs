//! Publishing: who may tell what to whom, over HTTP, the socket and in SQL; and that whatever is refused has stored nothing.

mod feeds;
mod refused;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::fixtures::{LockHolder, assert_consistent, number};
use crate::support::{Api, Connect, Node, SOMEBODY_WAITS, database, scoped_token, told, until_true, users, wait_until};

/// An id that nobody has used.
fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// The data of the events that wait for this user, oldest first.
async fn waiting(user: &Api, class: &str) -> Vec<Value> {
    let (status, page) = user.get(&format!("/v1/inbox?limit=500&class={class}")).await;
    assert_eq!(status, 200, "{page}");
    let items = page["events"].as_array().or(page["messages"].as_array()).unwrap();
    items.iter().map(|item| item["data"].clone()).collect()
}

/// The stored rows of events and users: unchanged where nothing was done.
async fn stored(pool: &PgPool) -> [i64; 4] {
    [
        number(pool, "select count(*) from messages").await,
        number(pool, "select count(*) from message_status").await,
        number(pool, "select count(*) from users").await,
        number(pool, "select count(*) from event_exceptions").await,
    ]
}

/// Publishes it and returns what is answered.
async fn published(publisher: &Api, event: Value) -> Value {
    let kind = event["type"].clone();
    let (status, answer) = publisher.post("/v1/events", event).await;
    assert_eq!(status, 200, "{kind} is answered with {answer}");
    answer
}

/// Makes a feed of this user.
async fn feed(maker: &Api) -> String {
    let (status, made) = maker.post("/v1/feeds", json!({"title": "news"})).await;
    assert_eq!(status, 201, "{made}");
    made["feedId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_event_to_everyone_reaches_all_but_its_publisher_and_those_who_are_excepted() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (shop, pool) = (node.publisher("shop"), db.pool(1).await);
    users(&pool, &["ben", "cleo", "dora"]).await;
    let event = json!({"eventId": new_id(), "type": "new_post", "data": {"n": 1}, "to": {"everyone": true}, "except": ["cleo", "nobody"]});
    let first = published(&shop, event.clone()).await;
    assert_eq!((&first["eventId"], &first["duplicate"]), (&event["eventId"], &json!(false)));
    let again = published(&shop, event).await;
    assert_eq!((&again["createdAt"], &again["duplicate"]), (&first["createdAt"], &json!(true)));
    for (name, expected) in [("ben", vec![json!({"n": 1})]), ("cleo", vec![]), ("dora", vec![json!({"n": 1})]), ("shop", vec![])] {
        assert_eq!(waiting(&node.api(name), "event").await, expected, "{name}");
    }
    assert_eq!(number(&pool, "select count(*) from users where external_id = 'nobody'").await, 0, "who is excepted is not made");
    assert_eq!(waiting(&node.api("late"), "event").await, [json!(null); 0], "a user follows everyone from first sight, not from before");
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn listed_users_get_it_once_each_in_the_inbox_of_its_urgency_and_are_made_when_they_are_new() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let shop = node.publisher("shop");
    let names: Vec<String> = (0..700).map(|n| format!("user-{n}")).collect();
    let listed = [&names[..], &names[..10]].concat();
    let to = json!({"users": listed});
    let urgent = json!({"type": "alarm", "data": 1, "to": to, "urgent": true, "except": ["user-0", "user-699"], "ttlMs": 60_000});
    let id = published(&shop, urgent).await["eventId"].clone();
    published(&shop, json!({"type": "calm", "data": 2, "to": {"users": ["user-1"]}})).await;
    // A job writes the rows beyond the first 500.
    until_true(&pool, "select count(*) = 699 from message_status").await;
    let one = node.api("user-1");
    assert_eq!((waiting(&one, "alert").await, waiting(&one, "event").await), (vec![json!(1)], vec![json!(2)]));
    let progress = format!("/v1/events/{}", id.as_str().unwrap());
    let (_, told) = shop.get(&progress).await;
    let seen = (&told["type"], &told["class"], &told["to"], &told["recipients"], &told["written"], &told["delivered"]);
    assert_eq!(seen, (&json!("alarm"), &json!("alert"), &json!({"users": 698}), &json!(698), &json!(698), &json!(0)), "{told}");
    assert_eq!(one.get(&progress).await.0, 404, "it is its publisher's");
    assert_eq!(node.publisher("other").get(&progress).await.0, 200);
    assert_eq!(one.post("/v1/inbox/ack", json!({"messageId": id})).await.0, 200);
    assert_eq!(shop.get(&progress).await.1["delivered"], 1);
    assert_eq!(number(&pool, "select count(*) from users where external_id in ('user-0', 'user-699')").await, 0);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn five_hundred_events_have_an_outcome_each_and_what_is_wrong_with_one_concerns_no_other() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (shop, ben) = (node.publisher("shop"), node.api("ben"));
    let feed = feed(&ben).await;
    let message = ben.post("/v1/messages", json!({"to": "cleo", "content": "hello"})).await.1["messageId"].clone();
    let repeated = new_id();
    let good = |n: usize| json!({"eventId": new_id(), "type": "t", "data": n, "to": {"users": ["cleo"]}});
    let mut events: Vec<Value> = (0..500).map(good).collect();
    events[3] = json!({"type": "t", "to": {"feed": new_id()}});
    events[7] = json!({"eventId": new_id(), "type": "", "to": {"users": ["cleo"]}});
    events[8] = json!({"eventId": message, "type": "t", "to": {"users": ["cleo"]}});
    events[9] = json!("no event");
    events[10] = json!({"eventId": repeated, "type": "t", "data": 10, "to": {"users": ["cleo"]}});
    events[11] = json!({"type": "t", "to": {"feed": feed}});
    events[499] = json!({"eventId": repeated, "type": "t", "data": 499, "to": {"users": ["cleo"]}});
    let (status, answer) = shop.post("/v1/events", json!({"events": events})).await;
    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 500);
    for (place, (event, result)) in events.iter().zip(results).enumerate() {
        let expected = match place {
            3 => Some("not_found"),
            7 | 9 => Some("invalid"),
            8 => Some("conflict"),
            _ => None,
        };
        assert_eq!(result["error"]["code"].as_str(), expected, "{place}: {result}");
        assert!(event["eventId"].is_null() || event["eventId"] == result["eventId"], "{place}: {result}");
        assert_eq!(result["duplicate"], if expected.is_some() { json!(null) } else { json!(place == 499) }, "{place}");
    }
    assert_eq!(results[499]["createdAt"], results[10]["createdAt"]);
    let waits = waiting(&node.api("cleo"), "event").await;
    let expected: Vec<Value> = (0..499).filter(|n| ![3, 7, 8, 9, 11].contains(n)).map(|n| json!(n)).collect();
    assert_eq!(waits, expected, "in the order of the list");
    let (_, again) = shop.post("/v1/events", json!({"events": &events[12..499]})).await;
    assert!(again["results"].as_array().unwrap().iter().all(|result| result["duplicate"] == true));
    assert_eq!(waiting(&node.api("cleo"), "event").await.len(), expected.len());
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn the_socket_publishes_in_the_order_of_the_frames() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut shop = node.open(Connect::publisher("shop")).await;
    let event = |n: usize| json!({"type": "t", "data": n, "to": {"users": ["ben"]}, "except": [format!("user-{n}")]});
    let mut asked = Vec::new();
    for n in 0..200 {
        asked.push(shop.ask_later("event:publish", event(n)).await);
    }
    for id in &asked {
        let answer = shop.answer(id).await;
        assert_eq!((&answer["event"], &answer["data"]["duplicate"]), (&json!("event:published"), &json!(false)), "{answer}");
    }
    assert_eq!(waiting(&node.api("ben"), "event").await, (0..200).map(|n| json!(n)).collect::<Vec<_>>());
    node.stop().await;
}

#[tokio::test]
async fn those_who_are_connected_are_told_at_once_at_any_node() {
    let db = database().await;
    let (here, there) = (Node::start(db.options()).await, Node::start(db.options()).await);
    let shop = here.publisher("shop");
    let (mut ben, mut cleo) = (here.connect("ben").await, there.connect("cleo").await);
    for to in [json!({"everyone": true}), json!({"users": ["ben", "cleo"]})] {
        for urgent in [true, false] {
            let id = published(&shop, json!({"type": "t", "to": &to, "urgent": urgent})).await["eventId"].clone();
            for socket in [&mut ben, &mut cleo] {
                let event = socket.event("event:receive").await;
                assert_eq!((&event["eventId"], &event["class"]), (&id, &json!(if urgent { "alert" } else { "event" })), "{event}");
            }
        }
    }
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn what_was_said_is_published_also_where_its_connection_ends_and_is_counted() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let mut shop = node.open(Connect::publisher("shop")).await;
    for n in 0..50 {
        shop.tell("event:publish", json!({"type": "t", "data": n, "to": {"users": [format!("user-{}", n % 5)]}})).await;
    }
    shop.tell("event:publish", json!({"type": "t", "to": {"feed": new_id()}})).await;
    shop.close().await;
    until_true(&pool, "select count(*) = 50 from messages").await;
    let metrics = &node.app().context().metrics.events_published;
    wait_until("all outcomes are counted", || metrics.of("published").get() == 50 && metrics.of("not_found").get() == 1).await;
    node.stop().await;
}

#[tokio::test]
async fn what_comes_while_a_batch_is_written_is_one_transaction() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    let mut shop = node.open(Connect::publisher("shop")).await;
    let holder = LockHolder::holds(&db.options(), "insert into users (external_id) values ('held')").await;
    let first = shop.ask_later("event:publish", json!({"type": "first", "to": {"users": ["held"]}})).await;
    until_true(&pool, SOMEBODY_WAITS).await;
    let mut asked = Vec::new();
    for n in 0..50 {
        asked.push(shop.ask_later("event:publish", json!({"type": "more", "data": n, "to": {"everyone": true}})).await);
    }
    // Frames are taken in their order: all of them are queued by now.
    shop.until_pong().await;
    holder.commits().await;
    shop.answer(&first).await;
    for id in &asked {
        assert_eq!(shop.answer(id).await["event"], "event:published");
    }
    assert_eq!(number(&pool, "select count(distinct xmin::text) from messages where message_type = 'more'").await, 1);
    node.stop().await;
}

#[tokio::test]
async fn a_feed_that_somebody_holds_is_busy_and_holds_up_no_other() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let shop = node.publisher("shop");
    let (held, free) = (feed(&shop).await, feed(&shop).await);
    let holder = LockHolder::holds(&db.options(), &format!("select from chat_heads where chat_id = '{held}' for update")).await;
    let to = |feed: &str| json!({"eventId": new_id(), "type": "t", "to": {"feed": feed}});
    let events = json!({"events": [to(&free), to(&held), to(&free), {"type": "t", "to": {"everyone": true}}]});
    let (_, told) = shop.post("/v1/events", events.clone()).await;
    let codes: Vec<_> = told["results"].as_array().unwrap().iter().map(|result| result["error"]["code"].clone()).collect();
    assert_eq!(codes, [json!(null), json!("busy"), json!(null), json!(null)]);
    assert_eq!(number(&pool, "select count(*) from messages").await, 3);
    holder.commits().await;
    let (_, told) = shop.post("/v1/events", json!({"events": &events["events"].as_array().unwrap()[..3]})).await;
    let again: Vec<_> = told["results"].as_array().unwrap().iter().map(|result| result["duplicate"].clone()).collect();
    assert_eq!(again, [true, false, true].map(|is| json!(is)));
    assert_consistent(&pool).await;
    node.stop().await;
}

/// Broken by a transaction for each publisher.
#[tokio::test]
async fn events_of_many_publishers_that_come_together_share_a_transaction() {
    const PUBLISHERS: usize = 30;
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    let mut sockets = Vec::new();
    for n in 0..PUBLISHERS {
        sockets.push(node.open(Connect::publisher(&format!("shop-{n}"))).await);
    }
    let everyone = "select from chat_heads where chat_id = '00000000-0000-0000-0000-000000000001' for update";
    let holder = LockHolder::holds(&db.options(), everyone).await;
    let mut asked = Vec::new();
    for (n, socket) in sockets.iter_mut().enumerate() {
        for place in 0..2 {
            let event = json!({"type": "more", "data": {"n": n, "place": place}, "to": {"everyone": true}});
            asked.push((n, socket.ask_later("event:publish", event).await));
        }
        if n == 0 {
            until_true(&pool, SOMEBODY_WAITS).await;
        }
        socket.until_pong().await;
    }
    holder.commits().await;
    for (n, id) in &asked {
        assert_eq!(sockets[*n].answer(id).await["event"], "event:published");
    }
    // Each publisher has one batch under way, so the second event of each may be a transaction later.
    let transactions = number(&pool, "select count(distinct xmin::text) from messages where message_type = 'more'").await;
    assert!(transactions <= 10, "{transactions} transactions for {PUBLISHERS} publishers");
    let order = "select count(*) from messages a join messages b on b.sender_id = a.sender_id and b.seq > a.seq and b.chat_id = a.chat_id
                  where a.message_type = 'more' and (a.metadata->>'place')::int > (b.metadata->>'place')::int";
    assert_eq!(number(&pool, order).await, 0, "each publisher's events are in their order");
    assert_consistent(&pool).await;
    node.stop().await;
}

/// Broken by refusing a whole transaction for one stream that somebody holds.
#[tokio::test]
async fn a_feed_that_somebody_holds_is_busy_for_its_publishers_and_for_no_others() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    let (held, free) = (feed(&node.publisher("shop")).await, feed(&node.publisher("shop")).await);
    let mut sockets = Vec::new();
    for n in 0..6 {
        sockets.push(node.open(Connect::publisher(&format!("shop-{n}"))).await);
    }
    let holder = LockHolder::holds(&db.options(), &format!("select from chat_heads where chat_id = '{held}' for update")).await;
    let mut asked = Vec::new();
    for (n, socket) in sockets.iter_mut().enumerate() {
        let to = if n % 2 == 0 { &held } else { &free };
        asked.push(socket.ask_later("event:publish", json!({"type": "t", "to": {"feed": to}})).await);
    }
    for (n, (socket, id)) in sockets.iter_mut().zip(&asked).enumerate() {
        let told = socket.answer(id).await;
        let expected = if n % 2 == 0 { (&json!("error"), &json!("busy")) } else { (&json!("event:published"), &json!(null)) };
        assert_eq!((&told["event"], &told["data"]["code"]), expected, "{n}: {told}");
    }
    assert_eq!(number(&pool, "select count(*) from messages").await, 3);
    holder.commits().await;
    node.stop().await;
}

#[tokio::test]
async fn an_event_of_the_applications_transaction_is_there_with_its_commit() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    users(&pool, &["ben"]).await;
    let statement = "select restante_publish('shop', 'new_post', '{\"n\": 1}')";
    let undone = LockHolder::holds(&db.options(), statement).await;
    drop(undone);
    LockHolder::holds(&db.options(), statement).await.commits().await;
    assert_eq!(waiting(&node.api("ben"), "event").await, [json!({"n": 1})]);
    node.stop().await;
}
