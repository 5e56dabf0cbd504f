//! Counts in chats of more than fifty members: they never say more than the statuses, fall when a member leaves, and begin and end with the
//! size of the chat.

use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::nodes::two_nodes;
use crate::support::{Connect, Database, Node, PrivateServer, Socket, database, fill, group};

/// A node, and a group of alice and so many members.
async fn start(members: usize) -> (Database, Node, PgPool, Uuid) {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    let chat = crowd(&pool, members).await;
    (db, node, pool, chat)
}

fn name(n: usize) -> String {
    format!("member-{n}")
}

async fn crowd(pool: &PgPool, members: usize) -> Uuid {
    let names: Vec<String> = std::iter::once("alice".to_owned()).chain((0..members).map(name)).collect();
    group(pool, &names.iter().map(String::as_str).collect::<Vec<_>>()).await
}

async fn says(alice: &mut Socket, chat: Uuid) -> String {
    let sent = alice.ask("message:send", json!({"chatId": chat, "content": "all"})).await;
    sent["data"]["messageId"].as_str().unwrap().to_owned()
}

async fn reads(node: &Node, n: usize, chat: Uuid, seq: i64) {
    let (status, body) = node.api(&name(n)).post(&format!("/v1/chats/{chat}/read"), json!({"seq": seq})).await;
    assert_eq!(status, 200, "{body}");
}

async fn acks(node: &Node, n: usize, message: &str) {
    let (status, body) = node.api(&name(n)).post("/v1/inbox/ack", json!({"messageIds": [message]})).await;
    assert_eq!(status, 200, "{body}");
}

/// Members join or leave.
async fn change(node: &Node, chat: Uuid, joins: bool, who: &[String]) {
    let (api, path, body) = (node.api("alice"), format!("/v1/chats/{chat}/members"), json!({"userIds": who}));
    let (status, body) = if joins { api.post(&path, body).await } else { api.delete(&path, body).await };
    assert_eq!(status, 200, "{body}");
}

type Counts = (i64, i64, i64);

fn counts(frame: &Value) -> Option<Counts> {
    let of = |name: &str| frame["data"][name].as_i64();
    Some((of("deliveredCount")?, of("readCount")?, of("memberCount")?))
}

/// Waits for these counts of a message. Those that come before are not above `at_most`.
async fn counted(alice: &mut Socket, message: &str, wanted: Counts, at_most: Counts) {
    let what = format!("{wanted:?}");
    loop {
        let frame = alice.wait(&what, |frame| counts(frame).is_some() && frame["data"]["messageId"] == message).await;
        match counts(&frame).unwrap() {
            got if got == wanted => return,
            got => assert!(got.0 <= at_most.0 && got.1 <= at_most.1 && got.1 <= got.0, "{got:?} on the way to {wanted:?}"),
        }
    }
}

/// The frames for a sender that was away since a cursor: counts by message, and marks by member.
async fn told_since(node: &Node, cursor: &Value) -> (Vec<Counts>, Vec<String>) {
    let mut alice = node.open(Connect::user("alice").with("marks", cursor.as_str().unwrap())).await;
    let frames: Vec<Value> = alice.until_pong().await.into_iter().filter(|frame| frame["event"] == "message:status").collect();
    let all = frames.iter().filter_map(counts).collect();
    let marks = frames.iter().filter(|frame| counts(frame).is_none() && frame["data"]["seq"] != 0);
    let mark = |frame: &Value| {
        format!("{} {} {}", frame["data"]["userId"].as_str().unwrap(), frame["data"]["status"].as_str().unwrap(), frame["data"]["seq"])
    };
    let mut marks: Vec<String> = marks.map(mark).collect();
    marks.sort_unstable();
    alice.close().await;
    (all, marks)
}

/// The same of the statuses that anybody may ask for.
async fn by_status(node: &Node, message: &str) -> (i64, i64) {
    let (status, body) = node.api("alice").get(&format!("/v1/messages/{message}/status")).await;
    assert_eq!(status, 200, "{body}");
    let of = |wanted: &[&str]| {
        body["statuses"].as_array().unwrap().iter().filter(|it| wanted.contains(&it["status"].as_str().unwrap())).count() as i64
    };
    (of(&["delivered", "read"]), of(&["read"]))
}

#[tokio::test]
async fn what_expired_or_failed_is_not_counted_live_and_after_a_reconnect() {
    let (_db, node, pool, chat) = start(54).await;
    let mut alice = node.connect("alice").await;
    let before = alice.ready["marksCursor"].clone();
    let first = says(&mut alice, chat).await;
    acks(&node, 0, &first).await;
    let reject = json!({"messageId": first, "reason": "cannot", "final": true});
    assert_eq!(node.api(&name(1)).post("/v1/inbox/reject", reject).await.0, 200);
    sqlx::query("update messages set expires_at = now()").execute(&pool).await.unwrap();
    sqlx::query("select restante_expire('epoch', '00000000-0000-0000-0000-000000000000', now(), 500, 2000)").execute(&pool).await.unwrap();
    assert_eq!(by_status(&node, &first).await, (1, 0));
    assert_eq!(told_since(&node, &before).await.0, [(1, 0, 54)]);
    reads(&node, 0, chat, 1).await;
    counted(&mut alice, &first, (1, 1, 54), (1, 1, 54)).await;
    // The marks of all are at the first message: the second counts nobody.
    let second = says(&mut alice, chat).await;
    acks(&node, 2, &second).await;
    counted(&mut alice, &second, (1, 0, 54), (1, 0, 54)).await;
    assert_eq!((told_since(&node, &before).await.0, by_status(&node, &second).await), (vec![(1, 0, 54)], (1, 0)));
    node.stop().await;
}

#[tokio::test]
async fn what_an_older_message_held_back_is_counted_once_nothing_is_missing_below() {
    let (_db, node, _pool, chat) = start(51).await;
    let mut alice = node.connect("alice").await;
    let before = alice.ready["marksCursor"].clone();
    let (first, second) = (says(&mut alice, chat).await, says(&mut alice, chat).await);
    acks(&node, 0, &second).await;
    counted(&mut alice, &second, (0, 0, 51), (1, 0, 51)).await;
    acks(&node, 0, &first).await;
    counted(&mut alice, &second, (1, 0, 51), (1, 0, 51)).await;
    assert_eq!(by_status(&node, &second).await, (1, 0));
    // Another gives up the older one: what it has of the newer one counts as well.
    acks(&node, 1, &second).await;
    let reject = json!({"messageId": first, "reason": "cannot", "final": true});
    assert_eq!(node.api(&name(1)).post("/v1/inbox/reject", reject).await.0, 200);
    counted(&mut alice, &second, (2, 0, 51), (2, 0, 51)).await;
    assert_eq!(told_since(&node, &before).await.0, [(2, 0, 51)]);
    node.stop().await;
}

#[tokio::test]
async fn the_counts_fall_when_a_member_leaves_that_was_counted_live_and_after_a_reconnect() {
    let server = PrivateServer::start().await;
    let db = server.database("restante").await;
    let (node, pool) = (Node::start(db.clone()).await, PgPool::connect_with(db).await.unwrap());
    let chat = crowd(&pool, 55).await;
    let mut alice = node.connect("alice").await;
    let message = says(&mut alice, chat).await;
    for n in 0..3 {
        reads(&node, n, chat, 1).await;
    }
    counted(&mut alice, &message, (3, 3, 55), (3, 3, 55)).await;
    let known = node.connect("alice").await.ready["marksCursor"].clone();
    change(&node, chat, false, &[name(0)]).await;
    counted(&mut alice, &message, (2, 2, 54), (3, 3, 55)).await;
    assert_eq!(told_since(&node, &known).await, (vec![(2, 2, 54)], vec![]));
    // One that comes back has nothing of what came before.
    change(&node, chat, true, &[name(0)]).await;
    change(&node, chat, false, &[name(1), name(30)]).await;
    counted(&mut alice, &message, (1, 1, 52), (2, 2, 54)).await;
    assert_eq!(by_status(&node, &message).await, (3, 3), "statuses know of those who have left");
    node.stop().await;
}

#[tokio::test]
async fn the_form_changes_when_the_membership_crosses_fifty_live_and_after_a_reconnect() {
    let (_db, node, _pool, chat) = start(49).await;
    let mut alice = node.connect("alice").await;
    let before = alice.ready["marksCursor"].clone();
    let message = says(&mut alice, chat).await;
    acks(&node, 0, &message).await;
    let named = alice.event("message:status").await;
    assert_eq!((&named["userId"], &named["status"]), (&json!("member-0"), &json!("delivered")));
    // The 51st joins: counts at once, and for whatever is acked from then on.
    change(&node, chat, true, &["joins".to_owned()]).await;
    acks(&node, 1, &message).await;
    counted(&mut alice, &message, (2, 0, 49), (2, 0, 49)).await;
    assert!(alice.until_pong().await.iter().all(|frame| frame["data"]["userId"] != "member-1"), "it was told by name");
    assert_eq!(told_since(&node, &before).await, (vec![(2, 0, 49)], vec![]));
    let large = node.connect("alice").await.ready["marksCursor"].clone();
    // Two leave: every member's mark by name, also those that were only counted.
    change(&node, chat, false, &["joins".to_owned(), name(48)]).await;
    acks(&node, 2, &message).await;
    let mut names = std::collections::BTreeSet::new();
    while names.len() < 3 {
        let frame = alice.wait("a name", |frame| frame["event"] == "message:status").await;
        assert_eq!(counts(&frame), None, "{frame}");
        // The endings of the one that left are told by name too, with a number of 0.
        if frame["data"]["status"] == "delivered" && frame["data"]["seq"] == 1 {
            names.insert(frame["data"]["userId"].as_str().unwrap().to_owned());
        }
    }
    let delivered = [0, 1, 2].map(|n| format!("member-{n} delivered 1"));
    assert_eq!(names.into_iter().collect::<Vec<_>>(), [name(0), name(1), name(2)]);
    assert_eq!(told_since(&node, &large).await, (vec![], delivered.to_vec()));
    node.stop().await;
}

#[tokio::test]
async fn a_sender_at_another_node_is_told_in_the_form_that_follows_from_a_change_made_here() {
    let (_db, here, there, pool) = two_nodes().await;
    let chat = crowd(&pool, 49).await;
    let mut alice = there.connect("alice").await;
    let message = says(&mut alice, chat).await;
    acks(&there, 0, &message).await;
    assert_eq!(alice.event("message:status").await["userId"], "member-0");
    change(&here, chat, true, &["joins".to_owned(), "joins-too".to_owned()]).await;
    counted(&mut alice, &message, (1, 0, 49), (1, 0, 49)).await;
    acks(&there, 1, &message).await;
    counted(&mut alice, &message, (2, 0, 49), (2, 0, 49)).await;
    change(&here, chat, false, &["joins".to_owned(), "joins-too".to_owned()]).await;
    alice.wait("a name", |frame| frame["data"]["userId"] == "member-1" && frame["data"]["kind"] == "mark").await;
    there.stop().await;
    here.stop().await;
}

#[tokio::test]
async fn a_sender_that_has_left_is_told_no_counts_of_those_who_are_there_now() {
    let (_db, node, pool, chat) = start(60).await;
    let mut member = node.connect(&name(0)).await;
    let sent = member.ask("message:send", json!({"chatId": chat, "content": "mine"})).await["data"].take();
    reads(&node, 1, chat, 1).await;
    counted(&mut member, sent["messageId"].as_str().unwrap(), (1, 1, 60), (1, 1, 60)).await;
    change(&node, chat, false, &[name(0)]).await;
    member.event("chat:removed").await;
    fill(&pool, chat, "alice", 1).await;
    let mut alice = node.connect("alice").await;
    let message = says(&mut alice, chat).await;
    reads(&node, 2, chat, 3).await;
    counted(&mut alice, &message, (1, 1, 59), (1, 1, 59)).await;
    let counted_later = member.until_pong().await.iter().filter_map(counts).collect::<Vec<_>>();
    assert_eq!(counted_later, []);
    node.stop().await;
}
