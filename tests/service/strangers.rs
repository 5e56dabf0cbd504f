//! Roles that may connect to the database and nothing else: they can listen to every channel and notify it. They read nothing of
//! what nodes tell one another, are believed in nothing, and wake users no more often than is good for the database.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::json;
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Executor, PgPool};

use super::nodes::{never, two_nodes};
use crate::support::{Connect, Database, Node, direct, group, number, until_true, users};

/// A role without any grant, and what it hears on the channels of the nodes.
struct Stranger {
    role: String,
    pool: PgPool,
    listener: PgListener,
    channels: Vec<String>,
}

impl Stranger {
    async fn of(db: &Database, pool: &PgPool) -> Self {
        let (role, options) = db.role().await;
        let its = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
        let channels: Vec<String> =
            sqlx::query_scalar("select 'restante_node_' || replace(node_id::text, '-', '') from nodes").fetch_all(pool).await.unwrap();
        let mut listener = PgListener::connect_with(&its).await.unwrap();
        listener.listen_all(channels.iter().map(String::as_str)).await.unwrap();
        Self { role, pool: its, listener, channels }
    }

    async fn notify(&self, channel: &str, payload: &str) {
        sqlx::query("select pg_notify($1, $2)").bind(channel).bind(payload).execute(&self.pool).await.unwrap();
    }

    async fn notify_all(&self, payload: &str) {
        for channel in &self.channels {
            self.notify(channel, payload).await;
        }
    }

    /// Everything heard up to now, with the channel of each letter.
    async fn letters_so_far(&mut self) -> Vec<(String, String)> {
        self.notify_all("the end").await;
        let (mut letters, mut ends) = (Vec::new(), 0);
        while ends < self.channels.len() {
            let heard = self.listener.recv().await.unwrap();
            match heard.payload() {
                "beat" => {}
                "the end" => ends += 1,
                letter => letters.push((heard.channel().to_owned(), letter.to_owned())),
            }
        }
        letters
    }

    /// Everything heard until as many letters have come, with the channel of each.
    async fn letters(&mut self, count: usize) -> Vec<(String, String)> {
        let mut letters = Vec::new();
        while letters.len() < count {
            let heard = self.listener.recv().await.unwrap();
            if heard.payload() != "beat" {
                letters.push((heard.channel().to_owned(), heard.payload().to_owned()));
            }
        }
        letters
    }
}

fn rejected(node: &Node, reason: &'static str) -> u64 {
    node.app().context().metrics.bus_rejected.of(reason).get()
}

/// The key that a letter names.
fn key_of(letter: &str) -> u8 {
    STANDARD_NO_PAD.decode(letter).unwrap()[8]
}

#[tokio::test]
async fn a_role_without_grants_reads_nothing_that_nodes_tell_one_another() {
    let (db, one, other, pool) = two_nodes().await;
    let chat = direct(&pool, "alice", "bob").await;
    let mut stranger = Stranger::of(&db, &pool).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    alice.send("bob", "the secret word").await;
    let message = bob.event("message:receive").await;
    bob.ask("message:read", json!({"chatId": chat, "seq": 1})).await;
    alice.event("message:status").await;
    alice.tell("typing", json!({"chatId": chat, "typing": true})).await;
    bob.event("typing").await;
    for (_, letter) in stranger.letters(3).await {
        let bytes = STANDARD_NO_PAD.decode(&letter).unwrap_or_else(|_| panic!("this is no letter: {letter}"));
        for word in ["secret", "alice", "typing", message["messageId"].as_str().unwrap()] {
            assert!(!letter.contains(word) && !bytes.windows(word.len()).any(|part| part == word.as_bytes()), "{letter}");
        }
    }
    for refused in [
        "select secret from bus_keys",
        "select from jobs where name = 'presence' for no key update",
        "select restante_bus_keys()",
        "select restante_presence_lock()",
        "insert into nodes (node_id, gone_at, lives) values (gen_random_uuid(), now(), '1 s')",
    ] {
        let error = stranger.pool.execute(refused).await.unwrap_err();
        assert_eq!(error.as_database_error().and_then(|error| error.code()).as_deref(), Some("42501"), "{refused}: {error}");
    }
    let advisory = "select count(*) from pg_proc where prosrc ~* 'advisory' and pronamespace = 'public'::regnamespace";
    assert_eq!(number(&pool, advisory).await, 0, "anybody may hold such a lock for ever");
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_role_without_grants_is_believed_in_nothing_that_it_tells_nodes() {
    let (db, one, other, pool) = two_nodes().await;
    let chat = direct(&pool, "alice", "bob").await;
    let ids = users(&pool, &["alice", "bob"]).await;
    let mut stranger = Stranger::of(&db, &pool).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.open(Connect::user("bob").device("phone")).await);
    alice.send("bob", "first").await;
    bob.event("message:receive").await;
    let heard = stranger.letters_so_far().await;
    let node = uuid::Uuid::new_v4();
    let forged = [
        json!({"h": node}).to_string(),
        "\"h\"".to_owned(),
        "\"b\"".to_owned(),
        "\"l\"".to_owned(),
        json!({"d": [ids[1], "phone", 1_000_000]}).to_string(),
        json!({"u": [ids[1], chat, 1]}).to_string(),
        json!({"n": [[ids[1]], {"t": {"chat": chat, "user": "alice", "typing": true}}]}).to_string(),
        json!({"o": ["chat", {"i": node, "c": chat, "s": 2, "f": ids[0], "e": "alice", "n": null, "p": null, "y": "text", "t": "forged",
            "m": null, "a": 0, "x": null}, [[ids[1], 2]]]})
        .to_string(),
        json!({"m": [ids[0]]}).to_string(),
        String::new(),
        "x".repeat(7_999),
        STANDARD_NO_PAD.encode([1; 100]),
    ];
    let looks = [&one, &other].map(|node| node.app().context().metrics.wakes.of("check").get());
    for payload in &forged {
        stranger.notify_all(payload).await;
    }
    for (channel, letter) in &heard {
        for _ in 0..5 {
            stranger.notify(channel, letter).await;
        }
        stranger.notify_all(letter).await;
    }
    // The letters of nodes come after it, in the order of the commits.
    alice.send("bob", "second").await;
    assert_eq!(bob.event("message:receive").await["content"], "second");
    let expected = |frame: &serde_json::Value| frame["event"] == "queue:drained" || frame["event"] == "user:online";
    assert!(bob.skipped().iter().all(expected), "{:?}", bob.skipped());
    bob.ack_up_to(2).await;
    alice.event("message:status").await;
    for (node, before) in [&one, &other].into_iter().zip(looks) {
        assert!(rejected(node, "forged") >= u64::try_from(forged.len()).unwrap());
        let context = node.app().context();
        assert_eq!((context.metrics.live_nodes.get(), context.notifier.is_alone()), (2, false));
        assert_eq!(context.metrics.wakes.of("check").get(), before, "nobody looks for it");
    }
    assert!(rejected(&one, "replayed") + rejected(&other, "replayed") >= 5);
    bob.until_pong().await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_a_node_told_before_it_was_listed_anew_is_not_heard_again() {
    let (db, one, other, pool) = two_nodes().await;
    let chat = direct(&pool, "alice", "bob").await;
    let mut stranger = Stranger::of(&db, &pool).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    alice.tell("typing", json!({"chatId": chat, "typing": true})).await;
    bob.event("typing").await;
    let heard = stranger.letters_so_far().await;
    let boots = "create table boots as select boot from nodes";
    pool.execute(boots).await.unwrap();
    pool.execute("delete from presence_leases; delete from nodes").await.unwrap();
    until_true(&pool, "select count(*) = 2 from nodes").await;
    assert_eq!(number(&pool, "select count(*) from nodes join boots using (boot)").await, 0);
    for (channel, letter) in &heard {
        stranger.notify(channel, letter).await;
    }
    alice.send("bob", "after").await;
    assert_eq!(bob.event("message:receive").await["content"], "after");
    let frames = bob.until_pong().await;
    assert!(bob.skipped().iter().chain(&frames).all(|frame| frame["event"] != "typing"), "{frames:?}");
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_flood_of_wakes_costs_a_user_a_few_reads_and_the_wake_that_counts_comes_through() {
    let (db, one, other, pool) = two_nodes().await;
    let chat = direct(&pool, "alice", "bob").await;
    let ids = users(&pool, &["alice", "bob"]).await;
    let stranger = Stranger::of(&db, &pool).await;
    let mut bob = other.connect("bob").await;
    let reads =
        |node: &Node| ["chat", "alert", "event"].map(|class| node.app().context().metrics.page_reads.of(class).get()).iter().sum::<u64>();
    let (before, begun) = (reads(&other), Instant::now());
    let flood = |count: usize| {
        let (stranger, bob) = (&stranger, ids[1]);
        async move {
            for n in 0..count {
                stranger.notify("restante_wake", &format!("{bob},m{bob},{n},x,-1")).await;
            }
        }
    };
    flood(150).await;
    sqlx::query("select restante_send($1, 'alice', 'in the middle of it')").bind(chat).execute(&pool).await.unwrap();
    flood(50).await;
    assert_eq!(bob.event("message:receive").await["content"], "in the middle of it");
    let rounds = u64::try_from(begun.elapsed().as_millis() / Duration::from_millis(500).as_millis()).unwrap() + 2;
    let read = reads(&other) - before;
    assert!(read <= 3 * rounds + 3, "{read} reads in {rounds} rounds");
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn nodes_change_their_key_and_go_on_telling_one_another_meanwhile() {
    let (db, one, other, pool) = two_nodes().await;
    let mut stranger = Stranger::of(&db, &pool).await;
    let (mut alice, mut bob) = (one.connect("alice").await, other.connect("bob").await);
    let age = "update bus_keys set made_at = made_at - interval '1 day'";
    let use_it = "update bus_keys set made_at = made_at - interval '61 seconds' where key_number = 2";
    let replaced = "update bus_keys set made_at = made_at - interval '1 hour' where key_number = 2";
    for (change, keys, key) in [("select", "{1}", 1), (age, "{1,2}", 1), (use_it, "{1,2}", 2), (replaced, "{2}", 2)] {
        pool.execute(change).await.unwrap();
        // Twice: a heartbeat that had begun before has seen less.
        for _ in 0..2 {
            let now: String = sqlx::query_scalar("select clock_timestamp()::text").fetch_one(&pool).await.unwrap();
            until_true(&pool, &format!("select bool_and(seen_at > '{now}') and count(*) = 2 from nodes")).await;
        }
        until_true(&pool, &format!("select array_agg(key_number order by key_number) = '{keys}' from bus_keys")).await;
        let reads = other.app().context().metrics.page_reads.of("chat").get();
        alice.send("bob", change).await;
        let message = bob.event("message:receive").await;
        assert_eq!(message["content"], change);
        assert_eq!(other.app().context().metrics.page_reads.of("chat").get(), reads, "it came over the bus");
        loop {
            let (_, letter) = stranger.letters(1).await.remove(0);
            if key_of(&letter) == key {
                break;
            }
        }
    }
    assert_eq!([&one, &other].map(|node| rejected(node, "forged")), [0, 0]);
    one.stop().await;
    other.stop().await;
}

/// The rights of an application that sends from SQL where they are given by hand, so that its functions run with them.
const GRANTS_BY_HAND: &str = "\
    grant usage on schema public to shop;
    grant select on users, chats, closed_chats, encryption to shop;
    grant select, insert, update on inboxes, chat_heads, chat_members, marks, messages, message_status, outgoing to shop;
    grant select, insert on plain_messages to shop;
    grant delete on outgoing to shop;
    grant insert on statistics_journal to shop;";

/// The role of an application that calls `restante_send()` has other grants than the service: none on what is the nodes' own.
#[tokio::test]
async fn what_a_role_needs_to_send_from_sql_does_not_let_it_read_the_keys_or_hold_up_presence() {
    let db = crate::support::database().await;
    let node = Node::with(db.options(), never).await;
    let pool = db.pool(1).await;
    let chat = direct(&pool, "alice", "bob").await;
    let many = group(&pool, &["alice", "bob", "carol"]).await;
    let mut stranger = Stranger::of(&db, &pool).await;
    let grants = GRANTS_BY_HAND.replace("to shop", &format!("to {}", stranger.role));
    sqlx::raw_sql(sqlx::AssertSqlSafe(grants)).execute(&pool).await.unwrap();
    let mut bob = node.connect("bob").await;
    sqlx::query("select restante_send($1, 'alice', 'from the shop')").bind(chat).execute(&stranger.pool).await.unwrap();
    assert_eq!(bob.event("message:receive").await["content"], "from the shop");
    let two = "select restante_send(chat, 'alice', 'to ' || n) from unnest(array[$1, $2]) chat, generate_series(1, 2) n";
    sqlx::query(two).bind(chat).bind(many).execute(&stranger.pool).await.unwrap();
    assert_eq!(bob.receive(4).await.len(), 4);
    for refused in
        ["select secret from bus_keys", "select from jobs for no key update", "select from nodes for update", "delete from presence_leases"]
    {
        assert!(stranger.pool.execute(refused).await.is_err(), "{refused}");
    }
    stranger.listener.unlisten_all().await.unwrap();
    node.stop().await;
}
