//! Reads of many members in one statement: each as if it were alone, and never in a circle with another writer.

use std::collections::BTreeMap;

use restante::domain::{ChatId, ChatSeq, Class, InboxSeq, UserId};
use restante::store::{self, ExactMark, LockTimeout, ReadRequest, ReadRows, SettleBatch, StatusRow, Store};
use sqlx::{ConnectOptions, PgConnection, PgPool};

use crate::support::fixtures::{LockHolder, assert_consistent, group, number, until, users};
use crate::support::{Database, SOMEBODY_WAITS, database, fill};

/// Alice, bob and carol, and two groups of them with so many messages of alice in each.
async fn start(messages: i32) -> (Database, PgPool, [UserId; 3], [ChatId; 2]) {
    let db = database().await;
    let pool = db.pool(2).await;
    let people = users(&Store::new(pool.clone()), ["alice", "bob", "carol"]).await.map(|profile| profile.user);
    let chats = [group(&pool, &people).await, group(&pool, &people).await];
    for chat in chats {
        fill(&pool, chat.0, "alice", messages).await;
    }
    (db, pool, people, chats)
}

fn request(user: UserId, chat: ChatId, up_to: i64) -> ReadRequest {
    ReadRequest { user, chat, up_to: ChatSeq(up_to) }
}

async fn read(connection: &mut PgConnection, requests: &[ReadRequest], rows_max: i32) -> BTreeMap<usize, ReadRows> {
    store::read(connection, requests, rows_max, LockTimeout::OfConnection).await.unwrap()
}

/// Of each request: how many rows it moved, up to where it is done, whether there is more.
fn told(done: &BTreeMap<usize, ReadRows>) -> Vec<(usize, usize, i64, bool)> {
    done.iter().map(|(place, read)| (*place, read.rows.len(), read.up_to.0, read.more)).collect()
}

#[tokio::test]
async fn reads_of_one_call_are_answered_each_for_itself() {
    let (db, pool, [alice, bob, carol], [one, other]) = start(10).await;
    let mut connection = db.options().connect().await.unwrap();
    let eve = users(&Store::new(pool.clone()), ["eve"]).await[0].user;
    let requests = [
        request(bob, one, 4),
        request(eve, one, 4),
        request(bob, other, 1_000),
        request(carol, one, 0),
        request(alice, one, 7),
        request(bob, ChatId::generate(), 3),
    ];
    let done = read(&mut connection, &requests, 1_000).await;
    assert_eq!(
        told(&done),
        [(0, 4, 4, false), (2, 10, 10, false), (3, 0, 0, false), (4, 0, 7, false)],
        "who never was a member is not among them"
    );
    assert!(done[&2].rows.iter().map(|row| row.chat_seq.0).eq(1..=10));
    assert!(done.values().flat_map(|read| &read.rows).all(|row| row.sender == alice));
    // Again, and below what is read: nothing moves, nothing goes back.
    assert_eq!(told(&read(&mut connection, &requests[..1], 1_000).await), [(0, 0, 4, false)]);
    assert_eq!(told(&read(&mut connection, &[request(bob, one, 2)], 1_000).await).len(), 1);
    assert_eq!(number(&pool, &format!("select read_seq from marks where user_id = {} and chat_id = '{one}'", bob.0)).await, 4);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn one_chat_may_stand_in_a_call_twice() {
    let (db, pool, [_, bob, _], [one, _]) = start(10).await;
    let mut connection = db.options().connect().await.unwrap();
    let done = read(&mut connection, &[request(bob, one, 7), request(bob, one, 3)], 1_000).await;
    assert_eq!(done.values().map(|read| read.up_to.0).collect::<Vec<_>>(), [7, 3]);
    let mut moved: Vec<_> = done.values().flat_map(|read| &read.rows).map(|row| row.chat_seq.0).collect();
    moved.sort_unstable();
    assert_eq!(moved, (1..=7).collect::<Vec<_>>(), "each row moves once");
    assert_eq!(number(&pool, &format!("select read_seq from marks where user_id = {} and chat_id = '{one}'", bob.0)).await, 7);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_call_that_has_too_much_to_read_reads_a_part_of_each_and_says_that_there_is_more() {
    let (db, pool, [_, bob, carol], [one, other]) = start(100).await;
    let mut connection = db.options().connect().await.unwrap();
    let requests = [request(bob, one, 90), request(carol, other, 100)];
    assert_eq!(told(&read(&mut connection, &requests, 100).await), [(0, 50, 50, true), (1, 50, 50, true)]);
    assert_consistent(&pool).await;
    assert_eq!(told(&read(&mut connection, &requests, 100).await), [(0, 40, 90, false), (1, 50, 100, false)]);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_member_with_a_hole_reads_over_it_and_its_marks_are_exact() {
    let (db, pool, [_, bob, _], [one, _]) = start(6).await;
    let mut connection = db.options().connect().await.unwrap();
    let fail = "update message_status s set status = 'failed', ended = 'failed' from messages m where m.id = s.message_id and m.seq = 2 and s.user_id = 2";
    let requeue = "select restante_requeue(s.message_id, 'bob') from message_status s where s.status = 'failed' and s.user_id = 2 limit 1";
    for statement in [fail, requeue] {
        sqlx::raw_sql(statement).execute(&pool).await.unwrap();
    }
    assert_eq!(bob.0, 2);
    let hole = "select count(*) from marks where user_id = 2 and has_hole";
    assert_eq!(number(&pool, hole).await, 1);
    let chat: uuid::Uuid = sqlx::query_scalar("select chat_id from marks where user_id = 2 and has_hole").fetch_one(&pool).await.unwrap();
    let done = read(&mut connection, &[request(bob, ChatId(chat), 6)], 1_000).await;
    assert_eq!(told(&done)[0].2, 6);
    assert_eq!(number(&pool, hole).await, 0);
    assert_eq!(number(&pool, &format!("select read_seq from marks where user_id = 2 and chat_id = '{chat}'")).await, 6);
    assert!(chat == one.0 || number(&pool, "select count(*) from inbox_gaps").await == 1);
    assert_consistent(&pool).await;
}

/// The numbers that a read moved, and why those ended that it did not read.
fn moved(read: &ReadRows) -> Vec<(i64, Option<&str>)> {
    read.rows.iter().map(|row| (row.chat_seq.0, row.ended.as_deref())).collect()
}

#[tokio::test]
async fn what_expired_while_it_waited_ends_where_it_would_be_read_and_what_was_delivered_before_is_read() {
    let (db, pool, [_, bob, carol], [one, _]) = start(4).await;
    let mut connection = db.options().connect().await.unwrap();
    sqlx::raw_sql(
        "update message_status s set status = 'delivered', delivered_at = now() from messages m where m.id = s.message_id and m.seq = 1;
         update messages set expires_at = clock_timestamp() where seq in (1, 2);
         update messages set expires_at = clock_timestamp() + interval '1 hour' where seq = 3;",
    )
    .execute(&pool)
    .await
    .unwrap();
    // Carol has a hole, so her marks are computed from her rows.
    sqlx::query("update marks set has_hole = true where user_id = $1").bind(carol.0).execute(&pool).await.unwrap();
    let before = number(&pool, "select max(marked_xid::text::bigint) from marks").await;
    let done = read(&mut connection, &[request(bob, one, 4), request(carol, one, 3)], 1_000).await;
    let expired = Some("its time had come");
    assert_eq!(moved(&done[&0]), [(1, None), (2, expired), (3, None), (4, None)]);
    assert_eq!(moved(&done[&1]), [(1, None), (2, expired), (3, None)]);
    assert_eq!(
        number(&pool, "select count(*) from message_status where ended = 'expired' and delivered_at is null and read_at is null").await,
        2
    );
    assert_eq!(number(&pool, "select count(*) from endings where ended = 'expired'").await, 2, "their sender learns of it, also later");
    let told = format!("select count(*) from marks where chat_id = '{one}' and marked_xid::text::bigint > {before}");
    assert_eq!(number(&pool, &told).await, 2, "a sender that was away is led to it by the mark");
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn what_waited_when_its_reader_left_has_not_been_read_even_before_the_job_has_ended_it() {
    let (db, pool, [alice, bob, _], [one, _]) = start(1_010).await;
    let store = Store::new(pool.clone());
    sqlx::query("update chat_members set role = 'admin' where user_id = $1").bind(alice.0).execute(&pool).await.unwrap();
    store.remove_members(alice, one, &["bob".to_owned().try_into().unwrap()]).await.unwrap().unwrap();
    let rest = "select count(*) from message_status s join departures d on d.user_id = s.user_id join messages m on m.id = s.message_id and m.chat_id = d.chat_id where s.status = 'sent'";
    assert_eq!(number(&pool, rest).await, 10, "one transaction ends a thousand");
    // Neither does an ack of everything up to a number make them delivered.
    let up_to = store.waiting_up_to(bob, Class::Chat, InboxSeq(0), InboxSeq(1_010), 5).await.unwrap();
    let rest_of_it = store.waiting_up_to(bob, Class::Chat, up_to.next.unwrap(), InboxSeq(1_010), 500).await.unwrap();
    assert_eq!((up_to.messages, rest_of_it.messages, rest_of_it.next), (vec![], vec![], None));
    let mut connection = db.options().connect().await.unwrap();
    let done = read(&mut connection, &[request(bob, one, 1_005)], 2_000).await;
    assert_eq!(moved(&done[&0]), (1_001..=1_005).map(|seq| (seq, Some("left"))).collect::<Vec<_>>());
    while store.end_departures(1_000).await.unwrap().is_some() {}
    let ended = format!("select count(*) from message_status where user_id = {} and ended = 'left'", bob.0);
    assert_eq!(number(&pool, &ended).await, 1_010);
    assert_consistent(&pool).await;
}

/// All rows of these, in the order of the chat, forwards or backwards.
async fn rows(pool: &PgPool, user: UserId, chats: &[ChatId]) -> Vec<StatusRow> {
    let mut located = Vec::new();
    let mut connection = pool.acquire().await.unwrap();
    for chat in chats {
        let ids: Vec<uuid::Uuid> = sqlx::query_scalar("select id from messages where chat_id = $1 order by seq")
            .bind(chat.0)
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        let wanted: Vec<_> = ids.into_iter().map(|id| (user, restante::domain::MessageId(id))).collect();
        located.extend(store::locate(&mut connection, &wanted).await.unwrap());
    }
    located
}

/// Everybody locks in one order, so that nobody waits for anybody in a circle: who holds the first may take all the others.
#[tokio::test]
async fn a_read_waits_for_the_first_row_and_the_first_mark_before_it_takes_another_in_whatever_order_requests_stand() {
    let (db, pool, [_, bob, carol], [one, other]) = start(3).await;
    let mut members = [one, other].map(|chat| chat.0);
    members.sort_unstable();
    let row = |user: UserId, seq: i64| format!("select from message_status where user_id = {} and seq = {seq} for update nowait", user.0);
    let mark =
        |user: UserId, chat: uuid::Uuid| format!("select from marks where user_id = {} and chat_id = '{chat}' for update nowait", user.0);
    let rows = [row(bob, 1), row(bob, 4), row(carol, 1), row(carol, 4)];
    let marks = [mark(bob, members[0]), mark(carol, members[0]), mark(bob, members[1]), mark(carol, members[1])];
    for (up_to, [first, rest @ ..]) in [(1, rows), (2, marks)] {
        let mut holder = LockHolder::holds(&db.options(), &first).await;
        let options = db.options().options([("lock_timeout", "10s")]);
        let reading = tokio::spawn(async move {
            let requests = [(carol, other), (bob, one), (carol, one), (bob, other)].map(|(user, chat)| request(user, chat, up_to));
            read(&mut options.connect().await.unwrap(), &requests, 1_000).await
        });
        until(&pool, "it waits for the first", SOMEBODY_WAITS).await;
        for other in rest {
            holder.run(&other).await;
        }
        holder.commits().await;
        assert!(reading.await.unwrap().values().all(|read| read.rows.len() == 1 && read.up_to.0 == up_to));
    }
    assert_consistent(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn writers_that_name_the_same_rows_and_marks_in_opposite_orders_do_not_wait_in_a_circle() {
    let (db, pool, [_, bob, carol], [one, other]) = start(120).await;
    let mut acked = rows(&pool, carol, &[other, one]).await;
    acked.extend(rows(&pool, bob, &[other, one]).await);
    acked.reverse();
    let options = db.options();
    let settling = tokio::spawn(async move {
        let mut connection = options.connect().await.unwrap();
        for part in acked.chunks(16) {
            let exact = [carol, bob].iter().flat_map(|user| [other, one].map(|chat| ExactMark { user: *user, chat })).collect();
            let batch = SettleBatch { rows: part.to_vec(), exact, ..SettleBatch::default() };
            store::settle(&mut connection, &batch, LockTimeout::OfConnection).await.unwrap();
        }
    });
    let reading =
        [[(bob, one), (carol, other), (bob, other), (carol, one)], [(carol, one), (bob, other), (carol, other), (bob, one)]].map(|order| {
            let options = db.options();
            tokio::spawn(async move {
                let mut connection = options.connect().await.unwrap();
                for up_to in (4..=120).step_by(4) {
                    let requests = order.map(|(user, chat)| request(user, chat, up_to));
                    store::read(&mut connection, &requests, 1_000, LockTimeout::OfConnection).await.unwrap();
                }
            })
        });
    settling.await.unwrap();
    for reader in reading {
        reader.await.unwrap();
    }
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'read'").await, 480);
    assert_eq!(number(&pool, "select count(*) from marks where read_seq = 120").await, 4);
    assert_consistent(&pool).await;
}
