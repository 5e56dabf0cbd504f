//! Own reading: a user's other connections are told what it has read on one of them, as it happens, after an absence, and in the envelopes that come.

use serde_json::{Value, json};

use super::nodes::two_nodes;
use crate::support::{Connect, Node, Socket, database, direct, fill};

fn named<'f>(frames: &'f [Value], event: &str) -> Vec<&'f Value> {
    frames.iter().filter(|frame| frame["event"] == event).collect()
}

/// The chat and the number of the next `chat:read`.
async fn read_elsewhere(socket: &mut Socket) -> (Value, Value) {
    let mut data = socket.event("chat:read").await;
    assert!(data["marksCursor"].is_string(), "{data}");
    (data["chatId"].take(), data["readSeq"].take())
}

#[tokio::test]
async fn the_other_connections_are_told_on_every_node_and_the_one_that_reads_is_not() {
    let (_db, one, other, pool) = two_nodes().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 5).await;
    let mut laptop = one.connect("bob").await;
    let mut others = [one.connect("bob").await, other.connect("bob").await, other.open(Connect::user("bob").device("phone")).await];
    let mut alice = other.connect("alice").await;
    laptop.ask("message:read", json!({"chatId": chat, "seq": 2})).await;
    for socket in &mut others {
        assert_eq!(read_elsewhere(socket).await, (json!(chat), json!(2)));
    }
    // Again, and less: nobody is told.
    laptop.ask("message:read", json!({"chatId": chat, "seq": 2})).await;
    laptop.ask("message:read", json!({"chatId": chat, "seq": 1})).await;
    let (status, _) = one.api("bob").post(&format!("/v1/chats/{chat}/read"), json!({"seq": 4})).await;
    assert_eq!(status, 200);
    for socket in others.iter_mut().chain([&mut laptop]) {
        assert_eq!(read_elsewhere(socket).await, (json!(chat), json!(4)));
    }
    assert!(named(&laptop.until_pong().await, "chat:read").is_empty());
    alice.wait("read", |frame| frame["data"]["status"] == "read" && frame["data"]["seq"] == 4).await;
    assert!(named(&alice.until_pong().await, "chat:read").is_empty(), "it is nobody else's business");
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_was_read_meanwhile_is_told_after_ready_and_once() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 5).await;
    let phone = node.open(Connect::user("bob").device("phone")).await;
    let before = phone.ready["marksCursor"].as_str().unwrap().to_owned();
    phone.close().await;
    let mut laptop = node.open(Connect::user("bob").device("laptop")).await;
    laptop.ask("message:read", json!({"chatId": chat, "seq": 3})).await;
    laptop.close().await;
    for marks in [Some(before), None] {
        let mut connect = Connect::user("bob").device("phone");
        if let Some(marks) = &marks {
            connect = connect.with("marks", marks);
        }
        let mut phone = node.open(connect).await;
        let frames = phone.until_pong().await;
        let read = named(&frames, "chat:read");
        assert_eq!(read.len(), 1, "{frames:?}");
        assert_eq!((&read[0]["data"]["chatId"], &read[0]["data"]["readSeq"]), (&json!(chat), &json!(3)));
        let cursor = read[0]["data"]["marksCursor"].as_str().unwrap().to_owned();
        phone.close().await;
        // Nothing has moved since. (A cursor that is as old as the mark itself tells it once more.)
        sqlx::query("select txid_current()").execute(&pool).await.unwrap();
        let mut phone = node.open(Connect::user("bob").device("phone").with("marks", cursor)).await;
        assert!(named(&phone.until_pong().await, "chat:read").is_empty());
        phone.close().await;
    }
    node.stop().await;
}

#[tokio::test]
async fn an_envelope_says_the_status_that_its_message_has() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 4).await;
    let (mut alice, mut laptop) = (node.connect("alice").await, node.open(Connect::user("bob").device("laptop")).await);
    // The phone holds all of them, with room for one.
    let mut phone = node.open(Connect::user("bob").device("phone").with("window", 1)).await;
    let first = phone.event("message:receive").await;
    assert_eq!(first["status"], "sent");
    let statuses: Vec<Value> = laptop.receive(4).await.iter().map(|message| message["status"].clone()).collect();
    assert_eq!(statuses, ["sent"; 4].map(Value::from));
    laptop.ask("message:read", json!({"chatId": chat, "seq": 3})).await;
    phone.event("chat:read").await;
    phone.ack(&first).await;
    for expected in ["read", "read", "sent"] {
        let next = phone.event("message:receive").await;
        assert_eq!(next["status"], expected, "{next}");
        phone.ack(&next).await;
    }
    // One that comes back finds what was acked and read elsewhere.
    let mut tablet = node.open(Connect::user("bob").with("since", 0).with("epoch", phone.ready["epoch"].as_str().unwrap())).await;
    let statuses: Vec<Value> = tablet.receive(4).await.iter().map(|message| message["status"].clone()).collect();
    assert_eq!(statuses, ["read", "read", "read", "delivered"].map(Value::from));
    alice.send("bob", "new").await;
    assert_eq!(tablet.event("message:receive").await["status"], "sent");
    assert_eq!(node.api("bob").get("/v1/inbox").await.1["messages"][0]["status"], "sent");
    node.stop().await;
}
