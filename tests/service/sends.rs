//! Sends from SQL at their limits, and beside one another.

use restante::domain::{ChatId, MessageId};
use restante::store::Store;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, PgPool};

use crate::support::fixtures::{assert_consistent, crowd, group, number, users};
use crate::support::{Database, PATIENCE, database};

/// Alice and bob, and a group of both.
async fn start() -> (Database, PgPool, PgConnection, ChatId) {
    let db = database().await;
    let pool = db.pool(2).await;
    let [alice, bob] = users(&Store::new(pool.clone()), ["alice", "bob"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    let connection = db.options().options([("lock_timeout", "5s")]).connect().await.unwrap();
    (db, pool, connection, chat)
}

/// The code of what the statements are refused with; empty: they are not.
async fn code(connection: &mut PgConnection, statements: &str) -> String {
    match sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await {
        Ok(_) => String::new(),
        Err(error) => error.as_database_error().unwrap_or_else(|| panic!("{statements}: {error}")).code().unwrap().into_owned(),
    }
}

fn sends(chat: ChatId, messages: u32) -> String {
    format!("select restante_send('{chat}', 'alice', i::text) from generate_series(1, {messages}) i")
}

fn send(chat: ChatId, sender: &str, id: MessageId) -> String {
    format!("select restante_send('{chat}', '{sender}', 'x', p_message_id => '{id}')")
}

async fn messages(pool: &PgPool) -> i64 {
    number(pool, "select count(*) from messages").await
}

#[tokio::test]
async fn a_transaction_has_room_for_a_thousand_and_for_as_many_again_as_it_takes_back() {
    let (_db, pool, mut connection, chat) = start().await;
    assert_eq!(code(&mut connection, &format!("begin; {}", sends(chat, 1_001))).await, "54000");
    assert_eq!(code(&mut connection, "rollback").await, "");
    assert_eq!(messages(&pool).await, 0);
    let steps = [
        (format!("begin; {}; savepoint s; {}", sends(chat, 600), sends(chat, 400)), ""),
        // One too many costs what came after the savepoint only.
        (format!("savepoint t; {}", sends(chat, 1)), "54000"),
        ("rollback to t".to_owned(), ""),
        ("rollback to s".to_owned(), ""),
        (sends(chat, 400), ""),
        ("commit".to_owned(), ""),
    ];
    for (statements, expected) in steps {
        assert_eq!(code(&mut connection, &statements).await, expected, "{statements}");
    }
    assert_eq!(messages(&pool).await, 1_000);
    let in_order = "select count(*) from messages where content = (case when seq > 600 then seq - 600 else seq end)::text";
    assert_eq!(number(&pool, in_order).await, 1_000);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_commit_that_would_lock_too_many_inboxes_is_refused_as_a_whole() {
    let (_db, pool, mut connection, chat) = start().await;
    let [alice, _] = users(&Store::new(pool.clone()), ["alice", "bob"]).await;
    let many = crowd(&pool, 2_000, &[alice.user]).await;
    // Members are counted with the sender: six times 2,001.
    let too_many = format!("begin; {}; {}; commit", sends(chat, 1), sends(many, 6));
    assert_eq!(code(&mut connection, &too_many).await, "54000");
    assert_eq!(code(&mut connection, "rollback").await, "");
    assert_eq!(messages(&pool).await, 0);
    assert_eq!(code(&mut connection, &format!("begin; {}; commit", sends(many, 4))).await, "");
    assert_eq!(number(&pool, "select count(*) from message_status").await, 8_000);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn the_same_id_in_a_transaction_is_the_same_message_and_is_nobody_elses() {
    let (_db, pool, mut connection, chat) = start().await;
    let id = MessageId::generate();
    let twice = format!("begin; {0}; {0}", send(chat, "alice", id));
    assert_eq!(code(&mut connection, &twice).await, "");
    assert_eq!(code(&mut connection, &send(chat, "bob", id)).await, "23505");
    assert_eq!(code(&mut connection, "rollback").await, "");
    assert_eq!(code(&mut connection, &format!("{twice}; commit")).await, "");
    assert_eq!(messages(&pool).await, 1);
    // Taken back and sent again, it is sent.
    let again = MessageId::generate();
    let again = format!("begin; savepoint s; {0}; rollback to s; {0}; commit", send(chat, "alice", again));
    assert_eq!(code(&mut connection, &again).await, "");
    assert_eq!(messages(&pool).await, 2);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_send_while_constraints_are_immediate_is_refused_and_nothing_is_stored() {
    let (_db, pool, mut connection, chat) = start().await;
    let one = sends(chat, 1);
    for immediate in ["all", "requests_are_accepted_at_commit"] {
        assert_eq!(code(&mut connection, &format!("begin; set constraints {immediate} immediate; {one}")).await, "25000");
        assert_eq!(code(&mut connection, "rollback").await, "");
    }
    assert_eq!(messages(&pool).await, 0);
    // Made immediate afterwards, what was asked for is accepted there and then; the transaction may ask again once they are deferred.
    let later = format!("begin; {one}; set constraints all immediate; set constraints all deferred; {one}; commit");
    assert_eq!(code(&mut connection, &later).await, "");
    assert_eq!(messages(&pool).await, 2);
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn two_transactions_that_send_one_id_do_not_wait_for_each_other_before_they_commit() {
    let (db, pool, mut connection, chat) = start().await;
    let mut other = db.options().options([("lock_timeout", "5s")]).connect().await.unwrap();
    let id = MessageId::generate();
    let asked = tokio::time::timeout(PATIENCE, async {
        for connection in [&mut connection, &mut other] {
            assert_eq!(code(connection, &format!("begin; {}", send(chat, "alice", id))).await, "");
        }
    });
    asked.await.expect("the second waits for the first");
    for connection in [&mut connection, &mut other] {
        assert_eq!(code(connection, "commit").await, "", "a repeated message is a duplicate");
    }
    assert_eq!(messages(&pool).await, 1);
    // Of two senders the one that commits later is told.
    let id = MessageId::generate();
    assert_eq!(code(&mut connection, &format!("begin; {}", send(chat, "alice", id))).await, "");
    assert_eq!(code(&mut other, &format!("begin; {}", send(chat, "bob", id))).await, "");
    assert_eq!(code(&mut other, "commit").await, "");
    assert_eq!(code(&mut connection, "commit").await, "23505");
    assert_eq!(messages(&pool).await, 2);
    assert_consistent(&pool).await;
}

/// Nobody could be given it: clients' parsers, and the service's own clock, end before that.
#[tokio::test]
async fn what_no_client_could_read_is_refused_at_the_call() {
    let (_db, pool, mut connection, chat) = start().await;
    let nested = |levels: usize| format!("p_metadata => (repeat('[', {levels}) || repeat(']', {levels}))::jsonb");
    for (argument, expected) in [
        (nested(32), ""),
        (nested(33), "22023"),
        (nested(200), "22023"),
        ("p_metadata => '{\"a\": [{\"b\": 1e308}, -1e308, 0.1]}'".to_owned(), ""),
        ("p_metadata => '{\"a\": [{\"b\": 1e309}]}'".to_owned(), "22023"),
        ("p_metadata => '[-1e309]'".to_owned(), "22023"),
        ("p_metadata => '1e309'".to_owned(), "22023"),
        ("p_expires_at => 'infinity'".to_owned(), "22023"),
        ("p_expires_at => '10000-01-01 00:00Z'".to_owned(), "22023"),
        ("p_expires_at => '9999-12-31 23:59:59Z'".to_owned(), ""),
    ] {
        let call = format!("select restante_send('{chat}', 'alice', 'x', {argument})");
        assert_eq!(code(&mut connection, &call).await, expected, "{argument}");
    }
    assert_eq!(messages(&pool).await, 3);
    assert_consistent(&pool).await;
}
