//! The mode `read`: nothing new is sealed, what is sealed can be read, and no key and no sweep is a reading node's affair.

use restante::config::Config;
use restante::encryption::EncryptionMode;
use sqlx::AssertSqlSafe;

use super::{contents, sealing};
use crate::support::{Node, database, direct, number, until_true};

fn reading(config: &mut Config) {
    sealing(config);
    config.encryption = EncryptionMode::Read;
}

/// Broken by a mode `read` that seals, and by one that does not open.
#[tokio::test]
async fn a_node_that_only_reads_opens_what_is_sealed_and_stores_plain_text() {
    let db = database().await;
    let (one, other) = (Node::with(db.options(), sealing).await, Node::with(db.options(), reading).await);
    one.connect("alice").await.send("bob", "sealed").await;
    other.connect("alice").await.send("bob", "plain").await;
    let pool = db.pool(1).await;
    assert_eq!(number(&pool, "select count(*) from messages where key_id is null").await, 1);
    let mut bob = other.connect("bob").await;
    assert_eq!(contents(&mut bob, 2).await, ["sealed", "plain"]);
    one.stop().await;
    other.stop().await;
}

/// Broken by a first key that every node makes, by a key that is replaced where it is old, by a database that takes the node for one that seals, and
/// by a job `seal` at it.
#[tokio::test]
async fn nodes_that_only_read_make_no_key_and_no_sweep_and_let_sql_store_plain_text() {
    let db = database().await;
    let pool = db.pool(1).await;
    let first = Node::with(db.options(), reading).await;
    assert_eq!(number(&pool, "select count(*) from data_keys").await, 0, "nothing is sealed yet");
    first.stop().await;
    let sealer = Node::with(db.options(), sealing).await;
    sealer.connect("alice").await.send("bob", "sealed").await;
    until_true(&pool, "select sweeps_done = sweeps_wanted from encryption").await;
    sealer.app().store().rotate_keys(None).await.unwrap().unwrap();
    sealer.stop().await;
    let (keys, sweeps) = ("select count(*) from data_keys", "select sweeps_wanted from encryption");
    let before = (number(&pool, keys).await, number(&pool, sweeps).await);

    let node = Node::with(db.options(), reading).await;
    let chat = direct(&pool, "alice", "bob").await;
    sqlx::raw_sql(AssertSqlSafe(format!("select restante_send('{chat}', 'alice', 'from SQL')"))).execute(&pool).await.unwrap();
    sqlx::query("update data_keys set made_at = made_at - interval '10 days'").execute(&pool).await.unwrap();
    node.app().store().keep_keys().await.unwrap();
    assert_eq!(node.app().store().rotate_keys(None).await.unwrap(), None, "encryption is off");
    let mut bob = node.connect("bob").await;
    assert_eq!(contents(&mut bob, 2).await, ["sealed", "from SQL"]);
    assert_eq!((number(&pool, keys).await, number(&pool, sweeps).await), before);
    assert_eq!(number(&pool, "select count(*) from messages where content = 'from SQL' and key_id is null").await, 1);
    let (_, metrics) = node.api("bob").get("/metrics").await;
    let jobs = metrics.as_str().unwrap().lines().filter(|line| line.starts_with("restante_job_held")).collect::<Vec<_>>();
    assert!(jobs.iter().any(|line| line.contains("\"erase\"")) && !jobs.iter().any(|line| line.contains("\"seal\"")), "{jobs:?}");
    node.stop().await;
}
