//! Settings of a role, a database or a server: the service works as with PostgreSQL's defaults, or refuses to start and names the
//! statements that help. Settings that break nothing are left.

use std::collections::BTreeSet;

use restante::app::{App, Database, StartError};
use restante::store::{CannotUse, DEFAULTS, SETTINGS};
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::time::timeout;

use crate::support::fixtures::{assert_consistent, delivery, store, until};
use crate::support::{Node, PATIENCE, PrivateServer, config, secret};

/// Settings that anybody may have for themselves, with values that nobody would want.
const HOSTILE: &[(&str, &str)] = &[
    ("idle_session_timeout", "200ms"),
    ("idle_in_transaction_session_timeout", "200ms"),
    ("statement_timeout", "200ms"),
    ("lock_timeout", "1ms"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("exit_on_error", "on"),
    ("plpgsql.extra_errors", "all"),
    ("check_function_bodies", "off"),
    ("default_table_access_method", "elsewhere"),
    ("DateStyle", "SQL, DMY"),
    ("IntervalStyle", "sql_standard"),
    ("TimeZone", "Asia/Kathmandu"),
    ("client_encoding", "LATIN1"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("row_security", "off"),
    ("standard_conforming_strings", "off"),
    ("backslash_quote", "off"),
    ("array_nulls", "off"),
    ("transform_null_equals", "on"),
    ("quote_all_identifiers", "on"),
    ("xmloption", "document"),
    ("client_min_messages", "error"),
    ("work_mem", "64kB"),
    ("temp_tablespaces", ""),
    ("plan_cache_mode", "force_custom_plan"),
    ("jit", "on"),
    ("jit_above_cost", "0"),
    ("join_collapse_limit", "1"),
    ("from_collapse_limit", "1"),
    ("geqo_threshold", "2"),
    ("random_page_cost", "1000"),
    ("enable_seqscan", "on"),
    ("enable_indexscan", "off"),
    ("enable_indexonlyscan", "off"),
    ("enable_bitmapscan", "on"),
    ("enable_nestloop", "off"),
    ("enable_hashjoin", "on"),
    ("enable_mergejoin", "on"),
    ("enable_sort", "off"),
    ("enable_memoize", "off"),
    ("enable_material", "off"),
    // A choice: commits wait until a standby has it in memory. It is left.
    ("synchronous_commit", "remote_write"),
];

/// From PostgreSQL 17 on.
const TRANSACTION_TIMEOUT: (&str, &str) = ("transaction_timeout", "200ms");

/// A server with the database `restante` of the role `app`, which is no superuser and has nothing in it yet.
struct Testbed {
    server: PrivateServer,
    admin: PgPool,
}

impl Testbed {
    async fn start() -> Self {
        let server = PrivateServer::start().await;
        let options = server.database_without_schema("restante").await;
        let admin = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
        let testbed = Self { server, admin };
        for statement in [
            "create role app login",
            "alter database restante owner to app",
            "create access method elsewhere type table handler heap_tableam_handler",
        ] {
            testbed.run(statement).await;
        }
        testbed
    }

    async fn run(&self, statement: &str) {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&self.admin).await.unwrap();
    }

    async fn options(&self) -> PgConnectOptions {
        self.server.database_without_schema("restante").await.username("app")
    }

    async fn refused(&self) -> StartError {
        App::start(&config(), Database::new(self.options().await), Some(&secret().into())).await.expect_err("it should have refused")
    }

    /// Says it to the server, which takes a moment to hear it.
    async fn reload(&self, statement: &str) {
        self.run(statement).await;
        self.run("select pg_reload_conf()").await;
    }

    async fn backends(&self) -> BTreeSet<i32> {
        let backends = "select pid from pg_stat_activity where usename = 'app'";
        sqlx::query_scalar(backends).fetch_all(&self.admin).await.unwrap().into_iter().collect()
    }
}

/// Broken by any of the settings that [`restante::store::DEFAULTS`] names, left out there.
#[tokio::test]
async fn whatever_the_role_is_set_to_nothing_is_refused_and_no_connection_is_ended() {
    let testbed = Testbed::start().await;
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int").fetch_one(&testbed.admin).await.unwrap();
    for (name, value) in HOSTILE.iter().chain((version >= 170_000).then_some(&TRANSACTION_TIMEOUT)) {
        for whose in ["role app", "database restante", "role app in database restante"] {
            testbed.run(&format!("alter {whose} set {name} = '{value}'")).await;
        }
    }
    let node = Node::start(testbed.options().await).await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    alice.send("bob", "first").await;
    let first = bob.event("message:receive").await;
    bob.ask("message:delivered", json!({"messageId": first["messageId"]})).await;
    let before = testbed.backends().await;

    let lanes = "usename = 'app' and query ~ 'restante_(accept|settle)'";
    let idle = format!("select count(*) = 2 from pg_stat_activity where {lanes} and state_change < clock_timestamp() - interval '600 ms'");
    until(&testbed.admin, "both lanes have been idle for longer than any limit", &idle).await;
    let listens = "usename = 'app' and query ~* '^listen' and state_change < clock_timestamp() - interval '600 ms'";
    until(&testbed.admin, "so has the listener", &format!("select count(*) = 1 from pg_stat_activity where {listens}")).await;

    // A commit that takes longer than any limit.
    testbed.reload("alter system set synchronous_standby_names = 'nobody'").await;
    until(&testbed.admin, "it is read", "select current_setting('synchronous_standby_names') = 'nobody'").await;
    // It is the checkpointer that makes the others wait; it has read the setting when it has done this.
    testbed.run("checkpoint").await;
    let second = alice.ask_later("message:send", json!({"to": "bob", "content": "second"})).await;
    let waits = "wait_event = 'SyncRep' and state_change < clock_timestamp() - interval '600 ms'";
    until(&testbed.admin, "it waits", &format!("select count(*) > 0 from pg_stat_activity where {lanes} and {waits}")).await;
    testbed.reload("alter system reset synchronous_standby_names").await;
    assert_eq!(alice.answer(&second).await["event"], "message:sent");
    let second = bob.event("message:receive").await;
    assert_eq!(second["content"], "second");
    bob.ask("message:delivered", json!({"messageId": second["messageId"]})).await;

    // A statement keeps the setting too, and one fails.
    let pool = store(&node).pool();
    sqlx::query("select pg_sleep(0.6)").execute(pool).await.unwrap();
    sqlx::query("select 1 / 0").execute(pool).await.unwrap_err();

    let gone: Vec<_> = before.difference(&testbed.backends().await).copied().collect();
    assert_eq!(gone, Vec::<i32>::new(), "connections were ended");
    assert_eq!(node.app().delivery().health().outages(), 0);
    let choices = [("synchronous_commit", "remote_write"), ("idle_in_transaction_session_timeout", "1min")];
    for (name, expected) in SETTINGS.into_iter().chain(DEFAULTS).chain(choices) {
        let set: String = sqlx::query_scalar("select current_setting($1)").bind(name).fetch_one(pool).await.unwrap();
        assert_eq!(set, expected, "{name}");
    }
    let elsewhere = "select count(*) = 0 from pg_class c join pg_am a on a.oid = c.relam where a.amname = 'elsewhere'";
    until(&testbed.admin, "every table is PostgreSQL's own kind", elsewhere).await;
    assert_consistent(&testbed.admin).await;
    node.stop().await;
}

#[tokio::test]
async fn a_setting_under_which_confirmed_messages_may_be_lost_is_refused_with_the_statement_that_helps() {
    let testbed = Testbed::start().await;
    for (hostile, helps) in [
        ("synchronous_commit = off", "synchronous_commit = 'on'"),
        ("session_replication_role = replica", "session_replication_role = 'origin'"),
    ] {
        testbed.run(&format!("alter role app set {hostile}")).await;
        let refused = testbed.refused().await;
        assert!(!refused.may_pass(), "nobody mends it but somebody who reads this");
        let StartError::CannotUse(CannotUse::BreaksThePromise(lines)) = refused else { panic!("{refused:?}") };
        assert_eq!(lines, [format!("alter role app in database restante set {helps}")]);
        let tables: i64 = sqlx::query_scalar("select count(*) from pg_class where relnamespace = 'public'::regnamespace")
            .fetch_one(&testbed.admin)
            .await
            .unwrap();
        assert_eq!(tables, 0, "it refuses before it touches the database");
        testbed.run(&lines[0]).await;
    }
    testbed.run("alter database restante set default_transaction_read_only = on").await;
    let refused = testbed.refused().await;
    assert!(refused.to_string().starts_with("the database takes no writes") && refused.may_pass(), "{refused:?}");
    testbed.run("set transaction read write; alter database restante reset default_transaction_read_only").await;
    Node::start(testbed.options().await).await.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_to_keep_what_it_commits_is_taken_for_away_until_it_does_again() {
    let testbed = Testbed::start().await;
    let node = Node::start(testbed.options().await).await;
    let (mut alice, mut health) = (node.connect("alice").await, delivery(&node).health().subscribe());
    alice.send("bob", "kept").await;
    testbed.reload("alter system set synchronous_commit = off").await;
    timeout(2 * PATIENCE, health.wait_for(|away| *away)).await.unwrap().unwrap();
    assert_eq!(alice.ask("message:send", json!({"to": "bob", "content": "lost?"})).await["data"]["code"], "unavailable");
    testbed.reload("alter system reset synchronous_commit").await;
    timeout(PATIENCE, health.wait_for(|away| !*away)).await.unwrap().unwrap();
    alice.send("bob", "kept again").await;
    node.stop().await;
}
