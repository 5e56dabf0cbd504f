//! Direct chats asked for by a name: many in one statement, whoever else makes the same ones at that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::future::join_all;
use restante::delivery::Refusal;
use restante::domain::{ChatId, ExternalId, UserId};
use restante::protocol::Code;
use restante::store::{DirectBatch, DirectChat, DirectLookup, Error, LockTimeout, Store};
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::fixtures::{LockHolder, assert_consistent, delivery, number, store};
use crate::support::{Node, PATIENCE, SOMEBODY_WAITS, database, direct, until_true, users};

fn name(text: &str) -> ExternalId {
    ExternalId::try_from(text.to_owned()).unwrap()
}

/// Asks for these in one statement.
async fn ask(store: &Store, asked: &[(i64, &str, bool)]) -> Result<Vec<Option<DirectChat>>, Error> {
    let mut batch = DirectBatch::default();
    asked.iter().for_each(|(user, other, make)| batch.push(UserId(*user), &name(other), *make));
    let found = store.direct_chats(&batch, LockTimeout::Usual).await?;
    Ok(found.into_iter().map(DirectLookup::found).collect())
}

/// The names of those who are in a chat.
async fn members(pool: &PgPool, chat: ChatId) -> Vec<String> {
    let members = "select u.external_id from chat_members m join users u on u.id = m.user_id where m.chat_id = $1 order by 1";
    sqlx::query_scalar(members).bind(chat.0).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn one_statement_finds_makes_and_leaves_out_and_nobody_gets_a_chat_it_is_not_in() {
    let db = database().await;
    let pool = db.pool(2).await;
    let store = Store::new(pool.clone());
    let [alice, bob] = users(&pool, &["alice", "bob"]).await.try_into().unwrap();
    let (with_bob, of_alice) = (direct(&pool, "alice", "bob").await, direct(&pool, "alice", "alice").await);
    let asked = [
        (alice, "bob", false),
        (bob, "alice", true),
        (alice, "alice", false),
        (bob, "bob", true),
        (alice, "nobody", false),
        (alice, "new", true),
        (bob, "new", true),
        (alice, "new", true),
        (alice, "new", false),
    ];
    let found = ask(&store, &asked).await.unwrap();
    let chats: Vec<Option<Uuid>> = found.iter().map(|found| found.map(|found| found.chat.0)).collect();
    assert_eq!(chats[..3], [Some(with_bob), Some(with_bob), Some(of_alice)]);
    assert_eq!(chats[4], None, "an unknown name is not the chat with oneself");
    assert!(chats[5].is_some() && chats[5] == chats[7] && chats[5] == chats[8], "a pair that stands there again has the same chat");
    let is_new: Vec<bool> = found.iter().map(|found| found.is_some_and(|found| found.is_new)).collect();
    assert_eq!(is_new, [false, false, false, true, false, true, true, true, true]);
    for ((user, other, _), found) in asked.iter().zip(found) {
        let Some(found) = found else { continue };
        let both = BTreeSet::from([if *user == alice { "alice" } else { "bob" }, *other]);
        assert_eq!(members(&pool, found.chat).await, both.into_iter().collect::<Vec<_>>());
    }
    assert_eq!(number(&pool, "select count(*) from chats where kind = 'direct'").await, 5);
    assert_eq!(number(&pool, "select count(*) from users").await, 3, "nobody was not made");
    assert_eq!(number(&pool, "select count(*) from inboxes i join users u on u.id = i.user_id where u.external_id = 'new'").await, 3);
    // And a name that is not to be made, alone: the statement ends early.
    assert_eq!(ask(&store, &[(alice, "nobody", false)]).await.unwrap(), [None]);
    assert_consistent(&pool).await;
}

/// Old and new users, from both sides, in any order, by several at once: a deadlock would be an error of one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_make_the_same_chats_at_once_in_any_order_all_get_the_same_ones() {
    const SIDES: usize = 6;
    const ROUNDS: usize = 8;
    let db = database().await;
    let pool = db.pool(8).await;
    let store = Store::new(pool.clone());
    let names: Vec<String> = (0..5 * ROUNDS).map(|n| format!("user-{n}")).collect();
    let seed = fastrand::u64(..);
    let mut rng = Rng::with_seed(seed);
    for round in 0..ROUNDS {
        // One new user in each round: it is known by its name only.
        let known: Vec<&str> = names[..5 * round + 4].iter().map(String::as_str).collect();
        let ids: BTreeMap<i64, &str> = users(&pool, &known).await.into_iter().zip(known.iter().copied()).collect();
        let sides = (0..SIDES).map(|_| {
            let mut asked: Vec<(i64, String)> = ids
                .keys()
                .flat_map(|id| names[..5 * round + 5].iter().map(|other| (*id, other.clone())))
                .filter(|_| rng.f32() < 0.8)
                .collect();
            rng.shuffle(&mut asked);
            let store = store.clone();
            tokio::spawn(async move {
                let asked: Vec<_> = asked.iter().map(|(user, other)| (*user, other.as_str(), true)).collect();
                let mut batch = DirectBatch::default();
                asked.iter().for_each(|(user, other, make)| batch.push(UserId(*user), &name(other), *make));
                let found = store.direct_chats(&batch, LockTimeout::OfConnection).await;
                let pairs = asked.into_iter().map(|(user, other, _)| (user, other.to_owned()));
                found.map(|found| pairs.zip(found.into_iter().map(|found| found.found().unwrap().chat)).collect::<Vec<_>>())
            })
        });
        let mut chats: BTreeMap<[String; 2], ChatId> = BTreeMap::new();
        for side in join_all(sides.collect::<Vec<_>>()).await {
            for ((user, other), chat) in side.unwrap().unwrap_or_else(|error| panic!("round {round}, seed {seed}: {error:?}")) {
                let mut both = [ids[&user].to_owned(), other];
                both.sort();
                assert_eq!(*chats.entry(both).or_insert(chat), chat, "round {round}, seed {seed}");
            }
        }
    }
    let twice = "select count(*) from chats c where c.kind = 'direct' and (select count(*) from chat_members m where m.chat_id = c.id) \
                 <> case when split_part(c.direct_key, ':', 1) = split_part(c.direct_key, ':', 2) then 1 else 2 end";
    assert_eq!(number(&pool, twice).await, 0);
    assert_consistent(&pool).await;
}

/// A transaction that waits holds no lock that comes later in the order: users by name, then chats by key.
#[tokio::test]
async fn who_waits_for_a_user_or_a_chat_holds_none_that_comes_later() {
    let db = database().await;
    let pool = db.pool(4).await;
    let store = Store::new(pool.clone());
    let [one, two, three] = users(&pool, &["ann", "ben", "cleo"]).await.try_into().unwrap();
    assert!(one < two && two < three, "keys of one digit are in the order of the numbers");
    for (held, first) in [(format!("restante_direct_chat({one}, {two})"), "ben"), ("restante_users(array['new'])".to_owned(), "new")] {
        let holder = LockHolder::holds(&db.options(), &format!("select from {held}")).await;
        let (waits, other) = (store.clone(), if first == "ben" { "cleo" } else { "ann" });
        let waiting = tokio::spawn(async move {
            let mut batch = DirectBatch::default();
            batch.push(UserId(one), &name(other), true);
            batch.push(UserId(one), &name(first), true);
            waits.direct_chats(&batch, LockTimeout::OfConnection).await
        });
        until_true(&pool, SOMEBODY_WAITS).await;
        let free = ask(&store, &[(one, other, true)]).await;
        assert!(matches!(free.as_deref(), Ok([Some(DirectChat { is_new: true, .. })])), "waiting for {first}: {free:?}");
        holder.commits().await;
        assert_eq!(waiting.await.unwrap().unwrap()[0].found().unwrap().chat, free.unwrap()[0].unwrap().chat);
    }
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn what_somebody_else_makes_is_waited_for_a_moment_only() {
    let db = database().await;
    let pool = db.pool(2).await;
    let store = Store::new(pool.clone());
    let [alice] = users(&pool, &["alice"]).await.try_into().unwrap();
    let holder = LockHolder::holds(&db.options(), "select from restante_users(array['bob'])").await;
    let begun = Instant::now();
    let held = tokio::time::timeout(PATIENCE, ask(&store, &[(alice, "bob", true)])).await.expect("it waits for as long as it takes");
    assert!(matches!(held, Err(Error::Held(_))), "{held:?}");
    assert!(begun.elapsed() < Duration::from_secs(1), "the wait is the connection's, not the statement's");
    assert_eq!(ask(&store, &[(alice, "bob", false)]).await.unwrap(), [None], "a look waits for nobody");
    holder.commits().await;
    assert!(ask(&store, &[(alice, "bob", true)]).await.unwrap()[0].is_some());
    assert_consistent(&pool).await;
}

#[tokio::test]
async fn a_name_that_is_held_or_refused_by_the_database_takes_no_others_along() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::start(db.options()).await;
    let [alice] = users(&pool, &["alice"]).await.try_into().unwrap();
    let rule = "alter table users add constraint nobody_is_called_so check (external_id <> 'refused')";
    sqlx::query(rule).execute(&pool).await.unwrap();
    let holder = LockHolder::holds(&db.options(), "select from restante_users(array['held'])").await;
    let asked = |other: &str| delivery(&node).ask_direct_chat(UserId(alice), name(other));
    let held = tokio::spawn(asked("held"));
    // They are queued before the task runs: one statement looks for all, and one would make all.
    let answers = join_all(["ben", "refused", "cleo", "dave"].map(asked)).await;
    let codes: Vec<_> = answers.iter().map(|answer| answer.as_ref().map(|found| found.is_new).map_err(|refusal| refusal.code())).collect();
    assert_eq!(codes, [Ok(true), Err(Code::Invalid), Ok(true), Ok(true)]);
    assert!(!held.is_finished(), "it is asked for again");
    holder.commits().await;
    assert!(held.await.unwrap().unwrap().is_new);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn whoever_begins_a_chat_pays_once_for_it_and_nothing_for_one_that_is_there() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::with(db.options(), |config| (config.send_rate, config.direct_chats_per_hour) = (1_000, 1)).await;
    let there = direct(&pool, "alice", "dave").await;
    let alice = users(&pool, &["alice"]).await[0];
    let asked = |other: &str| delivery(&node).ask_direct_chat(UserId(alice), name(other));
    // One pair asked for by several at once is one chat.
    let answers = join_all(["ben"; 5].map(asked)).await;
    assert_eq!(answers.iter().map(|answer| answer.as_ref().unwrap().is_new).collect::<Vec<_>>(), [true, false, false, false, false]);
    let refusal = asked("cleo").await.unwrap_err();
    assert!(matches!(refusal, Refusal::TooManyChats(wait) if !wait.is_zero()), "{refusal:?}");
    assert_eq!(number(&pool, "select count(*) from users where external_id = 'cleo'").await, 0, "refused before anything is made");
    assert_eq!(asked("dave").await.unwrap(), DirectChat { chat: ChatId(there), is_new: false });
    assert!(!asked("ben").await.unwrap().is_new);
    // Over HTTP likewise.
    let api = node.api("alice");
    assert_eq!(api.post("/v1/chats", json!({"kind": "direct", "members": ["dave"]})).await.0, 200);
    assert_eq!(api.post("/v1/messages", json!({"to": "cleo", "content": ""})).await.0, 429);
    node.stop().await;
}

#[tokio::test]
async fn a_chat_that_was_found_once_is_remembered_for_its_own_two_users() {
    let db = database().await;
    let pool = db.pool(2).await;
    let node = Node::start(db.options()).await;
    let metrics = &node.app().context().metrics;
    let seen = || (metrics.direct_chat_hits.get(), metrics.direct_chat_misses.get(), metrics.direct_chats_known.get());
    let mut alice = node.connect("alice").await;
    let chat = alice.send("bob", "1").await["chatId"].clone();
    assert_eq!(seen(), (0, 1, 1));
    // By a new connection too, and over HTTP.
    assert_eq!(node.connect("alice").await.send("bob", "2").await["chatId"], chat);
    assert_eq!(node.api("alice").post("/v1/messages", json!({"to": "bob", "content": "3"})).await.1["chatId"], chat);
    assert_eq!(seen(), (2, 1, 1));
    // The other one has asked for nothing yet; somebody else means another chat by the same name.
    assert_eq!(node.connect("bob").await.send("alice", "4").await["chatId"], chat);
    assert_ne!(node.connect("carol").await.send("bob", "5").await["chatId"], chat);
    assert_eq!(seen(), (2, 3, 3));
    assert_eq!(store(&node).direct_chats(&DirectBatch::default(), LockTimeout::Usual).await.unwrap(), []);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn two_nodes_that_make_the_same_chats_at_once_send_into_the_same_ones() {
    const PEOPLE: usize = 30;
    let db = database().await;
    let pool = db.pool(2).await;
    let (one, two) = (Node::start(db.options()).await, Node::start(db.options()).await);
    let names: Vec<String> = (0..PEOPLE).map(|n| format!("user-{n}")).collect();
    let mut sockets = Vec::new();
    for (n, name) in names.iter().enumerate() {
        sockets.push(if n % 2 == 0 { one.connect(name).await } else { two.connect(name).await });
    }
    let all = sockets.iter_mut().map(|socket| async {
        let mut asked = Vec::new();
        for to in &names {
            asked.push((to, socket.ask_later("message:send", json!({"to": to, "content": "x"})).await));
        }
        let mut chats = Vec::new();
        for (to, id) in asked {
            let answer = socket.answer(&id).await;
            assert_eq!(answer["event"], "message:sent", "{to}: {answer}");
            chats.push(answer["data"]["chatId"].clone());
        }
        chats
    });
    let chats = join_all(all).await;
    for (n, of_one) in chats.iter().enumerate() {
        for (m, chat) in of_one.iter().enumerate() {
            assert_eq!(*chat, chats[m][n], "users {n} and {m}");
        }
    }
    assert_eq!(number(&pool, "select count(*) from chats where kind = 'direct'").await as usize, PEOPLE * (PEOPLE + 1) / 2);
    assert_consistent(&pool).await;
    drop(sockets);
    one.stop().await;
    two.stop().await;
}
