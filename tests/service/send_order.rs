//! The order of a connection's sends over a socket: what the rate does not allow yet waits, and nothing overtakes what was refused.

use std::collections::BTreeMap;

use restante::domain::UserId;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::fixtures::{assert_consistent, delivery, number};
use crate::support::{Node, database, direct, group, users};

/// Takes what the user may send at once.
pub(super) async fn exhaust(node: &Node, pool: &PgPool, user: &str) {
    let user = UserId(users(pool, &[user]).await[0]);
    while delivery(node).limits().check_send(user).is_ok() {}
}

fn send(chat: Uuid, id: Uuid) -> Value {
    json!({"messageId": id, "chatId": chat, "content": "x"})
}

/// A node at which a user may send one message in ten seconds.
async fn slow(db: &crate::support::Database) -> Node {
    Node::with(db.options(), |config| config.send_rate = 1).await
}

#[tokio::test]
async fn over_the_rate_sends_wait_and_acks_reads_tokens_and_pings_overtake_them() {
    let db = database().await;
    let (node, pool) = (slow(&db).await, db.pool(2).await);
    let chat = direct(&pool, "alice", "bob").await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    bob.send("alice", "to be acked").await;
    let message = alice.event("message:receive").await;
    exhaust(&node, &pool, "alice").await;
    let ids: Vec<Uuid> = (0..140).map(|_| Uuid::now_v7()).collect();
    let mut asked = BTreeMap::new();
    for id in &ids {
        asked.insert(alice.ask_later("message:send", send(chat, *id)).await, *id);
    }
    // Everything else is heard while they wait.
    alice.ack(&message).await;
    let read = alice.ask("message:read", json!({"chatId": chat, "seq": 1})).await;
    assert_eq!(read["event"], "message:read:ok");
    let token = crate::support::token("alice");
    assert_eq!(alice.ask("authenticate", json!({"token": token})).await["event"], "authenticated");
    let frames = alice.until_pong().await;
    let refused: Vec<(&Uuid, &Value)> = frames
        .iter()
        .filter_map(|frame| Some((asked.get(frame["id"].as_str()?)?, &frame["data"])))
        .filter(|(_, data)| data["code"] != Value::Null)
        .collect();
    // A slow machine may see one of them go: one more has room then.
    assert!((30..=40).contains(&refused.len()), "{} of 140 are beyond the bound of 100", refused.len());
    let (first, told) = refused[0];
    assert_eq!((&told["code"], &told["behind"]), (&json!("rate_limited"), &Value::Null));
    assert!(told["retryAfterMs"].as_u64().unwrap() > 500_000, "the time in which a hundred messages go: {told}");
    for (id, told) in &refused[1..] {
        assert_eq!((&told["code"], &told["behind"]), (&json!("rate_limited"), &json!(first)), "{id}");
    }
    alice.close().await;
    // The sends that waited had no answer, and are not stored.
    let stored = number(&pool, "select count(*) from messages where sender_id = (select id from users where external_id = 'alice')").await;
    assert!(stored <= 10, "{stored}");
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn what_was_refused_behind_a_message_may_go_when_it_comes_again_or_is_skipped() {
    let db = database().await;
    let (node, pool) = (slow(&db).await, db.pool(2).await);
    let (chat, other) = (group(&pool, &["alice", "bob"]).await, group(&pool, &["alice", "bob", "carol"]).await);
    let mut alice = node.connect("alice").await;
    exhaust(&node, &pool, "alice").await;
    for _ in 0..110 {
        alice.tell("message:send", json!({"chatId": other, "content": "has no id"})).await;
    }
    let [first, second] = [Uuid::now_v7(), Uuid::now_v7()];
    let mut refusal = async |data: Value| alice.ask("message:send", data).await["data"].take();
    assert_eq!(refusal(send(chat, first)).await["behind"], Value::Null);
    assert_eq!(refusal(send(chat, second)).await["behind"], json!(first));
    assert_eq!(refusal(send(chat, first)).await["behind"], Value::Null, "that one comes again");
    let without = refusal(json!({"chatId": chat, "content": "x"})).await;
    assert_eq!((&without["code"], &without["behind"]), (&json!("rate_limited"), &Value::Null), "what has no id is stopped by nothing");
    for id in [second, first] {
        let skipped = alice.ask("message:skip", json!({"messageId": id})).await;
        assert_eq!((&skipped["event"], &skipped["data"]["messageId"]), (&json!("message:skip:ok"), &json!(id)));
    }
    let mut refusal = async |data: Value| alice.ask("message:send", data).await["data"].take();
    assert_eq!(refusal(send(chat, second)).await["behind"], Value::Null, "the first one is skipped");
    assert_eq!(refusal(send(chat, first)).await["behind"], json!(second));
    for wrong in [json!({}), json!({"messageId": 7}), json!({"messageId": "x"}), json!({"messageId": null})] {
        assert_eq!(alice.ask("message:skip", wrong).await["data"]["code"], "invalid");
    }
    node.stop().await;
}

#[tokio::test]
async fn chats_beyond_the_bound_are_stopped_together() {
    let db = database().await;
    let (node, pool) = (slow(&db).await, db.pool(2).await);
    let chat = group(&pool, &["alice", "bob"]).await;
    let mut alice = node.connect("alice").await;
    exhaust(&node, &pool, "alice").await;
    for _ in 0..105 {
        alice.tell("message:send", json!({"chatId": chat, "content": "has no id"})).await;
    }
    let mut behind = Vec::new();
    for _ in 0..200 {
        behind.push(alice.ask("message:send", send(Uuid::now_v7(), Uuid::now_v7())).await["data"]["behind"].take());
    }
    assert_eq!(behind.iter().filter(|behind| behind.is_null()).count(), 101, "a hundred, and the one that stops all others");
    node.stop().await;
}
