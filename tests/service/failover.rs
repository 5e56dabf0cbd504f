//! The database is there and takes no writes, or is suddenly another server: senders are told to come again, nobody is
//! sent away, and everything resumes by itself.

use std::os::unix::fs::symlink;
use std::path::Path;

use restante_postgres::{Embedded, ServerOptions, Throwaway, ThrowawayDir};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::fixtures::{LockHolder, assert_consistent};
use crate::support::{Connect, Node, PATIENCE, PrivateServer, Socket, blocking, database, statuses, wait_until};

async fn execute(options: &PgConnectOptions, statements: &'static str) {
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
}

fn assert_unavailable(answer: &Value) {
    assert_eq!((&answer["event"], &answer["data"]["code"]), (&json!("error"), &json!("unavailable")), "{answer}");
    assert!(answer["data"]["retryAfterMs"].as_u64().unwrap() > 0, "{answer}");
}

async fn until_it_answers(node: &Node) {
    let away = &node.app().context().metrics.database_away;
    wait_until("the database answers again", || away.get() == 0).await;
}

const READ_ONLY: &str = "
    do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$;
    select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
// The session that says so is read-only as well.
const WRITABLE: &str = "set transaction read write;
    do $$ begin execute format('alter database %I reset default_transaction_read_only', current_database()); end $$";

/// Broken by a question that a server which takes no writes answers with yes, and by using connections of that time later.
#[tokio::test]
async fn while_the_database_is_read_only_senders_are_told_to_come_again_and_nobody_is_sent_away() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    alice.send("bob", "before").await;
    let before = bob.event("message:receive").await;
    execute(&db.options(), READ_ONLY).await;

    let send = json!({"messageId": Uuid::now_v7(), "to": "bob", "content": "meanwhile"});
    let outages = node.app().delivery().health().outages();
    // Its connection has just ended. Whether it was stored is not known, so it is kept and repeated, unless the node knows already
    // that the database is away: then it is refused.
    let unknown = alice.ask_later("message:send", json!({"to": "bob", "content": "unknown"})).await;
    let away = &node.app().context().metrics.database_away;
    wait_until("it is noticed", || away.get() == 1).await;
    let acked = bob.ask_later("message:delivered", json!({"messageId": before["messageId"]})).await;
    for _ in 0..20 {
        assert_unavailable(&alice.ask("message:send", send.clone()).await);
    }
    assert_eq!(node.app().delivery().health().outages(), outages, "it was taken for good while it was not");
    let (status, refused) = node.api("alice").post("/v1/messages", send.clone()).await;
    assert_eq!((status, &refused["error"]["code"]), (503, &json!("unavailable")), "{refused}");
    assert_eq!(node.api("alice").get("/readyz").await.0, 503);
    let mut carol = Socket::raw(node.addr(), Connect::user("carol")).await.unwrap();
    assert_unavailable(&carol.wait("a refusal", |frame| frame["event"] == "error").await);
    assert_eq!(carol.closed().await, Some(4503), "she may come back");

    execute(&db.options(), WRITABLE).await;
    until_it_answers(&node).await;
    let kept = alice.answer(&unknown).await;
    let is_kept = kept["event"] == "message:sent";
    if !is_kept {
        assert_unavailable(&kept);
    }
    let sent = alice.ask("message:send", send).await;
    assert_eq!((&sent["event"], &sent["data"]["duplicate"]), (&json!("message:sent"), &json!(false)), "{sent}");
    assert_eq!(bob.answer(&acked).await["event"], "message:delivered:ok");
    let expected: &[&str] = if is_kept { &["unknown", "meanwhile"] } else { &["meanwhile"] };
    let contents: Vec<Value> = bob.receive(expected.len()).await.into_iter().map(|mut message| message["content"].take()).collect();
    assert_eq!(contents, expected);
    let pool = db.pool(1).await;
    assert_eq!(statuses(&pool, "bob").await[..], ["delivered", "sent", "sent"][..=expected.len()]);
    assert_consistent(&pool).await;
    node.stop().await;
}

/// Waits until this is so.
async fn until(options: &PgConnectOptions, question: &'static str) {
    let mut connection = options.connect().await.unwrap();
    let asking = async {
        while !sqlx::query_scalar::<_, bool>(question).fetch_one(&mut connection).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("waited in vain: {question}"));
}

/// From now on commits wait for a standby that never comes.
async fn no_commit_is_confirmed(options: &PgConnectOptions) {
    execute(options, "alter system set synchronous_standby_names = 'nobody'").await;
    execute(options, "select pg_reload_conf()").await;
    until(options, "select current_setting('synchronous_standby_names') = 'nobody'").await;
    // It is the checkpointer that makes the others wait; it has read the setting when it has done this.
    execute(options, "checkpoint").await;
}

const END_THE_WAIT: &str =
    "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep' and query like '%restante_accept%'";
const WAITS: &str = "select exists (select from pg_stat_activity where wait_event = 'SyncRep' and query like '%restante_accept%')";
const WAITS_FOR_A_DUPLICATE: &str =
    "select exists (select from pg_stat_activity where wait_event = 'SyncRep' and query like '%for key share%')";

/// Its wait for the standby was ended, so others see the message, and a failover would lose it. It is found as a duplicate where
/// nothing is locked, since somebody holds the chat. Broken by an answer to what was only seen.
#[tokio::test]
async fn a_message_is_not_confirmed_because_it_is_seen_while_the_standby_does_not_have_it() {
    let server = PrivateServer::start().await;
    let db = server.database("restante").await;
    let node = Node::with(db.clone(), |config| config.accept_lanes = 1).await;
    let mut alice = node.connect("alice").await;
    let first = alice.send("bob", "first").await;
    no_commit_is_confirmed(&db).await;
    let asked = alice.ask_later("message:send", json!({"chatId": first["chatId"], "content": "second"})).await;
    until(&db, WAITS).await;
    // Queues behind the lane, and has the chat when the lane's connection ends.
    let holding = tokio::spawn({
        let db = db.clone();
        async move { LockHolder::holds(&db, "select from chat_heads for no key update").await }
    });
    until(&db, "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like '%for no key update')").await;
    execute(&db, END_THE_WAIT).await;
    let holder = holding.await.unwrap();
    until(&db, "select count(*) = 2 from messages").await;
    until(&db, WAITS_FOR_A_DUPLICATE).await;
    let told = alice.until_pong().await;
    assert!(told.iter().all(|frame| frame["event"] != "message:sent"), "{told:?}");

    execute(&db, "alter system reset synchronous_standby_names").await;
    execute(&db, "select pg_reload_conf()").await;
    assert_eq!(alice.answer(&asked).await["event"], "message:sent");
    drop(holder);
    node.stop().await;
}

const RECALL_WAITS: &str =
    "select exists (select from pg_stat_activity where wait_event = 'SyncRep' and query like '%restante_take_back%')";
const END_ITS_WAIT: &str =
    "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep' and query like '%restante_take_back%'";

/// Broken by an answer to what was only seen: after a failover the message would have been there again.
#[tokio::test]
async fn a_second_recall_is_not_answered_while_the_standby_does_not_have_the_first() {
    let server = PrivateServer::start().await;
    let db = server.database("restante").await;
    let node = Node::start(db.clone()).await;
    let mut alice = node.connect("alice").await;
    let message = alice.send("bob", "oops").await;
    no_commit_is_confirmed(&db).await;
    let recall = json!({"messageId": message["messageId"]});
    let first = alice.ask_later("message:recall", recall.clone()).await;
    until(&db, RECALL_WAITS).await;
    execute(&db, END_ITS_WAIT).await;
    assert_unavailable(&alice.answer(&first).await);
    until(&db, "select exists (select from messages where recalled_at is not null)").await;
    let second = alice.ask_later("message:recall", recall).await;
    until(&db, RECALL_WAITS).await;
    let told = alice.until_pong().await;
    assert!(told.iter().all(|frame| frame["event"] != "message:recall:ok"), "{told:?}");
    execute(&db, "alter system reset synchronous_standby_names").await;
    execute(&db, "select pg_reload_conf()").await;
    assert_eq!(alice.answer(&second).await["event"], "message:recall:ok");
    node.stop().await;
}

/// Two servers, one of which follows the other, and one way that leads to either.
struct Pair {
    first: Throwaway,
    second: Embedded,
    way: TempDir,
    _dir: ThrowawayDir,
}

impl Pair {
    async fn start() -> Self {
        blocking(|| {
            let options = ServerOptions::disposable();
            let (first, dir) = (Throwaway::start(&options).unwrap(), ThrowawayDir::new().unwrap());
            let second = Embedded::start_standby(dir.path(), first.server(), "second", &options).unwrap();
            let pair = Self { first, second, way: TempDir::new().unwrap(), _dir: dir };
            pair.lead_to(&pair.first.server().options("restante"));
            pair
        })
        .await
    }

    /// Like an address that is moved.
    fn lead_to(&self, options: &PgConnectOptions) {
        let (link, fresh) = (self.link(), self.way.path().join("fresh"));
        symlink(options.get_socket().unwrap(), &fresh).unwrap();
        std::fs::rename(fresh, link).unwrap();
    }

    fn link(&self) -> std::path::PathBuf {
        self.way.path().join("database")
    }

    fn options(&self) -> PgConnectOptions {
        self.first.server().options("restante").socket(Path::new(&self.link()))
    }
}

const FOLLOWS: &str = "select exists (select from pg_stat_replication where replay_lsn >= pg_current_wal_insert_lsn())";
const IS_ALONE: &str = "select not exists (select from pg_stat_replication)";

/// The standby lags, so its numbers are given again: bob, who has acked 3, must not skip what is 2 and 3 now. Broken by a node
/// that goes on when its database was promoted, or that takes a standby for it.
#[tokio::test]
async fn a_node_is_led_to_a_standby_and_then_to_what_it_was_promoted_to_and_nobody_skips_what_is_numbered_again() {
    let pair = Pair::start().await;
    let first = pair.first.server().options("restante");
    pair.first.server().ensure_database("restante").await.unwrap();
    let node = Node::start(pair.options()).await;
    let mut alice = node.connect("alice").await;
    alice.send("bob", "one").await;
    until(&first, FOLLOWS).await;
    let second = pair.second.options("restante");
    execute(&second, "alter system set primary_conninfo = ''").await;
    execute(&second, "select pg_reload_conf()").await;
    until(&first, IS_ALONE).await;
    for content in ["lost two", "lost three"] {
        alice.send("bob", content).await;
    }
    let mut bob = node.open(Connect::user("bob").device("phone")).await;
    bob.receive(3).await;
    bob.ack_up_to(3).await;
    let epoch = bob.ready["epoch"].as_str().unwrap().to_owned();
    bob.close().await;

    pair.first.server().fence().unwrap();
    pair.lead_to(&second);
    let away = &node.app().context().metrics.database_away;
    wait_until("the outage is noticed", || away.get() == 1).await;
    assert_unavailable(&alice.ask("message:send", json!({"to": "bob", "content": "too soon"})).await);
    assert!(!node.app().context().epoch.is_over(), "a standby is not another database");
    let pair = blocking(move || {
        pair.second.promote().unwrap();
        pair
    })
    .await;
    tokio::time::timeout(PATIENCE, node.app().epoch_over()).await.unwrap();
    node.stop().await;
    assert_eq!(alice.closed().await, Some(1012));

    let node = Node::start(pair.options()).await;
    let mut alice = node.connect("alice").await;
    for content in ["two", "three"] {
        alice.send("bob", content).await;
    }
    let mut bob = node.open(Connect::user("bob").device("phone").with("epoch", &epoch).with("since", 3)).await;
    assert_eq!(bob.ready["resumed"], false);
    assert_ne!(bob.ready["epoch"], epoch);
    let received = bob.receive(3).await;
    assert_eq!(received.iter().map(|message| &message["content"]).collect::<Vec<_>>(), ["one", "two", "three"]);
    node.stop().await;
    drop(pair);
}
