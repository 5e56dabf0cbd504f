//! The test database: every test has a migrated database of its own, which is removed afterwards.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sqlx::{ConnectOptions, Connection};
use support::run::Run;
use support::{Ending, PrivateServer};

async fn table_exists(options: &sqlx::postgres::PgConnectOptions, table: &str) -> bool {
    let mut connection = options.connect().await.unwrap();
    let there = sqlx::query_scalar("select to_regclass($1) is not null").bind(table).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    there
}

#[tokio::test]
async fn a_test_database_has_the_schema() {
    let database = support::database().await;
    assert!(table_exists(&database.options(), "message_status").await);
    assert!(table_exists(&database.url().parse().unwrap(), "message_status").await);
}

#[tokio::test]
async fn what_one_test_writes_no_other_sees() {
    let (one, other) = tokio::join!(support::database(), support::database());
    sqlx::query("create table only_here ()").execute(&one.pool(1).await).await.unwrap();
    assert!(table_exists(&one.options(), "only_here").await);
    assert!(!table_exists(&other.options(), "only_here").await);
}

#[tokio::test]
async fn a_test_database_is_dropped_with_its_handle_even_while_a_pool_is_open() {
    let database = support::database().await;
    let (options, pool) = (database.options(), database.pool(2).await);
    drop(database);
    let refused = options.connect().await.expect_err("the database is gone");
    assert_eq!(refused.as_database_error().and_then(|e| e.code()).as_deref(), Some("3D000"));
    pool.close().await;
}

/// Broken by a run that takes another's session for its own, or looks at names alone.
#[tokio::test]
async fn what_a_dead_run_left_is_dropped_by_the_next_and_what_a_live_one_has_is_not() {
    let server = PrivateServer::start().await;
    let admin = server.database_without_schema("elsewhere").await;
    let own = admin.clone().database("postgres");
    let (dead, live) = (Run::begin(&admin).await.unwrap(), Run::begin(&own).await.unwrap());
    for run in [&dead, &live] {
        let (database, role) = (run.named("template"), run.named("role_1"));
        for statement in [
            format!("create database {database}"),
            format!("create role {role} login"),
            format!("alter database {database} owner to {role}"),
        ] {
            run.execute(&statement).await.unwrap();
        }
    }
    for (name, is_like) in [("restante_test", "nobody's run"), ("restante_test_0123456789abcdef", "no name of a run's")] {
        live.execute(&format!("create database {name}")).await.unwrap_or_else(|error| panic!("{is_like}: {error}"));
    }
    let there = async || -> Vec<String> {
        let names = "select datname::text from pg_database where datname like 'restante%' union select rolname::text from pg_roles where rolname like 'restante%' order by 1";
        sqlx::query_scalar(names).fetch_all(&mut own.connect().await.unwrap()).await.unwrap()
    };
    let mut expected: Vec<String> = ["restante_test", "restante_test_0123456789abcdef"].map(str::to_owned).to_vec();
    expected.extend([live.named("role_1"), live.named("template")]);
    expected.sort_unstable();
    let name = dead.name().to_owned();
    drop(dead);
    let sessions = format!("select count(*) from pg_stat_activity where application_name = '{name}'");
    support::fixtures::until(
        &sqlx::PgPool::connect_with(own.clone()).await.unwrap(),
        "its session is gone",
        &sessions.replace("count(*)", "count(*) = 0"),
    )
    .await;
    let next = Run::begin(&own).await.unwrap();
    assert_eq!(there().await, expected);
    drop(next);
}

#[tokio::test]
async fn a_private_server_keeps_what_was_committed_however_it_ends() {
    let mut server = PrivateServer::start().await;
    let options = server.database("restante").await;
    for (n, how) in [Ending::Fast, Ending::Immediate, Ending::Killed].into_iter().enumerate() {
        let mut connection = options.connect().await.unwrap();
        sqlx::query("insert into users (external_id) values ($1)").bind(n.to_string()).execute(&mut connection).await.unwrap();
        server.end(how).await;
        server = server.start_again().await;
        let users: i64 = sqlx::query_scalar("select count(*) from users").fetch_one(&mut options.connect().await.unwrap()).await.unwrap();
        assert_eq!(users, n as i64 + 1, "{how:?}");
    }
}
