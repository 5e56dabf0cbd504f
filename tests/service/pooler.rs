//! PgBouncer in transaction mode in front of the database: each statement may run on another connection of the server, of
//! which there are fewer than a node has of its own. Whatever the service needs of a connection it brings along, or refuses.

use std::collections::BTreeSet;
use std::pin::pin;

use futures_util::FutureExt;
use futures_util::future::join_all;
use restante::app::{self, App};
use restante::store::{CannotUse, SETTINGS, is_shared};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::nodes::know_one_another;
use super::outage::{dies_after_its_commit, ends_and_comes_back};
use crate::support::fixtures::{LockHolder, acks, assert_consistent, delivery, group, lock_chat, number, sent, store, text, until, users};
use crate::support::{Connect, Load, Node, PATIENCE, PgBouncer, PrivateServer, config, secret};

/// Connections that the pooler has to the server; a node has more.
const POOL_SIZE: u32 = 3;

/// The lines of docs/operations.md that a DBA runs, for the role `app`.
fn documented() -> String {
    let lines = include_str!("../../docs/operations.md").lines();
    let lines: Vec<_> = lines.filter_map(|line| line.strip_prefix("alter role restante in database restante ")).collect();
    assert_eq!(lines.len(), SETTINGS.len());
    lines.into_iter().map(|line| format!("alter role app in database restante {line}\n")).collect()
}

/// A server, its pooler, and the two ways to the database.
struct Testbed {
    server: PrivateServer,
    pooler: PgBouncer,
    direct: PgConnectOptions,
}

impl Testbed {
    /// Its role has the settings that are run here.
    async fn start(settings: &str, more: &str) -> Self {
        let server = PrivateServer::start().await;
        let direct = server.database("restante").await;
        let mut admin = direct.connect().await.unwrap();
        sqlx::raw_sql("create role app superuser login").execute(&mut admin).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut admin).await.unwrap();
        let pooler = PgBouncer::start(&direct, POOL_SIZE, more).await;
        Self { server, pooler, direct }
    }

    async fn with_settings() -> Self {
        Self::start(&documented(), "max_prepared_statements = 200").await
    }

    fn database(&self) -> app::Database {
        app::Database { options: self.pooler.options(), direct: self.direct.clone() }
    }

    async fn refused(&self, database: app::Database) -> app::StartError {
        App::start(&config(), database, Some(&secret().into())).await.expect_err("it should have refused")
    }

    /// Past the pooler.
    async fn pool(&self) -> PgPool {
        PgPoolOptions::new().max_connections(2).connect_with(self.direct.clone()).await.unwrap()
    }

    async fn two_nodes(&self) -> (Node, Node) {
        let (one, other) = (Node::on(self.database(), |_| {}).await, Node::on(self.database(), |_| {}).await);
        know_one_another(&[&one, &other]).await;
        (one, other)
    }

    async fn stop(self, pool: &PgPool, nodes: [Node; 2]) {
        assert_consistent(pool).await;
        let through = number(pool, "select count(*) from pg_stat_activity where usename = 'app'").await;
        assert!((1..=i64::from(POOL_SIZE)).contains(&through), "{through} connections through the pooler");
        for node in nodes {
            node.stop().await;
        }
    }
}

#[tokio::test]
#[ignore = "needs PgBouncer 1.21 or later: PGBOUNCER=… cargo test --test service pooler -- --ignored"]
async fn a_node_refuses_connections_that_lack_its_settings_and_names_the_lines_that_help() {
    let testbed = Testbed::start("", "max_prepared_statements = 200").await;
    let refused = testbed.refused(testbed.database()).await;
    let expected = format!(
        "the connections of DATABASE_URL lack settings that the service asked for, as behind a pooler. Run this in PostgreSQL, \
         then make the pooler connect anew (docs/operations.md, Poolers):\n{}",
        // The service does not ask for settings that are PostgreSQL's defaults.
        documented().lines().filter(|line| !line.contains("isolation")).map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    );
    assert_eq!(refused.to_string(), expected);
    let app::StartError::CannotUse(CannotUse::LacksSettings(lines)) = refused else { panic!("{refused:?}") };
    let pool = testbed.pool().await;
    for line in lines {
        sqlx::raw_sql(AssertSqlSafe(line)).execute(&pool).await.unwrap();
    }
    assert!(matches!(testbed.refused(testbed.database()).await, app::StartError::CannotUse(_)), "what the pooler has open is as before");
    testbed.pooler.console("reconnect").await;
    Node::on(testbed.database(), |_| {}).await.stop().await;
}

/// A setting that is PostgreSQL's default has no line in the manual, and may have been changed all the same.
#[tokio::test]
#[ignore = "needs PgBouncer 1.21 or later: PGBOUNCER=… cargo test --test service pooler -- --ignored"]
async fn a_node_behind_a_pooler_names_what_the_role_is_set_to_against_it() {
    let hostile = "alter role app set idle_session_timeout = '5s'; alter role app set statement_timeout = '5s'; \
                   alter role app set idle_in_transaction_session_timeout = '5s'; alter role app set synchronous_commit = 'remote_write'";
    let testbed = Testbed::start(&format!("{}{hostile}", documented()), "max_prepared_statements = 200").await;
    let app::StartError::CannotUse(CannotUse::LacksSettings(lines)) = testbed.refused(testbed.database()).await else {
        panic!("it is refused")
    };
    let expected = ["idle_session_timeout = '0'", "statement_timeout = '0'", "idle_in_transaction_session_timeout = '1min'"];
    assert_eq!(lines, expected.map(|setting| format!("alter role app in database restante set {setting}")));
    let pool = testbed.pool().await;
    for line in lines {
        sqlx::raw_sql(AssertSqlSafe(line)).execute(&pool).await.unwrap();
    }
    testbed.pooler.console("reconnect").await;
    Node::on(testbed.database(), |_| {}).await.stop().await;
}

#[tokio::test]
#[ignore = "needs PgBouncer 1.21 or later: PGBOUNCER=… cargo test --test service pooler -- --ignored"]
async fn a_node_refuses_a_pooler_that_mixes_up_prepared_statements() {
    let testbed = Testbed::start(&documented(), "max_prepared_statements = 0").await;
    let refused = testbed.refused(testbed.database()).await;
    assert!(matches!(refused, app::StartError::CannotUse(CannotUse::LosesStatements(_))), "{refused:?}");
    assert!(refused.to_string().contains("max_prepared_statements = 200"), "{refused}");
}

#[tokio::test]
#[ignore = "needs PgBouncer 1.21 or later: PGBOUNCER=… cargo test --test service pooler -- --ignored"]
async fn a_node_without_a_way_past_the_pooler_refuses_before_it_touches_the_database() {
    let testbed = Testbed::with_settings().await;
    let empty = testbed.server.database_without_schema("empty").await;
    let through = testbed.pooler.options().database("empty");
    let refused = testbed.refused(app::Database::new(through)).await;
    assert!(matches!(refused, app::StartError::NotDirect), "{refused:?}");
    let pool = PgPoolOptions::new().max_connections(1).connect_with(empty.clone()).await.unwrap();
    assert_eq!(number(&pool, "select count(*) from pg_class where relnamespace = 'public'::regnamespace").await, 0);
    assert_eq!(number(&pool, "select count(*) from pg_locks where locktype = 'advisory'").await, 0);
    assert!(!is_shared(&empty).await.unwrap(), "a way past it is none");
    let refused = testbed.refused(app::Database { options: testbed.pooler.options(), direct: empty }).await;
    assert!(matches!(refused, app::StartError::TwoDatabases), "{refused:?}");
}

/// The pooler drops what the address asks for, and so the schema.
#[tokio::test]
#[ignore = "needs PgBouncer 1.21 or later: PGBOUNCER=… cargo test --test service pooler -- --ignored"]
async fn a_schema_behind_a_pooler_is_the_roles_and_the_line_that_makes_it_so_is_named() {
    let testbed = Testbed::with_settings().await;
    let [options, direct] = [testbed.pooler.options(), testbed.direct.clone()].map(|way| way.options([("search_path", "restante")]));
    let database = || app::Database { options: options.clone(), direct: direct.clone() };
    let app::StartError::TwoSchemas { here, there, mends } = testbed.refused(database()).await else { panic!("it should be told apart") };
    assert_eq!((here.as_str(), there.as_str()), ("restante", "public"));
    sqlx::raw_sql(AssertSqlSafe(mends)).execute(&testbed.pool().await).await.unwrap();
    testbed.pooler.console("reconnect").await;
    let node = Node::on(database(), |_| {}).await;
    node.connect("alice").await.send("bob", "hello").await;
    node.stop().await;
}

#[tokio::test]
#[ignore = "needs PgBouncer 1.21 or later: PGBOUNCER=… cargo test --test service pooler -- --ignored"]
async fn two_nodes_share_fewer_connections_than_either_has_and_everything_works() {
    let testbed = Testbed::with_settings().await;
    assert!(is_shared(&testbed.pooler.options()).await.unwrap());
    let pool = testbed.pool().await;
    let (one, other) = testbed.two_nodes().await;
    let mut alice = one.connect("alice").await;
    let mut bob = other.open(Connect::user("bob").device("phone")).await;
    for round in 1..=20 {
        alice.send("bob", "through the pooler").await;
        let message = bob.event("message:receive").await;
        assert_eq!(message["inboxSeq"], round);
        bob.ack(&message).await;
        alice.wait("delivered", |frame| frame["event"] == "message:status" && frame["data"]["seq"] == round).await;
    }
    let made = one.api("alice").post("/v1/chats", json!({"kind": "group", "members": ["bob", "carol"]})).await;
    assert_eq!(made.0, 201, "{made:?}");
    alice.ask("message:send", json!({"chatId": made.1["chatId"], "content": "to all"})).await;
    let message = bob.event("message:receive").await;
    bob.ask("message:read", json!({"chatId": made.1["chatId"], "messageId": message["messageId"]})).await;
    alice.wait("read", |frame| frame["event"] == "message:status" && frame["data"]["status"] == "read").await;

    // A device comes back at the other node, to what it missed.
    let (mut carol, epoch) = (one.connect("carol").await, bob.ready["epoch"].clone());
    bob.close().await;
    alice.send("bob", "missed").await;
    let epoch = epoch.as_str().unwrap();
    let mut bob = one.open(Connect::user("bob").device("phone").with("epoch", epoch).with("since", 21)).await;
    assert_eq!(bob.ready["resumed"], true);
    let missed = bob.event("message:receive").await;
    assert_eq!((&missed["content"], &missed["inboxSeq"]), (&json!("missed"), &json!(22)));

    // Dead letters: what failed is put back, and given up.
    let letter = carol.event("message:receive").await;
    for (action, done) in [("requeue", "requeued"), ("discard", "discarded")] {
        carol.ask("message:reject", json!({"messageId": letter["messageId"], "reason": "test", "final": true})).await;
        let path = format!("/v1/admin/dead-letters/{action}");
        let (status, answer) = other.admin().post(&path, json!({"items": [{"messageId": letter["messageId"], "userId": "carol"}]})).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer.to_string().contains(done), "{answer}");
        if action == "requeue" {
            assert_eq!(carol.event("message:receive").await["messageId"], letter["messageId"]);
        }
    }
    testbed.stop(&pool, [one, other]).await;
}

#[tokio::test]
#[ignore = "needs PgBouncer 1.21 or later: PGBOUNCER=… cargo test --test service pooler -- --ignored"]
async fn what_somebody_holds_delays_only_itself_and_no_connection_keeps_a_lanes_patience() {
    let testbed = Testbed::with_settings().await;
    let pool = testbed.pool().await;
    let (one, other) = testbed.two_nodes().await;
    let [alice, bob, carol] = users(store(&one), ["alice", "bob", "carol"]).await;
    let (held, free) = (group(&pool, &[alice.user, bob.user]).await, group(&pool, &[alice.user, carol.user]).await);
    let first = sent(delivery(&one), text(&alice, held, "first")).await.message;
    let mine = sent(delivery(&one), text(&alice, free, "first")).await.message;
    let rows = format!("{}; select from message_status where user_id = {} for update", lock_chat(held), bob.user.0);
    let holder = LockHolder::holds(&testbed.direct, &rows).await;
    let mut waiting = pin!(join_all((0..5).map(|n| delivery(&one).send(text(&alice, held, n.to_string())))));
    let mut acking = pin!(delivery(&other).settle(acks(&bob, &[first])));
    for n in 0..30 {
        let others = join_all([&one, &other].map(|node| delivery(node).send(text(&alice, free, n.to_string()))));
        let others = tokio::time::timeout(PATIENCE, others).await.expect("another chat waits too");
        assert!(others.iter().all(Result::is_ok), "{others:?}");
        delivery(&other).settle(acks(&carol, &[mine])).await.unwrap();
        assert!(waiting.as_mut().now_or_never().is_none() && acking.as_mut().now_or_never().is_none(), "they are held");
    }
    until(&pool, "the lane tries again, with little patience", "select count(*) = 0 from pg_locks where not granted").await;
    holder.commits().await;
    let seqs: Vec<i64> = waiting.await.into_iter().map(|answer| answer.unwrap().seq.0).collect();
    assert_eq!(seqs, [2, 3, 4, 5, 6]);
    acking.await.unwrap();
    // All of its connections to the server at once.
    let mut through = Vec::new();
    for _ in 0..POOL_SIZE {
        through.push(testbed.pooler.options().connect().await.unwrap());
    }
    for connection in &mut through {
        sqlx::raw_sql("begin").execute(&mut *connection).await.unwrap();
        let patience: String = sqlx::query_scalar("select current_setting('lock_timeout')").fetch_one(&mut *connection).await.unwrap();
        assert_eq!(patience, "1s");
    }
    for mut connection in through {
        sqlx::raw_sql("rollback").execute(&mut connection).await.unwrap();
    }
    testbed.stop(&pool, [one, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PgBouncer 1.21 or later: PGBOUNCER=… cargo test --test service pooler -- --ignored"]
async fn a_pooler_that_is_killed_and_started_again_loses_and_doubles_nothing() {
    let mut testbed = Testbed::with_settings().await;
    let pool = testbed.pool().await;
    let (one, other) = testbed.two_nodes().await;
    let load = Load::between(&[&one, &other]).await;
    for _ in 0..4 {
        let more = number(&pool, "select 30 + count(*) from messages").await;
        until(&pool, "it goes on", &format!("select count(*) >= {more} from messages")).await;
        testbed.pooler.end();
        for node in [&one, &other] {
            delivery(node).health().subscribe().wait_for(|away| *away).await.unwrap();
        }
        testbed.pooler.restart().await;
        for node in [&one, &other] {
            delivery(node).health().back().await;
        }
    }
    load.end(&pool, &BTreeSet::new()).await;
    testbed.stop(&pool, [one, other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PgBouncer 1.21 or later: PGBOUNCER=… cargo test --test service pooler -- --ignored"]
async fn a_commit_whose_answer_the_pooler_never_got_is_no_duplicate_of_itself() {
    let testbed = Testbed::with_settings().await;
    dies_after_its_commit(&testbed.server, testbed.database()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs PgBouncer 1.21 or later: PGBOUNCER=… cargo test --test service pooler -- --ignored"]
async fn postgresql_ends_and_comes_back_behind_the_pooler() {
    let testbed = Testbed::with_settings().await;
    let (database, _pooler) = (testbed.database(), testbed.pooler);
    ends_and_comes_back(testbed.server, database).await;
}
