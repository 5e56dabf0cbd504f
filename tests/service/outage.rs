//! PostgreSQL goes away under load and comes back: nothing confirmed is lost, nothing refused is stored, sockets stay.

use std::collections::BTreeSet;

use restante::app;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::fixtures::{assert_consistent, delivery, number, until};
use crate::support::{Ending, Load, Node, PrivateServer, database};

/// A pool that outlives the server.
async fn pool(server: &PrivateServer) -> PgPool {
    let options = server.database("restante").await;
    PgPoolOptions::new().max_connections(3).test_before_acquire(true).connect_with(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_doubled_however_postgresql_ends_and_everything_resumes_by_itself() {
    let server = PrivateServer::start().await;
    let options = server.database("restante").await;
    ends_and_comes_back(server, app::Database::new(options)).await;
}

/// Ends the server under a node that is under load, in every way, and starts it again.
pub(super) async fn ends_and_comes_back(mut server: PrivateServer, database: app::Database) {
    let options = database.direct.clone();
    let node = Node::on(database, |_| {}).await;
    let load = Load::between(&[&node]).await;
    let (mut carol, mut dave) = (node.connect("carol").await, node.connect("dave").await);
    let mut health = delivery(&node).health().subscribe();
    let mut confirmed = BTreeSet::new();
    for how in [Ending::Fast, Ending::Immediate, Ending::Killed] {
        let sent = carol.send("dave", "acked while the database is away").await;
        confirmed.insert(sent["messageId"].as_str().unwrap().parse::<Uuid>().unwrap());
        let received = dave.event("message:receive").await;
        server.end(how).await;
        health.wait_for(|away| *away).await.unwrap();
        let refused = carol.ask("message:send", json!({"to": "dave", "content": "too early"})).await;
        assert_eq!(refused["data"]["code"], "unavailable", "{how:?} {refused}");
        dave.text(json!({"event": "message:delivered", "id": "early", "data": {"messageId": received["messageId"]}}).to_string()).await;
        let meanwhile = dave.until_pong().await;
        assert!(meanwhile.iter().all(|frame| frame["id"] != "early"), "no ack is confirmed before its commit");

        server = server.start_again().await;
        health.wait_for(|away| !*away).await.unwrap();
        assert_eq!(dave.wait("the ack", |frame| frame["id"] == "early").await["event"], "message:delivered:ok");
        // By name, or by the mark if her session has looked first.
        let tells = |frame: &Value| frame["event"] == "message:status" && frame["data"]["seq"] == sent["seq"];
        assert_eq!(carol.wait("the receipt", tells).await["data"]["status"], "delivered");
    }
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
    load.end(&pool, &confirmed).await;
    node.stop().await;
}

async fn set_standby(pool: &PgPool, statement: &'static str) {
    for statement in [statement, "select pg_reload_conf()"] {
        sqlx::query(statement).execute(pool).await.unwrap();
    }
}

/// Commits something again and again, until it is told to end.
async fn commit_until(pool: PgPool, end: CancellationToken) {
    while !end.is_cancelled() {
        number(&pool, "select 1::bigint from pg_logical_emit_message(true, '', '')").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_that_dies_after_its_commit_is_repeated_and_is_no_duplicate_of_itself() {
    let server = PrivateServer::start().await;
    let options = server.database("restante").await;
    dies_after_its_commit(&server, app::Database::new(options)).await;
}

/// The commit is on disk and its answer is not: made certain with a standby that never answers, for which it waits.
pub(super) async fn dies_after_its_commit(server: &PrivateServer, database: app::Database) {
    let pool = pool(server).await;
    let node = Node::on(database, |_| {}).await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    let first = alice.send("bob", "first").await;
    bob.event("message:receive").await;
    for n in 2..5 {
        set_standby(&pool, "alter system set synchronous_standby_names = 'nobody'").await;
        // From the first commit that waits for the standby on, every commit does.
        let end = CancellationToken::new();
        let probe = tokio::spawn(commit_until(pool.clone(), end.clone()));
        let waiting = "wait_event = 'SyncRep' and query like '%pg_logical_emit_message%'";
        until(&pool, "commits wait", &format!("select count(*) > 0 from pg_stat_activity where {waiting}")).await;
        let id = Uuid::now_v7();
        let frame = json!({"event": "message:send", "id": "sent", "data": {"messageId": id, "chatId": first["chatId"], "content": "once"}});
        alice.text(frame.to_string()).await;
        let lane = "from pg_stat_activity where wait_event = 'SyncRep' and query like '%restante_accept%'";
        until(&pool, "the lane is in its commit", &format!("select count(*) > 0 {lane}")).await;
        let pid = number(&pool, &format!("select pid::bigint {lane}")).await;
        assert_eq!(number(&pool, &format!("select pg_terminate_backend({pid})::int::bigint")).await, 1);
        until(&pool, "the lane's connection is gone", &format!("select count(*) = 0 from pg_stat_activity where pid = {pid}")).await;
        set_standby(&pool, "alter system reset synchronous_standby_names").await;
        end.cancel();
        probe.await.unwrap();
        let answer = alice.wait("the answer", |frame| frame["id"] == "sent").await;
        assert_eq!((&answer["event"], &answer["data"]["seq"]), (&json!("message:sent"), &json!(n)), "{answer}");
        assert_eq!(answer["data"]["duplicate"], false, "its sender has sent it once");
        let received = bob.event("message:receive").await;
        assert_eq!((&received["messageId"], &received["seq"]), (&json!(id), &json!(n)), "the wake went out again");
        let again = alice.ask("message:send", json!({"messageId": id, "chatId": first["chatId"], "content": "once"})).await;
        assert_eq!(again["data"]["duplicate"], true, "a real one is told so");
    }
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn a_duplicate_is_told_so_though_the_connection_had_died_in_between() {
    let db = database().await;
    let pool = db.pool(1).await;
    let node = Node::with(db.options(), |config| config.accept_lanes = 1).await;
    let mut alice = node.connect("alice").await;
    let first = alice.send("bob", "once").await;
    let lanes = "from pg_stat_activity where datname = current_database() and query like '%restante_accept%' and pid <> pg_backend_pid()";
    assert_eq!(number(&pool, &format!("select count(pg_terminate_backend(pid)) {lanes}")).await, 1);
    until(&pool, "the lane's connection is gone", &format!("select count(*) = 0 {lanes}")).await;
    let request = json!({"messageId": first["messageId"], "chatId": first["chatId"], "content": "once"});
    let again = alice.ask("message:send", request).await;
    assert_eq!((&again["data"]["seq"], &again["data"]["duplicate"]), (&json!(1), &json!(true)), "{again}");
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lanes_whose_connections_are_ended_again_and_again_store_each_message_once() {
    let server = PrivateServer::start().await;
    let options = server.database("restante").await;
    let node = Node::start(options.clone()).await;
    let load = Load::between(&[&node]).await;
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                where state = 'active' and pid <> pg_backend_pid() and query ~ 'restante_(accept|settle)'";
    let mut ended = 0;
    while ended < 60 {
        ended += number(&pool, kill).await;
        let more = number(&pool, "select 1 + count(*) from messages").await;
        until(&pool, "it goes on", &format!("select count(*) >= {more} from messages")).await;
    }
    load.end(&pool, &BTreeSet::new()).await;
    node.stop().await;
}
