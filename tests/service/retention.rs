//! Retention: what was finished long ago is removed, in whatever order it was finished, and nothing that waits is. What clients see of
//! it is in `clients`.

mod clients;

use restante::domain::{Class, UserId};
use restante::store::{FIRST_CHAT, PurgeLimits, Store};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::time::timeout;

use crate::support::fixtures::{LockHolder, assert_consistent, number};
use crate::support::{Database, Node, PATIENCE, database, direct, fill, group, rows, until_true, users, wait_until};

/// Days for which rows are kept.
const DAYS: i32 = 90;
/// Larger than any database of these tests.
const LIMITS: PurgeLimits = PurgeLimits { places: 500, rows: 1_000 };

async fn start() -> (Database, PgPool, Store) {
    let db = database().await;
    let pool = db.pool(4).await;
    let store = Store::new(pool.clone());
    (db, pool, store)
}

async fn run(pool: &PgPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(pool).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

/// Runs statements without the guards of the schema, as if they had run long ago.
async fn long_ago(pool: &PgPool, statements: &str) {
    run(pool, &format!("begin; set local session_replication_role = replica; {statements}; commit")).await;
}

/// The messages that wait for a user were accepted, and acked, so many days ago.
async fn delivered(pool: &PgPool, user: &str, days: i32) {
    let user = users(pool, &[user]).await[0];
    let statements = format!(
        "update messages set created_at = clock_timestamp() - interval '{days} days'
          where id in (select message_id from message_status where user_id = {user} and status = 'sent');
         update message_status set status = 'delivered', delivered_at = clock_timestamp() - interval '{days} days' where user_id = {user} and status = 'sent'"
    );
    long_ago(pool, &statements).await;
    let marks = format!("select restante_exact_marks(array_agg(chat_id), array_agg(user_id)) from marks where user_id = {user}");
    run(pool, &marks).await;
}

/// Purges until nothing is left. Returns how many rows and how many messages went.
async fn purge(store: &Store) -> (usize, usize) {
    timeout(PATIENCE, purge_by(store, LIMITS)).await.expect("it waits for nobody")
}

async fn purge_by(store: &Store, limits: PurgeLimits) -> (usize, usize) {
    let (mut rows, mut messages) = (0, 0);
    let mut inbox = Some((UserId(0), Class::Chat));
    while let Some(after) = inbox {
        let purged = store.purge_inboxes(DAYS, after, limits).await.unwrap();
        assert!(purged.rows <= usize::try_from(limits.rows).unwrap());
        rows += purged.rows;
        inbox = purged.next;
    }
    let mut chat = Some(FIRST_CHAT);
    while let Some(after) = chat {
        let purged = store.purge_chats(DAYS, after, limits).await.unwrap();
        messages += purged.rows;
        chat = purged.next;
    }
    (rows, messages)
}

/// The numbers of a user's chat inbox that have a row.
async fn numbers(pool: &PgPool, user: &str) -> Vec<i64> {
    rows(pool, user).await.into_iter().map(|row| row.seq).collect()
}

#[tokio::test]
async fn an_inbox_loses_what_was_finished_long_ago_and_a_chat_its_messages_and_numbers_go_on() {
    let (_db, pool, store) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 6).await;
    delivered(&pool, "bob", 100).await;
    fill(&pool, chat, "alice", 4).await;
    delivered(&pool, "bob", 80).await;
    assert_eq!(purge(&store).await, (6, 6));
    assert_eq!(numbers(&pool, "bob").await, [7, 8, 9, 10]);
    assert_eq!(number(&pool, "select min(seq) from messages").await, 7);
    assert_eq!(number(&pool, "select purged_seq from inboxes where last_seq > 0 and settled_seq = 6").await, 6);
    assert_eq!(purge(&store).await, (0, 0));
    fill(&pool, chat, "alice", 1).await;
    assert_eq!(numbers(&pool, "bob").await, [7, 8, 9, 10, 11]);
    assert_consistent(&pool).await;
}

/// Broken by ending the prefix with the last row that is old: rows 3 to 6 went too.
#[tokio::test]
async fn what_was_put_back_after_100_days_takes_nothing_with_it_that_stands_before_it() {
    let (_db, pool, store) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 1).await;
    run(&pool, "update message_status set status = 'failed', ended = 'failed', reason = 'test'").await;
    run(&pool, "update messages set created_at = clock_timestamp() - interval '100 days'").await;
    fill(&pool, chat, "alice", 1).await;
    delivered(&pool, "bob", 100).await;
    fill(&pool, chat, "alice", 3).await;
    delivered(&pool, "bob", 1).await;
    run(&pool, "select restante_requeue(message_id, 'bob') from message_status where status = 'failed'").await;
    // It has the highest number and is older than what stands before it.
    delivered(&pool, "bob", 100).await;
    assert_eq!(numbers(&pool, "bob").await, [2, 3, 4, 5, 6]);
    assert_eq!(purge(&store).await, (1, 0));
    assert_eq!(numbers(&pool, "bob").await, [3, 4, 5, 6]);
    assert_eq!(number(&pool, "select count(*) from inbox_gaps").await, 0, "a gap goes with the row behind it");
    assert_consistent(&pool).await;
    long_ago(&pool, "update message_status set delivered_at = delivered_at - interval '100 days'").await;
    run(&pool, "update messages set created_at = created_at - interval '100 days'").await;
    assert_eq!(purge(&store).await, (4, 5));
    assert_eq!(number(&pool, "select count(*) from endings").await, 0, "it goes with its row");
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn what_was_put_back_after_100_days_and_waits_stays_with_its_message() {
    let (_db, pool, store) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 2).await;
    run(&pool, "update message_status set status = 'failed', ended = 'failed', reason = 'test' where seq = 1").await;
    delivered(&pool, "bob", 100).await;
    run(&pool, "update messages set created_at = clock_timestamp() - interval '100 days'").await;
    run(&pool, "select restante_requeue(message_id, 'bob') from message_status where status = 'failed'").await;
    assert_eq!(purge(&store).await, (1, 0));
    assert_eq!(numbers(&pool, "bob").await, [3]);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn nothing_that_waits_goes_whatever_its_age_nor_what_stands_behind_it() {
    let (_db, pool, store) = start().await;
    let chat = group(&pool, &["alice", "bob", "carol"]).await;
    fill(&pool, chat, "alice", 5).await;
    delivered(&pool, "carol", 400).await;
    long_ago(
        &pool,
        "update message_status set status = 'delivered', delivered_at = clock_timestamp() - interval '400 days' where seq in (1, 2, 4)",
    )
    .await;
    assert_eq!(purge(&store).await, (5 + 2, 2), "all of carol's, of bob's what stands before the first that waits");
    assert_eq!(numbers(&pool, "bob").await, [3, 4, 5]);
    assert_eq!(number(&pool, "select min(seq) from messages").await, 3, "what a row of bob's needs stays");
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_message_of_old_age_that_was_delivered_today_stays_for_as_long_as_one_of_today() {
    let (_db, pool, store) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 3).await;
    delivered(&pool, "bob", 100).await;
    long_ago(&pool, "update message_status set delivered_at = clock_timestamp() where seq = 1").await;
    assert_eq!(purge(&store).await, (0, 0), "another device of bob's may not have it yet");
}

#[tokio::test]
async fn messages_that_nobody_has_a_row_of_go_by_their_own_age() {
    let (_db, pool, store) = start().await;
    let alone = direct(&pool, "alice", "alice").await;
    fill(&pool, alone, "alice", 5).await;
    run(&pool, "update messages set created_at = clock_timestamp() - interval '100 days' where seq <= 3").await;
    assert_eq!(purge(&store).await, (0, 3));
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_chat_keeps_its_messages_for_longer_or_for_ever_and_its_rows_go_all_the_same() {
    let (_db, pool, store) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 5).await;
    delivered(&pool, "bob", 100).await;
    run(&pool, "update chats set keep_days = 0").await;
    assert_eq!(purge(&store).await, (5, 0));
    assert_consistent(&pool).await;
    run(&pool, "update chats set keep_days = 120").await;
    assert_eq!(purge(&store).await, (0, 0));
    run(&pool, "update chats set keep_days = 10").await;
    assert_eq!(purge(&store).await, (0, 5), "fewer days than RETENTION_DAYS are as many");
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn what_somebody_holds_is_left_for_the_next_time_and_nobody_waits() {
    let (db, pool, store) = start().await;
    let [one, other] = [direct(&pool, "alice", "bob").await, direct(&pool, "alice", "carol").await];
    for (chat, user) in [(one, "bob"), (other, "carol")] {
        fill(&pool, chat, "alice", 3).await;
        delivered(&pool, user, 100).await;
    }
    let bob = users(&pool, &["bob"]).await[0];
    let mut carol = 3;
    for held in ["inboxes where user_id = $1", "message_status where seq = 2 and user_id = $1", "marks where user_id = $1"] {
        let holder = LockHolder::holds(&db.options(), &format!("select from {} for update", held.replace("$1", &bob.to_string()))).await;
        assert_eq!(purge(&store).await, (carol, carol), "{held}");
        carol = 0;
        holder.commits().await;
        assert_eq!(numbers(&pool, "bob").await, [1, 2, 3]);
    }
    let holder = LockHolder::holds(&db.options(), &format!("select from messages where chat_id = '{one}' and seq = 2 for update")).await;
    assert_eq!(purge(&store).await, (3, 0));
    holder.commits().await;
    let holder = LockHolder::holds(&db.options(), &format!("select from chats where id = '{one}' for share")).await;
    assert_eq!(purge(&store).await, (0, 0));
    holder.commits().await;
    assert_eq!(purge(&store).await, (0, 3));
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_purge_that_is_killed_in_the_middle_has_removed_nothing_and_the_next_removes_all() {
    let (db, pool, store) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 50).await;
    delivered(&pool, "bob", 100).await;
    let mut killed = LockHolder::holds(&db.options(), "select restante_purge_inboxes(90, 0, 'chat', 500, 20)").await;
    assert_eq!(purge(&store).await, (0, 0), "its inbox is held");
    killed.run("select restante_purge_inboxes(90, 0, 'chat', 500, 1000), restante_purge_chats(90, '00000000-0000-0000-0000-000000000000', 500, 1000)").await;
    drop(killed);
    until_true(&pool, "select count(*) = 0 from pg_locks l join pg_class c on c.oid = l.relation where c.relname = 'message_status' and l.mode = 'RowExclusiveLock'").await;
    assert_eq!(number(&pool, "select count(*) from messages").await, 50);
    assert_consistent(&pool).await;
    assert_eq!(purge_by(&store, PurgeLimits { places: 2, rows: 7 }).await, (50, 50), "page by page");
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn two_purges_at_once_remove_each_row_once_while_messages_come_and_are_put_back() {
    let (_db, pool, store) = start().await;
    let names: Vec<String> = (0..20).map(|n| format!("user-{n}")).collect();
    let mut chats = Vec::new();
    for name in &names {
        let chat = group(&pool, &["alice", name, "zoe"]).await;
        fill(&pool, chat, "alice", 30).await;
        delivered(&pool, name, 100).await;
        chats.push(chat);
    }
    delivered(&pool, "zoe", 100).await;
    let limits = PurgeLimits { places: 3, rows: 11 };
    let send = async {
        for chat in &chats {
            fill(&pool, *chat, "alice", 3).await;
            run(&pool, "update message_status set status = 'failed', ended = 'failed', reason = 'test' where (user_id, seq) = (select user_id, seq from message_status where status = 'sent' order by seq limit 1)").await;
            run(&pool, "select restante_requeue(s.message_id, u.external_id) from message_status s join users u on u.id = s.user_id where s.status = 'failed'").await;
        }
    };
    let ((), one, other) =
        timeout(PATIENCE, async { tokio::join!(send, purge_by(&store, limits), purge_by(&store, limits)) }).await.unwrap();
    let rest = purge(&store).await;
    assert_eq!((one.0 + other.0 + rest.0, one.1 + other.1 + rest.1), (20 * 30 * 2, 20 * 30));
    assert_eq!(number(&pool, "select count(*) from message_status").await, 20 * 3 * 2);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn the_time_at_which_a_user_was_last_there_is_forgotten() {
    let (_db, pool, store) = start().await;
    users(&pool, &["alice", "bob", "carol"]).await;
    run(&pool, "insert into last_seen (user_id, seen_at) select id, clock_timestamp() - interval '1 day' * case external_id when 'bob' then 91 else 89 end from users").await;
    let page = store.purge_last_seen(DAYS, UserId(0), 2).await.unwrap();
    let last = store.purge_last_seen(DAYS, page.next.unwrap(), 2).await.unwrap();
    assert_eq!((page.rows + last.rows, last.next), (1, None));
    assert_eq!(number(&pool, "select count(*) from last_seen s join users u on u.id = s.user_id where u.external_id = 'bob'").await, 0);
}

#[tokio::test]
async fn one_of_two_nodes_removes_what_is_old_and_says_how_late_it_was_and_none_does_where_it_is_off() {
    let (db, pool, _store) = start().await;
    for n in 0..3 {
        let chat = direct(&pool, "alice", &format!("user-{n}")).await;
        fill(&pool, chat, "alice", 700).await;
        delivered(&pool, &format!("user-{n}"), 100).await;
    }
    let off = Node::with(db.options(), |config| config.retention_days = 0).await;
    wait_until("other jobs are done", || off.app().context().metrics.job_passes.of_all(["expire", "done"]).get() > 0).await;
    off.stop().await;
    assert_eq!(number(&pool, "select count(*) from jobs where name = 'retention'").await, 0);
    let nodes = [Node::start(db.options()).await, Node::start(db.options()).await];
    until_true(&pool, "select count(*) = 0 from messages").await;
    assert_eq!(number(&pool, "select count(*) from message_status").await, 0);
    let metrics = || nodes.iter().map(|node| &node.app().context().metrics);
    wait_until("the sweep ends", || metrics().any(|metrics| metrics.job_passes.of_all(["retention", "done"]).get() > 0)).await;
    assert_eq!(metrics().map(|metrics| metrics.job_rows.of("retention").get()).sum::<u64>(), 2 * 2_100);
    let lag: i64 = metrics().map(|metrics| metrics.retention_lag.get()).sum();
    assert!((10 * 86_400 - 1..11 * 86_400).contains(&lag), "{lag}");
    assert_eq!(number(&pool, "select count(*) from jobs where name = 'retention' and cursor = '' and holder is not null").await, 1);
    assert_consistent(&pool).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn the_schema_refuses_a_purge_of_what_is_not_settled_and_one_that_is_taken_back() {
    let (_db, pool, _store) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 3).await;
    let refused = async |statement: &str| sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&pool).await.unwrap_err().to_string();
    assert!(refused("update inboxes set purged_seq = 1 where last_seq = 3").await.contains("at or below settled_seq"));
    run(&pool, "update inboxes set settled_seq = 3, purged_seq = 3 where last_seq = 3; update chats set purged_seq = 2").await;
    assert!(refused("update inboxes set purged_seq = 2 where last_seq = 3").await.contains("only grows"));
    assert!(refused("update chats set purged_seq = 1").await.contains("only grows"));
    assert!(refused("update chats set keep_days = -1").await.contains("a_chat_keeps_its_messages_for_days"));
}
