//! The sweep for messages whose time has come: it waits for nobody, holds up nobody, and touches only what it ends.

use std::time::Duration;

use restante::domain::{ChatId, MessageId, UserId};
use restante::store::{EventRequest, EventTarget, ExpiryCursor, Store};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::fixtures::{LockHolder, assert_consistent, group, number, users};
use crate::support::{PATIENCE, database, statuses};

/// Everything that has expired, in one page.
async fn sweep(store: &Store) -> (Vec<MessageId>, bool) {
    let now = store.clock().await.unwrap();
    let swept = timeout(PATIENCE, store.expire(ExpiryCursor::at(OffsetDateTime::UNIX_EPOCH), now, 500, 2_000));
    let page = swept.await.expect("it waits for nobody").unwrap();
    (page.rows.iter().map(|ended| ended.row.message).collect(), page.held.is_some())
}

/// A message of alice whose time has come before anybody got it. There is no node, whose sweep would end it.
async fn late(pool: &PgPool, chat: ChatId) -> MessageId {
    let id: Uuid = sqlx::query_scalar("select restante_send($1, 'alice', 'too late')").bind(chat.0).fetch_one(pool).await.unwrap();
    sqlx::query("update messages set expires_at = clock_timestamp()").execute(pool).await.unwrap();
    MessageId(id)
}

#[tokio::test]
async fn what_somebody_holds_expires_later_and_the_rest_at_once() {
    let db = database().await;
    let pool = db.pool(2).await;
    let store = Store::new(pool.clone());
    let [alice, bob, carol] = users(&store, ["alice", "bob", "carol"]).await;
    let chats = [group(&pool, &[alice.user, bob.user]).await, group(&pool, &[alice.user, carol.user]).await];
    let mut messages = Vec::new();
    for chat in chats {
        messages.push(late(&pool, chat).await);
    }
    for held in [
        format!("select from marks where chat_id = '{}' and user_id = {} for update", chats[0], bob.user.0),
        format!("select from message_status where user_id = {} for update", bob.user.0),
    ] {
        let holder = LockHolder::holds(&db.options(), &held).await;
        let (ended, some_held) = sweep(&store).await;
        assert!(some_held && !ended.contains(&messages[0]), "{held}");
        holder.commits().await;
    }
    assert_eq!([statuses(&pool, "bob").await, statuses(&pool, "carol").await], [["sent"], ["expired"]]);
    assert_eq!(sweep(&store).await, (vec![messages[0]], false));
    assert_eq!(statuses(&pool, "bob").await, ["expired"]);
    assert_consistent(&pool).await;
}

/// Broken by looking at all rows of a message at once: one statement read 90,000 entries.
#[tokio::test]
async fn an_event_of_many_rows_expires_in_parts_of_bounded_work_and_none_of_them_is_missed() {
    let db = database().await;
    // One connection: what it has read is told before it is asked.
    let pool = db.pool(1).await;
    let store = Store::new(pool.clone());
    let [shop, bob] = users(&store, ["shop", "bob"]).await;
    let event = MessageId::generate();
    let to = EventTarget::Users(vec![bob.user]);
    let request = EventRequest {
        id: event,
        event_type: "wide".to_owned(),
        data: None,
        to,
        except: Vec::new(),
        ttl: Duration::from_secs(3_600),
        collapse_key: None,
        merge: None,
        urgent: false,
        may_publish_anywhere: true,
    };
    store.publish(shop.user, &[request]).await.unwrap();
    // Others have it already, between the two who wait.
    let fill = format!(
        "insert into users (id, external_id) overriding system value values (2000000, 'dora'); \
         insert into message_status (user_id, class, seq, message_id, status, delivered_at) \
         select n + 1000000, 'event', 1, '{event}', 'delivered', now() from generate_series(1, 90000) n; \
         insert into message_status (user_id, class, seq, message_id) values (2000000, 'event', 1, '{event}'); \
         update messages set expires_at = clock_timestamp() where id = '{event}'",
        event = event.0
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(fill)).execute(&pool).await.unwrap();
    let horizon = store.clock().await.unwrap();
    let read = async || {
        sqlx::query("select pg_stat_force_next_flush()").execute(&pool).await.unwrap();
        number(&pool, "select sum(idx_tup_read)::bigint from pg_stat_user_indexes where indexrelname = 'a_recipient_gets_a_message_once'")
            .await
    };
    let (mut place, mut ended) = (ExpiryCursor::at(OffsetDateTime::UNIX_EPOCH), Vec::new());
    for page in 1.. {
        let before = read().await;
        let expired = store.expire(place, horizon, 500, 2_000).await.unwrap();
        let entries = read().await - before;
        assert!(entries < 25_000, "page {page} has read {entries} entries");
        ended.extend(expired.rows.iter().map(|ended| ended.row.user));
        let Some(next) = expired.next else { break };
        assert!(page < 20, "the sweep does not end");
        place = next;
    }
    assert_eq!((ended.len(), ended[0], ended[1]), (2, bob.user, UserId(2_000_000)));
}

#[tokio::test]
async fn what_had_expired_before_is_left_as_it_is() {
    let db = database().await;
    let pool = db.pool(2).await;
    let store = Store::new(pool.clone());
    let [alice, bob, carol] = users(&store, ["alice", "bob", "carol"]).await;
    let (chat, other) = (group(&pool, &[alice.user, bob.user]).await, group(&pool, &[alice.user, carol.user]).await);
    let message = late(&pool, chat).await;
    assert_eq!(sweep(&store).await, (vec![message], false));
    let mark = format!("select marked_xid::text::bigint from marks where user_id = {}", bob.user.0);
    let before = number(&pool, &mark).await;
    assert_eq!(sweep(&store).await, (vec![], false));
    let message = late(&pool, other).await;
    assert_eq!(sweep(&store).await, (vec![message], false));
    assert_eq!(number(&pool, &mark).await, before, "it has moved once");
}
