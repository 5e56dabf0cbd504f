//! Encryption at rest: nothing outside the service shows what was said, every node reads it, and a row under a key that cannot be had costs
//! itself only.

mod keys;
mod letters;
mod reading;
mod sql;
mod sweeps;
pub mod words;

use std::time::Duration;

use restante::config::Config;
use restante::encryption::{EncryptionMode, MasterKeys};
use restante::store::{KeyRing, KeyTimes, Store};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Connect, Database, Log, Node, Socket, database, number};

/// A master key.
const KEY: &str = "5d6f1c0a9be2477830f1d5c4b3a2918070615243342516070819aabbccddeeff";

/// The settings of a node that seals.
fn sealing(config: &mut Config) {
    config.encryption = EncryptionMode::On;
    config.encryption_key = Some(KEY.into());
}

/// A node of its own that seals.
async fn start() -> (Database, Node, PgPool) {
    let db = database().await;
    let node = Node::with(db.options(), sealing).await;
    let pool = db.pool(2).await;
    (db, node, pool)
}

/// A store that seals, by which a test takes the part of a node. A new key is used at once.
fn hasty_store(pool: &PgPool, masters: &str) -> Store {
    let times = KeyTimes { spread: Duration::ZERO, settled: Duration::ZERO, ..KeyTimes::default() };
    Store::new(pool.clone()).with_keys(KeyRing::new(EncryptionMode::On, Some(MasterKeys::parse(masters).unwrap()), times))
}

async fn contents(socket: &mut Socket, count: usize) -> Vec<String> {
    let messages = socket.receive(count).await;
    messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

fn to_bob(data: Value) -> Value {
    json!({"type": "like", "data": data, "to": {"users": ["bob"]}})
}

/// Broken by a page that is not opened: bob gets nothing that he can read.
#[tokio::test]
async fn what_is_sealed_is_read_by_page_by_offer_and_in_the_history_as_it_was_sent() {
    let (_db, node, pool) = start().await;
    let mut alice = node.connect("alice").await;
    let metadata = json!({"reply": {"to": 7, "note": "ü"}});
    let sent = alice.ask("message:send", json!({"to": "bob", "content": "over a page", "metadata": metadata})).await["data"].take();
    let (status, _) = node.publisher("shop").post("/v1/events", to_bob(json!({"price": 3}))).await;
    assert_eq!(status, 200);

    let mut bob = node.open(Connect::user("bob").device("phone")).await;
    let message = bob.event("message:receive").await;
    assert_eq!((&message["content"], &message["metadata"], message.get("unreadable")), (&json!("over a page"), &metadata, None));
    let event = bob.event("event:receive").await;
    assert_eq!((&event["data"], event.get("unreadable")), (&json!({"price": 3}), None));
    alice.send("bob", "as an offer").await;
    assert_eq!(bob.event("message:receive").await["content"], "as an offer");

    let chat = sent["chatId"].as_str().unwrap();
    let (_, page) = node.api("bob").get(&format!("/v1/chats/{chat}/messages")).await;
    assert_eq!((&page["messages"][0]["content"], &page["messages"][0]["metadata"]), (&json!("over a page"), &metadata));
    let (_, inbox) = node.api("bob").get("/v1/inbox?class=chat").await;
    assert_eq!(inbox["messages"][1]["content"], "as an offer");
    let plain = "select count(*) from messages where key_id is null or sealed is null or content is not null or metadata is not null";
    assert_eq!((number(&pool, plain).await, number(&pool, "select count(*) from messages").await), (0, 3));
    node.stop().await;
}

/// Broken by a repeated send that is compared by its text: each sealing of it is another one.
#[tokio::test]
async fn a_repeated_send_and_a_recall_are_as_they_are_without_encryption() {
    let (_db, node, pool) = start().await;
    let mut alice = node.connect("alice").await;
    let sent = alice.send("bob", "once").await;
    let again = json!({"messageId": sent["messageId"], "to": "bob", "content": "once"});
    assert_eq!(alice.ask("message:send", again).await["data"]["duplicate"], true);
    let mut bob = node.connect("bob").await;
    let message = bob.receive(1).await.remove(0);
    assert_eq!(message["content"], "once");
    bob.ack(&message).await;
    bob.until_pong().await;
    alice.ask("message:recall", json!({"messageId": sent["messageId"]})).await;
    let told = bob.event("message:recalled").await;
    assert_eq!(told["messageId"], sent["messageId"]);
    assert_eq!(number(&pool, "select count(*) from messages where seq > 0 and (sealed is not null or key_id is not null)").await, 0);
    node.stop().await;
}

/// Broken by a merge that reads ciphertext as data: sums are missing then.
#[tokio::test]
async fn events_merge_in_the_node_so_sealed_ones_merge_as_plain_ones_do() {
    let (_db, node, pool) = start().await;
    let shop = node.publisher("shop");
    node.api("bob").get("/v1/preferences").await;
    for (likes, actor) in [(1, "anna"), (2, "ben"), (4, "anna")] {
        let event = json!({"type": "like", "data": {"likes": likes, "actors": [actor]}, "collapseKey": "post-7",
            "merge": {"likes": "sum", "actors": "union"}, "to": {"users": ["bob"]}});
        assert_eq!(shop.post("/v1/events", event).await.0, 200);
    }
    let mut bob = node.connect("bob").await;
    let event = bob.event("event:receive").await;
    assert_eq!(event["data"], json!({"likes": 7, "actors": ["anna", "ben"], "actorsMore": 0}));
    assert_eq!((&event["merged"], number(&pool, "select count(*) from messages where metadata is not null").await), (&json!(3), 0));
    node.stop().await;
}

/// Broken by a page that fails with such a row, and by one that leaves it out: bob waits for what is behind it, or is told nothing.
#[tokio::test]
async fn a_row_under_a_key_that_cannot_be_had_comes_as_unreadable_and_costs_itself_only() {
    let (_db, node, pool) = start().await;
    let mut alice = node.connect("alice").await;
    let mut chat = String::new();
    for content in ["one", "two", "three", "four"] {
        let sent = alice.send("bob", content).await;
        sent["chatId"].as_str().unwrap().clone_into(&mut chat);
    }
    assert_eq!(node.publisher("shop").post("/v1/events", to_bob(json!({"price": 3}))).await.0, 200);
    let broken = "update messages set key_id = 'gone' where seq = 2 or message_type = 'like'; \
                  update messages set sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) where seq = 3";
    sqlx::raw_sql(broken).execute(&pool).await.unwrap();

    let log = Log::of_this_thread();
    for _ in 0..2 {
        let mut bob = node.open(Connect::user("bob").device("phone")).await;
        let messages = bob.receive(4).await;
        assert_eq!(messages.iter().map(|message| &message["content"]).collect::<Vec<_>>(), ["one", "", "", "four"]);
        assert_eq!(messages.iter().map(|message| message["unreadable"] == true).collect::<Vec<_>>(), [false, true, true, false]);
        let event = bob.event("event:receive").await;
        assert_eq!((&event["unreadable"], &event["data"]), (&json!(true), &Value::Null));
        bob.cut();
    }
    let lines = log.take();
    let told = |words: &str| lines.iter().filter(|line| line.message.starts_with(words)).count();
    assert_eq!(told("messages are sealed with a data key"), 1, "once for a key, however many rows it has");
    assert_eq!(told("a sealed message was changed"), 1, "once for a row, however often it is read");
    let (_, metrics) = node.api("bob").get("/metrics").await;
    let counted = metrics.as_str().unwrap().lines().find_map(|line| line.strip_prefix("restante_unreadable_rows_total ")).unwrap();
    assert!(counted.trim().parse::<u64>().unwrap() >= 6, "{counted}");

    let (_, page) = node.api("bob").get(&format!("/v1/chats/{chat}/messages")).await;
    let shown: Vec<_> =
        page["messages"].as_array().unwrap().iter().map(|message| (&message["content"], message["unreadable"] == true)).collect();
    assert_eq!(shown, [(&json!("one"), false), (&json!(""), true), (&json!(""), true), (&json!("four"), false)]);
    node.stop().await;
}
