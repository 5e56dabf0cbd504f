//! The view of clients and operators on what was removed: gaps, marks and unread counts, history, statuses, repeated ids, dead letters.

use serde_json::{Value, json};
use uuid::{Timestamp, Uuid};

use super::{delivered, long_ago, numbers, purge, run, start};
use crate::support::fixtures::{LockHolder, assert_consistent, number};
use crate::support::{Connect, Node, SOMEBODY_WAITS, Socket, direct, fill, group, until_true, users};

/// An id that a client made so many days ago.
fn id_of(days: i64) -> Uuid {
    let at = time::OffsetDateTime::now_utc() - time::Duration::days(days);
    Uuid::new_v7(Timestamp::from_unix_time(u64::try_from(at.unix_timestamp()).unwrap(), 0, 0, 0))
}

/// A node that purges nothing by itself: here the tests do.
async fn node(db: &crate::support::Database) -> Node {
    Node::with(db.options(), |config| config.retention_days = 0).await
}

async fn code(socket: &mut Socket, send: Value) -> String {
    let answer = socket.ask("message:send", send).await;
    answer["data"]["code"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// A thousand numbers more than a statement looks at, many times over, were purged.
#[tokio::test]
async fn a_device_that_is_far_behind_is_told_one_gap_and_goes_on() {
    let (db, pool, _store) = start().await;
    let node = node(&db).await;
    let chat = direct(&pool, "alice", "bob").await;
    let phone = || Connect::user("bob").device("phone");
    node.open(phone()).await.close().await;
    fill(&pool, chat, "alice", 3).await;
    delivered(&pool, "bob", 1).await;
    long_ago(
        &pool,
        "update message_status set seq = seq + 200000; update marks set purged_seq = 1;
         update inboxes set last_seq = 200003, step = 200003 >> 4, settled_seq = 200000, purged_seq = 200000 where last_seq = 3",
    )
    .await;
    let gap = json!({"class": "chat", "fromSeq": 1, "toSeq": 200_000, "count": 200_000, "reason": "purged"});
    let mut bob =
        node.open(Connect::user("bob").with("since", 0).with("epoch", node.connect("bob").await.ready["epoch"].as_str().unwrap())).await;
    assert_eq!(bob.ready["pending"], 3, "of a client that resumes");
    assert_eq!(bob.event("queue:gap").await, gap);
    bob.close().await;
    let mut bob = node.open(phone()).await;
    assert_eq!(bob.ready["pending"], 3, "{}", bob.ready);
    assert_eq!(bob.event("queue:gap").await, gap);
    let got: Vec<i64> = bob.receive(3).await.iter().map(|message| message["inboxSeq"].as_i64().unwrap()).collect();
    assert_eq!(got, [200_001, 200_002, 200_003]);
    bob.ack_up_to(200_003).await;
    bob.until_pong().await;
    bob.close().await;
    let mut bob = node.open(phone()).await;
    bob.event("queue:drained").await;
    let seen = bob.until_pong().await;
    assert!(seen.iter().chain(bob.skipped()).all(|frame| frame["event"] != "queue:gap"), "{seen:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_device_with_nothing_behind_the_gap_moves_on_over_it() {
    let (db, pool, store) = start().await;
    let node = node(&db).await;
    let chat = direct(&pool, "alice", "bob").await;
    let phone = || Connect::user("bob").device("phone");
    node.open(phone()).await.close().await;
    fill(&pool, chat, "alice", 5).await;
    delivered(&pool, "bob", 100).await;
    assert_eq!(purge(&store).await, (5, 5));
    let mut bob = node.open(phone()).await;
    assert_eq!(bob.event("queue:gap").await, json!({"class": "chat", "fromSeq": 1, "toSeq": 5, "count": 5, "reason": "purged"}));
    bob.ack_up_to(5).await;
    until_true(&pool, "select count(*) = 1 from device_cursors where acked_seq = 5").await;
    let mut alice = node.connect("alice").await;
    alice.send("bob", "new").await;
    assert_eq!(bob.event("message:receive").await["inboxSeq"], 6);
    assert_consistent(&pool).await;
    node.stop().await;
}

/// Broken by counting unread messages from the read mark only: 0, and more; and by computing the mark from the rows that are left: 1,500
/// messages that nobody read were read.
#[tokio::test]
async fn unread_counts_and_read_marks_stay_true_for_one_who_never_reads() {
    for keeps in ["null", "0"] {
        let (db, pool, store) = start().await;
        let node = node(&db).await;
        let chat = direct(&pool, "alice", "bob").await;
        run(&pool, &format!("update chats set keep_days = {keeps}")).await;
        fill(&pool, chat, "alice", 1_500).await;
        delivered(&pool, "bob", 100).await;
        fill(&pool, chat, "alice", 5).await;
        delivered(&pool, "bob", 1).await;
        while purge(&store).await != (0, 0) {}
        let shown = async || {
            let chat = node.api("bob").get("/v1/chats").await.1["chats"][0].take();
            (chat["unread"].as_i64().unwrap(), chat["unreadMore"].as_bool().unwrap())
        };
        assert_eq!(shown().await, (5, false));
        let marks = "select delivered_seq * 10000 + read_seq from marks where delivered_seq > 0";
        assert_eq!(number(&pool, marks).await, 15_050_000);
        // A message fails and is put back: the marks are computed from rows.
        fill(&pool, chat, "alice", 1).await;
        run(&pool, "select restante_discard(message_id, 'bob') from message_status where status = 'sent'").await;
        run(&pool, "select restante_requeue(message_id, 'bob') from message_status where status = 'failed'").await;
        assert_eq!(number(&pool, marks).await, 15_050_000, "nobody has read anything");
        let mut bob = node.connect("bob").await;
        let message = bob.event("message:receive").await;
        bob.ack(&message).await;
        assert_eq!(number(&pool, marks).await, 15_060_000);
        assert_eq!(shown().await.0, 6);
        let read = bob.ask("message:read", json!({"chatId": chat, "seq": 1_506})).await;
        assert_eq!(read["event"], "message:read:ok", "{read}");
        assert_eq!(number(&pool, marks).await, 15_061_506, "a read moves the mark over what was removed");
        assert_eq!(shown().await, (0, false));
        assert_eq!(number(&pool, "select count(*) from marks_behind").await, 0);
        assert_consistent(&pool).await;
        node.stop().await;
    }
}

#[tokio::test]
async fn what_was_put_back_below_what_was_removed_is_unread_until_it_is_read() {
    let (db, pool, store) = start().await;
    let node = node(&db).await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 1_200).await;
    run(&pool, "select restante_discard(message_id, 'bob') from message_status where seq = 3").await;
    delivered(&pool, "bob", 100).await;
    run(&pool, "select restante_requeue(message_id, 'bob') from message_status where seq = 3").await;
    while purge(&store).await != (0, 0) {}
    fill(&pool, chat, "alice", 2).await;
    assert_eq!(numbers(&pool, "bob").await, [1_201, 1_202, 1_203]);
    let shown = node.api("bob").get("/v1/chats").await.1["chats"][0].take();
    assert_eq!((&shown["unread"], &shown["unreadMore"]), (&json!(3), &json!(false)), "{shown}");
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn history_and_statuses_show_what_is_left() {
    let (db, pool, store) = start().await;
    let node = node(&db).await;
    let chat = group(&pool, &["alice", "bob", "carol"]).await;
    fill(&pool, chat, "alice", 4).await;
    delivered(&pool, "carol", 100).await;
    delivered(&pool, "bob", 100).await;
    long_ago(&pool, "update message_status set delivered_at = clock_timestamp() where seq = 3 and user_id = (select id from users where external_id = 'bob')").await;
    let ids: Vec<Uuid> = sqlx::query_scalar("select id from messages order by seq").fetch_all(&pool).await.unwrap();
    assert_eq!(purge(&store).await, (4 + 2, 2));
    let (bob, alice) = (node.api("bob"), node.api("alice"));
    let (_, page) = bob.get(&format!("/v1/chats/{chat}/messages")).await;
    let seqs: Vec<_> = page["messages"].as_array().unwrap().iter().map(|message| message["seq"].clone()).collect();
    assert_eq!((seqs, &page["more"]), (vec![json!(3), json!(4)], &json!(false)));
    let (_, page) = bob.get(&format!("/v1/chats/{chat}/messages?after=0&limit=1")).await;
    assert_eq!((&page["messages"][0]["seq"], &page["more"]), (&json!(3), &json!(true)));
    let (_, page) = bob.get(&format!("/v1/chats/{chat}/messages?before=3")).await;
    assert_eq!((&page["messages"], &page["more"]), (&json!([]), &json!(false)));
    let status = async |id: Uuid| alice.get(&format!("/v1/messages/{id}/status")).await;
    assert_eq!(status(ids[0]).await.0, 404, "a message that was removed");
    let (_, left) = status(ids[2]).await;
    assert_eq!(left["statuses"].as_array().unwrap().len(), 1, "carol's row was removed: {left}");
    assert_eq!(left["statuses"][0]["userId"], "bob");
    run(&pool, "update chats set keep_days = 0; ").await;
    long_ago(&pool, "update message_status set delivered_at = clock_timestamp() - interval '1 year'").await;
    assert_eq!(purge(&store).await, (2, 0));
    let (code, none) = status(ids[2]).await;
    assert_eq!((code, &none["statuses"]), (200, &json!([])), "the sender of a message that its chat keeps");
    assert_eq!(bob.get(&format!("/v1/messages/{}/status", ids[2])).await.0, 404, "its recipient, who has no row of it any more");
    node.stop().await;
}

/// Broken by taking the look at old ids out of `restante_accept`: the message was accepted again, and bob got it twice.
#[tokio::test]
async fn an_old_id_whose_message_may_have_been_removed_is_refused_and_nobody_gets_it_twice() {
    let (db, pool, store) = start().await;
    let node = node(&db).await;
    let mut alice = node.connect("alice").await;
    let old = id_of(100);
    let send = |id: Uuid| json!({"messageId": id, "to": "bob", "content": "once"});
    let first = alice.ask("message:send", send(old)).await;
    assert_eq!(first["event"], "message:sent", "nothing was removed of this chat: {first}");
    let random = Uuid::new_v4();
    alice.ask("message:send", send(random)).await;
    delivered(&pool, "bob", 100).await;
    assert_eq!(alice.ask("message:send", send(old)).await["data"]["duplicate"], true, "as long as it is there");
    run(&pool, "update chats set keep_days = 0").await;
    assert_eq!(purge(&store).await, (2, 0));
    assert_eq!(alice.ask("message:send", send(old)).await["data"]["duplicate"], true, "its chat keeps it");
    run(&pool, "update chats set keep_days = null").await;
    assert_eq!(purge(&store).await, (0, 2));
    let mut bob = node.connect("bob").await;
    assert_eq!(code(&mut alice, send(old)).await, "conflict");
    assert_eq!(code(&mut alice, send(id_of(101))).await, "conflict", "one that was never sent looks the same");
    assert_eq!(number(&pool, "select count(*) from messages").await, 0);
    for id in [id_of(95), id_of(0), random] {
        let answer = alice.ask("message:send", send(id)).await;
        assert_eq!((&answer["event"], &answer["data"]["duplicate"]), (&json!("message:sent"), &json!(false)), "{answer}");
        assert_eq!(bob.event("message:receive").await["messageId"], json!(id));
    }
    let chat = direct(&pool, "alice", "bob").await;
    let from_sql = format!("select restante_send('{chat}', 'alice', 'once', p_message_id => '{old}')");
    let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(from_sql)).execute(&pool).await.unwrap_err().to_string();
    assert!(refused.contains("were removed"), "{refused}");
    assert_consistent(&pool).await;
    node.stop().await;
}

/// A look without the lock would find that nothing was removed yet.
#[tokio::test]
async fn an_old_id_that_is_repeated_while_its_message_is_being_removed_waits_and_is_refused() {
    let (db, pool, store) = start().await;
    let node = node(&db).await;
    let mut alice = node.connect("alice").await;
    let send = json!({"messageId": id_of(100), "to": "bob", "content": "once"});
    assert_eq!(alice.ask("message:send", send.clone()).await["event"], "message:sent");
    delivered(&pool, "bob", 100).await;
    run(&pool, "update chats set keep_days = 0").await;
    assert_eq!(purge(&store).await, (1, 0));
    run(&pool, "update chats set keep_days = null").await;
    let removes =
        LockHolder::holds(&db.options(), "select restante_purge_chats(90, '00000000-0000-0000-0000-000000000000', 500, 1000)").await;
    let later = alice.ask_later("message:send", send).await;
    until_true(&pool, SOMEBODY_WAITS).await;
    removes.commits().await;
    assert_eq!(alice.answer(&later).await["data"]["code"], "conflict");
    node.stop().await;
}

#[tokio::test]
async fn a_dead_letter_stays_as_long_after_its_end_as_others_after_their_ack_and_can_be_put_back_until_then() {
    let (db, pool, store) = start().await;
    let node = node(&db).await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 3).await;
    run(&pool, "update message_status set status = 'failed', ended = 'failed', reason = 'test' where seq in (1, 2)").await;
    delivered(&pool, "bob", 100).await;
    run(&pool, "update messages set created_at = clock_timestamp() - interval '100 days'").await;
    let age = "update endings set ended_at = clock_timestamp() - interval '100 days' where message_id = (select message_id from message_status where seq = 1)";
    run(&pool, age).await;
    let ids: Vec<Uuid> = sqlx::query_scalar("select message_id from message_status order by seq").fetch_all(&pool).await.unwrap();
    assert_eq!(purge(&store).await, (1, 1), "the one that failed today stays, and what stands behind it");
    let listed = async || node.admin().get("/v1/admin/dead-letters").await.1["deadLetters"].as_array().unwrap().len();
    assert_eq!(listed().await, 1);
    let requeue = async |id: Uuid| {
        let (_, answer) = node.admin().post("/v1/admin/dead-letters/requeue", json!({"items": [{"messageId": id, "userId": "bob"}]})).await;
        answer["results"][0]["outcome"].clone()
    };
    assert_eq!(requeue(ids[0]).await, "no_recipient");
    assert_eq!(requeue(ids[1]).await, "requeued");
    let mut bob = node.connect("bob").await;
    let message = bob.event("message:receive").await;
    assert_eq!(message["messageId"], json!(ids[1]));
    bob.ack(&message).await;
    // It moves the low watermark of the inbox after the ack, and a purge passes over an inbox that is held.
    node.stop().await;
    assert_eq!(purge(&store).await, (1, 0), "what stood behind it, and not what was delivered today");
    assert_eq!(numbers(&pool, "bob").await, [4]);
    assert_consistent(&pool).await;
}

/// Broken by looking at the status only: it went on without a row, and failed as a defect.
#[tokio::test]
async fn a_dead_letter_that_is_put_back_while_it_is_being_removed_is_not_there() {
    let (db, pool, _store) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 1).await;
    run(&pool, "update message_status set status = 'failed', ended = 'failed', reason = 'test'").await;
    run(&pool, "update endings set ended_at = clock_timestamp() - interval '100 days'").await;
    let id: Uuid = sqlx::query_scalar("select id from messages").fetch_one(&pool).await.unwrap();
    let removes = LockHolder::holds(&db.options(), "select restante_purge_inboxes(90, 0, 'chat', 500, 1000)").await;
    let other = pool.clone();
    let put_back = tokio::spawn(async move {
        let put_back = "select outcome from restante_put_back($1, 'bob')";
        sqlx::query_scalar::<_, String>(put_back).bind(id).fetch_one(&other).await.unwrap()
    });
    until_true(&pool, SOMEBODY_WAITS).await;
    removes.commits().await;
    assert_eq!(put_back.await.unwrap(), "no_recipient");
    assert_eq!(users(&pool, &["bob"]).await.len(), 1);
    assert_consistent(&pool).await;
}
