//! Named devices: a cursor each, one live connection each, and numbers without a hole. And who comes without a device.

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Connect, Database, Node, Socket, database, direct, fill, number, statuses, until_true};

async fn start() -> (Database, Node, PgPool) {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    (db, node, pool)
}

fn numbers(messages: &[Value]) -> Vec<i64> {
    messages.iter().map(|message| message["inboxSeq"].as_i64().unwrap()).collect()
}

fn device(name: &str) -> Connect {
    Connect::user("bob").device(name)
}

/// The messages that have come when the backlog is drained.
async fn backlog(socket: &mut Socket) -> Vec<Value> {
    socket.wait("drained", |frame| frame["event"] == "queue:drained" && frame["data"]["class"] == "chat").await;
    let frames = socket.until_pong().await;
    frames.into_iter().filter(|frame| frame["event"] == "message:receive" || frame["event"] == "queue:gap").collect()
}

#[tokio::test]
async fn each_device_gets_everything_behind_its_own_cursor_whatever_another_has_acked() {
    let (_db, node, pool) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 5).await;
    let (mut phone, mut laptop) = (node.open(device("phone")).await, node.open(device("laptop")).await);
    assert_eq!(numbers(&phone.receive(5).await), [1, 2, 3, 4, 5]);
    phone.ack_up_to(5).await;
    phone.close().await;
    assert_eq!(numbers(&laptop.receive(5).await), [1, 2, 3, 4, 5]);
    laptop.ack_up_to(2).await;
    laptop.cut();
    let mut laptop = node.open(device("laptop")).await;
    assert_eq!(laptop.ready["pending"], 3, "delivered, and yet to come for this device");
    assert_eq!(numbers(&laptop.receive(3).await), [3, 4, 5]);
    laptop.ack_up_to(5).await;
    for name in ["phone", "laptop"] {
        assert_eq!(backlog(&mut node.open(device(name)).await).await, Vec::<Value>::new());
    }
    assert_eq!(number(&pool, "select count(*) from device_cursors where class = 'chat' and acked_seq = 5").await, 2);
    node.stop().await;
}

#[tokio::test]
async fn a_new_device_starts_before_the_oldest_waiting_row_and_else_at_the_end() {
    let (_db, node, pool) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 6).await;
    let mut bob = node.connect("bob").await;
    let messages = bob.receive(6).await;
    for place in [0, 1, 3] {
        bob.ack(&messages[place]).await;
    }
    bob.close().await;
    let mut new = node.open(device("new")).await;
    assert_eq!(numbers(&new.receive(4).await), [3, 4, 5, 6], "from the oldest waiting row on, 4 too");
    new.ack_up_to(6).await;
    until_true(&pool, "select settled_seq = 6 from inboxes where class = 'chat' and last_seq = 6").await;
    let mut newer = node.open(device("newer")).await;
    assert_eq!((&newer.ready["pending"], &newer.ready["settledSeq"]), (&json!(0), &json!(6)));
    assert_eq!(backlog(&mut newer).await, Vec::<Value>::new());
    node.stop().await;
}

#[tokio::test]
async fn a_newer_connection_of_a_device_displaces_the_older_whose_late_acks_count() {
    let (_db, node, pool) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 2).await;
    let mut old = node.open(device("phone")).await;
    let messages = old.receive(2).await;
    let other = node.open(device("laptop")).await;
    let mut new = node.open(device("phone")).await;
    assert_eq!(numbers(&new.receive(2).await), [1, 2]);
    until_true(&pool, "select count(*) = 2 from message_status where status = 'sent'").await;
    // It has not read its dismissal yet.
    old.tell("message:delivered", json!({"messageId": messages[1]["messageId"]})).await;
    until_true(&pool, "select count(*) = 1 from message_status where status = 'delivered' and seq = 2").await;
    assert_eq!(old.closed().await, Some(4509));
    assert_eq!(old.error().await, "displaced");
    new.ack_up_to(2).await;
    assert_eq!(statuses(&pool, "bob").await, ["delivered", "delivered"]);
    new.until_pong().await;
    other.close().await;
    node.stop().await;
}

#[tokio::test]
async fn a_gap_is_told_again_until_something_after_it_is_acked() {
    let (_db, node, pool) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 4).await;
    let discard = "select restante_discard(message_id, 'bob') from message_status where seq in (2, 3)";
    sqlx::query(discard).execute(&pool).await.unwrap();
    let mut phone = node.open(device("phone")).await;
    assert_eq!(phone.ready["pending"], 2);
    let first = phone.event("message:receive").await;
    assert_eq!(first["inboxSeq"], 1);
    let gap = json!({"class": "chat", "fromSeq": 2, "toSeq": 3, "count": 2, "reason": "failed"});
    assert_eq!(phone.event("queue:gap").await, gap);
    phone.ack(&first).await;
    phone.cut();
    // The messages before the gap are acked. The service does not know whether the gap arrived.
    let mut phone = node.open(device("phone")).await;
    assert_eq!(phone.event("queue:gap").await, gap);
    let last = phone.event("message:receive").await;
    assert_eq!(last["inboxSeq"], 4);
    phone.ack(&last).await;
    assert_eq!(backlog(&mut node.open(device("phone")).await).await, Vec::<Value>::new());
    node.stop().await;
}

#[tokio::test]
async fn connections_without_a_device_share_what_waits() {
    let (_db, node, pool) = start().await;
    let (mut one, mut two, mut alice) = (node.connect("bob").await, node.connect("bob").await, node.connect("alice").await);
    alice.send("bob", "for both").await;
    let message = one.event("message:receive").await;
    assert_eq!(two.event("message:receive").await["messageId"], message["messageId"]);
    one.ack(&message).await;
    assert_eq!(backlog(&mut node.connect("bob").await).await, Vec::<Value>::new());
    two.ack(&message).await;
    assert_eq!(statuses(&pool, "bob").await, ["delivered"]);
    node.stop().await;
}

#[tokio::test]
async fn since_with_the_epoch_acks_up_to_it_and_goes_on_behind_it() {
    let (_db, node, pool) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 10).await;
    let mut bob = node.connect("bob").await;
    let epoch = bob.ready["epoch"].as_str().unwrap().to_owned();
    bob.receive(10).await;
    bob.cut();
    let resume = |epoch: &str, since: i64| Connect::user("bob").with("epoch", epoch).with("since", since);
    let mut bob = node.open(resume(&epoch, 6)).await;
    assert_eq!(bob.ready["resumed"], true);
    assert_eq!(numbers(&bob.receive(4).await), [7, 8, 9, 10]);
    until_true(&pool, "select count(*) = 6 from message_status where status = 'delivered' and seq <= 6").await;
    bob.cut();

    // Of another database, or never given: it says nothing.
    for (epoch, since, waits) in [("0123456789abcdef", 10, vec![7, 8, 9, 10]), (epoch.as_str(), 11, vec![7, 8, 9])] {
        let mut bob = node.open(resume(epoch, since)).await;
        assert_eq!(bob.ready["resumed"], false);
        let messages = bob.receive(waits.len()).await;
        assert_eq!(numbers(&messages), waits);
        // One ack: a client that acks nothing on several connections would get one message at a time.
        bob.ack(messages.last().unwrap()).await;
        bob.cut();
    }
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'sent'").await, 2);
    // A client that has lost its messages gets them again, also those that were acked.
    let mut bob = node.open(resume(&epoch, 3)).await;
    assert_eq!(numbers(&bob.receive(7).await), [4, 5, 6, 7, 8, 9, 10]);
    node.stop().await;
}
