//! `restante_settle` beside other writers: it locks rows by updating them, in the order of their keys, and what it was
//! told to believe of a mark it believes only as long as it is true.

use restante::domain::ChatId;
use restante::store::Store;
use sqlx::{AssertSqlSafe, ConnectOptions, PgPool};

use crate::support::fixtures::{LockHolder, assert_consistent, group, number, until, users};
use crate::support::{Database, SOMEBODY_WAITS, database};

/// Alice, bob and carol in a group, and so many messages of alice there. The numbers of bob and carol.
async fn waiting(pool: &PgPool, messages: u32) -> (ChatId, [i64; 2]) {
    let people = users(&Store::new(pool.clone()), ["alice", "bob", "carol"]).await;
    let chat = group(pool, &[people[0].user, people[1].user, people[2].user]).await;
    let send = format!("select restante_send('{chat}', 'alice', 'hello') from generate_series(1, {messages})");
    sqlx::raw_sql(AssertSqlSafe(send)).execute(pool).await.unwrap();
    (chat, [people[1].user.0, people[2].user.0])
}

/// A call with these rows as (user, seq) and these marks as (user, chat, seq), on a connection of its own.
fn settle(db: &Database, rows: &[(i64, i64)], marks: &[(i64, ChatId, i64)]) -> tokio::task::JoinHandle<Option<Vec<i32>>> {
    let options = db.options().options([("lock_timeout", "10s")]);
    let rows: (Vec<i64>, Vec<i64>) = rows.iter().copied().unzip();
    let chats: Vec<uuid::Uuid> = marks.iter().map(|mark| mark.1.0).collect();
    let marks: (Vec<i64>, Vec<i64>) = marks.iter().map(|mark| (mark.0, mark.2)).unzip();
    tokio::spawn(async move {
        let call = "select moved from restante_settle($1, array_fill('chat'::inbox_class, array[cardinality($1)]), $2, $3, $4, $5, \
                    '{}', '{}', '{}', '{}', '{}', '{}')";
        let call = sqlx::query_scalar(call).bind(rows.0).bind(rows.1).bind(marks.0).bind(chats).bind(marks.1);
        call.fetch_one(&mut options.connect().await.unwrap()).await.unwrap()
    })
}

#[tokio::test]
async fn settling_waits_for_the_first_row_before_it_takes_another_in_whatever_order_rows_are_named() {
    let db = database().await;
    let pool = db.pool(2).await;
    let (_, [bob, carol]) = waiting(&pool, 2).await;
    let lock = |user: i64, seq: i64| format!("select from message_status where user_id = {user} and seq = {seq} for update nowait");
    let mut holder = LockHolder::holds(&db.options(), &lock(bob, 1)).await;
    let settling = settle(&db, &[(carol, 2), (carol, 1), (bob, 2), (bob, 1)], &[]);
    until(&pool, "it waits for the row", SOMEBODY_WAITS).await;
    // A transaction that has the first lock can take the others, so there is no deadlock.
    for (user, seq) in [(bob, 2), (carol, 1), (carol, 2)] {
        holder.run(&lock(user, seq)).await;
    }
    holder.commits().await;
    let mut moved = settling.await.unwrap().unwrap();
    moved.sort_unstable();
    assert_eq!(moved, [1, 2, 3, 4], "each by its place in the call");
}

#[tokio::test]
async fn settling_waits_for_the_first_member_before_it_takes_another_in_whatever_order_marks_are_named() {
    let db = database().await;
    let pool = db.pool(2).await;
    let (chat, [bob, carol]) = waiting(&pool, 1).await;
    let lock = |user: i64| format!("select from marks where user_id = {user} for update nowait");
    let mut holder = LockHolder::holds(&db.options(), &lock(bob)).await;
    let settling = settle(&db, &[(carol, 1), (bob, 1)], &[(carol, chat, 1), (bob, chat, 1)]);
    until(&pool, "it waits for the member", SOMEBODY_WAITS).await;
    holder.run(&lock(carol)).await;
    holder.commits().await;
    settling.await.unwrap();
    assert_eq!(number(&pool, "select count(*) from marks where delivered_seq = 1").await, 2);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_mark_that_was_proposed_before_a_requeue_committed_does_not_pass_what_waits_again() {
    let db = database().await;
    let pool = db.pool(2).await;
    let (chat, [bob, _]) = waiting(&pool, 3).await;
    let fail = format!("update message_status set status = 'failed', ended = 'failed', reason = 'test' where user_id = {bob} and seq = 1");
    sqlx::raw_sql(AssertSqlSafe(fail)).execute(&pool).await.unwrap();
    let requeue = format!("select restante_requeue(message_id, 'bob') from message_status where user_id = {bob} and seq = 1");
    let holder = LockHolder::holds(&db.options(), &requeue).await;
    let settling = settle(&db, &[(bob, 2)], &[(bob, chat, 2)]);
    until(&pool, "it waits for the member", SOMEBODY_WAITS).await;
    holder.commits().await;
    settling.await.unwrap();
    let marks = format!("select delivered_seq from marks where user_id = {bob}");
    assert_eq!(number(&pool, &marks).await, 0, "the first message waits");
    // The last one is settled too, then the one that was put back: the marks are exact until then, and free afterwards.
    settle(&db, &[(bob, 3)], &[(bob, chat, 3)]).await.unwrap();
    assert_eq!(number(&pool, &marks).await, 0);
    settle(&db, &[(bob, 4)], &[(bob, chat, 1)]).await.unwrap();
    assert_eq!(number(&pool, &marks).await, 3);
    assert_eq!(number(&pool, "select count(*) from marks where has_hole").await, 0);
    assert_consistent(&pool).await;
}
