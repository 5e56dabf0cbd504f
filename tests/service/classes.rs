//! The classes of inboxes: each inbox is numbered, drained, acked and resumed by itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Connect, Database, Node, Socket, database, fill, group, number, until_true};

const CLASSES: [&str; 3] = ["chat", "alert", "event"];

/// A node, and so many messages for bob in each of his inboxes.
async fn start(counts: [i32; 3]) -> (Database, Node, PgPool) {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    for (class, count) in CLASSES.into_iter().zip(counts) {
        let chat = group(&pool, &["alice", "bob"]).await;
        let update = "update chat_heads set class = $1::inbox_class where chat_id = $2";
        sqlx::query(update).bind(class).bind(chat).execute(&pool).await.unwrap();
        fill(&pool, chat, "alice", count).await;
    }
    (db, node, pool)
}

/// The next envelopes: per class their numbers, in the order in which they come.
async fn receive(socket: &mut Socket, count: usize) -> BTreeMap<String, Vec<i64>> {
    let mut numbers: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for _ in 0..count {
        let message = socket.envelope().await;
        let class = message["class"].as_str().unwrap().to_owned();
        numbers.entry(class).or_default().push(message["inboxSeq"].as_i64().unwrap());
    }
    numbers
}

fn numbers<const N: usize>(of: [(&str, Vec<i64>); N]) -> BTreeMap<String, Vec<i64>> {
    of.into_iter().map(|(class, numbers)| (class.to_owned(), numbers)).collect()
}

/// The inboxes that have been announced as drained, each with its last number at connect.
async fn drained(socket: &mut Socket) -> BTreeMap<String, i64> {
    let mut ends = BTreeMap::new();
    for _ in CLASSES {
        let told = socket.event("queue:drained").await;
        let class = told["class"].as_str().unwrap().to_owned();
        assert!(ends.insert(class, told["inboxSeq"].as_i64().unwrap()).is_none(), "it is announced once: {told}");
    }
    ends
}

#[tokio::test]
async fn each_inbox_is_drained_acked_and_announced_by_itself() {
    let (_db, node, pool) = start([3, 2, 1]).await;
    let mut bob = node.connect("bob").await;
    let stands = |ready: &Value| ["lastSeq", "alertLastSeq", "eventLastSeq", "pending"].map(|field| ready[field].as_i64().unwrap());
    assert_eq!(stands(&bob.ready), [3, 2, 1, 6]);
    let came = receive(&mut bob, 6).await;
    assert_eq!(came, numbers([("chat", vec![1, 2, 3]), ("alert", vec![1, 2]), ("event", vec![1])]));
    for (class, count) in [("event", 1), ("alert", 2), ("chat", 3)] {
        let ahead = bob.ask("message:delivered", json!({"upTo": count + 1, "class": class})).await;
        assert_eq!(ahead["data"]["code"], "ack_ahead", "{class}");
        let acked = bob.ask("message:delivered", json!({"upTo": count, "class": class})).await;
        assert_eq!(acked["event"], "message:delivered:ok", "{class}");
    }
    let ends = BTreeMap::from([("chat", 3), ("alert", 2), ("event", 1)].map(|(class, end)| (class.to_owned(), end)));
    assert_eq!(drained(&mut bob).await, ends);
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'sent'").await, 0);
    bob.close().await;

    let mut bob = node.connect("bob").await;
    let settled = ["settledSeq", "alertSettledSeq", "eventSettledSeq", "pending"].map(|field| bob.ready[field].as_i64().unwrap());
    assert_eq!(settled, [3, 2, 1, 0]);
    assert_eq!(drained(&mut bob).await, ends, "an inbox in which nothing waits is announced too");
    node.stop().await;
}

#[tokio::test]
async fn since_names_how_far_the_client_has_got_in_each_inbox() {
    let (_db, node, pool) = start([5, 4, 10]).await;
    let mut bob = node.connect("bob").await;
    let epoch = bob.ready["epoch"].as_str().unwrap().to_owned();
    receive(&mut bob, 19).await;
    bob.cut();
    let resume = |since: &str| Connect::user("bob").with("epoch", &epoch).with("since", since);
    // No number above 4 was given in the alert inbox: 99 says nothing of it.
    let mut bob = node.open(resume("2,alert:99,event:6")).await;
    assert_eq!((&bob.ready["resumed"], &bob.ready["pending"]), (&json!(true), &json!(3 + 4 + 4)));
    let came = receive(&mut bob, 11).await;
    assert_eq!(came, numbers([("chat", vec![3, 4, 5]), ("alert", vec![1, 2, 3, 4]), ("event", vec![7, 8, 9, 10])]));
    until_true(&pool, "select count(*) = 6 from message_status where status = 'delivered' and class = 'event' and seq <= 6").await;
    until_true(&pool, "select count(*) = 2 from message_status where status = 'delivered' and class = 'chat' and seq <= 2").await;
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'delivered'").await, 8);
    for class in CLASSES {
        bob.ask("message:delivered", json!({"upTo": came[class].last().unwrap(), "class": class})).await;
    }
    bob.close().await;

    // A client that has lost events gets them again, and nothing else: the other inboxes are settled.
    let mut bob = node.open(resume("event:8")).await;
    assert_eq!((&bob.ready["resumed"], &bob.ready["pending"]), (&json!(true), &json!(2)));
    assert_eq!(receive(&mut bob, 2).await, numbers([("event", vec![9, 10])]));
    bob.close().await;

    let mut bob = node.open(resume("event:11")).await;
    assert_eq!((&bob.ready["resumed"], &bob.ready["pending"]), (&json!(false), &json!(0)));
    assert_eq!(drained(&mut bob).await.len(), 3);
    node.stop().await;
}
