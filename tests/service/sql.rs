//! The schema itself: what it says, what it refuses, and the functions that others call from SQL.

use std::time::Duration;

use restante::delivery::{Acks, Attempt, AttemptTarget};
use restante::domain::{ChatId, ChatSeq, MessageId, UserId};
use restante::store::Store;
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgPool};

use crate::support::fixtures::{
    LockHolder, acks, assert_consistent, crowd, delivery, group, lock_chat, number, sent, store, text, until, user, users,
};
use crate::support::{Connect, Node, SOMEBODY_WAITS, database};

async fn texts(pool: &PgPool, question: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(question.to_owned())).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn everything_in_the_schema_has_a_comment() {
    let db = database().await;
    let silent = texts(
        &db.pool(1).await,
        "select 'table ' || c.relname from pg_class c
          where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v') and c.relname <> '_sqlx_migrations' and obj_description(c.oid, 'pg_class') is null
         union all
         select 'column ' || c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v') and c.relname <> '_sqlx_migrations' and col_description(c.oid, a.attnum) is null
         union all
         select 'index ' || c.relname from pg_class c join pg_index i on i.indexrelid = c.oid
          where c.relnamespace = 'public'::regnamespace and i.indrelid <> '_sqlx_migrations'::regclass and obj_description(c.oid, 'pg_class') is null
         union all
         select 'constraint ' || n.conname from pg_constraint n
          where n.connamespace = 'public'::regnamespace and n.contype not in ('p', 'u', 't') and obj_description(n.oid, 'pg_constraint') is null
         union all
         select 'function ' || p.proname from pg_proc p where p.pronamespace = 'public'::regnamespace and obj_description(p.oid, 'pg_proc') is null
         union all
         select 'type ' || t.typname from pg_type t
          where t.typnamespace = 'public'::regnamespace and t.typtype in ('e', 'd') and obj_description(t.oid, 'pg_type') is null
         union all
         select 'trigger ' || t.tgname from pg_trigger t where not t.tgisinternal and obj_description(t.oid, 'pg_trigger') is null",
    )
    .await;
    assert!(silent.is_empty(), "{silent:#?}");
}

#[tokio::test]
async fn names_of_constraints_are_sentences() {
    let db = database().await;
    let names = "select n.conname::text from pg_constraint n where n.connamespace = 'public'::regnamespace and n.conrelid <> '_sqlx_migrations'::regclass";
    for name in texts(&db.pool(1).await, names).await {
        assert!(name.split('_').count() > 2, "{name}");
    }
}

/// A row of the queue in this status, with what that status needs.
fn row(status: &str, seq: i64) -> String {
    let (delivered, read) = (matches!(status, "delivered" | "read"), status == "read");
    let at = |is: bool| if is { "'2026-01-01'" } else { "null" };
    let ended = if matches!(status, "failed" | "expired") { format!("'{status}'") } else { "null".to_owned() };
    format!(
        "insert into message_status (user_id, class, seq, message_id, status, delivered_at, read_at, ended, reason) \
         values (1, 'chat', {seq}, gen_random_uuid(), '{status}', {}, {}, {ended}, 'test')",
        at(delivered),
        at(read)
    )
}

#[tokio::test]
async fn a_status_moves_forward_and_no_other_way() {
    const STATUSES: [&str; 5] = ["sent", "delivered", "read", "failed", "expired"];
    let db = database().await;
    let pool = db.pool(1).await;
    let mut seq = 0;
    for from in STATUSES {
        for to in STATUSES {
            seq += 1;
            sqlx::raw_sql(AssertSqlSafe(row(from, seq))).execute(&pool).await.unwrap();
            let delivered = if matches!(to, "delivered" | "read") { "coalesce(delivered_at, now())" } else { "null" };
            let read = if to == "read" { "coalesce(read_at, now())" } else { "null" };
            let ended = if matches!(to, "failed" | "expired") { format!("'{to}'") } else { "null".to_owned() };
            let update = format!(
                "update message_status set status = '{to}', delivered_at = {delivered}, read_at = {read}, ended = {ended} where seq = {seq}"
            );
            let done = sqlx::raw_sql(AssertSqlSafe(update)).execute(&pool).await;
            let allowed = from == to || from == "sent" || (from, to) == ("delivered", "read");
            match done {
                Ok(_) => assert!(allowed, "{from} became {to}"),
                Err(error) => {
                    let error = error.into_database_error().unwrap();
                    assert_eq!((allowed, error.constraint()), (false, Some("a_status_only_moves_forward")), "{from} to {to}: {error}");
                }
            }
        }
    }
}

/// Runs a statement that the schema must refuse, and returns the rule that refused it.
async fn refused_by(pool: &PgPool, statement: &str) -> String {
    let error = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.expect_err(statement).into_database_error().unwrap();
    error.constraint().unwrap_or(error.message()).to_owned()
}

#[tokio::test]
async fn what_was_written_once_stays_and_counters_only_grow() {
    let db = database().await;
    let pool = db.pool(1).await;
    let [alice, bob] = users(&Store::new(pool.clone()), ["alice", "bob"]).await;
    group(&pool, &[alice.user, bob.user]).await;
    for statement in [
        row("delivered", 1_000),
        row("failed", 1_001),
        row("failed", 1_002),
        "update inboxes set last_seq = 10, settled_seq = 5".to_owned(),
        "update chat_heads set last_seq = 10".to_owned(),
        format!("insert into devices (user_id, device_id, session_no) values ({}, 'phone', 5)", alice.user.0),
        format!("insert into device_cursors (user_id, device_id, class, acked_seq) values ({}, 'phone', 'chat', 5)", alice.user.0),
        // As an operator's requeue: the row gets a higher number and waits again.
        "update message_status set status = 'sent', seq = 2000, ended = null, reason = null where seq = 1002".to_owned(),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    }
    for (statement, rule) in [
        ("update message_status set delivered_at = now() where seq = 1000", "delivered_at_is_set_once"),
        ("update message_status set delivered_at = null, status = 'failed' where seq = 1000", "a_status_only_moves_forward"),
        ("update message_status set seq = 999 where seq = 1000", "a_status_only_moves_forward"),
        ("update message_status set seq = 3000 where seq = 1000", "a_status_only_moves_forward"),
        ("update message_status set status = 'sent' where seq = 1001", "a_status_only_moves_forward"),
        ("update message_status set status = 'sent', seq = 7 where seq = 1001", "a_status_only_moves_forward"),
        ("update inboxes set last_seq = 9", "inbox_counters_only_grow"),
        ("update inboxes set settled_seq = 4", "what_is_settled_was_numbered"),
        ("update inboxes set settled_seq = 11", "what_is_settled_was_numbered"),
        ("update chat_heads set last_seq = 9", "chat_counters_only_grow"),
        ("update device_cursors set acked_seq = 4", "device_cursors_only_grow"),
        ("update devices set session_no = 4", "device_sessions_only_grow"),
        ("update marks set read_seq = 3, delivered_seq = 2", "what_is_read_was_delivered"),
        ("update message_status set status = 'delivered' where seq = 2000", "a_row_is_delivered_exactly_when_it_says_when"),
        ("update message_status set status = 'failed' where seq = 2000", "what_ended_otherwise_says_why"),
    ] {
        assert_eq!(refused_by(&pool, statement).await, rule, "{statement}");
    }
}

#[tokio::test]
async fn a_message_sent_from_sql_is_stored_at_the_commit_and_wakes_its_recipient() {
    let db = database().await;
    let pool = db.pool(2).await;
    // Without the slow look what comes has been told.
    let node = Node::with(db.options(), |config| config.look_interval = Duration::from_secs(3600)).await;
    let mut bob = node.connect("bob").await;
    let [alice, bobs] = users(store(&node), ["alice", "bob"]).await;
    let chat = group(&pool, &[alice.user, bobs.user]).await;
    // The node has to listen before the send, because only a slow poll would find an earlier one.
    until(
        &pool,
        "the node listens",
        "select exists (select from pg_stat_activity where datname = current_database() and query ilike 'listen%')",
    )
    .await;
    let send = |content: &str| format!("select restante_send('{chat}', 'alice', '{content}', p_metadata => '{{\"from\": \"SQL\"}}');");
    let holder = LockHolder::holds(&db.options(), &(send("first") + &send("second"))).await;
    assert_eq!(number(&pool, "select count(*) from messages").await, 0, "nothing before the commit");
    assert!(bob.until_pong().await.iter().all(|frame| frame["event"] != "message:receive"));
    holder.commits().await;
    for (content, seq) in [("first", 1), ("second", 2)] {
        let received = bob.event("message:receive").await;
        assert_eq!((&received["content"], &received["seq"], &received["inboxSeq"]), (&json!(content), &json!(seq), &json!(seq)));
        assert_eq!((&received["senderId"], &received["metadata"]), (&json!("alice"), &json!({"from": "SQL"})));
        bob.ack(&received).await;
    }
    let mut undone = LockHolder::holds(&db.options(), &send("never")).await;
    undone.run("savepoint s").await;
    undone.run(&send("nor this")).await;
    undone.run("rollback to s; rollback").await;
    let mut partly = LockHolder::holds(&db.options(), "savepoint s").await;
    partly.run(&(send("gone") + "rollback to s;" + &send("third"))).await;
    partly.commits().await;
    assert_eq!(bob.event("message:receive").await["content"], "third");
    assert_eq!(number(&pool, "select count(*) from messages").await, 3);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn a_send_from_sql_raises_at_the_call_or_at_the_commit_what_a_client_would_be_told() {
    let db = database().await;
    let pool = db.pool(1).await;
    let [alice, bob, _eve] = users(&Store::new(pool.clone()), ["alice", "bob", "eve"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    let sent = texts(&pool, &format!("select restante_send('{chat}', 'alice', 'first')::text")).await.remove(0);
    let mut connection = db.options().connect().await.unwrap();
    let at_the_call = [
        (format!("select restante_send('{chat}', 'eve', 'x')"), "42501"),
        (format!("select restante_send('{chat}', 'nobody', 'x')"), "42501"),
        ("select restante_send(gen_random_uuid(), 'alice', 'x')".to_owned(), "42501"),
        (format!("select restante_send('{chat}', 'alice', repeat('x', 32769))"), "54000"),
        (format!("select restante_send('{chat}', 'alice', 'x', p_metadata => to_jsonb(repeat('x', 8192)))"), "54000"),
        (format!("select restante_send('{chat}', 'alice', 'x', p_expires_at => now() - interval '1 second')"), "22023"),
        (format!("set transaction isolation level repeatable read; select restante_send('{chat}', 'alice', 'x')"), "25000"),
    ];
    for (statement, code) in at_the_call {
        sqlx::raw_sql("begin").execute(&mut connection).await.unwrap();
        let error = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut connection).await.expect_err(&statement);
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some(code), "{error}");
        sqlx::raw_sql("rollback").execute(&mut connection).await.unwrap();
    }
    let again = format!("select restante_send('{chat}', 'alice', 'first', p_message_id => '{sent}')");
    sqlx::raw_sql(AssertSqlSafe(again)).execute(&pool).await.unwrap();
    let leave = format!("update chat_members set left_seq = 1 where chat_id = '{chat}' and user_id = {}", bob.user.0);
    let at_the_commit = [
        (format!("select restante_send('{chat}', 'bob', 'x', p_message_id => '{sent}')"), "23505"),
        (format!("select restante_send('{chat}', 'bob', 'x'); {leave}"), "42501"),
    ];
    for (statement, code) in at_the_commit {
        sqlx::raw_sql(AssertSqlSafe(format!("begin; {statement}"))).execute(&mut connection).await.unwrap();
        let error = sqlx::raw_sql("commit").execute(&mut connection).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some(code), "{error}");
        sqlx::raw_sql("rollback").execute(&mut connection).await.unwrap();
    }
    assert_eq!(number(&pool, "select count(*) from messages").await, 1, "the repeated one is a duplicate");
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_thousand_sends_in_one_transaction_are_one_transaction() {
    let db = database().await;
    let pool = db.pool(2).await;
    let [alice, bob] = users(&Store::new(pool.clone()), ["alice", "bob"]).await;
    let mut listener = sqlx::postgres::PgListener::connect_with(&pool).await.unwrap();
    listener.listen("restante_wake").await.unwrap();
    let (pair, many) = (group(&pool, &[alice.user, bob.user]).await, crowd(&pool, 700, &[alice.user]).await);
    let mut connection = db.options().connect().await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    let sends = format!(
        "select restante_send('{pair}', 'alice', i::text) from generate_series(1, 999) i; select restante_send('{many}', 'alice', 'to all')"
    );
    sqlx::raw_sql(AssertSqlSafe(sends)).execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(number(&pool, "select count(*) from messages where content = seq::text").await, 999, "in their order");
    assert_eq!(number(&pool, "select count(distinct xmin::text) from message_status").await, 1);
    // Every recipient is woken, in payloads that fit.
    let mut woken = std::collections::HashSet::new();
    while woken.len() < 701 {
        let payload =
            tokio::time::timeout(Duration::from_secs(20), listener.recv()).await.expect("all are woken").unwrap().payload().to_owned();
        assert!(payload.len() < 8_000);
        woken.extend(payload.split(',').map(|user| user.parse::<i64>().unwrap()));
    }
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn the_trace_of_a_message_shows_the_way_of_every_recipient() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::start(db.options()).await;
    let [alice, waits, has, reads, rejects] = users(store(&node), ["alice", "waits", "has", "reads", "rejects"]).await;
    let chat = group(&pool, &[alice.user, waits.user, has.user, reads.user, rejects.user]).await;
    sent(delivery(&node), text(&alice, chat, "before")).await;
    let traced = sent(delivery(&node), text(&alice, chat, "traced")).await;
    delivery(&node).settle(acks(&has, &[traced.message])).await.unwrap();
    delivery(&node).read(reads, chat, restante::delivery::ReadUpTo::Message(traced.message)).await.unwrap();
    let reject = Attempt { user: rejects, target: AttemptTarget::Message(traced.message), reason: "cannot".to_owned(), is_final: true };
    delivery(&node).count_attempt(reject).await.unwrap();
    let trace = format!(
        "select recipient || ' ' || status || ' ' || class || ' ' || inbox_seq || ' ' || attempts || ' ' || coalesce(waiting_before_it::text, '-') || ' ' || coalesce(reason, '-') \
                || ' ' || (delivered_at is not null)::int || (read_at is not null)::int || (delivered_after >= '0')::int::text from delivery_trace('{}')",
        traced.message
    );
    // The last word is null, and so the whole line, where nothing was delivered.
    let trace = trace.replace("(delivered_after >= '0')::int::text", "coalesce((delivered_after >= '0')::int, 0)");
    let lines = texts(&pool, &trace).await;
    assert_eq!(
        lines,
        [
            "waits sent chat 2 0 1 - 000",
            "has delivered chat 2 0 - - 101",
            "reads read chat 2 0 - - 111",
            "rejects failed chat 2 1 - cannot 000"
        ]
    );
    assert_consistent(&pool).await;
    node.stop().await;
}

async fn fail(node: &Node, user: &str, message: MessageId) {
    let user = crate::support::fixtures::user(store(node), user).await;
    let reject = Attempt { user, target: AttemptTarget::Message(message), reason: "cannot".to_owned(), is_final: true };
    delivery(node).count_attempt(reject).await.unwrap();
}

async fn marks(pool: &PgPool, chat: ChatId, user: UserId) -> String {
    let marks =
        format!("select delivered_seq || ' ' || read_seq || ' ' || has_hole from marks where chat_id = '{chat}' and user_id = {}", user.0);
    texts(pool, &marks).await.remove(0)
}

#[tokio::test]
async fn a_requeued_message_comes_again_under_a_new_number_and_the_marks_stay_true() {
    let db = database().await;
    let pool = db.pool(2).await;
    // Without the slow look what comes has been told.
    let node = Node::with(db.options(), |config| config.look_interval = Duration::from_secs(3600)).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    let mut phone = node.open(Connect::user("bob").device("phone")).await;
    let mut received = Vec::new();
    for n in 1..=4 {
        sent(delivery(&node), text(&alice, chat, n.to_string())).await;
        received.push(phone.event("message:receive").await);
        assert_consistent(&pool).await;
    }
    let second: MessageId = MessageId(received[1]["messageId"].as_str().unwrap().parse().unwrap());
    phone.ack(&received[0]).await;
    let rejected = phone.ask("message:reject", json!({"messageId": second, "reason": "cannot", "final": true})).await;
    assert_eq!(rejected["event"], "message:reject:ok", "{rejected}");
    assert_eq!(marks(&pool, chat, bob.user).await, "2 0 true", "what has failed counts as passed, and others wait above it");
    for n in [2, 3] {
        phone.ack(&received[n]).await;
        assert_consistent(&pool).await;
    }
    assert_eq!(marks(&pool, chat, bob.user).await, "4 0 false");
    assert_eq!(number(&pool, "select count(*) from endings where status = 'failed' and reason = 'cannot' and chat_seq = 2").await, 1);
    // A row can be put back if it has failed, and for a recipient only.
    for (statement, what) in [
        (
            format!("select restante_requeue('{}', 'bob')", received[0]["messageId"].as_str().unwrap()),
            "is delivered, only failed ones can be put back",
        ),
        (format!("select restante_requeue('{second}', 'alice')"), "is no recipient"),
        ("select restante_requeue(gen_random_uuid(), 'bob')".to_owned(), "is no recipient"),
    ] {
        let refused = refused_by(&pool, &statement).await;
        assert!(refused.contains(what), "{refused}");
    }

    assert_eq!(number(&pool, &format!("select restante_requeue('{second}', 'bob')")).await, 5);
    assert_eq!(marks(&pool, chat, bob.user).await, "1 0 true", "it waits again below what was acked since");
    assert_eq!(number(&pool, "select count(*) from endings where status <> 'sent'").await, 0);
    assert_consistent(&pool).await;
    let again = phone.event("message:receive").await;
    assert_eq!((&again["messageId"], &again["inboxSeq"], &again["seq"]), (&json!(second), &json!(5), &json!(2)));
    // A message between makes its session propose marks beyond the hole.
    sent(delivery(&node), text(&alice, chat, "5")).await;
    let fifth = phone.event("message:receive").await;
    phone.ack(&fifth).await;
    assert_eq!(marks(&pool, chat, bob.user).await, "1 0 true");
    // The same from a session that was not told of it.
    let proposal = Acks { marks: vec![(chat, ChatSeq(5))], ..acks(&bob, &[]) };
    delivery(&node).settle(proposal).await.unwrap();
    assert_eq!(marks(&pool, chat, bob.user).await, "1 0 true");
    assert_consistent(&pool).await;
    phone.ack(&again).await;
    assert_eq!(marks(&pool, chat, bob.user).await, "5 0 false", "exact again");
    assert_consistent(&pool).await;

    // A device that has not seen the end of it is told which number will never come.
    let mut tablet = node.open(Connect::user("bob").device("tablet")).await;
    sent(delivery(&node), text(&alice, chat, "6")).await;
    tablet.event("message:receive").await;
    let mut resumed =
        node.open(Connect::user("bob").device("other").with("since", 1).with("epoch", tablet.ready["epoch"].as_str().unwrap())).await;
    let gap = resumed.event("queue:gap").await;
    assert_eq!((&gap["fromSeq"], &gap["toSeq"], &gap["reason"]), (&json!(2), &json!(2), &json!("requeued")), "{gap}");
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn a_discarded_message_has_failed_and_can_be_put_back() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::start(db.options()).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    let mut messages = Vec::new();
    for n in 1..=3 {
        messages.push(sent(delivery(&node), text(&alice, chat, n.to_string())).await.message);
    }
    let discard = |message: MessageId, user: &str| format!("select restante_discard('{message}', '{user}')::int::bigint");
    delivery(&node).settle(acks(&bob, &[messages[1]])).await.unwrap();
    assert_eq!(marks(&pool, chat, bob.user).await, "0 0 true", "acked above what waits");
    assert_eq!(number(&pool, &discard(messages[0], "bob")).await, 1);
    assert_eq!(marks(&pool, chat, bob.user).await, "2 1 true", "what has failed counts as passed");
    assert_eq!(number(&pool, &discard(messages[0], "bob")).await, 0, "it does not wait any more");
    assert_eq!(number(&pool, &discard(messages[1], "bob")).await, 0, "it is delivered");
    assert_eq!(number(&pool, &discard(messages[2], "alice")).await, 0, "she is no recipient");
    assert_eq!(texts(&pool, "select reason from endings").await, ["discarded by an operator"]);
    assert_consistent(&pool).await;
    assert_eq!(number(&pool, &format!("select restante_requeue('{}', 'bob')", messages[0])).await, 4);
    assert_eq!(marks(&pool, chat, bob.user).await, "0 0 true");
    assert_consistent(&pool).await;
    // Read in one go, over the hole.
    delivery(&node).read(bob.clone(), chat, restante::delivery::ReadUpTo::Message(messages[2])).await.unwrap();
    assert_eq!(marks(&pool, chat, bob.user).await, "3 3 false");
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn marks_and_numbers_stay_true_while_rows_fail_come_back_and_are_read() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let db = database().await;
    let pool = db.pool(4).await;
    let node = Node::start(db.options()).await;
    let people = users(store(&node), ["alice", "bob", "carol"]).await;
    let chat = group(&pool, &people.iter().map(|user| user.user).collect::<Vec<_>>()).await;
    let mut messages: Vec<MessageId> = Vec::new();
    for _ in 0..300 {
        let who = &people[random.usize(..people.len())];
        let pick = |random: &mut fastrand::Rng| messages[random.usize(..messages.len())];
        match random.u8(..6) {
            0 | 1 => messages.push(sent(delivery(&node), text(who, chat, "x")).await.message),
            _ if messages.is_empty() => {}
            2 => delivery(&node).settle(acks(who, &[pick(&mut random), pick(&mut random)])).await.unwrap(),
            3 => {
                let target = AttemptTarget::Message(pick(&mut random));
                // Not found where it is their own.
                let _ =
                    delivery(&node).count_attempt(Attempt { user: who.clone(), target, reason: "cannot".to_owned(), is_final: true }).await;
            }
            4 => {
                let requeue = "select restante_requeue(q.message_id, q.external_id) from (select e.message_id, u.external_id from endings e join users u on u.id = e.user_id where e.status = 'failed' order by e.message_id, u.id limit 1) q";
                sqlx::raw_sql(requeue).execute(&pool).await.unwrap();
            }
            _ => drop(delivery(&node).read(who.clone(), chat, restante::delivery::ReadUpTo::Message(pick(&mut random))).await),
        }
        assert_consistent(&pool).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn a_requeue_waits_for_the_chat_and_the_inbox_as_every_writer_does() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::start(db.options()).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    let message = sent(delivery(&node), text(&alice, chat, "x")).await.message;
    fail(&node, "bob", message).await;
    let holder = LockHolder::holds(&db.options(), &lock_chat(chat)).await;
    let requeue = {
        let pool = db.pool(1).await;
        tokio::spawn(async move { number(&pool, &format!("select restante_requeue('{message}', 'bob')")).await })
    };
    until(&pool, "it waits for the chat", SOMEBODY_WAITS).await;
    holder.commits().await;
    assert_eq!(requeue.await.unwrap(), 2);
    user(store(&node), "bob").await;
    assert_consistent(&pool).await;
    node.stop().await;
}
