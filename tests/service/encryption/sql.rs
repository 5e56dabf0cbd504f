//! Messages and events from SQL while encryption is on: refused, or plain until the job has sealed them.

use sqlx::{AssertSqlSafe, PgPool};

use super::{contents, sealing, start};
use crate::support::{Node, database, direct, number, until_true};

/// The SQL state and the words with which this statement is refused.
async fn refused(pool: &PgPool, statement: &str) -> (String, String) {
    let error = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap_err();
    let error = error.into_database_error().unwrap();
    (error.code().unwrap().into_owned(), error.message().to_owned())
}

/// Broken by functions that do not look: plain text would stand in the tables for good.
#[tokio::test]
async fn with_encryption_on_sql_may_not_store_plain_text() {
    let (_db, node, pool) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    for statement in
        [format!("select restante_send('{chat}', 'alice', 'plain')"), "select restante_publish('alice', 'like', '{}')".to_owned()]
    {
        let (state, words) = refused(&pool, &statement).await;
        assert_eq!((state.as_str(), words.as_str()), ("55000", "encryption at rest is on, and SQL cannot encrypt"), "{statement}");
    }
    assert_eq!(number(&pool, "select count(*) from messages").await, 0);
    node.stop().await;
}

/// Broken by a call that is looked at and a commit that is not: encryption was switched on in between.
#[tokio::test]
async fn what_was_asked_for_before_encryption_was_on_is_refused_at_its_commit() {
    let db = database().await;
    let pool = db.pool(2).await;
    let chat = direct(&pool, "alice", "bob").await;
    let mut transaction = pool.begin().await.unwrap();
    let send = format!("select restante_send('{chat}', 'alice', 'plain')");
    sqlx::raw_sql(AssertSqlSafe(send)).execute(&mut *transaction).await.unwrap();
    let node = Node::with(db.options(), sealing).await;
    let error = transaction.commit().await.unwrap_err().into_database_error().unwrap();
    assert_eq!(error.code().unwrap(), "55000");
    node.stop().await;
}

/// Broken by messages that are not noted: they stay plain until the next sweep.
#[tokio::test]
async fn where_sql_may_store_plain_text_the_service_seals_it_soon() {
    let db = database().await;
    let node = Node::with(db.options(), |config| {
        sealing(config);
        config.encryption_allow_sql = true;
    })
    .await;
    let pool = db.pool(2).await;
    until_true(&pool, "select sweeps_done = sweeps_wanted from encryption").await;
    let chat = direct(&pool, "alice", "bob").await;
    let send = format!(
        "select restante_send('{chat}', 'alice', 'from SQL', p_metadata => '{{\"n\": 1}}'); \
         select restante_publish('alice', 'like', '{{\"likes\": 1}}', array['bob'])"
    );
    sqlx::raw_sql(AssertSqlSafe(send)).execute(&pool).await.unwrap();
    until_true(&pool, "select not exists (select from plain_messages) and (select count(*) from messages where key_id is null) = 0").await;
    assert_eq!(number(&pool, "select count(*) from messages where content is null and metadata is null and sealed is not null").await, 2);
    let mut bob = node.connect("bob").await;
    assert_eq!(contents(&mut bob, 1).await, ["from SQL"]);
    assert_eq!(bob.event("event:receive").await["data"]["likes"], 1);
    node.stop().await;
}
