//! The sweep for messages whose time has come: it waits for nobody, holds up nobody, and touches only what it ends.

use restante::domain::{ChatId, MessageId};
use restante::store::{ExpiryCursor, Store};
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
