//! The wire: every frame a client may or may not send, and what it gets for it.

use std::collections::BTreeSet;
use std::time::Duration;

use restante::config::Config;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use super::entering::request;
use crate::support::{
    Connect, Node, PATIENCE, Socket, database, direct, fill, group, number, rows, statuses, token_for, until_true, wait_until,
};

fn named<'a>(frames: &'a [Value], event: &str) -> Vec<&'a Value> {
    frames.iter().filter(|frame| frame["event"] == event).collect()
}

#[tokio::test]
async fn a_bad_frame_gets_an_error_with_its_id_and_the_connection_goes_on() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut bob = node.connect("bob").await;
    let id = Uuid::now_v7();
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let long = "x".repeat(33_000);
    let frames = [
        (r#"{"event":"dance","id":"a"}"#.to_owned(), json!("a"), "unknown_event"),
        (r#"{"event":"#.to_owned(), Value::Null, "bad_frame"),
        ("hello".to_owned(), Value::Null, "bad_frame"),
        ("[1]".to_owned(), Value::Null, "bad_frame"),
        (String::new(), Value::Null, "bad_frame"),
        (r#"{"event":7,"id":1}"#.to_owned(), json!(1), "bad_frame"),
        (r#"{"id":2}"#.to_owned(), json!(2), "bad_frame"),
        (r#"{"event":"ping","id":{}}"#.to_owned(), Value::Null, "invalid"),
        (r#"{"event":"message:send","id":3,"data":[]}"#.to_owned(), json!(3), "invalid"),
        (r#"{"event":"message:send","id":4,"data":{"to":"a"}}"#.to_owned(), json!(4), "invalid"),
        (r#"{"event":"message:send","id":5,"data":{"to":7,"content":"x"}}"#.to_owned(), json!(5), "invalid"),
        (format!(r#"{{"event":"message:send","id":6,"data":{{"to":"a","content":"{long}"}}}}"#), json!(6), "invalid"),
        (format!(r#"{{"event":"message:send","id":7,"data":{{"to":"{}","content":"x"}}}}"#, "u".repeat(129)), json!(7), "invalid"),
        (format!(r#"{{"event":"message:send","id":8,"data":{{"to":"a","content":"x","metadata":{deep}}}}}"#), json!(8), "invalid"),
        (r#"{"event":"message:send","id":9,"data":{"to":"a","content":"a\u0000b"}}"#.to_owned(), json!(9), "invalid"),
        (r#"{"event":"message:send","id":10,"data":{"to":"a","content":"x","metadata":{"n":1e200000}}}"#.to_owned(), json!(10), "invalid"),
        (r#"{"event":"message:send","id":11,"data":{"to":"a","content":"\ud800"}}"#.to_owned(), json!(11), "invalid"),
        (
            r#"{"event":"message:send","id":12,"data":{"to":"a","content":"x","expiresAt":"2020-01-01T00:00:00Z"}}"#.to_owned(),
            json!(12),
            "invalid",
        ),
        (r#"{"event":"message:delivered","id":13,"data":{"messageId":"no uuid"}}"#.to_owned(), json!(13), "invalid"),
        (r#"{"event":"message:delivered","id":14,"data":{}}"#.to_owned(), json!(14), "invalid"),
        (r#"{"event":"message:delivered","id":15,"data":{"upTo":-1}}"#.to_owned(), json!(15), "invalid"),
        (r#"{"event":"message:delivered","id":16,"data":{"upTo":1,"class":"letters"}}"#.to_owned(), json!(16), "invalid"),
        (format!(r#"{{"event":"message:read","id":17,"data":{{"chatId":"{id}"}}}}"#), json!(17), "invalid"),
        (format!(r#"{{"event":"typing","id":18,"data":{{"chatId":"{id}","typing":"yes"}}}}"#), json!(18), "invalid"),
        (r#"{"event":"presence:get","id":19,"data":{"userIds":"alice"}}"#.to_owned(), json!(19), "invalid"),
    ];
    for (text, id, code) in frames {
        bob.text(text.clone()).await;
        let error = bob.wait("the error", |frame| frame["event"] == "error").await;
        assert_eq!((&error["id"], &error["data"]["code"]), (&id, &json!(code)), "{text:.80} {error}");
    }
    bob.frame(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(bob.error().await, "bad_frame");
    bob.frame(Message::Ping(vec![1].into())).await;
    bob.until_pong().await;
    node.stop().await;
}

#[tokio::test]
async fn a_frame_of_more_than_256_kib_closes_the_connection_and_one_of_as_much_does_not() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut bob = node.connect("bob").await;
    let frame = |bytes: usize| format!(r#"{{"event":"ping","id":"{bytes}"{}}}"#, " ".repeat(bytes - 24 - bytes.to_string().len()));
    assert_eq!(frame(256 * 1024).len(), 256 * 1024);
    bob.text(frame(256 * 1024)).await;
    assert_eq!(bob.answer("262144").await["event"], "pong");
    bob.text(frame(256 * 1024 + 1)).await;
    assert_eq!(bob.closed().await, Some(4413));
    assert_eq!(bob.skipped().back().unwrap()["data"]["code"], "too_large");
    // One that announces as much and never sends it.
    let mut carol = node.connect("carol").await;
    carol.frame(Message::text("x".repeat(600 * 1024))).await;
    assert_eq!(carol.closed().await, Some(4413));
    node.stop().await;
}

#[tokio::test]
async fn ids_of_other_peoples_messages_change_nothing() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (mut alice, mut mallory) = (node.connect("alice").await, node.connect("mallory").await);
    let sent = alice.send("bob", "private").await;
    let (id, chat) = (&sent["messageId"], &sent["chatId"]);
    mallory.ack(&sent).await;
    for (event, data, code) in [
        ("message:reject", json!({"messageId": id, "reason": "no", "final": true}), "not_found"),
        ("message:read", json!({"chatId": chat, "seq": 1}), "not_a_member"),
        ("message:read", json!({"chatId": chat, "messageId": id}), "not_a_member"),
        ("message:send", json!({"chatId": chat, "content": "hi"}), "not_a_member"),
        ("message:send", json!({"messageId": id, "to": "bob", "content": "hi"}), "conflict"),
    ] {
        let answer = mallory.ask(event, data).await;
        assert_eq!(answer["data"]["code"], code, "{event}: {answer}");
    }
    // Nor has its sender a row to ack.
    alice.ack(&sent).await;
    assert_eq!(alice.ask("message:reject", json!({"messageId": id, "reason": "no"})).await["data"]["code"], "not_found");
    let row = &rows(&pool, "bob").await[0];
    assert_eq!((row.status.as_str(), row.attempts), ("sent", 0));
    assert!(named(&alice.until_pong().await, "message:status").is_empty());
    node.stop().await;
}

#[tokio::test]
async fn acks_of_what_was_never_sent_and_acks_repeated_are_confirmed_and_change_nothing() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    bob.ack(&json!({"messageId": Uuid::now_v7()})).await;
    let none = bob.ask("message:delivered", json!({"messageIds": []})).await;
    assert_eq!(none["event"], "message:delivered:ok");
    bob.ack_up_to(0).await;
    alice.send("bob", "x").await;
    let message = bob.event("message:receive").await;
    for _ in 0..3 {
        bob.ack(&message).await;
        bob.ack_up_to(1).await;
    }
    assert_eq!(statuses(&pool, "bob").await, ["delivered"]);
    node.stop().await;
}

#[tokio::test]
async fn an_ack_ahead_of_what_was_emitted_changes_nothing_in_either_class() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (chat, feed) = (direct(&pool, "alice", "bob").await, group(&pool, &["alice", "bob"]).await);
    sqlx::query("update chat_heads set class = 'event' where chat_id = $1").bind(feed).execute(&pool).await.unwrap();
    fill(&pool, chat, "alice", 5).await;
    fill(&pool, feed, "alice", 4).await;
    let mut bob = node.open(Connect::user("bob").with("window", 3)).await;
    assert_eq!((&bob.ready["lastSeq"], &bob.ready["eventLastSeq"], &bob.ready["pending"]), (&json!(5), &json!(4), &json!(9)));
    let mut classes = BTreeSet::new();
    for _ in 0..6 {
        classes.insert(bob.envelope().await["class"].as_str().unwrap().to_owned());
    }
    assert_eq!(classes, BTreeSet::from(["chat", "event"].map(str::to_owned)), "each class has a window of its own");
    for class in ["chat", "event"] {
        for ahead in [4, 5, 1_000_000] {
            let answer = bob.ask("message:delivered", json!({"upTo": ahead, "class": class})).await;
            assert_eq!((&answer["event"], &answer["data"]["code"]), (&json!("error"), &json!("ack_ahead")));
        }
        bob.tell("message:delivered", json!({"upTo": 4, "class": class})).await;
        assert_eq!(bob.error().await, "ack_ahead");
    }
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'sent'").await, 9);
    for (class, expected) in [("event", 7), ("chat", 5)] {
        let answer = bob.ask("message:delivered", json!({"upTo": 2, "class": class})).await;
        assert_eq!(answer["event"], "message:delivered:ok");
        let waits: i64 = number(&pool, "select count(*) from message_status where status = 'sent'").await;
        assert_eq!(waits, expected);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_reject_counts_an_attempt_and_the_last_or_a_final_one_fails_the_row_and_tells_the_sender() {
    let db = database().await;
    let hasty = |config: &mut Config| (config.ack_timeout, config.attempts_max) = (Duration::from_millis(300), 2);
    let (node, pool) = (Node::with(db.options(), hasty).await, db.pool(1).await);
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    let sent = alice.send("bob", "difficult").await;
    let reject = json!({"messageId": sent["messageId"], "reason": "no such sticker"});
    bob.receive(1).await;
    let counted = bob.ask("message:reject", reject.clone()).await;
    assert_eq!(counted["event"], "message:reject:ok");
    assert_eq!(counted["data"], json!({"messageId": sent["messageId"], "status": "sent", "attempts": 1}));
    assert_eq!(bob.event("message:receive").await["attempt"], 2);
    let counted = bob.ask("message:reject", reject.clone()).await;
    assert_eq!(counted["data"], json!({"messageId": sent["messageId"], "status": "failed", "attempts": 2}));
    let told = alice.event("message:status").await;
    assert_eq!((&told["status"], &told["reason"], &told["userId"]), (&json!("failed"), &json!("no such sticker"), &json!("bob")));

    let sent = alice.send("bob", "impossible").await;
    bob.receive(1).await;
    let last = bob.ask("message:reject", json!({"messageId": sent["messageId"], "reason": "never", "final": true})).await;
    assert_eq!(last["data"], json!({"messageId": sent["messageId"], "status": "failed", "attempts": 1}));
    assert_eq!(alice.event("message:status").await["reason"], "never");
    let reasons: Vec<_> = rows(&pool, "bob").await.into_iter().map(|row| (row.status, row.attempts, row.reason.unwrap())).collect();
    assert_eq!(reasons, [("failed".to_owned(), 2, "no such sticker".to_owned()), ("failed".to_owned(), 1, "never".to_owned())]);
    node.stop().await;
}

#[tokio::test]
async fn a_page_comes_in_one_frame_for_who_asks_for_it_and_in_several_when_it_is_large() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut alice = node.connect("alice").await;
    for n in 0..20 {
        alice.send("bob", &"x".repeat(if n < 10 { 10 } else { 30_000 })).await;
    }
    let mut bob = Socket::raw(node.addr(), Connect::user("bob").with("batch", 1)).await.unwrap();
    let (mut numbers, mut frames) = (Vec::new(), 0);
    while numbers.len() < 20 {
        let frame = bob.wait("a batch", |frame| frame["event"] == "message:batch").await;
        assert!(frame.to_string().len() <= 256 * 1024);
        numbers.extend(frame["data"]["messages"].as_array().unwrap().iter().map(|message| message["inboxSeq"].as_i64().unwrap()));
        frames += 1;
    }
    assert_eq!((numbers, frames), ((1..=20).collect(), 2));
    bob.ack_up_to(20).await;
    alice.send("bob", "live").await;
    assert_eq!(bob.event("message:batch").await["messages"][0]["content"], "live");
    node.stop().await;
}

#[tokio::test]
async fn drained_is_announced_once_when_what_waited_at_connect_has_been_acked() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut alice = node.connect("alice").await;
    for n in 0..3 {
        alice.send("bob", &n.to_string()).await;
    }
    let mut bob = node.connect("bob").await;
    let messages = bob.receive(3).await;
    let is_chat = |frame: &&Value| frame["event"] == "queue:drained" && frame["data"]["class"] == "chat";
    bob.ack_up_to(2).await;
    assert_eq!(bob.until_pong().await.iter().filter(is_chat).count(), 0);
    alice.send("bob", "later, and not waited for").await;
    bob.ack(&messages[2]).await;
    let later = bob.event("message:receive").await;
    let frames = bob.until_pong().await;
    let drained: Vec<_> = frames.iter().filter(is_chat).collect();
    assert_eq!((drained.len(), &drained[0]["data"]["inboxSeq"]), (1, &json!(3)));
    bob.ack(&later).await;
    assert_eq!(bob.until_pong().await.iter().filter(is_chat).count(), 0);
    node.stop().await;
}

#[tokio::test]
async fn a_message_to_oneself_is_stored_and_waits_for_nobody() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let (mut alice, mut other) = (node.connect("alice").await, node.connect("alice").await);
    let sent = alice.send("alice", "note").await;
    assert_eq!(alice.send("alice", "another").await["chatId"], sent["chatId"]);
    assert_eq!(other.event("message:sent").await["content"], "note");
    assert_eq!(number(&pool, "select count(*) from message_status").await, 0);
    assert!(named(&alice.until_pong().await, "message:receive").is_empty());
    node.stop().await;
}

#[tokio::test]
async fn the_senders_other_connections_get_what_it_sent_with_the_content() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (mut alice, mut other, mut bob) = (node.connect("alice").await, node.connect("alice").await, node.connect("bob").await);
    let id = Uuid::now_v7();
    let send = json!({"messageId": id, "to": "bob", "content": "hi", "messageType": "sticker", "metadata": {"size": 3}});
    let sent = alice.ask("message:send", send.clone()).await["data"].take();
    let echo = other.event("message:sent").await;
    for field in ["messageId", "chatId", "seq", "createdAt", "duplicate"] {
        assert_eq!(echo[field], sent[field], "{field}");
    }
    let received = bob.event("message:receive").await;
    for field in ["content", "messageType", "metadata", "senderId", "sender", "seq", "createdAt"] {
        assert_eq!(echo[field], received[field], "{field}");
    }
    assert_eq!((&echo["content"], &echo["metadata"]["size"]), (&json!("hi"), &json!(3)));
    // Once: neither to the one that sent it, nor for a repetition.
    alice.ask("message:send", send).await;
    assert!(named(&alice.until_pong().await, "message:sent").is_empty());
    assert!(named(&other.until_pong().await, "message:sent").is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_message_that_expires_while_its_recipient_is_away_is_told_to_the_sender() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let mut alice = node.connect("alice").await;
    let soon = time::OffsetDateTime::now_utc() + time::Duration::milliseconds(600);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    let sent = alice.ask("message:send", json!({"to": "bob", "content": "quick", "expiresAt": soon})).await["data"].take();
    let told = alice.event("message:status").await;
    assert_eq!((&told["status"], &told["messageIds"], &told["userId"]), (&json!("expired"), &json!([sent["messageId"]]), &json!("bob")));
    let mut bob = node.connect("bob").await;
    assert_eq!(bob.ready["pending"], 0);
    bob.wait("drained", |frame| frame["data"]["class"] == "chat" && frame["event"] == "queue:drained").await;
    assert!(named(&bob.until_pong().await, "message:receive").is_empty());
    assert_eq!(statuses(&pool, "bob").await, ["expired"]);
    node.stop().await;
}

#[tokio::test]
async fn typing_is_told_to_the_other_members_who_are_there_and_to_nobody_else() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let chat = group(&pool, &["alice", "bob"]).await;
    let (mut alice, mut bob, mut mallory) = (node.connect("alice").await, node.connect("bob").await, node.connect("mallory").await);
    alice.tell("typing", json!({"chatId": chat, "typing": true})).await;
    assert_eq!(bob.event("typing").await, json!({"chatId": chat, "userId": "alice", "typing": true}));
    mallory.tell("typing", json!({"chatId": chat, "typing": true})).await;
    mallory.tell("typing", json!({"chatId": Uuid::now_v7(), "typing": true})).await;
    mallory.send("bob", "hello?").await;
    bob.event("message:receive").await;
    for socket in [&mut alice, &mut bob, &mut mallory] {
        assert!(named(&socket.until_pong().await, "typing").is_empty());
    }
    node.stop().await;
}

#[tokio::test]
async fn presence_is_told_to_those_who_share_a_chat_and_to_nobody_else() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    group(&pool, &["alice", "bob"]).await;
    let (mut alice, mut mallory) = (node.connect("alice").await, node.connect("mallory").await);
    let users = json!({"userIds": ["bob", "nobody", "alice"]});
    let state = alice.ask("presence:subscribe", users.clone()).await;
    assert_eq!(state["event"], "presence:state");
    assert_eq!(state["data"]["users"][0], json!({"userId": "bob", "online": false, "lastSeen": null}));
    assert_eq!((&state["data"]["users"][1]["online"], &state["data"]["users"][2]["online"]), (&json!(false), &json!(true)));
    mallory.ask("presence:subscribe", users.clone()).await;

    let bob = node.connect("bob").await;
    // She asked to be told of herself too.
    alice.wait("bob is online", |frame| frame["event"] == "user:online" && frame["data"]["userId"] == "bob").await;
    let second = node.connect("bob").await;
    second.close().await;
    bob.close().await;
    let offline = alice.event("user:offline").await;
    assert_eq!(offline["userId"], "bob");
    let state = alice.ask("presence:get", users.clone()).await;
    assert_eq!(state["data"]["users"][0], json!({"userId": "bob", "online": false, "lastSeen": offline["lastSeen"]}));
    let frames = alice.until_pong().await;
    let online = named(&frames, "user:online");
    assert!(online.iter().all(|frame| frame["data"]["userId"] == "alice"), "one announcement for two connections: {online:?}");

    let state = mallory.ask("presence:get", users).await;
    assert_eq!(state["data"]["users"][0], json!({"userId": "bob", "online": false, "lastSeen": null}));
    let frames = mallory.until_pong().await;
    assert!(named(&frames, "user:online").is_empty() && named(&frames, "user:offline").is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_answers_no_pings_is_closed() {
    let db = database().await;
    let node = Node::with(db.options(), |config: &mut Config| config.heartbeat = Duration::from_millis(100)).await;
    // A client answers pings while it reads; this one does not read.
    let mut silent = node.connect("silent").await;
    let mut lively = node.connect("lively").await;
    let metrics = std::sync::Arc::clone(&node.app().context().metrics);
    let begun = std::time::Instant::now();
    while metrics.connections_closed.of("no_acks").get() == 0 {
        assert!(begun.elapsed() < PATIENCE, "it has missed many pings");
        lively.until_pong().await;
    }
    // Its own late pongs may find the connection gone before it has read the close frame.
    assert!(matches!(silent.closed().await, Some(4503) | None));
    lively.until_pong().await;
    node.stop().await;
}

#[tokio::test]
async fn what_was_said_before_a_close_counts() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let mut alice = node.connect("alice").await;
    for n in 0..5 {
        alice.send("bob", &n.to_string()).await;
    }
    let mut bob = node.connect("bob").await;
    let messages = bob.receive(5).await;
    bob.tell("message:delivered", json!({"messageId": messages[2]["messageId"]})).await;
    bob.tell("message:reject", json!({"messageId": messages[3]["messageId"], "reason": "no", "final": true})).await;
    bob.tell("message:read", json!({"chatId": messages[0]["chatId"], "seq": 2})).await;
    bob.tell("message:send", json!({"to": "alice", "content": "bye"})).await;
    bob.tell("message:delivered", json!({"messageId": messages[4]["messageId"]})).await;
    bob.close().await;
    assert_eq!(alice.event("message:receive").await["content"], "bye");
    // A row that is read is acked first, perhaps in a transaction of its own.
    until_true(
        &pool,
        "select count(*) filter (where status = 'sent') = 0 and count(*) filter (where status = 'read') = 2 from message_status
         where user_id = (select id from users where external_id = 'bob')",
    )
    .await;
    assert_eq!(statuses(&pool, "bob").await, ["read", "read", "delivered", "failed", "delivered"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_floods_harms_nobody_else_and_cannot_outstay_its_token() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    let chat = Uuid::now_v7();
    let by_token = request(node.addr(), &format!("?token={}", token_for("mallory", time::Duration::seconds(4))), &[]);
    let mut mallory = Socket::request(by_token).await.unwrap();
    let flood = tokio::spawn(async move {
        // Frames that get no answer: nothing but the service's own patience slows them down.
        let typing = json!({"event": "typing", "data": {"chatId": chat, "typing": true}}).to_string();
        while mallory.feed(&typing).await {}
    });
    let (mut rounds, begun) = (0, std::time::Instant::now());
    while !flood.is_finished() {
        assert!(begun.elapsed() < PATIENCE, "its token has ended long ago");
        alice.send("bob", "still here").await;
        let message = bob.event("message:receive").await;
        bob.ack(&message).await;
        rounds += u32::from(!flood.is_finished());
    }
    // The number of rounds depends on the machine.
    assert!(rounds > 0, "nothing came through while it flooded");
    flood.await.unwrap();
    wait_until("it is closed", || node.app().context().metrics.connections_closed.of("token_expired").get() == 1).await;
    node.stop().await;
}
