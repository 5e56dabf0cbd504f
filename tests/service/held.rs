//! Somebody's open transaction holds a chat, an inbox or rows: only what needs them waits, for a bounded time.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::join_all;
use restante::bus::Bus;
use restante::delivery::{Chain, ConnectTo, Delivery, LaneSettings, RateSettings, Refusal, SendItem};
use restante::domain::{ChatId, MessageId, NodeId};
use restante::hub::Hub;
use restante::notifier::Notifier;
use restante::store::{self, AcceptBatch, AttemptRequest, Epoch, LockTimeout, ReadRequest, SettleBatch, Store};
use restante::telemetry::Metrics;
use serde_json::json;
use sqlx::ConnectOptions;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::fixtures::{
    LockHolder, acks, assert_consistent, delivery, group, lock_chat, lock_inbox, number, refusal, sent, store, text, until, user, users,
};
use crate::support::{Connect, Database, Node, PATIENCE, SOMEBODY_WAITS, database, wait_until};

/// A node whose messages all go through one lane, and whose acks do.
async fn one_lane(db: &Database) -> Node {
    Node::with(db.options(), |config| (config.accept_lanes, config.settle_lanes) = (1, 1)).await
}

#[tokio::test]
async fn a_chat_that_somebody_holds_delays_only_itself_and_goes_on_in_order() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = one_lane(&db).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let (held, free) = (group(&pool, &[alice.user, bob.user]).await, group(&pool, &[alice.user, bob.user]).await);
    let holder = LockHolder::holds(&db.options(), &lock_chat(held)).await;

    let mut waiting = pin!(join_all((0..3).map(|n| delivery(&node).send(text(&alice, held, n.to_string())))));
    let others = join_all((0..3).map(|n| delivery(&node).send(text(&alice, free, n.to_string()))));
    let others = tokio::time::timeout(PATIENCE, others).await.expect("another chat waits too");
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    for n in 0..20 {
        sent(delivery(&node), text(&alice, free, n.to_string())).await;
    }
    assert!(waiting.as_mut().now_or_never().is_none(), "the chat is held");
    assert_eq!(number(&pool, &format!("select count(*) from messages where chat_id = '{held}'")).await, 0);
    let more = delivery(&node).send(text(&alice, held, "3"));
    holder.commits().await;
    let seqs: Vec<i64> = waiting.await.into_iter().map(|answer| answer.unwrap().seq.0).collect();
    assert_eq!((seqs, more.await.unwrap().seq.0), (vec![1, 2, 3], 4));
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn an_inbox_that_somebody_holds_delays_only_the_chats_of_its_user() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = one_lane(&db).await;
    let [alice, bob, carol] = users(store(&node), ["alice", "bob", "carol"]).await;
    let (with_bob, all) = (group(&pool, &[alice.user, bob.user]).await, group(&pool, &[alice.user, bob.user, carol.user]).await);
    let without = group(&pool, &[alice.user, carol.user]).await;
    let holder = LockHolder::holds(&db.options(), &lock_inbox(bob.user)).await;

    let mut waiting = pin!(join_all([with_bob, all, with_bob, all].map(|chat| delivery(&node).send(text(&alice, chat, "held")))));
    for _ in 0..10 {
        sent(delivery(&node), text(&alice, without, "free")).await;
        // Bob's own sends need carol's inbox and not his.
        sent(delivery(&node), text(&carol, without, "free")).await;
    }
    assert!(waiting.as_mut().now_or_never().is_none(), "the inbox is held");
    assert_eq!(number(&pool, &format!("select last_seq from inboxes where user_id = {} and class = 'chat'", carol.user.0)).await, 10);
    holder.commits().await;
    let seqs: Vec<_> = waiting.await.into_iter().map(|answer| answer.map(|accepted| accepted.seq.0)).collect();
    assert_eq!(seqs, [Ok(1), Ok(1), Ok(2), Ok(2)]);
    assert_consistent(&pool).await;
    node.stop().await;
}

/// Seen without the lock of its chat, it may be what a standby does not have; a row of it cannot be locked now.
#[tokio::test]
async fn a_duplicate_that_cannot_be_stood_on_is_not_confirmed_and_the_rest_of_its_batch_is() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = one_lane(&db).await;
    let [alice, bob, carol] = users(store(&node), ["alice", "bob", "carol"]).await;
    let (chat, other) = (group(&pool, &[alice.user, bob.user]).await, group(&pool, &[alice.user, carol.user]).await);
    let first = sent(delivery(&node), text(&alice, chat, "once")).await;
    let repeated = SendItem { id: first.message, ..text(&alice, chat, "once") };
    let message = format!("select from messages where id = '{}' for update", first.message.0);
    let holder = LockHolder::holds(&db.options(), &format!("{}; {message}", lock_chat(chat))).await;
    let mut again = pin!(delivery(&node).send(repeated));
    for _ in 0..5 {
        sent(delivery(&node), text(&alice, other, "free")).await;
        assert!(again.as_mut().now_or_never().is_none(), "it cannot be stood on");
    }
    holder.commits().await;
    let again = again.await.unwrap();
    assert_eq!((again.message, again.seq, again.duplicate), (first.message, first.seq, true));
    node.stop().await;
}

#[tokio::test]
async fn the_other_inbox_of_a_user_is_no_proof_that_this_one_is_free() {
    let db = database().await;
    let pool = db.pool(3).await;
    let node = one_lane(&db).await;
    let [alice, bob, carol] = users(store(&node), ["alice", "bob", "carol"]).await;
    let (chat, free) = (group(&pool, &[alice.user, bob.user]).await, group(&pool, &[alice.user, carol.user]).await);
    let feed = group(&pool, &[alice.user, bob.user]).await;
    sqlx::query("update chat_heads set class = 'event' where chat_id = $1").bind(feed.0).execute(&pool).await.unwrap();
    let holder = LockHolder::holds(&db.options(), &lock_inbox(bob.user)).await;
    let call = format!(
        "select outcomes from restante_accept(array[gen_random_uuid(), gen_random_uuid(), gen_random_uuid()], \
         array['{chat}', '{feed}', '{free}']::uuid[], array_fill({}::bigint, array[3]), array_fill('text'::text, array[3]), \
         array_fill('x'::text, array[3]), array_fill(null::text, array[3]), array_fill(null::timestamptz, array[3]), true)",
        alice.user.0
    );
    let mut connection = db.options().options([("lock_timeout", "1s")]).connect().await.unwrap();
    let outcomes: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(call)).fetch_one(&mut connection).await.unwrap();
    assert_eq!(outcomes, ["held", "accepted", "accepted"]);
    holder.commits().await;
    assert_consistent(&pool).await;
    node.stop().await;
}

/// The time for which lanes of [`impatient`] wait for what somebody holds: longer than the pause between two tries.
const IMPATIENT: Duration = Duration::from_millis(1_500);

/// Lanes that give up soon.
async fn impatient(db: &Database, store: &Store, tasks: &TaskTracker, stop: &CancellationToken) -> Delivery {
    let pool = db.pool(1).await;
    let epoch = Epoch::of(&mut pool.acquire().await.unwrap()).await.unwrap();
    let settings = LaneSettings {
        accept_lanes: 1,
        settle_lanes: 1,
        attempts_max: 5,
        held_timeout: IMPATIENT,
        connect_to: ConnectTo::new(db.options(), epoch),
        rates: RateSettings::default(),
    };
    let metrics = Arc::new(Metrics::default());
    let notifier = Notifier::new(Hub::new(20), Bus::new(NodeId::generate()), Arc::clone(&metrics));
    Delivery::start(&settings, store, &notifier, &metrics, tasks, stop)
}

#[tokio::test]
async fn what_came_later_is_not_stored_once_an_earlier_message_of_its_connection_was_given_up() {
    let db = database().await;
    let pool = db.pool(2).await;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let store = Store::new(pool.clone());
    let delivery = impatient(&db, &store, &tasks, &stop).await;
    let [alice, bob] = users(&store, ["alice", "bob"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    let holder = LockHolder::holds(&db.options(), &lock_chat(chat)).await;
    let (chain, mut no) = (Chain::begin(), 0);
    let mut send = |chain: Option<&Chain>| {
        no += 1;
        tokio::spawn(delivery.send(SendItem { chain: chain.map(|chain| chain.at(no)).unwrap_or_default(), ..text(&alice, chat, "x") }))
    };
    let first = send(Some(&chain));
    // They come one after the other: when the first one is given up the last ones still have time.
    let (mut later, mut others) = (Vec::new(), Vec::new());
    while !first.is_finished() {
        later.push(send(Some(&chain)));
        others.push(send(None));
        number(&pool, "select count(*) from pg_sleep(0.01)").await;
    }
    assert!(matches!(refusal(first.await.unwrap()), Refusal::Busy(_)));
    later.push(send(Some(&chain)));
    holder.commits().await;
    for answer in join_all(later).await {
        assert!(matches!(refusal(answer.unwrap()), Refusal::Behind(_) | Refusal::Busy(_)), "it would come before the first one");
    }
    let stored = join_all(others).await.into_iter().filter(|answer| matches!(answer, Ok(Ok(_)))).count();
    assert!(stored > 0, "what is in no chain goes on");
    assert_eq!(usize::try_from(number(&pool, "select count(*) from messages").await).unwrap(), stored);
    assert_eq!(sent(&delivery, SendItem { chain: Chain::begin().at(1), ..text(&alice, chat, "again") }).await.seq.0, stored as i64 + 1);
    assert_consistent(&pool).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn a_chat_that_is_held_for_too_long_is_refused_busy_and_nothing_is_stored() {
    let db = database().await;
    let pool = db.pool(2).await;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let store = Store::new(pool.clone());
    let delivery = impatient(&db, &store, &tasks, &stop).await;
    let [alice, bob] = users(&store, ["alice", "bob"]).await;
    let (held, free) = (group(&pool, &[alice.user, bob.user]).await, group(&pool, &[alice.user, bob.user]).await);
    let holder = LockHolder::holds(&db.options(), &lock_chat(held)).await;
    let begun = Instant::now();
    let refused = join_all((0..5).map(|n| delivery.send(text(&alice, held, n.to_string()))));
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("they wait for as long as the chat is held");
    assert!(begun.elapsed() >= IMPATIENT);
    for answer in refused {
        assert!(matches!(refusal(answer), Refusal::Busy(after) if !after.is_zero()));
    }
    assert_eq!(sent(&delivery, text(&alice, free, "other chats went on")).await.seq.0, 1);
    holder.commits().await;
    assert_eq!(sent(&delivery, text(&alice, held, "the first that is stored")).await.seq.0, 1);
    assert_consistent(&pool).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_chat_that_was_held_is_taken_up_again_while_the_lane_is_under_load() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = one_lane(&db).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let (held, free) = (group(&pool, &[alice.user, bob.user]).await, group(&pool, &[alice.user, bob.user]).await);
    let stop = Arc::new(AtomicBool::new(false));
    // More than a batch takes: the lane's queue is never empty.
    let load: Vec<_> = (0..1_500)
        .map(|_| {
            let (delivery, alice, stop) = (delivery(&node).clone(), Arc::clone(&alice), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    sent(&delivery, text(&alice, free, "load")).await;
                }
            })
        })
        .collect();
    let holder = LockHolder::holds(&db.options(), &lock_chat(held)).await;
    let waiting: Vec<_> = (0..700).map(|n| tokio::spawn(delivery(&node).send(text(&alice, held, n.to_string())))).collect();
    let metrics = Arc::clone(&node.app().context().metrics);
    wait_until("the chat is put aside", || metrics.held_chats.get() == 1).await;
    holder.commits().await;
    // Well before the end of its patience, and while the load goes on.
    let taken_up = tokio::time::timeout(Duration::from_secs(8), join_all(waiting)).await;
    stop.store(true, Ordering::Relaxed);
    join_all(load).await;
    let answers = taken_up.expect("the held chat waits for the end of the load");
    assert!(answers.into_iter().all(|answer| answer.unwrap().is_ok()));
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn a_message_that_is_put_aside_is_not_overtaken_by_the_next_of_its_chat() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = one_lane(&db).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let (chat, other) = (group(&pool, &[alice.user, bob.user]).await, group(&pool, &[alice.user]).await);
    let messages: Vec<_> = (0..4).map(|n| text(&alice, chat, n.to_string())).collect();
    // Not the chat is held but an id: somebody stores it for another chat and has not committed. So the batch has to be
    // taken in parts, to find out whose it is.
    let accept = format!(
        "select from restante_accept(array['{}'::uuid], array['{other}'::uuid], array[{}::bigint], array['text'], array['x'], array[null::text], array[null::timestamptz])",
        messages[1].id, alice.user.0
    );
    let mut holder = LockHolder::holds(&db.options(), &accept).await;
    let mut sending = pin!(join_all(messages.into_iter().map(|item| delivery(&node).send(item))));
    let metrics = Arc::clone(&node.app().context().metrics);
    // A first poll queues the send.
    assert!(sending.as_mut().now_or_never().is_none());
    wait_until("it is put aside", || metrics.held_chats.get() == 1).await;
    holder.run("rollback").await;
    let seqs: Vec<_> = sending.await.into_iter().map(|answer| answer.map(|accepted| accepted.seq.0)).collect();
    assert_eq!(seqs, [Ok(1), Ok(2), Ok(3), Ok(4)]);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn rows_that_somebody_holds_delay_only_the_acks_of_their_user() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = one_lane(&db).await;
    let [alice, bob, carol] = users(store(&node), ["alice", "bob", "carol"]).await;
    let chat = group(&pool, &[alice.user, bob.user, carol.user]).await;
    let mut messages = Vec::new();
    for n in 0..10 {
        messages.push(sent(delivery(&node), text(&alice, chat, n.to_string())).await.message);
    }
    let holder = LockHolder::holds(&db.options(), &format!("select from message_status where user_id = {} for update", bob.user.0)).await;
    let mut bobs = pin!(join_all(messages.iter().map(|message| delivery(&node).settle(acks(&bob, &[*message])))));
    let carols = join_all(messages.iter().map(|message| delivery(&node).settle(acks(&carol, &[*message]))));
    let carols = tokio::time::timeout(PATIENCE, carols).await.expect("another user waits too");
    assert!(carols.into_iter().all(|done| done.is_ok()));
    assert!(bobs.as_mut().now_or_never().is_none(), "bob's rows are held");
    let delivered = "select count(*) from message_status where status = 'delivered'";
    assert_eq!(number(&pool, delivered).await, 10);
    holder.commits().await;
    assert!(bobs.await.into_iter().all(|done| done.is_ok()));
    assert_eq!(number(&pool, delivered).await, 20);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn acks_that_were_held_are_taken_up_again_while_the_lane_is_under_load() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = one_lane(&db).await;
    let [alice, bob, carol] = users(store(&node), ["alice", "bob", "carol"]).await;
    let chat = group(&pool, &[alice.user, bob.user, carol.user]).await;
    let message = sent(delivery(&node), text(&alice, chat, "hello")).await.message;
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    // More than a batch takes: the lane's queue is never empty.
    let load: Vec<_> = (0..1_500)
        .map(|_| {
            let (delivery, carol, stop) = (delivery(&node).clone(), Arc::clone(&carol), Arc::clone(&stop));
            let written = Arc::clone(&written);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    delivery.settle(acks(&carol, &[message])).await.unwrap();
                    written.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let holder = LockHolder::holds(&db.options(), &format!("select from message_status where user_id = {} for update", bob.user.0)).await;
    let held = tokio::spawn(delivery(&node).settle(acks(&bob, &[message])));
    until(&pool, "the lane waits for bob's row", SOMEBODY_WAITS).await;
    let before = written.load(Ordering::Relaxed);
    wait_until("the lane goes on without bob", || written.load(Ordering::Relaxed) > before + 3_000).await;
    holder.commits().await;
    let taken_up = tokio::time::timeout(Duration::from_secs(8), held).await;
    stop.store(true, Ordering::Relaxed);
    join_all(load).await;
    taken_up.expect("bob's acks wait for the end of the load").unwrap().unwrap();
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_open_transaction_that_has_sent_from_sql_blocks_nobody() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::with(db.options(), |config| config.accept_lanes = 3).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let mut chats = Vec::new();
    for _ in 0..12 {
        chats.push(group(&pool, &[alice.user, bob.user]).await);
    }
    let send = |chat: &ChatId| format!("select restante_send('{chat}', 'alice', 'from SQL');");
    let holder = LockHolder::holds(&db.options(), &chats.iter().map(send).collect::<String>()).await;
    let metrics = Arc::clone(&node.app().context().metrics);
    for round in 0..5 {
        let answers = join_all(chats.iter().map(|chat| delivery(&node).send(text(&alice, *chat, round.to_string())))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|accepted| accepted.seq.0 == round + 1)), "{answers:?}");
        assert_eq!(metrics.held_chats.get(), 0, "nothing is held");
    }
    holder.commits().await;
    assert_eq!(number(&pool, "select count(*) from messages where seq = 6 and content = 'from SQL'").await, 12);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_transaction_waits_for_a_client() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = one_lane(&db).await;
    let alice = user(store(&node), "alice").await;
    // Clients that are given messages and answer nothing, and one that acks.
    let mut silent = Vec::new();
    let mut chats = Vec::new();
    for n in 0..5 {
        let name = format!("silent-{n}");
        silent.push(node.open(Connect::user(&name).with("window", 3)).await);
        chats.push(group(&pool, &[alice.user, user(store(&node), &name).await.user]).await);
    }
    let begun = Instant::now();
    for n in 0..40 {
        join_all(chats.iter().map(|chat| delivery(&node).send(text(&alice, *chat, n.to_string()))))
            .await
            .into_iter()
            .for_each(|sent| assert!(sent.is_ok()));
        let open = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";
        assert_eq!(number(&pool, open).await, 0, "a transaction is open and its client thinks");
    }
    for socket in &mut silent {
        for _ in 0..3 {
            socket.event("message:receive").await;
        }
        let answer = socket.ask("message:delivered", json!({"upTo": 1})).await;
        assert_eq!(answer["event"], "message:delivered:ok");
    }
    assert!(begun.elapsed() < PATIENCE);
    assert_consistent(&pool).await;
    node.stop().await;
}

/// As behind a pooler that has dropped what the connection asked for.
#[tokio::test]
async fn a_lanes_patience_comes_with_its_statement_whatever_its_connection_was_told() {
    let db = database().await;
    let pool = db.pool(2).await;
    let [alice, bob] = users(&Store::new(pool.clone()), ["alice", "bob"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    let send = format!("select restante_send('{chat}', 'alice', 'hello')");
    let message = MessageId(sqlx::query_scalar(sqlx::AssertSqlSafe(send)).fetch_one(&pool).await.unwrap());
    let mut connection = db.options().options([("lock_timeout", "0")]).connect().await.unwrap();
    let rows = store::locate(&mut connection, &[(bob.user, message)]).await.unwrap();
    let accept = AcceptBatch {
        ids: vec![MessageId::generate().0],
        chats: vec![chat.0],
        senders: vec![alice.user.0],
        types: vec!["text".to_owned()],
        contents: vec!["held".to_owned()],
        metadata: vec![None],
        expires: vec![None],
        ..AcceptBatch::default()
    };
    let attempt = [AttemptRequest { row: rows[0], reason: "held".to_owned(), is_final: false }];
    let read = [ReadRequest { user: bob.user, chat, up_to: rows[0].chat_seq }];
    let settle = SettleBatch { rows, ..SettleBatch::default() };
    let lock_rows = format!("select from message_status where user_id = {} for update", bob.user.0);
    let holder = LockHolder::holds(&db.options(), &format!("{}; {lock_rows}", lock_chat(chat))).await;
    for lock_timeout in [LockTimeout::Usual, LockTimeout::Retry] {
        let all = async {
            [
                store::accept(&mut connection, &accept, false, lock_timeout).await.err(),
                store::settle(&mut connection, &settle, lock_timeout).await.err(),
                store::count_attempts(&mut connection, &attempt, 5, lock_timeout).await.err(),
                store::read(&mut connection, &read, 100, lock_timeout).await.err(),
            ]
        };
        let refused = tokio::time::timeout(PATIENCE, all).await.expect("a lane waits for as long as somebody holds a lock");
        assert!(refused.iter().all(|refused| matches!(refused, Some(store::Error::Held(_)))), "{refused:?}");
    }
    let told: String = sqlx::query_scalar("select current_setting('lock_timeout')").fetch_one(&mut connection).await.unwrap();
    assert_eq!(told, "0", "the connection keeps nothing of it");
    holder.commits().await;
}
