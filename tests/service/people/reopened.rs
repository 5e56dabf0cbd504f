//! A chat that is open again after a block: what moved and ended while it was closed is told to nobody later, neither to a connection that
//! stays nor to one that comes back, and what happens from then on is. A sender that asks is answered the truth.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use super::{block, of, stop, unblock};
use crate::nodes::two_nodes;
use crate::support::{Connect, Node, Socket, until_true, wait_until};

/// Bob blocks alice, or takes it back, by one of the doors.
async fn by(door: &str, world: &(Node, PgPool), blocks: bool) {
    let (node, pool) = world;
    match (door, blocks) {
        ("http", true) => block(node, "bob", "alice").await,
        ("http", false) => unblock(node, "bob", "alice").await,
        ("socket", _) => {
            let command = if blocks { "block:add" } else { "block:remove" };
            let answer = node.connect("bob").await.ask(command, json!({"userId": "alice"})).await;
            assert_eq!(answer["event"], "block:ok", "{answer}");
        }
        _ => {
            let call = format!("select restante_{}('bob', 'alice')", if blocks { "block" } else { "unblock" });
            assert!(sqlx::query_scalar::<_, bool>(AssertSqlSafe(call)).fetch_one(pool).await.unwrap());
        }
    }
}

/// The marks that a connection with this cursor is told: the status and the number of each, and the numbers of those that it names.
async fn told(node: &Node, user: &str, cursor: Option<&str>) -> Vec<Value> {
    let connect = Connect::user(user);
    let mut socket = node.open(if let Some(cursor) = cursor { connect.with("marks", cursor) } else { connect }).await;
    let told = of(&mut socket, &["message:status"]).await;
    socket.close().await;
    told.iter().map(|frame| short(&frame["data"])).collect()
}

fn short(data: &Value) -> Value {
    let named = data["except"].as_array().into_iter().flatten();
    let named: Vec<_> = named.map(|one| json!([one["messageId"], one["status"], one["reason"]])).collect();
    json!([data["status"], data["seq"], named])
}

/// The status of a message for its recipient, as its sender is answered.
async fn asked(node: &Node, sender: &str, sent: &Value) -> Value {
    let (status, answer) = node.api(sender).get(&format!("/v1/messages/{}/status", sent["messageId"].as_str().unwrap())).await;
    assert_eq!(status, 200, "{answer}");
    let one = &answer["statuses"][0];
    json!([one["status"], one["reason"]])
}

/// An ack may be told so late that its chat is open again. Here the chat is noted as one that was opened again behind what is acked now.
/// Broken by a teller that asks only whether the chat is closed.
#[tokio::test]
async fn a_receipt_that_comes_late_is_not_told_when_the_chat_is_open_again() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    let sent = [alice.send("bob", "1").await, alice.send("bob", "2").await, alice.send("bob", "3").await];
    let reopened = "insert into reopened_chats (chat_id, user_id, told_delivered_seq, told_read_seq, told_xid, delivered_seq, read_seq)
                    select k.chat_id, k.user_id, 0, 0, k.marked_xid, 2, 1 from marks k";
    assert_eq!(sqlx::query(reopened).execute(pool).await.unwrap().rows_affected(), 2);
    let hidden = [&sent[0]["messageId"], &sent[1]["messageId"]];
    acks(&mut bob, 2).await;
    until_true(pool, "select count(*) = 2 from message_status where status = 'delivered'").await;
    acks(&mut bob, 1).await;
    loop {
        let told = alice.event("message:status").await;
        let named: Vec<&Value> = told["messageIds"].as_array().into_iter().flatten().collect();
        assert!(!named.iter().any(|one| hidden.contains(one)) && told["seq"].as_i64() == Some(3), "{told}");
        if told["status"] == "delivered" {
            break;
        }
    }
    stop(world).await;
}

async fn acks(socket: &mut Socket, count: usize) {
    for message in socket.receive(count).await {
        socket.ack(&message).await;
    }
}

/// A node tells receipts one after the other: once dora is told that carol has read, whatever was to be told of this reading is told.
async fn reads(node: &Node, user: &str, chat: &Value, seq: i64) {
    let read = async |user: &str, chat: &Value, seq: &Value| {
        let (status, answer) = node.api(user).post(&format!("/v1/chats/{}/read", chat.as_str().unwrap()), json!({"seq": seq})).await;
        assert_eq!(status, 200, "{answer}");
    };
    read(user, chat, &json!(seq)).await;
    let mut dora = node.connect("dora").await;
    let sent = dora.send("carol", "is it told?").await;
    read("carol", &sent["chatId"], &sent["seq"]).await;
    dora.event("message:status").await;
    dora.close().await;
}

/// A cursor that knows all that there is.
async fn cursor(node: &Node, user: &str) -> String {
    let mut socket = node.open(Connect::user(user)).await;
    let last = of(&mut socket, &["message:status"]).await.pop().expect("something has moved");
    socket.close().await;
    last["data"]["marksCursor"].as_str().unwrap().to_owned()
}

/// Broken by telling the marks as they are, by telling a mark of before again, and by endings that do not say that they were hidden.
#[tokio::test]
async fn after_a_block_its_sender_is_told_nothing_of_it_and_all_that_follows() {
    for door in ["http", "socket", "sql"] {
        let (_db, one, other, pool) = two_nodes().await;
        let world = (other, pool);
        let (mut alice, mut bob) = (one.connect("alice").await, world.0.connect("bob").await);
        let sent = [alice.send("bob", "1").await, alice.send("bob", "2").await];
        let chat = sent[0]["chatId"].clone();
        acks(&mut bob, 2).await;
        alice
            .wait("both are delivered", |frame| {
                frame["data"]["messageIds"].as_array().is_some_and(|ids| ids.contains(&sent[1]["messageId"]))
            })
            .await;
        bob.close().await;
        let waiting = [alice.send("bob", "3").await, alice.send("bob", "4").await];
        alice.close().await;
        let before = cursor(&one, "alice").await;
        by(door, &world, true).await;
        reads(&world.0, "bob", &chat, 2).await;
        by(door, &world, false).await;
        assert_eq!(told(&one, "alice", Some(&before)).await, Vec::<Value>::new(), "{door}");
        assert_eq!(told(&one, "alice", None).await, [json!(["delivered", 2, []])], "{door}: what was told before");
        for (message, status) in [(&sent[1], json!(["read", null])), (&waiting[0], json!(["expired", "undelivered"]))] {
            assert_eq!(asked(&one, "alice", message).await, status, "{door}");
        }
        // All that follows is told, and a mark never says more than is so.
        let mut alice = one.open(Connect::user("alice").with("marks", &before)).await;
        let mut bob = world.0.connect("bob").await;
        let fifth = alice.send("bob", "5").await;
        acks(&mut bob, 1).await;
        assert_eq!(alice.event("message:status").await["messageIds"], json!([fifth["messageId"]]), "{door}");
        alice.close().await;
        let named = waiting.map(|message| json!([message["messageId"], "expired", "undelivered"]));
        for cursor in [Some(before.as_str()), None] {
            let mut delivered = told(&one, "alice", cursor).await;
            delivered.iter_mut().for_each(|mark| mark[2].as_array_mut().unwrap().sort_by_key(|one| one.to_string()));
            assert_eq!(delivered, [json!(["delivered", 5, named])], "{door}: {cursor:?}");
        }
        let after = cursor(&one, "alice").await;
        reads(&world.0, "bob", &chat, 5).await;
        let read = told(&one, "alice", Some(&after)).await;
        assert_eq!(read.last().map(|mark| (&mark[0], &mark[1])), Some((&json!("read"), &json!(5))), "{door}: {read:?}");
        bob.close().await;
        let (other, pool) = world;
        stop((_db, one, other, pool)).await;
    }
}

/// Broken by marks that are remembered for one block only: those of the first were told after the second.
#[tokio::test]
async fn what_was_hidden_by_one_block_stays_hidden_after_another_one_and_what_lies_between_is_told() {
    let world = two_nodes().await;
    let (_, one, other, _) = &world;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    let chat = alice.send("bob", "1").await["chatId"].clone();
    acks(&mut bob, 1).await;
    alice.event("message:status").await;
    alice.close().await;
    let before = cursor(one, "alice").await;
    block(other, "bob", "alice").await;
    reads(other, "bob", &chat, 1).await;
    unblock(other, "bob", "alice").await;
    let mut alice = one.open(Connect::user("alice").with("marks", &before)).await;
    alice.send("bob", "2").await;
    acks(&mut bob, 1).await;
    alice.event("message:status").await;
    alice.close().await;
    block(other, "bob", "alice").await;
    block(one, "alice", "bob").await;
    unblock(other, "bob", "alice").await;
    assert_eq!(told(one, "alice", Some(&before)).await, Vec::<Value>::new(), "the other block stands");
    reads(other, "bob", &chat, 2).await;
    unblock(one, "alice", "bob").await;
    for cursor in [Some(before.as_str()), None] {
        assert_eq!(told(one, "alice", cursor).await, [json!(["delivered", 2, []])], "{cursor:?}");
    }
    bob.close().await;
    stop(world).await;
}

/// Broken by ends that a job writes after the block, of which more were told.
#[tokio::test]
async fn what_a_job_ends_after_the_block_is_hidden_too_and_the_other_side_of_it_as_well() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let mut alice = one.connect("alice").await;
    let first = alice.send("bob", "1").await;
    let chat: uuid::Uuid = first["chatId"].as_str().unwrap().parse().unwrap();
    let (mut bob, mut quiet) = (other.connect("bob").await, alice);
    acks(&mut bob, 1).await;
    bob.close().await;
    quiet.event("message:status").await;
    quiet.close().await;
    for _ in 0..3 {
        crate::support::fill(pool, chat, "alice", 500).await;
    }
    // Of bob something waits for alice, and is acked while the chat is closed.
    let mut bob = other.open(Connect::user("bob").with("window", 1)).await;
    bob.ask("message:send", json!({"to": "alice", "content": "from bob"})).await;
    let before = cursor(one, "alice").await;
    let mut alice = one.open(Connect::user("alice").with("marks", &before)).await;
    let held = alice.receive(1).await.remove(0);
    block(other, "bob", "alice").await;
    alice.ack(&held).await;
    alice.close().await;
    unblock(one, "bob", "alice").await;
    until_true(pool, "select not exists (select from message_status where status = 'sent')").await;
    until_true(pool, "select not exists (select from departures)").await;
    assert_eq!(told(one, "alice", Some(&before)).await, Vec::<Value>::new());
    assert_eq!(told(one, "alice", None).await, [json!(["delivered", 1, []])]);
    bob.close().await;
    assert_eq!(told(other, "bob", None).await, Vec::<Value>::new());
    stop(world).await;
}

/// Broken by showing an end that came after the block, or its reason, and by telling it once the block was taken back.
#[tokio::test]
async fn an_end_that_comes_during_a_block_is_shown_and_told_as_little_as_an_ack() {
    let world = two_nodes().await;
    let (_, one, other, pool) = &world;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    let mut sent = Vec::new();
    for content in ["failed before", "failed", "recalled", "acked"] {
        sent.push(bob.send("alice", content).await);
    }
    let came = alice.receive(4).await;
    let reject = |message: &Value, reason: &str| json!({"messageId": message["messageId"], "reason": reason, "final": true});
    alice.ask("message:reject", reject(&came[0], "before")).await;
    assert_eq!(bob.event("message:status").await["status"], "failed");
    let known = cursor(other, "bob").await;
    block(other, "bob", "alice").await;
    // The node of alice tells no receipts of the chat once it has heard of the block.
    wait_until("it has heard", || one.app().context().metrics.chat_sizes_known.get() == 0).await;
    assert_eq!(alice.ask("message:reject", reject(&came[1], "alice did this")).await["data"]["status"], "failed");
    assert_eq!(bob.ask("message:recall", json!({"messageId": sent[2]["messageId"]})).await["event"], "message:recall:ok");
    until_true(pool, "select count(*) = 1 from message_status where ended = 'recalled'").await;
    alice.ack(&came[3]).await;
    alice.until_pong().await;
    assert_eq!(asked(other, "bob", &sent[0]).await, json!(["failed", "before"]), "as it was");
    for message in &sent[1..] {
        assert_eq!(asked(other, "bob", message).await, json!(["sent", null]));
    }
    assert_eq!(told(other, "bob", Some(&known)).await, Vec::<Value>::new());
    unblock(one, "bob", "alice").await;
    assert_eq!(of(&mut bob, &["message:status"]).await, Vec::<Value>::new());
    assert_eq!(told(other, "bob", Some(&known)).await, Vec::<Value>::new());
    let before = json!([[sent[0]["messageId"], "failed", "before"]]);
    let told_before = [json!(["delivered", 1, before]), json!(["read", 1, before])];
    assert_eq!(told(other, "bob", None).await, told_before, "as it was told before");
    let truth = [["failed", "alice did this"], ["expired", "recalled"]].map(|one| json!(one));
    for (message, truth) in sent[1..].iter().zip(truth.iter().chain([&json!(["delivered", null])])) {
        assert_eq!(asked(other, "bob", message).await, *truth);
    }
    // A mark that passes them names them.
    bob.send("alice", "after").await;
    acks(&mut alice, 1).await;
    bob.event("message:status").await;
    let marks = told(other, "bob", Some(&known)).await;
    assert_eq!((&marks[0][0], &marks[0][1]), (&json!("delivered"), &json!(5)), "{marks:?}");
    let named = marks[0][2].as_array().unwrap();
    for (message, truth) in sent[1..].iter().zip(&truth) {
        assert!(named.contains(&json!([message["messageId"], truth[0], truth[1]])), "{named:?}");
    }
    assert_eq!(named.len(), 2, "{named:?}");
    stop(world).await;
}

/// Broken by hiding what an operator puts back once the chat is open.
#[tokio::test]
async fn a_message_that_failed_during_a_block_and_is_put_back_after_it_is_told_as_any_other() {
    let world = two_nodes().await;
    let (_, one, other, _) = &world;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    let sent = bob.send("alice", "x").await;
    let came = alice.receive(1).await.remove(0);
    block(other, "bob", "alice").await;
    alice.ask("message:reject", json!({"messageId": came["messageId"], "reason": "no", "final": true})).await;
    unblock(other, "bob", "alice").await;
    let items = json!({"items": [{"messageId": sent["messageId"], "userId": "alice"}]});
    let (_, answer) = one.admin().post("/v1/admin/dead-letters/requeue", items).await;
    assert_eq!(answer["results"][0]["outcome"], "requeued", "{answer}");
    let again = alice.receive(1).await.remove(0);
    alice.ack(&again).await;
    let is_delivered = |frame: &Value| frame["event"] == "message:status" && frame["data"]["status"] == "delivered";
    bob.wait("it is delivered", is_delivered).await;
    bob.close().await;
    let marks = told(other, "bob", None).await;
    assert_eq!(marks.last().unwrap()[2], json!([[sent["messageId"], "delivered", "requeued"]]), "{marks:?}");
    stop(world).await;
}
