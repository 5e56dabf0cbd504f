//! Sends to users by their names: the connection reads on while chats are looked up, and each chat keeps its order.

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::fixtures::{LockHolder, assert_consistent, number};
use crate::support::{Database, Node, Socket, database, direct, until_true};

/// Nobody can be found or made by name: what is sent to a name waits.
async fn nobody_is_found(db: &Database) -> LockHolder {
    LockHolder::holds(&db.options(), "lock table users in access exclusive mode").await
}

/// Only bob cannot be made: somebody else is about to.
async fn bob_is_being_made(db: &Database) -> LockHolder {
    LockHolder::holds(&db.options(), "select from restante_users(array['bob'])").await
}

async fn later(socket: &mut Socket, data: Value) -> String {
    socket.ask_later("message:send", data).await
}

/// Tells whether one of these frames answers a send.
fn answers(frames: &[Value]) -> bool {
    frames.iter().any(|frame| frame["event"] == "message:sent" || frame["event"] == "error")
}

/// The contents of the direct chat of these two users, in its order.
async fn contents(pool: &PgPool, one: &str, other: &str) -> Vec<String> {
    let chat = direct(pool, one, other).await;
    sqlx::query_scalar("select content from messages where chat_id = $1 order by seq").bind(chat).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn sends_to_one_user_keep_their_order_while_the_chat_is_made_and_others_do_not_wait() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::start(db.options()).await;
    let mut alice = node.connect("alice").await;
    let holder = bob_is_being_made(&db).await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(later(&mut alice, json!({"to": "bob", "content": n.to_string()})).await);
    }
    // The connection reads on: what goes to another chat overtakes, and a ping has its answer.
    assert_eq!(alice.send("carol", "overtakes").await["seq"], 1);
    assert!(!answers(&alice.until_pong().await), "bob's chat is held");
    holder.commits().await;
    for (n, id) in (1..).zip(ids) {
        assert_eq!(alice.answer(&id).await["data"]["seq"], n);
    }
    assert_eq!(alice.send("bob", "10").await["seq"], 11);
    let wanted: Vec<String> = (0..=10).map(|n| n.to_string()).collect();
    assert_eq!(contents(&pool, "alice", "bob").await, wanted);
    assert_consistent(&pool).await;
    node.stop().await;
}

/// A chat may be found while its connection still reads: what is read then is behind what waits, though the chat is known by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_read_while_a_chat_is_being_found_does_not_overtake_what_waits_for_it() {
    const NAMES: usize = 40;
    const EACH: usize = 25;
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::start(db.options()).await;
    let senders = (0..4).map(|n| format!("sender-{n}")).collect::<Vec<_>>();
    let all = senders.iter().map(|sender| async {
        let mut socket = node.connect(sender).await;
        let mut last = String::new();
        for name in 0..NAMES {
            for n in 0..EACH {
                last = later(&mut socket, json!({"to": format!("user-{name}"), "content": n.to_string()})).await;
            }
        }
        assert_eq!(socket.answer(&last).await["event"], "message:sent");
    });
    join_all(all).await;
    until_true(&pool, "select count(*) = 4000 from messages").await;
    let overtaken = "select count(*) from messages where content::int <> seq - 1";
    assert_eq!(number(&pool, overtaken).await, 0);
    node.stop().await;
}

#[tokio::test]
async fn a_chat_that_is_named_by_its_id_in_between_keeps_its_place() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::start(db.options()).await;
    let chat = direct(&pool, "alice", "bob").await;
    let mut alice = node.connect("alice").await;
    let holder = nobody_is_found(&db).await;
    let mut last = String::new();
    for n in 0..9 {
        let by_id = n % 3 == 1;
        let data = if by_id { json!({"chatId": chat, "content": n.to_string()}) } else { json!({"to": "bob", "content": n.to_string()}) };
        last = later(&mut alice, data).await;
        let to_carol = later(&mut alice, json!({"to": "carol", "content": n.to_string()})).await;
        assert!(to_carol != last);
    }
    assert!(!answers(&alice.until_pong().await), "no name can be found");
    holder.commits().await;
    assert_eq!(alice.answer(&last).await["data"]["seq"], 9);
    let wanted: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    assert_eq!(contents(&pool, "alice", "bob").await, wanted);
    // To carol, the last one is answered last.
    alice.send("carol", "9").await;
    let wanted: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(contents(&pool, "alice", "carol").await, wanted);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn a_refusal_in_the_middle_answers_its_own_frame() {
    let db = database().await;
    let node = Node::with(db.options(), |config| (config.send_rate, config.direct_chats_per_hour) = (1_000, 1)).await;
    let mut alice = node.connect("alice").await;
    let mut ids = Vec::new();
    for to in ["bob", "cleo", "bob", "cleo", "bob"] {
        ids.push(later(&mut alice, json!({"to": to, "content": to})).await);
    }
    for (n, id) in ids.iter().enumerate() {
        let answer = alice.answer(id).await;
        match n % 2 {
            0 => assert_eq!((&answer["event"], &answer["data"]["seq"]), (&json!("message:sent"), &json!(n / 2 + 1))),
            _ => assert_eq!((&answer["event"], &answer["data"]["code"]), (&json!("error"), &json!("too_many_chats"))),
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn acks_are_taken_and_committed_while_sends_wait_for_their_chat() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::start(db.options()).await;
    let mut alice = node.connect("alice").await;
    let holder = bob_is_being_made(&db).await;
    let waits = later(&mut alice, json!({"to": "bob", "content": "waits"})).await;
    node.connect("carol").await.send("alice", "ack me").await;
    let [message] = alice.receive(1).await.try_into().unwrap();
    alice.ack(&message).await;
    holder.commits().await;
    assert_eq!(alice.answer(&waits).await["event"], "message:sent");
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn a_connection_reads_only_so_far_ahead_of_what_waits() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut alice = node.connect("alice").await;
    let mut carol = node.connect("carol").await;
    let holder = bob_is_being_made(&db).await;
    let mut last = String::new();
    for n in 0..300 {
        last = later(&mut alice, json!({"to": "bob", "content": n.to_string()})).await;
    }
    let pong = alice.ask_later("ping", json!({})).await;
    // Time enough for alice's connection, were it to read everything.
    for _ in 0..50 {
        carol.send("carol", "time passes").await;
    }
    let come = alice.frames_that_have_come().await;
    assert!(!answers(&come) && come.iter().all(|frame| frame["event"] != "pong"), "a connection has read 300 sends that wait");
    holder.commits().await;
    assert_eq!(alice.answer(&pong).await["event"], "pong");
    assert_eq!(alice.answer(&last).await["data"]["seq"], 300);
    node.stop().await;
}

#[tokio::test]
async fn what_was_sent_before_the_client_left_is_sent_though_its_chat_was_not_made_yet() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::start(db.options()).await;
    let mut alice = node.connect("alice").await;
    let holder = bob_is_being_made(&db).await;
    for n in 0..5 {
        later(&mut alice, json!({"to": "bob", "content": n.to_string()})).await;
    }
    alice.close().await;
    holder.commits().await;
    until_true(&pool, "select count(*) = 5 from messages").await;
    assert_eq!(contents(&pool, "alice", "bob").await, ["0", "1", "2", "3", "4"]);
    assert_consistent(&pool).await;
    node.stop().await;
}
