//! Steps that several tests of the invariants share.

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{Connect, Database, Node, Socket, database, direct, fill, number, until_true, users, wait_until};

/// Makes every commit that stores a message wait for the advisory lock 1, after all its statements.
pub const HOLD_COMMITS: &str = "
    create function hold_the_commit() returns trigger language plpgsql as
      'begin perform pg_advisory_xact_lock_shared(1); return null; end';
    create constraint trigger commits_are_held after insert on messages
      deferrable initially deferred for each row execute function hold_the_commit()";

/// A node on a database of its own, and a pool to look at it.
pub async fn start() -> (Database, Node, PgPool) {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(4).await);
    (db, node, pool)
}

pub fn contents(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["content"].as_str().unwrap()).collect()
}

pub fn named<'a>(frames: &'a [Value], event: &str) -> Vec<&'a Value> {
    frames.iter().filter(|frame| frame["event"] == event).collect()
}

/// Acks every message and returns the numbers in the chat.
pub async fn chat_numbers(mut receiver: Socket, count: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let message = receiver.event("message:receive").await;
        receiver.tell("message:delivered", json!({"messageId": message["messageId"]})).await;
        seen.push(message["seq"].as_i64().unwrap());
    }
    seen
}

/// Sends many messages with all kinds of refusals and repetitions among them; returns how many were accepted.
pub async fn refused_among_accepted(alice: &mut Socket, carol: &mut Socket, chat: Uuid) -> usize {
    let mut asked = Vec::new();
    for n in 0..30 {
        let id = Uuid::now_v7();
        let send = json!({"messageId": id, "chatId": chat, "content": n.to_string()});
        asked.push(alice.ask_later("message:send", send.clone()).await);
        alice.ask_later("message:send", send.clone()).await;
        alice.ask_later("message:send", json!({"chatId": Uuid::now_v7(), "content": "no such chat"})).await;
        carol.ask_later("message:send", send).await;
    }
    for id in &asked {
        alice.answer(id).await;
    }
    // The first sender of an id has it, and the other one gets a conflict.
    carol.until_pong().await;
    30
}

pub async fn leave(pool: &PgPool, chat: Uuid, by: &str, who: &str) -> i64 {
    let ids = users(pool, &[by, who]).await;
    let left = "select left_seq from restante_remove_members($1, $2, array[$3::bigint]) where user_id is not null limit 1";
    sqlx::query_scalar(left).bind(chat).bind(ids[0]).bind(ids[1]).fetch_one(pool).await.unwrap()
}

pub async fn join(pool: &PgPool, chat: Uuid, by: &str, who: &str) -> i64 {
    let ids = users(pool, &[by, who]).await;
    let joined = "select joined_seq from restante_add_members($1, $2, array[$3::bigint], 100)";
    sqlx::query_scalar(joined).bind(chat).bind(ids[0]).bind(ids[1]).fetch_one(pool).await.unwrap()
}

/// Inbox numbers in the order of their arrival, as messages or in gaps, and the gaps' reasons.
pub async fn numbers_up_to(socket: &mut Socket, last: i64) -> (Vec<i64>, Vec<String>) {
    let (mut numbers, mut reasons) = (Vec::new(), Vec::new());
    while numbers.last() != Some(&last) {
        let frame = socket.wait("a message or a gap", |frame| frame["event"] == "message:receive" || frame["event"] == "queue:gap").await;
        let data = &frame["data"];
        if frame["event"] == "queue:gap" {
            numbers.extend(data["fromSeq"].as_i64().unwrap()..=data["toSeq"].as_i64().unwrap());
            reasons.push(data["reason"].as_str().unwrap().to_owned());
        } else {
            numbers.push(data["inboxSeq"].as_i64().unwrap());
        }
    }
    (numbers, reasons)
}

pub fn count_receipts(frames: &[Value], told: &mut HashMap<String, usize>) {
    for receipt in named(frames, "message:status") {
        for id in receipt["data"]["messageIds"].as_array().unwrap() {
            *told.entry(format!("{id} {}", receipt["data"]["status"])).or_default() += 1;
        }
    }
}

/// A client asks for a large window and reads nothing. The service reads pages for it until its outbox is full, which is before its
/// window is full.
pub async fn a_greedy_one_fills_its_outbox_and_no_more(node: &Node, pool: &PgPool, carol: &mut Socket) {
    let chat = direct(pool, "alice", "greedy").await;
    fill(pool, chat, "alice", 500).await;
    sqlx::query("update messages set content = repeat(E'\\x01', 32000) where chat_id = $1").bind(chat).execute(pool).await.unwrap();
    let emitted = node.app().context().metrics.emissions.get();
    let mut greedy = node.open(Connect::user("greedy").with("window", 500)).await;
    wait_until("the outbox is full", || node.app().context().metrics.emissions.get() > emitted).await;
    let mut seen = 0;
    while seen != node.app().context().metrics.emissions.get() {
        seen = node.app().context().metrics.emissions.get();
        for _ in 0..50 {
            carol.send("carol", "time passes").await;
        }
    }
    let for_greedy = node.app().context().metrics.emissions.get() - emitted;
    assert!(for_greedy <= 250, "{for_greedy} of 200 KB each");
    assert_eq!(greedy.receive(500).await.len(), 500);
}

/// A client reads nothing while many messages go to it. Its window fills, and nobody else waits. `emitted` is the number of emissions
/// before.
pub async fn a_silent_one_holds_back_nobody(node: &Node, pool: &PgPool, carol: &mut Socket, emitted: u64) {
    let silent = node.open(Connect::user("silent")).await;
    let mut alice = node.connect("alice").await;
    let large = "x".repeat(30_000);
    for _ in 0..300 {
        alice.send("silent", &large).await;
    }
    alice.send("carol", "still quick").await;
    let quick = carol.event("message:receive").await;
    carol.ack(&quick).await;
    let waits =
        "select count(*) from message_status s join users u on u.id = s.user_id where u.external_id = 'silent' and s.status = 'sent'";
    assert_eq!(number(pool, waits).await, 300);
    assert!(node.app().context().metrics.emissions.get() <= emitted + 50 + 1, "a window for the silent one and no more");
    drop(silent);
}

/// A client reads nothing while many messages go to it. The service has no transaction open then.
pub async fn a_client_that_reads_nothing_leaves_no_transaction_open(node: &Node, pool: &PgPool, alice: &mut Socket) {
    let silent = node.connect("silent").await;
    for _ in 0..100 {
        alice.send("silent", &"x".repeat(30_000)).await;
    }
    alice.until_pong().await;
    let none = "select not exists (select from pg_stat_activity where datname = current_database()
                and pid <> pg_backend_pid() and xact_start is not null)";
    until_true(pool, none).await;
    let idle = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";
    assert_eq!(number(pool, idle).await, 0);
    drop(silent);
}
