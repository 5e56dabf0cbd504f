//! Accepting: what a sender is told, and that numbers have no hole whatever is refused, repeated or raced.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use restante::delivery::Refusal;
use restante::domain::{ChatId, ChatSeq, MessageId, UserId};
use restante::store::{self, AcceptBatch, AcceptOutcome, LockTimeout};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::support::fixtures::{
    LockHolder, assert_consistent, crowd, delivery, group, lock_chat, number, quoted, refusal, sent, store, text, until, user, users,
};
use crate::support::{Node, SOMEBODY_WAITS, database};

fn push(batch: &mut AcceptBatch, id: Uuid, chat: Uuid, sender: UserId) {
    batch.ids.push(id);
    batch.chats.push(chat);
    batch.senders.push(sender.0);
    batch.types.push("text".to_owned());
    batch.contents.push("hello".to_owned());
    batch.metadata.push(None);
    batch.expires.push(None);
}

#[tokio::test]
async fn every_item_of_a_batch_has_an_outcome_of_its_own() {
    let db = database().await;
    let pool = db.pool(2).await;
    let [alice, bob, eve] = users(&store::Store::new(pool.clone()), ["alice", "bob", "eve"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    let mut connection = db.options().connect().await.unwrap();
    let ids: Vec<Uuid> = (0..7).map(|_| Uuid::now_v7()).collect();
    let mut first = AcceptBatch::default();
    push(&mut first, ids[0], chat.0, alice.user);
    store::accept(&mut connection, &first, false, LockTimeout::OfConnection).await.unwrap();

    let mut batch = AcceptBatch::default();
    push(&mut batch, ids[1], chat.0, alice.user);
    push(&mut batch, ids[0], chat.0, alice.user);
    push(&mut batch, ids[2], chat.0, eve.user);
    push(&mut batch, ids[3], Uuid::now_v7(), alice.user);
    push(&mut batch, ids[4], chat.0, bob.user);
    let rows = store::accept(&mut connection, &batch, false, LockTimeout::OfConnection).await.unwrap();
    let outcomes: Vec<_> = rows.iter().map(|row| (row.place, row.outcome, row.seq.0, row.recipients.len())).collect();
    assert_eq!(
        outcomes,
        [
            (0, AcceptOutcome::Accepted, 2, 1),
            (1, AcceptOutcome::Duplicate, 1, 0),
            (2, AcceptOutcome::NotAMember, 0, 0),
            (3, AcceptOutcome::NotAMember, 0, 0),
            (4, AcceptOutcome::Accepted, 3, 1),
        ]
    );
    let mut conflict = AcceptBatch::default();
    push(&mut conflict, ids[0], chat.0, bob.user);
    assert_eq!(
        store::accept(&mut connection, &conflict, false, LockTimeout::OfConnection).await.unwrap()[0].outcome,
        AcceptOutcome::Conflict
    );
    assert_consistent(&pool).await;
}

async fn send_as(socket: &mut crate::support::Socket, id: Uuid, chat: &Value) -> Value {
    socket.ask("message:send", json!({"messageId": id, "chatId": chat, "content": "hello"})).await
}

#[tokio::test]
async fn the_same_id_again_returns_the_first_result_also_after_leaving_the_chat() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::start(db.options()).await;
    let mut alice = node.connect("alice").await;
    let chat = alice.send("bob", "first").await["chatId"].clone();
    let id = Uuid::now_v7();
    let first = send_as(&mut alice, id, &chat).await["data"].take();
    assert_eq!((&first["duplicate"], &first["seq"]), (&json!(false), &json!(2)));
    let mut expected = first.clone();
    expected["duplicate"] = json!(true);

    assert_eq!(send_as(&mut alice, id, &chat).await["data"], expected);
    let other = alice.send("carol", "elsewhere").await["chatId"].clone();
    assert_eq!(send_as(&mut alice, id, &other).await["data"], expected, "the chat of the first result");
    sqlx::query("update chat_members cm set left_seq = c.last_seq from chat_heads c where c.chat_id = cm.chat_id and cm.user_id = (select id from users where external_id = 'alice')")
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(send_as(&mut alice, id, &chat).await["data"], expected, "checked before membership");
    assert_eq!(send_as(&mut alice, Uuid::now_v7(), &chat).await["data"]["code"], "not_a_member");
    assert_eq!(number(&pool, "select count(*) from messages").await, 3);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn an_id_of_another_sender_is_a_conflict_and_takes_no_number() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::start(db.options()).await;
    let (mut alice, mut bob, mut eve) = (node.connect("alice").await, node.connect("bob").await, node.connect("eve").await);
    let sent = alice.send("bob", "mine").await;
    let id = sent["messageId"].as_str().unwrap().parse().unwrap();
    assert_eq!(send_as(&mut bob, id, &sent["chatId"]).await["data"]["code"], "conflict");
    assert_eq!(send_as(&mut eve, Uuid::now_v7(), &sent["chatId"]).await["data"]["code"], "not_a_member");
    assert_eq!(send_as(&mut eve, id, &sent["chatId"]).await["data"]["code"], "conflict", "whoever asks: the id is taken");
    assert_eq!(send_as(&mut bob, Uuid::now_v7(), &sent["chatId"]).await["data"]["seq"], 2);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn numbers_have_no_hole_while_sixteen_connections_send_to_overlapping_chats() {
    const SENDERS: usize = 16;
    const MESSAGES: usize = 60;
    let db = database().await;
    let pool = db.pool(4).await;
    let node = Node::start(db.options()).await;
    let mut people = Vec::new();
    for n in 0..SENDERS {
        people.push(user(store(&node), &format!("sender-{n}")).await);
    }
    // Each chat holds a run of eight senders, so each sender is in four chats and every inbox has several writers.
    let mut chats = Vec::new();
    for first in (0..SENDERS).step_by(2) {
        let members: Vec<UserId> = (0..8).map(|n| people[(first + n) % SENDERS].user).collect();
        chats.push((first, group(&pool, &members).await));
    }
    let sending = (0..SENDERS).map(|n| {
        let mine: Vec<String> =
            chats.iter().filter(|(first, _)| (n + SENDERS - first) % SENDERS < 8).map(|(_, chat)| chat.to_string()).collect();
        let addr = node.addr();
        tokio::spawn(async move {
            let mut socket = crate::support::Socket::open(addr, crate::support::Connect::user(&format!("sender-{n}"))).await;
            let mut ids: Vec<Uuid> = Vec::new();
            for m in 0..MESSAGES {
                // One in five repeats an id, one in seven goes to a chat that does not exist.
                let id = if m % 5 == 4 { ids[m % ids.len()] } else { Uuid::now_v7() };
                let chat = if m % 7 == 6 { Uuid::now_v7().to_string() } else { mine[m % mine.len()].clone() };
                ids.push(id);
                let frame = json!({"event": "message:send", "id": format!("{m}"), "data": {"messageId": id, "chatId": chat, "content": m.to_string()}});
                socket.text(frame.to_string()).await;
            }
            for m in 0..MESSAGES {
                let id = m.to_string();
                let answer = socket.wait("an answer", |frame| frame["id"] == id.as_str()).await;
                assert!(answer["event"] == "message:sent" || answer["data"]["code"] == "not_a_member", "{answer}");
            }
        })
    });
    for done in join_all(sending).await {
        done.unwrap();
    }
    assert!(number(&pool, "select count(*) from messages").await > 500);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_id_that_races_on_two_nodes_is_stored_once_and_leaves_no_hole() {
    let db = database().await;
    let pool = db.pool(4).await;
    let (one, two) = (Node::start(db.options()).await, Node::start(db.options()).await);
    let [alice, bob, carol] = users(store(&one), ["alice", "bob", "carol"]).await;
    let (here, there) = (group(&pool, &[alice.user, bob.user]).await, group(&pool, &[alice.user, bob.user, carol.user]).await);
    let mut accepted = 0;
    for n in 0..150 {
        // Every third id is sent into two different chats, where no lock of a chat keeps the two apart.
        let items = if n % 3 == 0 { [here, there] } else { [here, here] };
        let batch: Vec<_> = (0..4).map(|_| MessageId::generate()).collect();
        let both = items.into_iter().zip([&one, &two]).flat_map(|(chat, node)| {
            let alice = &alice;
            // In opposite orders, so that each node meets what the other has begun.
            let ids: Vec<_> = if chat == here { batch.clone() } else { batch.iter().rev().copied().collect() };
            ids.into_iter().map(move |id| {
                let mut item = text(alice, chat, "racing");
                item.id = id;
                delivery(node).send(item)
            })
        });
        let answers: Vec<_> = join_all(both).await.into_iter().map(|answer| answer.unwrap()).collect();
        for id in batch {
            let two: Vec<_> = answers.iter().filter(|answer| answer.message == id).collect();
            assert_eq!((two[0].chat, two[0].seq, two[0].created_at), (two[1].chat, two[1].seq, two[1].created_at));
            assert_eq!(two.iter().filter(|answer| answer.duplicate).count(), 1, "{two:?}");
            accepted += 1;
        }
    }
    assert_eq!(number(&pool, "select count(*) from messages").await, accepted);
    assert_consistent(&pool).await;
    one.stop().await;
    two.stop().await;
}

/// A batch of one, accepted on a connection of its own.
fn accepting(options: &PgConnectOptions, id: Uuid, chat: ChatId, sender: UserId) -> JoinHandle<store::Result<Vec<store::AcceptedRow>>> {
    let options = options.clone();
    tokio::spawn(async move {
        let mut batch = AcceptBatch::default();
        push(&mut batch, id, chat.0, sender);
        store::accept(&mut options.connect().await.unwrap(), &batch, false, LockTimeout::OfConnection).await
    })
}

#[tokio::test]
async fn writers_of_one_chat_or_inbox_wait_for_each_other_and_number_on() {
    let db = database().await;
    let pool = db.pool(2).await;
    let [alice, bob, carol] = users(&store::Store::new(pool.clone()), ["alice", "bob", "carol"]).await;
    let (chat, same_inbox) = (group(&pool, &[alice.user, bob.user]).await, group(&pool, &[carol.user, bob.user]).await);
    for (other, sender, seq) in [(chat, bob.user, 2), (same_inbox, carol.user, 1)] {
        let mut first = AcceptBatch::default();
        push(&mut first, Uuid::now_v7(), chat.0, alice.user);
        let mut connection = db.options().connect().await.unwrap();
        let mut transaction = connection.begin().await.unwrap();
        store::accept(&mut transaction, &first, false, LockTimeout::OfConnection).await.unwrap();
        let second = accepting(&db.options(), Uuid::now_v7(), other, sender);
        until(&pool, "the second waits for the first", SOMEBODY_WAITS).await;
        transaction.commit().await.unwrap();
        assert_eq!(second.await.unwrap().unwrap()[0].seq, ChatSeq(seq), "not refused for a number that was given meanwhile");
        assert_consistent(&pool).await;
    }
}

#[tokio::test]
async fn an_id_that_is_being_stored_for_another_chat_takes_no_number_and_is_a_duplicate_then() {
    let db = database().await;
    let pool = db.pool(2).await;
    let [alice, bob] = users(&store::Store::new(pool.clone()), ["alice", "bob"]).await;
    let (here, there) = (group(&pool, &[alice.user]).await, group(&pool, &[alice.user, bob.user]).await);
    let mut first = AcceptBatch::default();
    push(&mut first, Uuid::now_v7(), here.0, alice.user);
    let mut connection = db.options().connect().await.unwrap();
    let mut transaction = connection.begin().await.unwrap();
    store::accept(&mut transaction, &first, false, LockTimeout::OfConnection).await.unwrap();
    let second = accepting(&db.options(), first.ids[0], there, alice.user);
    until(&pool, "the second waits for the first", SOMEBODY_WAITS).await;
    transaction.commit().await.unwrap();
    let answer = second.await.unwrap().unwrap();
    assert_eq!((answer[0].outcome, answer[0].chat), (AcceptOutcome::Duplicate, here), "alone it is looked for again");
    let again = accepting(&db.options(), first.ids[0], there, alice.user).await.unwrap().unwrap();
    assert_eq!((again[0].outcome, again[0].chat, again[0].seq), (AcceptOutcome::Duplicate, here, ChatSeq(1)));
    assert_consistent(&pool).await;
}

// On one thread the lane runs only when the test waits: what is queued before that is one batch.
#[tokio::test]
async fn an_item_that_postgresql_refuses_harms_none_of_the_499_beside_it() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::with(db.options(), |config| config.accept_lanes = 1).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    let nested = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let poisons: [(&str, Option<String>); 4] = [
        ("a nul \0 inside", None),
        ("a number beyond numeric", Some("1e200000".to_owned())),
        ("a lone surrogate", Some(r#""\ud800""#.to_owned())),
        ("arrays beyond the stack", Some(nested)),
    ];
    for (content, metadata) in poisons {
        let mut items: Vec<_> = (0..500).map(|n| text(&alice, chat, n.to_string())).collect();
        items[333].content = content.to_owned();
        items[333].metadata = metadata.map(|json| RawValue::from_string(json).unwrap());
        let answers = join_all(items.into_iter().map(|item| delivery(&node).send(item))).await;
        for (n, answer) in answers.into_iter().enumerate() {
            match n {
                333 => assert_eq!(refusal(answer), Refusal::Invalid, "{content}"),
                _ => assert!(!answer.unwrap().duplicate),
            }
        }
    }
    assert_eq!(number(&pool, "select count(*) from messages").await, 4 * 499);
    assert_eq!(
        number(
            &pool,
            "select count(*) from (select content::int < lag(content::int) over (order by seq) as back from messages) q where back"
        )
        .await,
        3
    );
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn an_id_twice_in_one_batch_is_stored_once_and_the_second_is_told_the_first_result() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::with(db.options(), |config| config.accept_lanes = 1).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    let (mut first, mut again, between) = (text(&alice, chat, "one"), text(&alice, chat, "one again"), text(&alice, chat, "two"));
    let mut theirs = text(&bob, chat, "not yours");
    again.id = first.id;
    theirs.id = first.id;
    first.content = "one".to_owned();
    let delivery = delivery(&node);
    let answers = join_all([first, between, again, theirs].map(|item| delivery.send(item))).await;
    let results: Vec<_> = answers.into_iter().map(|answer| answer.map(|accepted| (accepted.seq.0, accepted.duplicate))).collect();
    assert_eq!(results, [Ok((1, false)), Ok((2, false)), Ok((1, true)), Err(Refusal::Conflict)]);
    let contents: Vec<String> = sqlx::query_scalar("select content from messages order by seq").fetch_all(&pool).await.unwrap();
    assert_eq!(contents, ["one", "two"]);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn a_row_that_is_numbered_and_not_stored_rolls_all_of_it_back() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::with(db.options(), |config| config.accept_lanes = 1).await;
    let [alice, bob, carol] = users(store(&node), ["alice", "bob", "carol"]).await;
    let (good, bad) = (group(&pool, &[alice.user, bob.user]).await, group(&pool, &[alice.user, carol.user]).await);
    let swallow = format!(
        "create function swallow() returns trigger language plpgsql as 'begin return null; end'; \
         create trigger swallow before insert on message_status for each row when (new.user_id = {}) execute function swallow()",
        carol.user.0
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(swallow)).execute(&pool).await.unwrap();
    let items = (0..10).map(|n| text(&alice, if n == 5 { bad } else { good }, n.to_string()));
    let answers = join_all(items.map(|item| delivery(&node).send(item))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 9);
    assert_eq!(answers[5], Err(Refusal::Internal));
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn a_full_lane_refuses_at_once_and_stores_nothing_of_what_it_refused() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::with(db.options(), |config| config.accept_lanes = 1).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    let answers = join_all((0..20_000).map(|n| delivery(&node).send(text(&alice, chat, n.to_string())))).await;
    let taken = answers.iter().position(Result::is_err).unwrap();
    assert!((16_000..20_000).contains(&taken), "a queue of {taken}");
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Ok(accepted) => assert_eq!((n < taken, accepted.seq), (true, ChatSeq(i64::try_from(n).unwrap() + 1))),
            Err(refusal) => assert!(n >= taken && matches!(refusal, Refusal::Busy(_)), "{n}: {refusal:?}"),
        }
    }
    assert_eq!(number(&pool, "select count(*) from messages").await, i64::try_from(taken).unwrap());
    let again = sent(delivery(&node), text(&alice, chat, "room again")).await;
    assert_eq!(again.seq, ChatSeq(i64::try_from(taken).unwrap() + 1));
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn a_client_is_told_busy_and_when_to_come_again() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::with(db.options(), |config| config.accept_lanes = 1).await;
    let mut socket = node.connect("alice").await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let chat = group(&pool, &[alice.user, bob.user]).await;
    let holder = LockHolder::holds(&db.options(), &lock_chat(chat)).await;
    // More than may be put aside for chats that somebody holds.
    let held: Vec<_> = (0..2_000).map(|n| tokio::spawn(delivery(&node).send(text(&alice, chat, n.to_string())))).collect();
    let shared = Arc::clone(&node.app().context().metrics);
    crate::support::wait_until("the chat is put aside", || shared.held_chats.get() == 1).await;
    let id = Uuid::now_v7();
    let mut refused = send_as(&mut socket, id, &json!(chat)).await;
    // The last of the two thousand may still be on their way: then there was room, and the answer comes after the hold.
    while refused["event"] != "error" {
        refused = send_as(&mut socket, id, &json!(chat)).await;
    }
    assert_eq!(refused["data"]["code"], "busy", "{refused}");
    assert!(refused["data"]["retryAfterMs"].as_u64().unwrap() > 0, "{refused}");
    holder.commits().await;
    let stored = join_all(held).await.into_iter().filter(|answer| answer.as_ref().unwrap().is_ok()).count();
    assert_eq!(number(&pool, "select count(*) from messages").await, i64::try_from(stored).unwrap());
    assert_eq!(number(&pool, &format!("select count(*) from messages where id = {}", quoted(id))).await, 0);
    assert_eq!(send_as(&mut socket, id, &json!(chat)).await["data"]["duplicate"], false);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_chat_of_six_hundred_keeps_its_order_beside_small_ones() {
    let db = database().await;
    let pool = db.pool(4).await;
    let node = Node::start(db.options()).await;
    let [alice, bob] = users(store(&node), ["alice", "bob"]).await;
    let large = crowd(&pool, 600, &[alice.user, bob.user]).await;
    let small = group(&pool, &[alice.user, bob.user]).await;
    let mut socket = node.open(crate::support::Connect::user("bob").with("window", 500)).await;
    let sending: Vec<_> =
        (0..80).map(|n| delivery(&node).send(text(&alice, if n % 2 == 0 { large } else { small }, n.to_string()))).collect();
    let answers: Vec<_> = join_all(sending).await.into_iter().map(|answer| answer.unwrap()).collect();
    for chat in [large, small] {
        let seqs: Vec<i64> = answers.iter().filter(|answer| answer.chat == chat).map(|answer| answer.seq.0).collect();
        assert_eq!(seqs, (1..=40).collect::<Vec<_>>(), "in the order in which they were sent");
    }
    let mut seen = HashSet::new();
    let mut last = std::collections::HashMap::new();
    while seen.len() < 80 {
        let received = socket.event("message:receive").await;
        let (chat, seq) = (received["chatId"].to_string(), received["seq"].as_i64().unwrap());
        assert_eq!(last.insert(chat.clone(), seq).unwrap_or(0) + 1, seq, "in the order of the chat");
        assert!(seen.insert((chat, seq)));
    }
    until(&pool, "every row is there", "select count(*) = 40 * 601 + 40 from message_status").await;
    assert_consistent(&pool).await;
    node.stop().await;
}
