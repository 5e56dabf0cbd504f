//! What every other test relies on: a database of its own, migrated, gone afterwards.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sqlx::{ConnectOptions, Connection};
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
