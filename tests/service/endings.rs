//! Rows that end while a session holds them: whatever ends them, they are not emitted (again), their place in the window is free at
//! once, and what a client is told of them is what their senders are told.

use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::support::fixtures::{LockHolder, assert_consistent};
use crate::support::{Connect, Database, Node, Socket, database, direct, fill, group, statuses, until_true};

/// A node of its own with alice and bob, and a direct chat of both.
async fn start() -> (Database, Node, PgPool, Uuid) {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let pool = db.pool(2).await;
    let chat = direct(&pool, "alice", "bob").await;
    (db, node, pool, chat)
}

/// Bob without a device and bob with one, with such a window.
async fn bobs(node: &Node, window: u16) -> [Socket; 2] {
    let of = |device: Option<&str>| {
        let connect = Connect::user("bob").with("window", window);
        if let Some(device) = device { connect.device(device) } else { connect }
    };
    [node.open(of(None)).await, node.open(of(Some("phone"))).await]
}

fn in_two_seconds() -> String {
    (OffsetDateTime::now_utc() + time::Duration::seconds(2)).format(&Rfc3339).unwrap()
}

async fn send_until(alice: &mut Socket, content: &str, expires_at: &str) -> Value {
    alice.ask("message:send", json!({"to": "bob", "content": content, "expiresAt": expires_at})).await
}

/// The contents of the envelopes that come up to one with this content, and the reasons of the gaps.
async fn comes_until(socket: &mut Socket, content: &str) -> (Vec<Value>, Vec<Value>) {
    let (mut contents, mut reasons) = (Vec::new(), Vec::new());
    loop {
        let frame = socket.next().await;
        match frame["event"].as_str() {
            Some("message:receive") => contents.push(frame["data"]["content"].clone()),
            Some("queue:gap") => reasons.push(frame["data"]["reason"].clone()),
            _ => {}
        }
        if frame["data"]["content"] == content {
            return (contents, reasons);
        }
    }
}

#[tokio::test]
async fn what_expires_behind_a_full_window_and_in_it_does_not_come_and_keeps_nothing_waiting() {
    let (_db, node, pool, _) = start().await;
    let mut alice = node.connect("alice").await;
    for bob in &mut bobs(&node, 1).await {
        let expires_at = in_two_seconds();
        for n in 0..10 {
            send_until(&mut alice, &format!("short {n}"), &expires_at).await;
        }
        alice.send("bob", "long").await;
        // It acks nothing.
        let (contents, reasons) = comes_until(bob, "long").await;
        assert_eq!(contents.last(), Some(&json!("long")));
        assert!(contents.iter().filter(|content| content.as_str().is_some_and(|content| content.starts_with("short"))).count() <= 1);
        assert!(!reasons.is_empty() && reasons.iter().all(|reason| reason == "expired"), "{reasons:?}");
        until_true(&pool, "select count(*) = 0 from message_status where status = 'sent' and message_id in (select id from messages where expires_at is not null)").await;
        node.api("bob").post("/v1/inbox/ack", json!({"upTo": node.api("bob").get("/v1/inbox").await.1["lastSeq"]})).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn five_unacked_that_expire_do_not_keep_five_new_ones_waiting() {
    let (_db, node, _pool, _) = start().await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.open(Connect::user("bob").with("window", 5)).await);
    let expires_at = in_two_seconds();
    for n in 0..5 {
        send_until(&mut alice, &format!("short {n}"), &expires_at).await;
    }
    bob.receive(5).await;
    for n in 0..5 {
        alice.send("bob", &format!("long {n}")).await;
    }
    let (contents, _) = comes_until(&mut bob, "long 4").await;
    assert_eq!(contents, ["long 0", "long 1", "long 2", "long 3", "long 4"].map(Value::from));
    node.stop().await;
}

#[tokio::test]
async fn what_has_expired_unseen_is_not_read_by_a_read_beyond_it_and_its_sender_is_told_so() {
    let (db, node, pool, _) = start().await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.open(Connect::user("bob").with("window", 1)).await);
    // The job that ends what has expired finds its row locked.
    until_true(&pool, "select exists (select from jobs where name = 'expire' and holder is not null)").await;
    let holder = LockHolder::holds(&db.options(), "select from jobs where name = 'expire' for update").await;
    let seen = alice.send("bob", "seen").await;
    let short = send_until(&mut alice, "short", &in_two_seconds()).await["data"].clone();
    let long = alice.send("bob", "long").await;
    // Its window is full, so the second comes to nobody.
    bob.receive(1).await;
    until_true(&pool, "select bool_and(expires_at <= clock_timestamp()) from messages where expires_at is not null").await;
    bob.ask("message:read", json!({"messageId": long["messageId"], "chatId": long["chatId"]})).await;
    let (mut expired, mut read) = (Vec::new(), Vec::new());
    while expired.len() + read.len() < 3 {
        let told = alice.event("message:status").await;
        let ids = told["messageIds"].as_array().unwrap().clone();
        match told["status"].as_str() {
            Some("expired") => {
                assert_eq!(told["reason"], "its time had come");
                expired.extend(ids);
            }
            Some("read") => read.extend(ids),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(expired, [short["messageId"].clone()]);
    assert_eq!(read, [seen["messageId"].clone(), long["messageId"].clone()]);
    holder.commits().await;
    assert_eq!(statuses(&pool, "bob").await, ["read", "expired", "read"]);
    assert_consistent(&pool).await;
    node.stop().await;
}

/// Three messages to bob of which the second has expired, and no job has come to it. The lock of the job's row, and the messages.
async fn expired_and_not_swept(db: &Database, pool: &PgPool, alice: &mut Socket) -> (LockHolder, [Value; 3]) {
    until_true(pool, "select exists (select from jobs where name = 'expire' and holder is not null)").await;
    let mut holder = LockHolder::holds(&db.options(), "select from jobs where name = 'expire' for update").await;
    let first = alice.send("bob", "first").await;
    let short = send_until(alice, "short", &in_two_seconds()).await["data"].clone();
    let last = alice.send("bob", "last").await;
    // The job looks for its own lock only after a pass, so one pass more may come: it leaves a row alone that is held.
    holder.run(&format!("select from message_status where message_id = '{}' for update", short["messageId"].as_str().unwrap())).await;
    until_true(pool, "select bool_and(expires_at <= clock_timestamp()) from messages where expires_at is not null").await;
    (holder, [first, short, last])
}

/// Alice is told this: the first and the last are delivered, and the second has expired once the job has come to it.
async fn is_told_what_came(alice: &mut Socket, holder: LockHolder, [first, short, last]: &[Value; 3]) {
    let mut delivered = Vec::new();
    while delivered.len() < 2 {
        let told = alice.event("message:status").await;
        assert_eq!(told["status"], "delivered", "{told}");
        delivered.extend(told["messageIds"].as_array().unwrap().clone());
    }
    assert_eq!(delivered, [first["messageId"].clone(), last["messageId"].clone()]);
    holder.commits().await;
    let told = alice.event("message:status").await;
    assert_eq!((&told["status"], &told["messageIds"]), (&json!("expired"), &json!([short["messageId"]])), "{told}");
}

#[tokio::test]
async fn what_has_expired_unseen_is_not_delivered_to_a_client_that_resumes_behind_it() {
    let (db, node, pool, _) = start().await;
    let mut alice = node.connect("alice").await;
    let bob = node.open(Connect::user("bob").device("phone")).await;
    let epoch = bob.ready["epoch"].as_str().unwrap().to_owned();
    bob.close().await;
    let (holder, sent) = expired_and_not_swept(&db, &pool, &mut alice).await;
    // It says that it has all three: it got the first and the last, and a gap for the second.
    let bob = node.open(Connect::user("bob").device("phone").with("epoch", epoch).with("since", 3)).await;
    is_told_what_came(&mut alice, holder, &sent).await;
    assert_eq!(statuses(&pool, "bob").await, ["delivered", "expired", "delivered"]);
    assert_consistent(&pool).await;
    bob.close().await;
    node.stop().await;
}

#[tokio::test]
async fn an_ack_by_id_of_what_has_expired_is_confirmed_and_delivers_nothing() {
    let (db, node, pool, _) = start().await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    let (holder, sent) = expired_and_not_swept(&db, &pool, &mut alice).await;
    let ids: Vec<&Value> = sent.iter().map(|message| &message["messageId"]).collect();
    bob.receive(3).await;
    bob.event("queue:gap").await;
    let answer = bob.ask("message:delivered", json!({"messageIds": ids})).await;
    assert_eq!(answer["event"], "message:delivered:ok", "{answer}");
    is_told_what_came(&mut alice, holder, &sent).await;
    assert_eq!(statuses(&pool, "bob").await, ["delivered", "expired", "delivered"]);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn what_has_expired_unseen_is_not_delivered_by_a_request_that_acks_everything_up_to_a_number() {
    let (db, node, pool, _) = start().await;
    let mut alice = node.connect("alice").await;
    let (holder, sent) = expired_and_not_swept(&db, &pool, &mut alice).await;
    assert_eq!(node.api("bob").post("/v1/inbox/ack", json!({"upTo": 3})).await, (200, json!({})));
    is_told_what_came(&mut alice, holder, &sent).await;
    assert_eq!(statuses(&pool, "bob").await, ["delivered", "expired", "delivered"]);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn what_has_expired_unseen_is_not_unread_before_the_job_has_come_to_it() {
    let (db, node, pool, chat) = start().await;
    let mut alice = node.connect("alice").await;
    let (holder, _) = expired_and_not_swept(&db, &pool, &mut alice).await;
    let (status, shown) = node.api("bob").get(&format!("/v1/chats/{chat}")).await;
    assert_eq!((status, &shown["unread"], &shown["lastSeq"]), (200, &json!(2), &json!(3)), "{shown}");
    assert_eq!(statuses(&pool, "bob").await, ["sent"; 3], "no job has come to it");
    holder.commits().await;
    node.stop().await;
}

#[tokio::test]
async fn after_a_removal_nothing_of_the_chat_comes_and_its_places_in_the_window_are_free() {
    let (_db, node, pool, _) = start().await;
    let crew = group(&pool, &["alice", "bob"]).await;
    sqlx::query("update chat_members set role = 'admin' where chat_id = $1").bind(crew).execute(&pool).await.unwrap();
    fill(&pool, crew, "alice", 20).await;
    let mut alice = node.connect("alice").await;
    let mut bobs = bobs(&node, 3).await;
    for bob in &mut bobs {
        bob.receive(3).await;
    }
    let (status, answer) = node.api("alice").delete(&format!("/v1/chats/{crew}/members"), json!({"userIds": ["bob"]})).await;
    assert_eq!(status, 200, "{answer}");
    alice.send("bob", "elsewhere").await;
    for bob in &mut bobs {
        bob.event("chat:removed").await;
        let (contents, reasons) = comes_until(bob, "elsewhere").await;
        assert_eq!(contents, ["elsewhere"], "it has acked nothing, and there is room");
        assert!(reasons.iter().all(|reason| reason == "left") && !reasons.is_empty(), "{reasons:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn what_an_operator_gives_up_does_not_come_any_more_however_it_is_given_up() {
    let (_db, node, pool, chat) = start().await;
    fill(&pool, chat, "alice", 4).await;
    let mut bobs = bobs(&node, 1).await;
    let mut alice = node.connect("alice").await;
    for bob in &mut bobs {
        bob.receive(1).await;
    }
    let ids: Vec<Uuid> = sqlx::query_scalar("select id from messages order by seq").fetch_all(&pool).await.unwrap();
    // Two that are buffered, then the one that is in flight.
    sqlx::query("select restante_discard($1, 'bob', 'spam')").bind(ids[2]).execute(&pool).await.unwrap();
    let items = json!({"items": [{"messageId": ids[1], "userId": "bob"}], "reason": "spam"});
    let (status, answer) = node.admin().post("/v1/admin/dead-letters/discard", items).await;
    assert_eq!((status, &answer["results"][0]["outcome"]), (200, &json!("discarded")));
    sqlx::query("select restante_discard($1, 'bob', 'spam')").bind(ids[0]).execute(&pool).await.unwrap();
    alice.send("bob", "new").await;
    for bob in &mut bobs {
        let next = bob.wait("the fourth", |frame| frame["event"] == "message:receive" && frame["data"]["seq"] == 4).await;
        assert!(!bob.skipped().iter().any(|frame| frame["event"] == "message:receive"), "{:?}", bob.skipped());
        bob.ack(&next["data"]).await;
        assert_eq!(bob.event("message:receive").await["content"], "new");
    }
    node.stop().await;
}

#[tokio::test]
async fn what_fails_on_one_connection_is_not_repeated_on_another() {
    let (_db, node, _pool, _) = start().await;
    let mut alice = node.connect("alice").await;
    let [mut laptop, mut phone] = bobs(&node, 1).await;
    let first = alice.send("bob", "first").await;
    alice.send("bob", "second").await;
    laptop.receive(1).await;
    phone.receive(1).await;
    let rejected = laptop.ask("message:reject", json!({"messageId": first["messageId"], "reason": "bad", "final": true})).await;
    assert_eq!((&rejected["data"]["status"], &rejected["data"]["attempts"]), (&json!("failed"), &json!(1)));
    // The phone has a window of one, and acks nothing.
    assert_eq!(phone.event("queue:gap").await["reason"], "failed");
    assert_eq!(phone.event("message:receive").await["content"], "second");
    node.stop().await;
}

#[tokio::test]
async fn what_ends_after_a_reject_is_not_repeated() {
    let (_db, node, pool, _) = start().await;
    let mut alice = node.connect("alice").await;
    for connect in [Connect::user("bob"), Connect::user("bob").device("phone")] {
        let bob = &mut node.open(connect.with("window", 1)).await;
        let sent = alice.send("bob", "bad").await;
        bob.receive(1).await;
        let id: Uuid = serde_json::from_value(sent["messageId"].clone()).unwrap();
        let rejected = bob.ask("message:reject", json!({"messageId": id, "reason": "bad"})).await;
        assert_eq!((&rejected["data"]["status"], &rejected["data"]["attempts"]), (&json!("sent"), &json!(1)));
        sqlx::query("select restante_discard($1, 'bob', 'spam')").bind(id).execute(&pool).await.unwrap();
        assert_eq!(bob.event("queue:gap").await["reason"], "failed");
        alice.send("bob", "good").await;
        assert_eq!(comes_until(bob, "good").await.0, ["good"]);
        node.api("bob").post("/v1/inbox/ack", json!({"upTo": node.api("bob").get("/v1/inbox").await.1["lastSeq"]})).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn a_reject_is_told_the_status_that_the_message_has() {
    let (_db, node, pool, chat) = start().await;
    let mut alice = node.connect("alice").await;
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(alice.send("bob", &n.to_string()).await["messageId"].clone());
    }
    let id = |n: usize| -> Uuid { serde_json::from_value(sent[n].clone()).unwrap() };
    // 0 is delivered, 1 has failed, 2 is read, 3 has expired, 4 waits.
    let api = node.api("bob");
    api.post(&format!("/v1/chats/{chat}/read"), json!({"seq": 0})).await;
    api.post("/v1/inbox/ack", json!({"messageId": id(0)})).await;
    sqlx::query("select restante_discard($1, 'bob', 'x')").bind(id(1)).execute(&pool).await.unwrap();
    sqlx::query("update message_status set status = 'read', delivered_at = now(), read_at = now() where message_id = $1")
        .bind(id(2))
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("update messages set expires_at = now() where id = $1").bind(id(3)).execute(&pool).await.unwrap();
    until_true(&pool, "select exists (select from message_status where status = 'expired')").await;
    assert_eq!(statuses(&pool, "bob").await, ["delivered", "failed", "read", "expired", "sent"]);
    let expected = ["delivered", "failed", "read", "expired", "sent"];
    let mut bob = node.open(Connect::user("bob").with("window", 1)).await;
    for (n, expected) in expected.into_iter().enumerate() {
        let data = json!({"messageId": id(n), "reason": "bad"});
        assert_eq!(bob.ask("message:reject", data.clone()).await["data"]["status"], expected, "over the socket, {n}");
        assert_eq!(api.post("/v1/inbox/reject", data).await.1["status"], expected, "over HTTP, {n}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_reject_of_what_got_another_number_counts_there() {
    let (_db, node, pool, _) = start().await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    let sent = alice.send("bob", "bad").await;
    bob.receive(1).await;
    // As an inbox does whose end is far away: it waits under another number, and no session is told.
    for statement in [
        "update message_status set seq = 2 where seq = 1 and class = 'chat'",
        "insert into inbox_gaps (user_id, class, seq, reason) select user_id, class, 1, 'requeued' from message_status",
        "update inboxes set last_seq = 2 where last_seq = 1 and class = 'chat'",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let data = json!({"messageId": sent["messageId"], "reason": "bad", "final": true});
    assert_eq!(bob.ask("message:reject", data).await["data"]["status"], "failed");
    assert_eq!(statuses(&pool, "bob").await, ["failed"]);
    node.stop().await;
}
