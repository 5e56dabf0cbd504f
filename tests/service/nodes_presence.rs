//! Presence over several nodes: told to contacts, and asked for.

use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::nodes::{know_one_another, never, two_nodes};
use crate::support::{Node, Socket, database, direct, group, number, until_true, wait_until};

async fn state(socket: &mut Socket, user: &str) -> Value {
    socket.ask("presence:get", json!({"userIds": [user]})).await["data"]["users"][0].take()
}

async fn clock(pool: &PgPool) -> OffsetDateTime {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await.unwrap()
}

fn instant(text: &Value) -> OffsetDateTime {
    OffsetDateTime::parse(text.as_str().unwrap(), &Rfc3339).unwrap()
}

fn of_presence(frames: Vec<Value>) -> Vec<Value> {
    frames.into_iter().filter(|frame| frame["event"] == "user:online" || frame["event"] == "user:offline").collect()
}

#[tokio::test]
async fn who_comes_and_goes_at_one_node_is_told_and_known_at_another() {
    let (_db, one, other, pool) = two_nodes().await;
    direct(&pool, "alice", "bob").await;
    let mut alice = one.connect("alice").await;
    let before = clock(&pool).await;
    let bob = other.connect("bob").await;
    let online = alice.event("user:online").await;
    assert_eq!(online["userId"], "bob");
    assert!(instant(&online["timestamp"]) + time::Duration::MILLISECOND > before);
    assert_eq!(state(&mut alice, "bob").await["online"], true);
    let (_, seen) = one.api("alice").get("/v1/presence?userIds=bob").await;
    assert_eq!(seen["users"][0]["online"], true);
    let leaves = clock(&pool).await;
    bob.close().await;
    let left = clock(&pool).await;
    let offline = alice.event("user:offline").await;
    let last_seen = instant(&offline["lastSeen"]);
    let slack = time::Duration::milliseconds(100);
    assert!(leaves - slack < last_seen && last_seen < left + slack, "{leaves} {last_seen} {left}");
    assert_eq!(state(&mut alice, "bob").await, json!({"userId": "bob", "online": false, "lastSeen": offline["lastSeen"]}));
    assert_eq!(number(&pool, "select count(*) from presence_leases").await, 1, "alice's");
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_reconnect_within_the_grace_is_nobodys_news_whatever_the_node() {
    let (_db, one, other, pool) = two_nodes().await;
    direct(&pool, "alice", "bob").await;
    direct(&pool, "alice", "carol").await;
    let mut alice = one.connect("alice").await;
    let mut bob = other.connect("bob").await;
    assert_eq!(alice.event("user:online").await["userId"], "bob");
    for node in [&one, &other, &other, &one] {
        bob.close().await;
        bob = node.connect("bob").await;
    }
    assert_eq!(state(&mut alice, "bob").await["online"], true);
    // Carol comes and goes after all that: by the time that is told, bob's graces are over.
    other.connect("carol").await.close().await;
    assert_eq!(alice.event("user:offline").await["userId"], "carol");
    let told = of_presence(alice.until_pong().await);
    assert!(told.iter().all(|frame| frame["data"]["userId"] == "carol"), "{told:?}");
    assert_eq!(state(&mut alice, "bob").await["online"], true);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_planned_stop_is_nobodys_news_for_who_comes_to_another_node_and_tells_of_who_does_not() {
    let (_db, one, other, pool) = two_nodes().await;
    direct(&pool, "alice", "bob").await;
    direct(&pool, "alice", "carol").await;
    let mut alice = one.connect("alice").await;
    let (_bob, _carol) = (other.connect("bob").await, other.connect("carol").await);
    alice.event("user:online").await;
    alice.event("user:online").await;
    other.stop().await;
    let mut bob = one.connect("bob").await;
    let offline = alice.event("user:offline").await;
    assert_eq!(offline["userId"], "carol");
    let told = of_presence(alice.until_pong().await);
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(state(&mut bob, "alice").await["online"], true);
    until_true(&pool, "select count(*) = 1 from nodes").await;
    assert_eq!(one.app().context().metrics.wakes.of("check").get(), 1, "the first LISTEN; who leaves has told everything");
    one.stop().await;
}

/// A node in a runtime of its own, which can be ended as a process is by SIGKILL.
async fn node_to_kill(options: sqlx::postgres::PgConnectOptions) -> (tokio::runtime::Runtime, Node) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let node = runtime.spawn(async move { Node::with(options, never).await }).await.unwrap();
    (runtime, node)
}

#[tokio::test]
async fn users_of_a_killed_node_go_offline_with_its_last_heartbeat_and_one_node_says_so() {
    let (db, one, other, pool) = two_nodes().await;
    direct(&pool, "alice", "bob").await;
    direct(&pool, "carol", "bob").await;
    let listed = clock(&pool).await;
    let (runtime, third) = node_to_kill(db.options()).await;
    know_one_another(&[&third]).await;
    let (mut alice, mut carol) = (one.connect("alice").await, other.connect("carol").await);
    let _bob = third.connect("bob").await;
    alice.event("user:online").await;
    carol.event("user:online").await;
    let lives = number(&pool, "select (extract(epoch from max(lives)) * 1000)::bigint from nodes").await;
    runtime.shutdown_background();
    until_true(&pool, "select count(*) = 2 from nodes").await;
    let noticed = clock(&pool).await;
    let (first, second) = tokio::join!(alice.event("user:offline"), carol.event("user:offline"));
    assert_eq!(first, second);
    // It was taken for dead when it had been silent for so long.
    let last_seen = instant(&first["lastSeen"]);
    assert!(listed <= last_seen && last_seen + time::Duration::milliseconds(lives) <= noticed, "{listed} {last_seen} {noticed}");
    assert_eq!(state(&mut alice, "bob").await, json!({"userId": "bob", "online": false, "lastSeen": first["lastSeen"]}));
    for socket in [&mut alice, &mut carol] {
        assert!(of_presence(socket.until_pong().await).is_empty(), "once");
    }
    let checks = one.app().context().metrics.wakes.of("check");
    wait_until("what the dead node did not tell is looked for", || checks.get() > 1).await;
    std::mem::forget(third);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn users_of_a_killed_node_that_had_the_job_of_reaping_go_offline_once_when_another_node_has_taken_it_over() {
    let db = database().await;
    let (runtime, first) = node_to_kill(db.options()).await;
    let pool = db.pool(2).await;
    until_true(&pool, "select holder is not null from jobs where name = 'reap'").await;
    let (one, other) = (Node::with(db.options(), never).await, Node::with(db.options(), never).await);
    know_one_another(&[&first, &one, &other]).await;
    direct(&pool, "alice", "bob").await;
    direct(&pool, "carol", "bob").await;
    let (mut alice, mut carol) = (one.connect("alice").await, other.connect("carol").await);
    let _bob = first.connect("bob").await;
    alice.event("user:online").await;
    carol.event("user:online").await;
    runtime.shutdown_background();
    until_true(&pool, "select count(*) = 2 from nodes").await;
    let (told, also_told) = tokio::join!(alice.event("user:offline"), carol.event("user:offline"));
    assert_eq!((&told["userId"], &told), (&json!("bob"), &also_told));
    assert_eq!(number(&pool, "select lease_no from jobs where name = 'reap'").await, 2);
    for socket in [&mut alice, &mut carol] {
        assert!(of_presence(socket.until_pong().await).is_empty(), "once");
    }
    let held = |node: &Node| node.app().context().metrics.job_held.of("reap").get();
    assert_eq!(held(&one) + held(&other), 1);
    std::mem::forget(first);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_node_that_was_taken_for_dead_lists_itself_and_its_users_again() {
    let (_db, one, other, pool) = two_nodes().await;
    direct(&pool, "alice", "bob").await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    alice.event("user:online").await;
    // As after a pause longer than a node lives.
    let paused = "update nodes n set gone_at = clock_timestamp()
                  where exists (select from presence_leases l join users u on u.id = l.user_id where l.node_id = n.node_id and u.external_id = 'bob')";
    sqlx::query(paused).execute(&pool).await.unwrap();
    sqlx::query("select count(*) from restante_reap(1000)").execute(&pool).await.unwrap();
    until_true(&pool, "select count(*) = 2 from nodes").await;
    until_true(&pool, "select count(*) = 2 from presence_leases").await;
    assert_eq!(state(&mut alice, "bob").await["online"], true);
    alice.send("bob", "still there").await;
    bob.event("message:receive").await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn leases_are_written_together_and_a_killed_node_leaves_none_behind() {
    let db = database().await;
    let (runtime, node) = node_to_kill(db.options()).await;
    let pool = db.pool(1).await;
    let names: Vec<String> = (0..50).map(|user| format!("user-{user}")).collect();
    let _sockets = futures_util::future::join_all(names.iter().map(|name| node.connect(name))).await;
    until_true(&pool, "select count(*) = 50 from presence_leases").await;
    let statements = number(&pool, "select count(distinct xmin::text) from presence_leases").await;
    assert!(statements < 25, "{statements}");
    runtime.shutdown_background();
    std::mem::forget(node);
    let next = Node::with(db.options(), never).await;
    until_true(&pool, "select count(*) = 0 from presence_leases").await;
    assert_eq!(number(&pool, "select count(*) from last_seen").await, 50);
    next.stop().await;
}

/// The group of carol, its admin, and of alice, who is told of bob and dave. Dave also has a chat with alice alone.
async fn watching(one: &Node, pool: &PgPool) -> (uuid::Uuid, Socket) {
    let chat = group(pool, &["carol", "alice", "bob", "dave"]).await;
    direct(pool, "alice", "dave").await;
    let mut alice = one.connect("alice").await;
    let asked = alice.ask("presence:subscribe", json!({"userIds": ["bob", "dave"]})).await;
    assert_eq!(asked["event"], "presence:state");
    assert_eq!(one.app().context().hub.watches(), 2);
    (chat, alice)
}

async fn until_watched(node: &Node, count: usize) {
    wait_until("the node knows what may be seen", || node.app().context().hub.watches() == count).await;
}

/// Broken by leaving what was asked for until the connection ends: alice was told when bob went.
#[tokio::test]
async fn of_whom_a_user_may_not_see_any_more_it_is_told_nothing_whoever_left_and_whatever_the_node() {
    for leaves in ["bob", "dave", "alice"] {
        let (_db, one, other, pool) = two_nodes().await;
        let (chat, mut alice) = watching(&one, &pool).await;
        let (bob, dave) = (other.connect("bob").await, other.connect("dave").await);
        for _ in 0..2 {
            alice.event("user:online").await;
        }
        let (status, left) = other.api("carol").delete(&format!("/v1/chats/{chat}/members"), json!({"userIds": [leaves]})).await;
        assert_eq!((status, &left["removed"]), (200, &json!([leaves])));
        let sees_bob = leaves == "dave";
        until_watched(&one, if sees_bob { 2 } else { 1 }).await;
        bob.close().await;
        until_true(&pool, "select count(*) = 2 from presence_leases").await;
        dave.close().await;
        // The news of bob came before this.
        let mut told = Vec::new();
        while told.last().is_none_or(|frame: &Value| frame["event"] != "user:offline" || frame["data"]["userId"] != "dave") {
            told.push(alice.next().await);
        }
        assert_eq!(told.iter().any(|frame| frame["data"]["userId"] == "bob"), sees_bob, "{leaves} has left: {told:?}");
        one.stop().await;
        other.stop().await;
    }
}

/// Nobody tells the node of these changes.
#[tokio::test]
async fn a_node_that_may_have_missed_something_checks_what_is_watched() {
    let (_db, one, other, pool) = two_nodes().await;
    let (chat, mut alice) = watching(&one, &pool).await;
    let ids = |name: &str| format!("(select id from users where external_id = '{name}')");
    let leaves = format!("select from restante_remove_members('{chat}', {0}, array[{0}])", ids("bob"));
    let comes =
        format!("insert into presence_leases (user_id, node_id) select {}, '{}'", ids("dave"), other.app().context().notifier.node());
    for change in [leaves, comes] {
        sqlx::query(sqlx::AssertSqlSafe(change)).execute(&pool).await.unwrap();
    }
    one.app().context().notifier.check_all();
    assert_eq!(alice.event("user:online").await["userId"], "dave");
    until_watched(&one, 1).await;
    one.app().context().notifier.check_all();
    one.app().context().notifier.check_all();
    let (status, _) = other.api("dave").get("/v1/chats").await;
    assert_eq!(status, 200);
    assert!(of_presence(alice.until_pong().await).is_empty(), "it is told once");
    one.stop().await;
    other.stop().await;
}
