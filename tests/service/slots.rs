//! The server takes no more connections, or lets this role in no more: what is there goes on, and the log says why.

use futures_util::future::join_all;
use restante::store::Error;
use restante_postgres::ServerOptions;
use serde_json::json;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::time::timeout;

use crate::support::fixtures::{assert_consistent, delivery, group, store, text, until, until_so, users};
use crate::support::{Connect, Log, LogLine, Node, PATIENCE, PrivateServer, Socket, database};

const ADMIN: &str = "postgres";

/// A server with few connections and the role `app`, which is no superuser and owns the database.
async fn small_server(connections: &str) -> (PrivateServer, PgPool) {
    let options = ServerOptions::disposable().set("max_connections", connections).set("max_wal_senders", "0");
    let server = PrivateServer::with(options).await;
    let options = server.database_without_schema("restante").await;
    let admin = PgPoolOptions::new().max_connections(1).connect_with(options.username(ADMIN)).await.unwrap();
    sqlx::raw_sql("create role app login").execute(&admin).await.unwrap();
    sqlx::raw_sql("alter database restante owner to app").execute(&admin).await.unwrap();
    (server, admin)
}

/// A connection of another program to the same server.
async fn take_one(server: &PrivateServer) -> sqlx::Result<PgConnection> {
    server.database_without_schema("postgres").await.username("app").connect().await
}

/// Others take all that are left. There need not be any: the node may have made as many as there are.
async fn take_the_rest(server: &PrivateServer) -> Vec<PgConnection> {
    let mut taken = Vec::new();
    loop {
        match take_one(server).await {
            Ok(connection) => taken.push(connection),
            Err(error) => {
                assert_eq!(error.as_database_error().unwrap().code().unwrap(), "53300");
                return taken;
            }
        }
    }
}

fn told<'l>(lines: &'l [LogLine], words: &str) -> Vec<&'l LogLine> {
    lines.iter().filter(|line| line.target.starts_with("restante") && line.message.contains(words)).collect()
}

/// Broken by a lane that refuses when it finds no connection, and by a pool that waits for one of its own beside free ones.
#[tokio::test]
async fn while_the_server_takes_no_more_connections_nothing_is_refused_and_the_log_says_so_once() {
    let log = Log::of_this_thread();
    let (server, admin) = small_server("15").await;
    // The node cannot take this one at its start, so it is left to be given back.
    let first = take_one(&server).await.unwrap();
    let options = server.database_without_schema("restante").await.username("app");
    let node = Node::with(options, |config| config.accept_lanes = 3).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let mut chats = Vec::new();
    for _ in 0..10 {
        chats.push(group(store(&node).pool(), &[alice.user, bob.user]).await);
    }
    let mut reader = node.connect("bob").await;
    let others = take_the_rest(&server).await;

    for round in 0..20 {
        let sends = chats.iter().map(|chat| delivery(&node).send(text(&alice, *chat, round.to_string())));
        let reads = (0..10).map(|_| store(&node).clock());
        let both = futures_util::future::join(join_all(sends), join_all(reads));
        let (sent, read) = timeout(PATIENCE, both).await.expect("it goes on");
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
        assert!(read.iter().all(Result::is_ok), "{read:?}");
        for message in reader.receive(chats.len()).await {
            reader.ack(&message).await;
        }
    }
    let (status, answer) = node.api("alice").get("/readyz").await;
    assert_eq!((status, delivery(&node).health().is_away()), (200, false), "{answer}");
    drop((first, others));
    let mut lines = Vec::new();
    until_so("the log says that the server takes connections again", || {
        lines.extend(log.take());
        !told(&lines, "takes connections again").is_empty()
    })
    .await;
    assert!(!store(&node).slots().are_taken());
    assert_eq!(told(&lines, "PostgreSQL takes no more connections").len(), 1, "{lines:#?}");
    assert_eq!(told(&lines, "does not answer").len(), 0, "{lines:#?}");
    delivery(&node).send(text(&alice, chats[0], "the last")).await.unwrap();
    let all = "select count(*) filter (where status = 'delivered') = 200 from message_status where class = 'chat'";
    until(&admin, "all that was acked is delivered", all).await;
    assert_consistent(&admin).await;
    node.stop().await;
}

#[tokio::test]
async fn a_pool_whose_connections_are_all_in_use_is_no_database_that_is_away() {
    let db = database().await;
    let node = Node::with(db.options(), |config| config.pool_size = 8).await;
    let mut alice = node.connect("alice").await;
    for _ in 0..2 {
        alice.event("queue:drained").await;
    }
    let all = join_all((0..8).map(|_| store(&node).lend())).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let busy = store(&node).clock().await.unwrap_err();
    assert!(matches!(busy, Error::Busy(_)), "{busy:?}");
    assert_eq!(node.api("alice").get("/readyz").await.0, 200, "a busy pool is no reason to send clients elsewhere");
    let refused = alice.ask("presence:get", json!({"userIds": ["bob"]})).await;
    assert_eq!((&refused["data"]["code"], &refused["data"]["retryAfterMs"]), (&json!("busy"), &json!(500)), "{refused}");
    // By now the node has failed to read revocations, which takes as long as this, and what it read before is not new enough.
    let refused = alice.ask("presence:get", json!({"userIds": ["bob"]})).await;
    assert_eq!((&refused["data"]["code"], &refused["data"]["retryAfterMs"]), (&json!("busy"), &json!(500)), "{refused}");
    // A client that connects is told the same, with a time of its own.
    let mut bob = Socket::raw(node.addr(), Connect::user("bob")).await.unwrap();
    let refused = bob.event("error").await;
    assert_eq!((&refused["code"], bob.closed().await), (&json!("busy"), Some(4503)), "{refused}");
    assert!(refused["retryAfterMs"].as_u64().is_some_and(|ms| (500..=1_500).contains(&ms)), "{refused}");
    assert!(!delivery(&node).health().is_away());
    drop(all);
    store(&node).clock().await.unwrap();
    assert_eq!(delivery(&node).health().outages(), 0);
    node.stop().await;
}

#[tokio::test]
async fn the_log_says_why_the_database_does_not_answer() {
    let log = Log::of_this_thread();
    let (server, admin) = small_server("40").await;
    let options = server.database_without_schema("restante").await.username("app");
    let node = Node::start(options).await;
    let mut alice = node.connect("alice").await;
    alice.send("bob", "before").await;
    admin.close().await;
    for (begin, end, code) in [
        ("alter role app nologin", "alter role app login", "28000"),
        ("alter database restante with allow_connections off", "alter database restante with allow_connections on", "55000"),
        ("alter database restante rename to elsewhere", "alter database elsewhere rename to restante", "3D000"),
    ] {
        let mut keeper = server.database_without_schema("postgres").await.connect().await.unwrap();
        let mut health = delivery(&node).health().subscribe();
        run(&mut keeper, "alter role app nologin").await;
        end_all_of_app(&mut keeper).await;
        run(&mut keeper, begin).await;
        if code != "28000" {
            run(&mut keeper, "alter role app login").await;
        }
        let mut lines = Vec::new();
        // Its connection has ended: it is kept and repeated, unless that is known by then.
        let unknown = alice.ask_later("message:send", json!({"to": "bob", "content": "meanwhile"})).await;
        // A node that tried to come in before `begin` has said why it was kept out, and says it once.
        let says_why =
            |line: &LogLine| line.message.contains("does not answer") && [code, "28000"].iter().any(|code| line.fields.contains(code));
        until_so("the log says why the database does not answer", || {
            lines.extend(log.take());
            lines.iter().any(says_why)
        })
        .await;
        run(&mut keeper, end).await;
        timeout(PATIENCE, health.wait_for(|away| !*away)).await.unwrap().unwrap();
        alice.answer(&unknown).await;
        alice.send("bob", "again").await;
        keeper.close().await.unwrap();
    }
    node.stop().await;
}

/// Nobody else may be there while a database is renamed. A backend that was let in just before the role lost its login is listed late,
/// so all are ended until none is listed.
async fn end_all_of_app(keeper: &mut PgConnection) {
    let ended = async {
        const KILL: &str = "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where usename = 'app'";
        while sqlx::query_scalar::<_, i64>(KILL).fetch_one(&mut *keeper).await.unwrap() > 0 {}
    };
    timeout(PATIENCE, ended).await.expect("no backend of the role is left");
}

async fn run(connection: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await.unwrap();
}

#[tokio::test]
async fn a_node_that_starts_warns_when_the_server_has_fewer_connections_than_all_nodes_may_need() {
    let log = Log::of_this_thread();
    let (server, admin) = small_server("100").await;
    let options = server.database_without_schema("restante").await.username("app");
    let start = || Node::with(options.clone(), |config| (config.pool_size, config.accept_lanes, config.settle_lanes) = (39, 2, 2));
    let fewer = |lines: &[LogLine]| told(lines, "fewer connections than the nodes may need").len();
    // 39 and 2 and 1 and 2, the listener, the one that pings and 2 to spare are 48, and 97 are not for superusers only.
    let first = start().await;
    let second = start().await;
    assert_eq!(fewer(&log.take()), 0);
    sqlx::raw_sql("alter role app connection limit 95").execute(&admin).await.unwrap();
    let third = start().await;
    let lines = log.take();
    assert_eq!(fewer(&lines), 1, "{lines:#?}");
    let said = &told(&lines, "fewer connections")[0].fields;
    assert!(["nodes=3", "wanted=144", "there_are=95"].iter().all(|part| said.contains(part)), "{said}");
    for node in [first, second, third] {
        node.stop().await;
    }
}
