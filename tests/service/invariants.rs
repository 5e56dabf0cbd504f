//! The invariants: a test for each of I1 to I13 of the design. Each was seen to fail with the rule broken on purpose; the comment above
//! it says how.

mod steps;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::json;
use sqlx::{ConnectOptions, Connection};
use uuid::Uuid;

use steps::*;

use crate::support::{Connect, Node, SOMEBODY_WAITS, database, direct, fill, group, number, rows, statuses, until_true, users};

/// Broken by answering `message:sent` when the message is queued: the answer came while the commit was held.
#[tokio::test]
async fn i1_message_sent_comes_only_after_the_commit_that_stores_the_message_and_its_rows() {
    let (db, node, pool) = start().await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    sqlx::raw_sql(HOLD_COMMITS).execute(&pool).await.unwrap();
    let mut holder = db.options().connect().await.unwrap();
    sqlx::query("select pg_advisory_lock(1)").execute(&mut holder).await.unwrap();

    let id = alice.ask_later("message:send", json!({"to": "bob", "content": "hello"})).await;
    until_true(&pool, SOMEBODY_WAITS).await;
    assert!(named(&alice.until_pong().await, "message:sent").is_empty());
    assert!(named(&bob.until_pong().await, "message:receive").is_empty());
    assert_eq!(number(&pool, "select count(*) from messages").await, 0);

    holder.close().await.unwrap();
    assert_eq!(alice.answer(&id).await["event"], "message:sent");
    assert_eq!(number(&pool, "select count(*) from messages m join message_status s on s.message_id = m.id").await, 1);
    assert_eq!(bob.event("message:receive").await["content"], "hello");
    node.stop().await;
}

/// Broken by freeing the slot of an envelope whose time was up instead of counting an attempt and emitting it again: only
/// the slow look found it, and no attempt was ever counted.
#[tokio::test]
async fn i2_what_waits_is_emitted_again_until_it_is_acked_or_its_end_is_told() {
    let (db, node, pool) = start().await;
    let mut alice = node.connect("alice").await;
    alice.send("bob", "one").await;
    alice.send("bob", "two").await;
    for _ in 0..2 {
        let mut bob = node.connect("bob").await;
        assert_eq!(contents(&bob.receive(2).await), ["one", "two"]);
        bob.cut();
    }
    alice.close().await;
    node.stop().await;

    // Another node, and one that gives acks little time.
    let hasty = |config: &mut restante::config::Config| (config.ack_timeout, config.attempts_max) = (Duration::from_millis(400), 3);
    let node = Node::with(db.options(), hasty).await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    let first = bob.receive(2).await;
    assert_eq!(contents(&first), ["one", "two"]);
    assert!(first.iter().all(|message| message["attempt"] == 1), "a lost connection counts no attempt");
    // The second is acked and the first is skipped, again and again.
    bob.ack(&first[1]).await;
    for attempt in 2..=3 {
        let again = bob.event("message:receive").await;
        assert_eq!((&again["messageId"], &again["attempt"]), (&first[0]["messageId"], &json!(attempt)));
        alice.send("bob", "later").await;
        let later = bob.event("message:receive").await;
        bob.ack(&later).await;
    }
    let failed = alice.wait("the end", |frame| frame["data"]["status"] == "failed").await;
    assert_eq!((&failed["data"]["messageIds"], &failed["data"]["reason"]), (&json!([first[0]["messageId"]]), &json!("ack timeout")));
    assert_eq!(statuses(&pool, "bob").await, ["failed", "delivered", "delivered", "delivered"]);
    node.stop().await;
}

/// Broken by emitting the newest of what is buffered first: a page came backwards.
#[tokio::test]
async fn i3_each_recipient_first_sees_a_chat_in_the_order_of_its_numbers() {
    const EACH: i64 = 60;
    let (_db, node, pool) = start().await;
    let chat = group(&pool, &["a", "b", "c", "live", "late", "phone"]).await;
    fill(&pool, chat, "a", 70).await;
    let mut receivers = vec![node.connect("live").await, node.open(Connect::user("phone").device("p").with("window", 3)).await];
    let mut senders = Vec::new();
    for name in ["a", "b", "c"] {
        let mut sender = node.connect(name).await;
        senders.push(tokio::spawn(async move {
            for n in 0..EACH {
                sender.ask_later("message:send", json!({"chatId": chat, "content": n.to_string()})).await;
            }
            for _ in 0..EACH {
                sender.event("message:sent").await;
            }
        }));
    }
    receivers.push(node.open(Connect::user("late").with("window", 10)).await);
    let readers = receivers.into_iter().map(|receiver| tokio::spawn(chat_numbers(receiver, 70 + 3 * EACH)));
    for reader in readers.collect::<Vec<_>>() {
        assert_eq!(reader.await.unwrap(), (1..=70 + 3 * EACH).collect::<Vec<_>>());
    }
    for sender in senders {
        sender.await.unwrap();
    }
    node.stop().await;
}

/// Broken by taking the status out of the WHERE of `restante_settle`: late acks ran into the schema, which refused them,
/// and were never confirmed. The schema's own rule is asked below.
#[tokio::test]
async fn i4_a_status_only_moves_forward_whatever_is_acked_late() {
    let (_db, node, pool) = start().await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    for content in ["read", "failed", "expired"] {
        alice.send("bob", content).await;
    }
    let messages = bob.receive(3).await;
    let read = json!({"chatId": messages[0]["chatId"], "seq": 1});
    assert_eq!(bob.ask("message:read", read.clone()).await["event"], "message:read:ok");
    let reject = json!({"messageId": messages[1]["messageId"], "reason": "cannot", "final": true});
    assert_eq!(bob.ask("message:reject", reject.clone()).await["event"], "message:reject:ok");
    sqlx::query("update message_status set status = 'expired', ended = 'left', reason = 'left' where seq = 3")
        .execute(&pool)
        .await
        .unwrap();
    let all = "select string_agg(format('%s %s %s %s', seq, status, delivered_at, read_at), ',' order by seq) from message_status";
    let before: String = sqlx::query_scalar(all).fetch_one(&pool).await.unwrap();

    for message in &messages {
        bob.ack(message).await;
    }
    bob.ask("message:reject", reject).await;
    bob.ask("message:read", read).await;
    bob.ask("message:read", json!({"chatId": messages[0]["chatId"], "seq": 3})).await;
    assert_eq!(sqlx::query_scalar::<_, String>(all).fetch_one(&pool).await.unwrap(), before);
    assert_eq!(statuses(&pool, "bob").await, ["read", "failed", "expired"]);

    for back in ["sent", "delivered", "failed", "expired"] {
        let back = format!(
            "update message_status set status = '{back}', reason = 'x', read_at = null,
             delivered_at = case when '{back}' = 'delivered' then delivered_at end where seq = 1"
        );
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(back)).execute(&pool).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().constraint(), Some("a_status_only_moves_forward"));
    }
    node.stop().await;
}

/// Broken by settling each envelope as it was emitted: the next connection was given nothing.
#[tokio::test]
async fn i5_only_an_ack_makes_a_row_delivered() {
    let (_db, node, pool) = start().await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    alice.send("bob", "live").await;
    let live = bob.event("message:receive").await;
    bob.until_pong().await;
    assert_eq!(statuses(&pool, "bob").await, ["sent"], "emitted, and nothing else");
    bob.close().await;
    let mut bob = node.open(Connect::user("bob").with("batch", 1)).await;
    bob.event("message:batch").await;
    bob.until_pong().await;
    bob.close().await;
    assert_eq!(statuses(&pool, "bob").await, ["sent"], "drained, and nothing else");
    assert!(named(&alice.until_pong().await, "message:status").is_empty());

    // An ack counts wherever it comes from, also from a connection that has not been given the message yet.
    let mut bob = node.connect("bob").await;
    bob.ack(&live).await;
    assert_eq!(statuses(&pool, "bob").await, ["delivered"]);
    assert_eq!(alice.event("message:status").await["status"], "delivered");
    node.stop().await;
}

/// Broken by leaving the gaps out of what a device is given: 3 was followed by 5.
#[tokio::test]
async fn i6_numbers_have_no_gap_that_a_device_is_not_told_of() {
    let (_db, node, pool) = start().await;
    let chat = group(&pool, &["alice", "bob", "carol"]).await;
    let left = group(&pool, &["alice", "bob"]).await;
    let mut bob = node.open(Connect::user("bob").device("phone")).await;
    let (mut alice, mut carol) = (node.connect("alice").await, node.connect("carol").await);
    let sent = refused_among_accepted(&mut alice, &mut carol, chat).await;
    let in_left = alice.ask("message:send", json!({"chatId": left, "content": "gone"})).await;
    assert_eq!(in_left["event"], "message:sent");
    bob.receive(sent + 1).await;
    bob.close().await;

    // Nothing acked. Of 1 to n some end: failed, expired, left, requeued.
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "select message_id from message_status s join users u on u.id = s.user_id
        where u.external_id = 'bob' order by s.seq",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    for (id, ends) in [(ids[1], "discard"), (ids[3], "discard")] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("select restante_{ends}('{id}', 'bob')"))).execute(&pool).await.unwrap();
    }
    sqlx::query("select restante_requeue($1, 'bob')").bind(ids[3]).execute(&pool).await.unwrap();
    sqlx::query("update message_status set status = 'expired', ended = 'expired', reason = 'its time had come' where message_id = $1 and user_id = $2")
        .bind(ids[5])
        .bind(users(&pool, &["bob"]).await[0])
        .execute(&pool)
        .await
        .unwrap();
    leave(&pool, left, "alice", "bob").await;

    let mut bob = node.open(Connect::user("bob").device("phone")).await;
    let last = bob.ready["lastSeq"].as_i64().unwrap();
    assert_eq!(last, sent as i64 + 2, "every accepted message has a number, the requeued one two, and nothing refused has one");
    let (numbers, reasons) = numbers_up_to(&mut bob, last).await;
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
    assert_eq!(reasons, ["failed", "requeued", "expired", "left"]);
    assert_eq!(
        number(
            &pool,
            "select count(*) from chat_heads c where c.last_seq <> (select count(*) from messages m where m.chat_id = c.chat_id)"
        )
        .await,
        0
    );
    node.stop().await;
}

/// Broken by asking for membership before the id in `restante_accept`: the repetition after leaving was refused.
#[tokio::test]
async fn i7_the_same_id_again_returns_the_first_result_for_as_long_as_the_message_lives() {
    let (db, node, pool) = start().await;
    let other_node = Node::start(db.options()).await;
    let chat = group(&pool, &["alice", "bob", "carol"]).await;
    let (mut here, mut there) = (node.connect("alice").await, other_node.connect("alice").await);
    for _ in 0..20 {
        let send = json!({"messageId": Uuid::now_v7(), "chatId": chat, "content": "once"});
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push((here.ask_later("message:send", send.clone()).await, there.ask_later("message:send", send.clone()).await));
        }
        let mut answers = Vec::new();
        for (one, other) in ids {
            answers.extend([here.answer(&one).await["data"].take(), there.answer(&other).await["data"].take()]);
        }
        let results: HashSet<String> =
            answers.iter().map(|data| format!("{} {} {}", data["messageId"], data["seq"], data["createdAt"])).collect();
        assert_eq!(results.len(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|data| data["duplicate"] == false).count(), 1, "{answers:?}");
    }
    assert_eq!(number(&pool, "select count(*) from messages").await, 20);

    let first = here.ask("message:send", json!({"messageId": Uuid::now_v7(), "chatId": chat, "content": "first"})).await;
    let id = &first["data"]["messageId"];
    leave(&pool, chat, "alice", "alice").await;
    let again = here.ask("message:send", json!({"messageId": id, "chatId": chat, "content": "other words"})).await;
    assert_eq!((&again["data"]["seq"], &again["data"]["duplicate"]), (&json!(21), &json!(true)), "{again}");
    let new = here.ask("message:send", json!({"chatId": chat, "content": "new"})).await;
    assert_eq!(new["data"]["code"], "not_a_member");
    let mut bob = node.connect("bob").await;
    let conflict = bob.ask("message:send", json!({"messageId": id, "chatId": chat, "content": "mine"})).await;
    assert_eq!(conflict["data"]["code"], "conflict");
    let kept: String = sqlx::query_scalar("select content from messages where seq = 21").fetch_one(&pool).await.unwrap();
    assert_eq!(kept, "first");
    node.stop().await;
    other_node.stop().await;
}

/// Broken by telling a receipt for every row that was acked instead of every row that moved: each repetition was told.
#[tokio::test]
async fn i8_however_often_a_message_is_sent_emitted_and_acked_it_counts_once() {
    let (_db, node, pool) = start().await;
    let mut alice = node.connect("alice").await;
    let send = |n: usize| json!({"messageId": Uuid::from_u128(n as u128 + 1), "to": "bob", "content": n.to_string()});
    for n in (0..10).chain(0..10) {
        alice.ask("message:send", send(n)).await;
    }
    let (mut phone, mut laptop) = (node.connect("bob").await, node.connect("bob").await);
    let messages = phone.receive(10).await;
    laptop.receive(10).await;
    phone.ack(&messages[0]).await;
    let delivered_at = "select string_agg(delivered_at::text, ',' order by seq) from message_status where delivered_at is not null";
    let first: String = sqlx::query_scalar(delivered_at).fetch_one(&pool).await.unwrap();
    for socket in [&mut phone, &mut laptop] {
        let ids: Vec<_> = messages.iter().chain(&messages).map(|message| message["messageId"].clone()).collect();
        socket.ask("message:delivered", json!({"messageIds": ids})).await;
        socket.ack_up_to(10).await;
        socket.ack(&messages[0]).await;
    }
    for _ in 0..2 {
        laptop.ask("message:read", json!({"chatId": messages[0]["chatId"], "seq": 10})).await;
    }
    let now: String = sqlx::query_scalar(delivered_at).fetch_one(&pool).await.unwrap();
    assert!(now.starts_with(&first), "delivered_at is set once");
    let mut told: HashMap<String, usize> = HashMap::new();
    let is_all = |told: &HashMap<String, usize>| told.len() == 20;
    while !is_all(&told) {
        count_receipts(&[alice.wait("a receipt", |frame| frame["event"] == "message:status").await], &mut told);
    }
    // The service has sent everything else before the answer to this ack.
    laptop.ack(&messages[9]).await;
    alice.send("alice", "to myself").await;
    count_receipts(&alice.until_pong().await, &mut told);
    assert!(told.values().all(|times| *times == 1), "{told:?}");
    assert_eq!(number(&pool, "select count(*) from message_status").await, 10);
    node.stop().await;
}

/// Broken by settling without the marks that the session proposes: the ack went through while its mark was held.
#[tokio::test]
async fn i9_an_ack_its_status_and_its_mark_are_one_commit_and_reach_a_sender_that_was_away() {
    let (db, node, pool) = start().await;
    let (mut alice, mut bob) = (node.connect("alice").await, node.connect("bob").await);
    alice.send("bob", "hello").await;
    let cursor = alice.ready["marksCursor"].as_str().unwrap().to_owned();
    alice.cut();
    let message = bob.event("message:receive").await;

    let mut holder = db.options().connect().await.unwrap();
    let mut held = holder.begin().await.unwrap();
    let lock = "select 1 from marks k join users u on u.id = k.user_id where u.external_id = 'bob' for update of k";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    let ack = bob.ask_later("message:delivered", json!({"messageId": message["messageId"]})).await;
    until_true(&pool, SOMEBODY_WAITS).await;
    assert_eq!(statuses(&pool, "bob").await, ["sent"], "the mark cannot move, so nothing does");
    assert!(bob.until_pong().await.iter().all(|frame| frame["id"] != ack.as_str()));
    held.rollback().await.unwrap();
    bob.answer(&ack).await;
    assert_eq!(statuses(&pool, "bob").await, ["delivered"]);

    let mut alice = node.open(Connect::user("alice").with("marks", cursor)).await;
    let told = alice.event("message:status").await;
    assert_eq!(
        (&told["kind"], &told["seq"], &told["status"], &told["userId"]),
        (&json!("mark"), &json!(1), &json!("delivered"), &json!("bob"))
    );
    node.stop().await;
}

/// Broken by leaving `left_seq is null` out of the statement of `restante_accept` that finds the recipients: who had
/// left got what was sent later.
#[tokio::test]
async fn i10_who_was_a_member_when_a_message_was_accepted_gets_it_and_nobody_else() {
    let (_db, node, pool) = start().await;
    let chat = group(&pool, &["alice", "bob"]).await;
    let mut alice = node.connect("alice").await;
    let (mut carol, mut stranger) = (node.connect("carol").await, node.connect("stranger").await);
    let sending = tokio::spawn(async move {
        let mut asked = Vec::new();
        for n in 0..300 {
            asked.push(alice.ask_later("message:send", json!({"chatId": chat, "content": n.to_string()})).await);
            if n % 10 == 9 {
                alice.answer(&asked[n]).await;
            }
        }
        for id in asked.iter().enumerate().filter(|(n, _)| n % 10 != 9).map(|(_, id)| id) {
            assert_eq!(alice.answer(id).await["event"], "message:sent");
        }
    });
    let mut spells = Vec::new();
    while !sending.is_finished() {
        let joined = join(&pool, chat, "alice", "carol").await;
        let left = leave(&pool, chat, "alice", "carol").await;
        spells.push(joined + 1..=left);
    }
    sending.await.unwrap();
    let should: Vec<i64> = spells.into_iter().flatten().collect();
    assert!(!should.is_empty() && should.len() < 300, "{} of 300: no race at all", should.len());
    let got = "select m.seq from message_status s join messages m on m.id = s.message_id join users u on u.id = s.user_id
               where u.external_id = 'carol' order by m.seq";
    assert_eq!(sqlx::query_scalar::<_, i64>(got).fetch_all(&pool).await.unwrap(), should);

    // The rows that waited when she left have ended, and no client got a message that was not for it.
    assert!(rows(&pool, "carol").await.iter().all(|row| row.status == "expired" && row.reason.as_deref() == Some("left")));
    let seen: Vec<i64> = named(&carol.until_pong().await, "message:receive").iter().map(|it| it["data"]["seq"].as_i64().unwrap()).collect();
    assert!(seen.iter().all(|seq| should.contains(seq)), "{seen:?}");
    assert!(named(&stranger.until_pong().await, "message:receive").is_empty());
    assert_eq!(statuses(&pool, "bob").await.len(), 300);
    for socket in [&mut carol, &mut stranger] {
        let refused = socket.ask("message:send", json!({"chatId": chat, "content": "let me in"})).await;
        assert_eq!(refused["data"]["code"], "not_a_member");
    }
    node.stop().await;
}

/// Broken by refusing to accept while the recipient is not connected to this node: `message:sent` did not come.
#[tokio::test]
async fn i11_presence_decides_only_how_soon_a_message_is_emitted() {
    let db = database().await;
    let looks = |config: &mut restante::config::Config| config.look_interval = Duration::from_millis(200);
    let (node, other_node, pool) = (Node::start(db.options()).await, Node::with(db.options(), looks).await, db.pool(2).await);
    let mut alice = node.connect("alice").await;
    alice.send("nobody has ever seen her", "offline").await;
    let mut bob = other_node.connect("bob").await;
    bob.event("queue:drained").await;
    alice.send("bob", "on another node").await;
    assert_eq!(bob.event("message:receive").await["content"], "on another node");
    let mut here = node.connect("bob").await;
    here.receive(1).await;
    alice.send("bob", "on both").await;
    assert_eq!(here.event("message:receive").await["content"], "on both");
    assert_eq!(bob.event("message:receive").await["content"], "on both");
    assert_eq!(number(&pool, "select count(*) from message_status where status = 'sent'").await, 3);
    node.stop().await;
    other_node.stop().await;
}

/// Broken by letting the window always have room: all of it came at once.
#[tokio::test]
async fn i12_window_page_queue_and_sessions_are_bounded_and_a_slow_client_costs_itself_only() {
    const WAITING: i32 = 400;
    let (_db, node, pool) = start().await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", WAITING).await;
    let mut bob = node.open(Connect::user("bob").with("window", 7)).await;
    assert_eq!(bob.ready["pending"], WAITING);
    let mut acked = 0;
    while acked < 70 {
        let frames = bob.until_pong().await;
        let came = named(&frames, "message:receive").len() as i64;
        let first = if came == 0 { bob.receive(1).await.len() as i64 } else { came };
        assert!(first <= 7, "{first} in flight");
        acked += first;
        bob.ack_up_to(acked).await;
    }
    let pages = node.app().context().metrics.page_reads.of("chat").get();
    assert!(pages <= 3, "{pages} pages of 50 for 77 emitted: read ahead by one at most");

    let mut carol = node.connect("carol").await;
    a_greedy_one_fills_its_outbox_and_no_more(&node, &pool, &mut carol).await;
    let emitted = node.app().context().metrics.emissions.get();

    a_silent_one_holds_back_nobody(&node, &pool, &mut carol, emitted).await;
    node.stop().await;
}

/// Broken by waiting for locks for a minute: with an inbox held, messages that had nothing to do with it waited too.
#[tokio::test]
async fn i13_no_transaction_waits_for_a_client_and_no_lane_for_somebody_elses() {
    let (db, node, pool) = start().await;
    let mut alice = node.connect("alice").await;
    let users: Vec<String> = (0..12).map(|n| format!("user-{n}")).collect();
    for user in &users {
        alice.send(user, "before").await;
    }
    let mut bob = node.connect("user-0").await;
    let message = bob.event("message:receive").await;
    // Another transaction holds an inbox and a row in it, and stays open.
    let mut holder = db.options().connect().await.unwrap();
    let mut held = holder.begin().await.unwrap();
    let lock = "select 1 from inboxes i join message_status s on s.user_id = i.user_id join users u on u.id = i.user_id
                where u.external_id = 'user-0' for update of i, s";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    let to_held = alice.ask_later("message:send", json!({"to": "user-0", "content": "waits"})).await;
    let ack_held = bob.ask_later("message:delivered", json!({"messageId": message["messageId"]})).await;
    for round in 0..3 {
        for user in &users[1..] {
            let sent = tokio::time::timeout(Duration::from_secs(5), alice.send(user, "passes")).await;
            assert!(sent.is_ok(), "round {round}: {user} waits for user-0");
        }
    }
    for user in &users[1..] {
        let mut socket = node.connect(user).await;
        for message in socket.receive(4).await {
            tokio::time::timeout(Duration::from_secs(5), socket.ack(&message)).await.expect("an ack waits for user-0's");
        }
    }
    held.rollback().await.unwrap();
    assert_eq!(alice.answer(&to_held).await["event"], "message:sent");
    assert_eq!(bob.answer(&ack_held).await["event"], "message:delivered:ok");

    a_client_that_reads_nothing_leaves_no_transaction_open(&node, &pool, &mut alice).await;
    node.stop().await;
}
