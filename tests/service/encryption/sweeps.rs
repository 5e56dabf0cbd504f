//! Sweeps: all that is stored is sealed with the newest key, wherever a sweep is cut off, and a key that nothing names goes.

use restante::jobs::{Job, Rest, Seal};
use restante::store::Store;
use sqlx::{AssertSqlSafe, PgPool};

use super::{KEY, contents, hasty_store, sealing};
use crate::support::{Node, database, direct, fill, number, until_true};

/// Messages of three pages.
const MESSAGES: i32 = 450;

/// Makes passes of a sweep, with a new job for each: as if the node before had been killed. Returns how many there were.
async fn sweep(store: &Store, begun: &str) -> usize {
    let mut cursor = begun.to_owned();
    for passes in 1.. {
        let passed = Seal::new(store.clone()).pass(&cursor).await.unwrap();
        cursor = passed.cursor.unwrap_or(cursor);
        if passed.rest == Rest::Nothing {
            return passes;
        }
        assert!(passes < 100, "the sweep comes to no end");
    }
    unreachable!("a sweep has an end")
}

/// The same with one job for all of it, which may remove keys.
async fn whole_sweep(store: &Store) {
    let (mut job, mut cursor) = (Seal::new(store.clone()), String::new());
    loop {
        let passed = job.pass(&cursor).await.unwrap();
        cursor = passed.cursor.unwrap_or_default();
        if passed.rest == Rest::Nothing {
            return;
        }
    }
}

async fn run(pool: &PgPool, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap();
}

/// Encryption is switched on over a database of plain messages.
async fn switched_on(pool: &PgPool) -> Store {
    let store = hasty_store(pool, KEY);
    store.begin_encryption(false).await.unwrap().unwrap();
    store
}

async fn filled(pool: &PgPool) {
    let chat = direct(pool, "alice", "bob").await;
    fill(pool, chat, "alice", MESSAGES).await;
    run(pool, "update messages set metadata = '{\"n\": 1}' where seq % 2 = 0").await;
}

/// Broken by a cursor that is not kept, and by a page that leaves rows out.
#[tokio::test]
async fn what_was_plain_before_is_sealed_page_by_page_wherever_the_job_is_killed() {
    let db = database().await;
    let pool = db.pool(2).await;
    filled(&pool).await;
    let store = switched_on(&pool).await;
    // Killed between the page and its cursor: the page is done a second time, and changes nothing.
    let first = Seal::new(store.clone()).pass("").await.unwrap();
    assert_eq!((first.rows, number(&pool, "select count(*) from messages where key_id is null").await), (200, 250));
    assert_eq!(sweep(&store, "").await, 3);
    let plain = "select count(*) from messages where key_id is null or sealed is null or content is not null or metadata is not null";
    assert_eq!(number(&pool, plain).await, 0);
    assert_eq!(number(&pool, "select sweeps_wanted - sweeps_done from encryption").await, 0);
    assert_eq!(Seal::new(store.clone()).pass("").await.unwrap().cursor, None, "nothing is left to do");

    let node = Node::with(db.options(), sealing).await;
    let mut bob = node.connect("bob").await;
    for n in 1..=MESSAGES {
        let message = bob.envelope().await;
        assert_eq!((&message["content"], message["metadata"]["n"] == 1), (&n.to_string().into(), n % 2 == 0));
        bob.ack(&message).await;
    }
    node.stop().await;
}

/// Broken by a write that does not look again: what was recalled meanwhile would say something again.
#[tokio::test]
async fn what_is_recalled_or_sealed_while_a_page_is_sealed_stays_as_it_is() {
    let db = database().await;
    let pool = db.pool(4).await;
    filled(&pool).await;
    let store = switched_on(&pool).await;
    // The page waits for rows that somebody changes and has not committed.
    let mut transaction = pool.begin().await.unwrap();
    let first = "(select id from messages order by id limit 2)";
    let change = format!(
        "update messages set content = null, metadata = null, recalled_at = now() where id = (select min(id::text)::uuid from messages where id in {first}); \
         update messages set content = null, metadata = null, sealed = '\\x01', key_id = 'other' where id = (select max(id::text)::uuid from messages where id in {first})"
    );
    sqlx::raw_sql(AssertSqlSafe(change)).execute(&mut *transaction).await.unwrap();
    let passing = tokio::spawn(async move { Seal::new(store).pass("").await.map(|passed| passed.rows) });
    until_true(&pool, crate::support::SOMEBODY_WAITS).await;
    transaction.commit().await.unwrap();
    assert_eq!(passing.await.unwrap().unwrap(), 198);
    let untouched =
        "select count(*) from messages where (recalled_at is not null and sealed is null and key_id is null) or key_id = 'other'";
    assert_eq!(number(&pool, untouched).await, 2);
}

/// Broken by a write that looks for recalls alone: the event said again what its publisher had said.
#[tokio::test]
async fn an_event_that_an_erasure_empties_while_a_page_is_sealed_stays_empty() {
    let db = database().await;
    let pool = db.pool(4).await;
    run(&pool, "select restante_publish('anna', 'like', '{\"said\": \"zyzzyvaglu\"}', array['bob'])").await;
    run(&pool, "select restante_erase_user('anna', true); update erasures set stage = 'events'").await;
    let store = switched_on(&pool).await;
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("select restante_erase_events((select id from users where external_id = 'anna'), 1000)")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let passing = tokio::spawn(async move { Seal::new(store).pass("").await.map(|passed| passed.rows) });
    until_true(&pool, crate::support::SOMEBODY_WAITS).await;
    transaction.commit().await.unwrap();
    assert_eq!(passing.await.unwrap().unwrap(), 0);
    let emptied = "select count(*) from messages where content is null and metadata is null and sealed is null and key_id is null";
    assert_eq!((number(&pool, "select count(*) from messages").await, number(&pool, emptied).await), (1, 1));
}

/// Broken by a sweep that takes a sealed row for done, and by a key that goes while a row names it.
#[tokio::test]
async fn a_rotation_brings_every_row_under_the_new_key_and_removes_the_former_one() {
    let db = database().await;
    let pool = db.pool(2).await;
    filled(&pool).await;
    let store = switched_on(&pool).await;
    sweep(&store, "").await;
    let former: String = sqlx::query_scalar("select id from data_keys").fetch_one(&pool).await.unwrap();
    let sweep_number = store.rotate_keys(None).await.unwrap().unwrap();
    store.keep_keys().await.unwrap();
    assert_eq!(number(&pool, "select count(*) from data_keys").await, 2);
    // Another node goes on with it: what it has seen is not all, so the key stays.
    assert_eq!(sweep(&store, "").await, 3);
    let under_the_new_one = "select count(*) from messages where key_id = (select id from data_keys order by made_at desc limit 1)";
    assert_eq!(number(&pool, under_the_new_one).await, i64::from(MESSAGES));
    assert_eq!(number(&pool, "select count(*) from data_keys").await, 2);
    assert_eq!(number(&pool, "select sweeps_done from encryption").await, sweep_number);

    // One row that is under the former key still, say of a restored table, keeps the key.
    run(&pool, "update encryption set sweeps_wanted = sweeps_wanted + 1, old_before = null").await;
    store.keep_keys().await.unwrap();
    run(&pool, &format!("update messages set key_id = '{former}' where seq = 7")).await;
    whole_sweep(&store).await;
    assert_eq!(number(&pool, "select count(*) from data_keys").await, 2);
    run(&pool, "delete from messages where seq = 7; update encryption set sweeps_wanted = sweeps_wanted + 1").await;
    whole_sweep(&store).await;
    assert_eq!(number(&pool, "select count(*) from data_keys").await, 1);

    let node = Node::with(db.options(), sealing).await;
    let mut bob = node.connect("bob").await;
    assert_eq!(contents(&mut bob, 3).await, ["1", "2", "3"]);
    node.stop().await;
}

/// Broken by starts that ask for a sweep each, and by one that asks for none although a node may have stored plain text behind the last.
#[tokio::test]
async fn a_start_asks_for_no_sweep_once_one_has_begun_when_every_node_had_the_settings() {
    let db = database().await;
    let pool = db.pool(2).await;
    filled(&pool).await;
    let start = async |allows_sql: bool| {
        let node = Node::with(db.options(), |config| {
            sealing(config);
            config.encryption_allow_sql = allows_sql;
        })
        .await;
        until_true(&pool, "select sweeps_done = sweeps_wanted from encryption").await;
        node.stop().await;
        number(&pool, "select sweeps_wanted from encryption").await
    };
    assert_eq!(start(false).await, 1, "the settings are new");
    assert_eq!(
        start(false).await,
        2,
        "a node that lived beside the sweep is listed since before the settings were changed, or a moment later"
    );
    run(&pool, "update encryption set switched_at = switched_at - interval '1 hour'").await;
    assert_eq!(start(false).await, 3);
    assert_eq!(number(&pool, "select settled_sweep from encryption").await, 3);
    assert_eq!([start(false).await, start(false).await], [3, 3], "nothing has changed");
    assert_eq!(start(true).await, 4, "other settings");
}

/// Broken by a sweep that begins at once: a node that has not read the new key yet would seal behind it with the former one.
#[tokio::test]
async fn a_sweep_for_a_rotation_waits_until_no_node_can_use_the_former_key() {
    let db = database().await;
    let pool = db.pool(2).await;
    filled(&pool).await;
    let node = Node::with(db.options(), sealing).await;
    until_true(&pool, "select sweeps_done = sweeps_wanted from encryption").await;
    let store = node.app().store().clone();
    store.rotate_keys(None).await.unwrap().unwrap();
    store.keep_keys().await.unwrap();
    assert_eq!(Seal::new(store.clone()).pass("").await.unwrap().cursor, None);
    run(&pool, "update encryption set old_before = old_before - interval '10 minutes'; update data_keys set made_at = made_at - interval '10 minutes' where made_at >= (select old_before from encryption)").await;
    assert!(store.sweep_state().await.unwrap().may_begin);
    node.stop().await;
}
