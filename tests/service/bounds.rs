//! Rows that a valid token can cause: users that are named, and devices. Nothing is made for somebody who may not, and everything has
//! a bound.

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Connect, Database, Log, LogLine, Node, database, direct, fill, group, number, statuses, until_true};

async fn start() -> (Database, Node, PgPool) {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(2).await);
    (db, node, pool)
}

/// So many names that no user has.
fn strangers(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("stranger-{n}")).collect()
}

async fn all_users(pool: &PgPool) -> i64 {
    number(pool, "select count(*) from users").await
}

/// The users that were named, and those of them who have come, as the node counts them.
async fn counted(node: &Node) -> (u64, u64) {
    let (_, metrics) = node.api("operator").get("/metrics").await;
    let value = |name: &str| {
        let line = metrics.as_str().unwrap().lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        line.trim().parse().unwrap()
    };
    (value("restante_users_named_total "), value("restante_named_users_come_total "))
}

#[tokio::test]
async fn nobody_is_made_for_a_caller_who_may_not_add_or_remove_members() {
    let (_db, node, pool) = start().await;
    let chat = group(&pool, &["anna", "ben"]).await;
    let with_ben = direct(&pool, "anna", "ben").await;
    node.connect("eve").await.close().await;
    node.connect("ben").await.close().await;
    let (before, names) = (all_users(&pool).await, strangers(300));
    let unknown = uuid::Uuid::now_v7();
    for (caller, chat, status, code) in [
        ("eve", chat, 403, "not_a_member"),
        ("eve", unknown, 403, "not_a_member"),
        ("ben", chat, 403, "forbidden"),
        ("ben", with_ben, 409, "conflict"),
    ] {
        let path = format!("/v1/chats/{chat}/members");
        let added = node.api(caller).post(&path, json!({"userIds": names})).await;
        let removed = node.api(caller).delete(&path, json!({"userIds": names})).await;
        for (verb, (got, body)) in [("added", added), ("removed", removed)] {
            assert_eq!((got, &body["error"]["code"]), (status, &json!(code)), "{verb} by {caller}: {body}");
        }
    }
    // An admin may remove whom it likes; a name that is nobody's is passed over.
    let (status, body) = node.api("anna").delete(&format!("/v1/chats/{chat}/members"), json!({"userIds": names})).await;
    assert_eq!((status, &body["removed"]), (200, &json!([])));
    assert_eq!(all_users(&pool).await, before);
    node.stop().await;
}

#[tokio::test]
async fn nobody_is_made_for_a_group_that_would_be_too_large() {
    let (_db, node, pool) = start().await;
    let chat = group(&pool, &["anna"]).await;
    let fill = "insert into chat_members (chat_id, user_id) select $1, u.id from restante_users((select array_agg('m-' || n) from generate_series(1, 4990) n)) u";
    sqlx::query(fill).bind(chat).execute(&pool).await.unwrap();
    let before = all_users(&pool).await;
    let (status, body) = node.api("anna").post(&format!("/v1/chats/{chat}/members"), json!({"userIds": strangers(10)})).await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("too_many_members")), "{body}");
    assert_eq!(all_users(&pool).await, before);
    node.stop().await;
}

#[tokio::test]
async fn users_that_a_user_names_have_a_rate_of_their_own_and_are_counted_until_they_come() {
    let db = database().await;
    let (node, pool) =
        (Node::with(db.options(), |config| (config.send_rate, config.named_users_per_hour) = (1_000, 500)).await, db.pool(1).await);
    let anna = node.api("anna");
    let (status, made) = anna.post("/v1/chats", json!({"kind": "group", "members": strangers(499)})).await;
    assert_eq!(status, 201, "{made}");
    let path = format!("/v1/chats/{}/members", made["chatId"].as_str().unwrap());
    assert_eq!(anna.post(&path, json!({"userIds": ["the-last"]})).await.0, 200);
    // Those who are known cost nothing; whoever is not is refused, by whatever way.
    assert_eq!(anna.post(&path, json!({"userIds": strangers(10)})).await.0, 200);
    let group = anna.post("/v1/chats", json!({"kind": "group", "members": ["one-more"]})).await;
    let member = anna.post(&path, json!({"userIds": ["one-more"]})).await;
    let chat = anna.post("/v1/chats", json!({"kind": "direct", "members": ["one-more"]})).await;
    let message = anna.post("/v1/messages", json!({"to": "one-more", "content": "hello"})).await;
    for (status, body) in [group, member, chat, message] {
        assert_eq!((status, &body["error"]["code"]), (429, &json!("rate_limited")), "{body}");
        assert!(body["error"]["retryAfterMs"].as_u64().is_some_and(|ms| (1..=7_200).contains(&ms)), "{body}");
    }
    assert_eq!(number(&pool, "select count(*) from users where external_id = 'one-more'").await, 0);
    assert_eq!(number(&pool, "select count(*) from users where came_at is null").await, 500);
    // Another user has a rate of its own, and a recipient is named too.
    node.connect("ben").await.send("one-more", "hello").await;
    assert_eq!(counted(&node).await, (501, 0));
    for _ in 0..2 {
        node.connect("one-more").await.close().await;
        assert_eq!(node.api("the-last").get("/v1/chats").await.0, 200);
    }
    assert_eq!(counted(&node).await, (501, 2));
    assert_eq!(number(&pool, "select count(*) from users where came_at is null").await, 499);
    node.stop().await;
}

/// The statements of a request that adds members, in their order. Those of jobs are not among them.
fn statements_of_adding(log: &Log) -> Vec<&'static str> {
    let names = ["add_members", "known_users", "users", "may_add_members"];
    let of_line = |line: LogLine| names.into_iter().find(|name| line.fields.contains(&format!("-- {name}: ")));
    log.take().into_iter().filter(|line| line.target == "sqlx::query").filter_map(of_line).collect()
}

/// Broken by asking for the names first: `known_users` came before `add_members`.
#[tokio::test]
async fn adding_members_is_one_statement_where_their_names_are_known_and_two_where_they_are_not() {
    let (_db, node, pool) = start().await;
    let chat = group(&pool, &["anna", "ben"]).await;
    node.connect("eve").await.close().await;
    let path = format!("/v1/chats/{chat}/members");
    let log = Log::of_this_thread();
    for (caller, added, status, statements) in [
        ("anna", "eve", 200, &["add_members"][..]),
        ("anna", "eve", 200, &["add_members"]),
        ("anna", "a-stranger", 200, &["add_members", "add_members"]),
        ("ben", "eve", 403, &["add_members"]),
        ("ben", "another-stranger", 403, &["add_members"]),
    ] {
        statements_of_adding(&log);
        let (got, body) = node.api(caller).post(&path, json!({"userIds": [added]})).await;
        assert_eq!(got, status, "{body}");
        assert_eq!(statements_of_adding(&log), statements, "{caller} adds {added}");
    }
    node.stop().await;
}

fn device(name: &str) -> Connect {
    Connect::user("bob").device(name)
}

/// Connects a device and closes the connection. Returns once the end is noted.
async fn comes_and_goes(node: &Node, pool: &PgPool, name: &str) {
    node.open(device(name)).await.close().await;
    until_true(pool, &format!("select node_id is null from devices where device_id = '{name}'")).await;
}

async fn devices(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select device_id from devices order by device_id").fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn of_more_than_fifty_devices_the_one_goes_that_was_not_seen_for_longest_and_is_not_connected() {
    let (_db, node, pool) = start().await;
    // The oldest of all stays, since it is connected.
    let mut oldest = node.open(device("oldest")).await;
    for n in 0..60 {
        comes_and_goes(&node, &pool, &format!("device-{n:02}")).await;
    }
    let mut kept: Vec<String> = (11..60).map(|n| format!("device-{n:02}")).collect();
    kept.push("oldest".to_owned());
    assert_eq!(devices(&pool).await, kept);
    // One that comes again is no new one.
    comes_and_goes(&node, &pool, "device-11").await;
    assert_eq!(devices(&pool).await, kept);
    comes_and_goes(&node, &pool, "new").await;
    assert!(devices(&pool).await.contains(&"device-11".to_owned()), "it was seen a moment ago");
    assert_eq!(number(&pool, "select count(*) from device_cursors").await, 50 * 3, "cursors go with their device");
    // The acks of the connected one are kept.
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 1).await;
    let mut alice = node.connect("alice").await;
    alice.send("bob", "hello").await;
    oldest.receive(2).await;
    oldest.ack_up_to(2).await;
    assert_eq!(
        number(&pool, "select acked_seq from device_cursors where device_id = 'oldest' and class = 'chat' order by step desc limit 1")
            .await,
        2
    );
    node.stop().await;
}

#[tokio::test]
async fn a_new_device_is_refused_while_all_are_connected_and_nothing_of_it_is_kept() {
    let db = database().await;
    let (node, pool) = (Node::with(db.options(), |config| config.sessions_per_user_max = 100).await, db.pool(1).await);
    let mut connected = Vec::new();
    for n in 0..50 {
        connected.push(node.open(device(&format!("device-{n:02}"))).await);
    }
    let mut refused = crate::support::Socket::raw(node.addr(), device("one-more")).await.unwrap();
    assert_eq!(refused.closed().await, Some(4429));
    assert_eq!(refused.error().await, "too_many_sessions");
    assert_eq!(number(&pool, "select count(*) from devices").await, 50);
    // Without a device, and with one that is known, it may connect.
    node.connect("bob").await.close().await;
    let mut again = node.open(device("device-07")).await;
    again.until_pong().await;
    // A place is free once a connection has ended, also where that could not be noted.
    drop(connected.remove(0));
    until_true(&pool, "select node_id is null from devices where device_id = 'device-00'").await;
    let lost =
        "update devices set node_id = (select node_id from nodes), last_seen_at = now() - interval '1 min' where device_id = 'device-00'";
    sqlx::query(lost).execute(&pool).await.unwrap();
    let mut taken = node.open(device("one-more")).await;
    taken.until_pong().await;
    assert_eq!(number(&pool, "select count(*) from devices where device_id = 'device-00'").await, 0);
    assert_eq!(number(&pool, "select count(*) from devices").await, 50);
    node.stop().await;
}

/// The frames of a socket until the backlog of the chat inbox had come: the numbers of envelopes, and gaps.
async fn told(socket: &mut crate::support::Socket) -> Vec<Value> {
    let mut told = Vec::new();
    for mut frame in socket.until_pong().await {
        match frame["event"].as_str() {
            Some("message:receive") => told.push(frame["data"]["inboxSeq"].take()),
            Some("queue:gap") => told.push(json!([frame["data"]["fromSeq"], frame["data"]["toSeq"], frame["data"]["reason"]])),
            _ => {}
        }
    }
    told
}

#[tokio::test]
async fn a_device_that_was_dropped_goes_on_where_it_says_and_is_told_of_what_is_missing() {
    let (_db, node, pool) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 8).await;
    let mut phone = node.open(device("phone")).await;
    phone.receive(8).await;
    phone.ack_up_to(2).await;
    let epoch = phone.ready["epoch"].as_str().unwrap().to_owned();
    phone.close().await;
    // Another device acks everything; the number 4 is gone, as finished rows may be.
    let mut laptop = node.open(device("laptop")).await;
    laptop.receive(6).await;
    laptop.ack_up_to(8).await;
    until_true(&pool, "select settled_seq = 8 from inboxes where class = 'chat' and last_seq = 8").await;
    sqlx::raw_sql(
        "with gone as (delete from message_status where seq = 4 returning user_id, class, seq)
         insert into inbox_gaps (user_id, class, seq, reason) select user_id, class, seq, 'purged' from gone;
         delete from devices where device_id = 'phone'",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut phone = node.open(device("phone").with("epoch", &epoch).with("since", 2)).await;
    assert_eq!((&phone.ready["resumed"], &phone.ready["pending"]), (&json!(true), &json!(5)));
    phone.receive(1).await;
    let backlog = [json!([4, 4, "purged"]), json!(5), json!(6), json!(7), json!(8)];
    assert_eq!(told(&mut phone).await, backlog);
    phone.ack_up_to(5).await;
    phone.close().await;
    // From now on it has a cursor again: what it has not acked comes, whether or not it says where it is.
    let mut phone = node.open(device("phone")).await;
    phone.receive(1).await;
    assert_eq!(told(&mut phone).await, [json!(7), json!(8)]);
    assert_eq!(statuses(&pool, "bob").await, ["delivered"; 7]);
    node.stop().await;
}

#[tokio::test]
async fn devices_that_were_not_seen_for_ninety_days_are_removed_unless_they_are_connected() {
    let (db, node, pool) = start().await;
    let mut connected = node.open(device("connected")).await;
    for name in ["old", "young"] {
        comes_and_goes(&node, &pool, name).await;
    }
    sqlx::raw_sql(
        "update devices set last_seen_at = now() - interval '91 days' where device_id in ('old', 'connected');
         update devices set last_seen_at = now() - interval '89 days' where device_id = 'young'",
    )
    .execute(&pool)
    .await
    .unwrap();
    // The job begins with a pass.
    let other = Node::start(db.options()).await;
    until_true(&pool, "select not exists (select from devices where device_id = 'old')").await;
    assert_eq!(devices(&pool).await, ["connected", "young"]);
    connected.until_pong().await;
    other.stop().await;
    node.stop().await;
}

#[tokio::test]
async fn a_connection_is_told_of_so_many_users_and_one_request_more_is_refused_as_a_whole() {
    let (_db, node, pool) = start().await;
    let names: Vec<String> = std::iter::once("bob".to_owned()).chain((0..2_001).map(|n| format!("seen-{n}"))).collect();
    group(&pool, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut bob = node.connect("bob").await;
    for users in names[1..=1_999].chunks(500) {
        assert_eq!(bob.ask("presence:subscribe", json!({"userIds": users})).await["event"], "presence:state");
    }
    let refused = bob.ask("presence:subscribe", json!({"userIds": ["seen-1999", "seen-2000"]})).await;
    assert_eq!((&refused["event"], &refused["data"]["code"]), (&json!("error"), &json!("invalid")), "{refused}");
    // Those of before stay, are named again for nothing, and there is a place for one more.
    for users in [json!(["seen-0", "seen-1"]), json!(["seen-1999"])] {
        assert_eq!(bob.ask("presence:subscribe", json!({"userIds": users})).await["event"], "presence:state");
    }
    let (_, metrics) = node.api("bob").get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("restante_presence_watches 2000\n"));
    let _last = node.connect("seen-1999").await;
    assert_eq!(bob.event("user:online").await["userId"], "seen-1999");
    bob.close().await;
    node.stop().await;
}
