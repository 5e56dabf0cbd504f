//! The cases that the systems before this one named, under their names.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::{Connect, Node, database, direct, fill, group, number, rows, statuses};

fn contents(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["content"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn send_to_offline_user() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let mut alice = node.connect("alice").await;
    let sent = alice.send("bob", "are you there?").await;
    assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(1), &json!(false)));
    assert_eq!(statuses(&pool, "bob").await, ["sent"]);

    let mut bob = node.connect("bob").await;
    assert_eq!(bob.ready["pending"], 1);
    let message = bob.event("message:receive").await;
    assert_eq!((&message["content"], &message["senderId"]), (&json!("are you there?"), &json!("alice")));
    bob.ack(&message).await;
    assert_eq!(alice.event("message:status").await["status"], "delivered");
    bob.ask("message:read", json!({"chatId": sent["chatId"], "messageId": sent["messageId"]})).await;
    assert_eq!(alice.event("message:status").await["status"], "read");
    node.stop().await;
}

#[tokio::test]
async fn multiple_offline_messages_in_order() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut alice = node.connect("alice").await;
    let mut expected = Vec::new();
    for n in 0..120 {
        expected.push(n.to_string());
        alice.send("bob", &expected[n]).await;
    }
    let mut bob = node.open(Connect::user("bob").with("window", 500)).await;
    let messages = bob.receive(120).await;
    assert_eq!(contents(&messages), expected);
    bob.ack_up_to(120).await;
    // The inboxes may be announced in any order: each is read for itself.
    bob.wait("drained", |frame| frame["event"] == "queue:drained" && frame["data"] == json!({"class": "chat", "inboxSeq": 120})).await;
    bob.wait("drained", |frame| frame["event"] == "queue:drained" && frame["data"] == json!({"class": "event", "inboxSeq": 0})).await;
    node.stop().await;
}

#[tokio::test]
async fn group_with_mixed_presence() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = group(&pool, &["alice", "here", "reads", "away"]).await;
    let (mut alice, mut here, mut reads) = (node.connect("alice").await, node.connect("here").await, node.connect("reads").await);
    let sent = alice.ask("message:send", json!({"chatId": chat, "content": "all of you"})).await["data"].take();
    let message = here.event("message:receive").await;
    here.ack(&message).await;
    let message = reads.event("message:receive").await;
    reads.ask("message:read", json!({"chatId": chat, "seq": message["seq"]})).await;

    let mut told = HashSet::new();
    for _ in 0..3 {
        let status = alice.event("message:status").await;
        assert_eq!(status["messageIds"], json!([sent["messageId"]]));
        told.insert(format!("{} {}", status["userId"], status["status"]));
    }
    assert_eq!(told, HashSet::from([r#""here" "delivered""#, r#""reads" "delivered""#, r#""reads" "read""#].map(str::to_owned)));
    for (user, status) in [("here", "delivered"), ("reads", "read"), ("away", "sent")] {
        assert_eq!(statuses(&pool, user).await, [status]);
    }
    let mut away = node.connect("away").await;
    let message = away.event("message:receive").await;
    away.ack(&message).await;
    assert_eq!(alice.event("message:status").await["userId"], "away");
    node.stop().await;
}

#[tokio::test]
async fn rapid_reconnection_delivers_once() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let mut alice = node.connect("alice").await;
    alice.send("bob", "once").await;
    let phone = || Connect::user("bob").device("phone");
    for _ in 0..10 {
        let mut bob = node.open(phone()).await;
        assert_eq!(bob.event("message:receive").await["attempt"], 1);
        bob.cut();
    }
    let (mut phone_now, mut other) = (node.open(phone()).await, node.connect("bob").await);
    let (message, same) = (phone_now.event("message:receive").await, other.event("message:receive").await);
    assert_eq!(message["messageId"], same["messageId"]);
    phone_now.ack(&message).await;
    other.ack(&same).await;
    for wishes in [phone(), Connect::user("bob")] {
        let mut again = node.open(wishes).await;
        again.wait("nothing", |frame| frame["event"] == "queue:drained" && frame["data"]["class"] == "chat").await;
        assert!(again.until_pong().await.iter().all(|frame| frame["event"] != "message:receive"));
    }
    let receipt = alice.event("message:status").await;
    assert_eq!(receipt["messageIds"], json!([message["messageId"]]));
    alice.send("alice", "to see what else has come").await;
    assert!(alice.until_pong().await.iter().all(|frame| frame["event"] != "message:status"));
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'delivered' and attempts = 0").await, 1);
    node.stop().await;
}

#[tokio::test]
async fn too_many_pending() {
    const WAITING: i32 = 10_000;
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", WAITING).await;
    let mut bob = node.connect("bob").await;
    assert_eq!((&bob.ready["pending"], &bob.ready["pendingMore"]), (&json!(1_000), &json!(true)));
    let metrics = &node.app().context().metrics;
    for page in 1..=u64::try_from(WAITING / 50).unwrap() {
        let messages = bob.receive(50).await;
        let last = messages[49]["inboxSeq"].as_u64().unwrap();
        assert_eq!(last, page * 50);
        // The window is full: nothing more comes, and what is read ahead is one page.
        assert!(bob.until_pong().await.iter().all(|frame| frame["event"] != "message:receive"));
        assert!(metrics.page_reads.of("chat").get() <= page + 1);
        bob.ack_up_to(last).await;
    }
    bob.wait("drained", |frame| frame["event"] == "queue:drained" && frame["data"] == json!({"class": "chat", "inboxSeq": WAITING})).await;
    assert_eq!(metrics.emissions.get(), u64::try_from(WAITING).unwrap());
    node.stop().await;
}

#[tokio::test]
async fn disconnect_during_delivery() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 30).await;
    let mut bob = node.connect("bob").await;
    let messages = bob.receive(10).await;
    for message in &messages[..5] {
        bob.ack(message).await;
    }
    bob.cut();
    let mut bob = node.connect("bob").await;
    assert_eq!((&bob.ready["pending"], &bob.ready["settledSeq"]), (&json!(25), &json!(5)));
    let expected: Vec<String> = (6..=30).map(|n| n.to_string()).collect();
    assert_eq!(contents(&bob.receive(25).await), expected);
    bob.ack_up_to(30).await;
    assert!(statuses(&pool, "bob").await.iter().all(|status| status == "delivered"));
    node.stop().await;
}

#[tokio::test]
async fn operators_requeue_while_the_user_is_connected() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    alice.send("bob", "difficult").await;
    let message = bob.event("message:receive").await;
    bob.ask("message:reject", json!({"messageId": message["messageId"], "reason": "cannot read this", "final": true})).await;
    assert_eq!(alice.event("message:status").await["reason"], "cannot read this");

    let id = message["messageId"].as_str().unwrap().parse::<uuid::Uuid>().unwrap();
    sqlx::query("select restante_requeue($1, 'bob')").bind(id).execute(&pool).await.unwrap();
    let again = bob.event("message:receive").await;
    assert_eq!((&again["messageId"], &again["inboxSeq"], &again["seq"], &again["attempt"]), (&json!(id), &json!(2), &json!(1), &json!(1)));
    bob.ack(&again).await;
    assert_eq!(alice.event("message:status").await["status"], "delivered");
    let row = &rows(&pool, "bob").await[0];
    assert_eq!((row.seq, row.status.as_str(), &row.reason), (2, "delivered", &None));
    assert_eq!(number(&pool, "select count(*) from endings where status <> 'sent'").await, 0);
    node.stop().await;
}
