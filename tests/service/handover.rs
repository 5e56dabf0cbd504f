//! From backlog to live: a user connects exactly while others send to it, or publish. What falls between the last page and the
//! first offer or wake would be lost, what lies in both would come twice; ten thousand sends look for either, and hundreds of connects.
//! `restante-lab handover` does ten thousand.

use std::time::Duration;

use restante::domain::{Class, InboxSeq, UserId};
use restante::store::{PageRequest, Store};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::oneshot;

use crate::support::fixtures::{LockHolder, assert_consistent, number};
use crate::support::{Connect, Node, Socket, database, direct, fill, statuses, until_true, users};

const USERS: usize = 10;
const CONNECTS: usize = 50;
const SENDS: i64 = 20;
/// The backlogs at connect: nothing, less than a page, exactly a page, more.
const BACKLOGS: [i32; 8] = [0, 0, 1, 10, 49, 50, 51, 75];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_sends_race_the_handover_and_none_is_lost_doubled_or_out_of_order() {
    let db = database().await;
    // Without the slow look, which would find in the end what the handover loses.
    let never = |config: &mut restante::config::Config| config.look_interval = Duration::from_secs(3_600);
    let (node, pool) = (Node::with(db.options(), never).await, db.pool(4).await);
    let seed = fastrand::u64(..);
    let users = (0..USERS).map(|user| rounds(&node, &pool, user, fastrand::Rng::with_seed(seed + user as u64)));
    println!("seed {seed}");
    futures_util::future::join_all(users).await;
    node.stop().await;
}

/// Users that connect at a time, and the bursts of events that each of them meets.
const FOLLOWERS: usize = 20;
const BURSTS: usize = 8;
const EVERYONE: &str = "00000000-0000-0000-0000-000000000001";

/// Broken by registering after the first page was read: an event was told to nobody, and came with the next one only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connects_race_the_events_of_a_feed_and_of_everyone_and_each_comes_once_and_in_order() {
    let db = database().await;
    let never = |config: &mut restante::config::Config| config.look_interval = Duration::from_secs(3_600);
    let (node, pool) = (Node::with(db.options(), never).await, db.pool(2).await);
    let (_, made) = node.publisher("shop").post("/v1/feeds", json!({"title": "news"})).await;
    let feeds = [made["feedId"].as_str().unwrap(), EVERYONE];
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut followers = Vec::new();
    for n in 0..FOLLOWERS {
        let name = format!("user-{n}");
        assert_eq!(node.api(&name).post(&format!("/v1/feeds/{}/follow", feeds[0]), json!({})).await.0, 200);
        followers.push((name, random.fork()));
    }
    let (mut shop, mut last) = (node.open(Connect::publisher("shop")).await, [0_i64; 2]);
    for _ in 0..BURSTS {
        let burst: Vec<usize> = (0..random.usize(1..=5)).map(|_| random.usize(0..2)).collect();
        let before = last;
        burst.iter().for_each(|feed| last[*feed] += 1);
        // An event that is published later would make good what was missed: the next burst waits for all of them.
        let visits = followers.iter_mut().map(|(name, random)| visit(&node, name, feeds, (before, last), random));
        tokio::join!(publish(&mut shop, feeds, &burst, &mut random), futures_util::future::join_all(visits));
    }
    assert_eq!(number(&pool, "select count(*) from message_status where status <> 'delivered'").await, 0);
    assert_consistent(&pool).await;
    node.stop().await;
}

/// A statement of this name waits for a lock.
fn waits(statement: &str) -> String {
    format!(
        "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '-- {statement}:%')"
    )
}

/// The moment that the race above meets seldom: a connect has seen where its inboxes end, and still looks for marks. Broken by registering
/// after it: the event was told to nobody.
#[tokio::test]
async fn an_event_that_is_published_between_the_looks_of_a_connect_comes() {
    let db = database().await;
    let never = |config: &mut restante::config::Config| config.look_interval = Duration::from_secs(3_600);
    let (node, pool) = (Node::with(db.options(), never).await, db.pool(1).await);
    let (mut shop, mut anna) = (node.open(Connect::publisher("shop")).await, node.connect("anna").await);
    let mut bob = node.connect("bob").await;
    // Anna's mark moves, so each connect of bob looks a second time.
    bob.send("anna", "x").await;
    let came = anna.receive(1).await.remove(0);
    anna.ack(&came).await;
    bob.event("message:status").await;
    bob.close().await;
    for (number, connect) in (1..).zip([Connect::user("bob"), Connect::user("bob").device("phone")]) {
        let first = LockHolder::holds(&db.options(), "lock table endings").await;
        let publishing = async {
            until_true(&pool, &waits("overview")).await;
            let second = LockHolder::holds(&db.options(), "lock table users").await;
            first.commits().await;
            until_true(&pool, &waits("marks_latest")).await;
            let answer = shop.ask("event:publish", json!({"type": "race", "to": {"everyone": true}})).await;
            assert_eq!(answer["event"], "event:published", "{answer}");
            second.commits().await;
        };
        let (mut bob, ()) = tokio::join!(node.open(connect), publishing);
        let event = bob.event("event:receive").await;
        assert_eq!((&event["feedSeq"], &event["attempt"]), (&json!(number), &json!(1)), "{event}");
        assert_eq!(bob.ask("message:delivered", json!({"messageId": event["eventId"]})).await["event"], "message:delivered:ok");
        bob.close().await;
    }
    node.stop().await;
}

async fn publish(shop: &mut Socket, feeds: [&str; 2], burst: &[usize], random: &mut fastrand::Rng) {
    for feed in burst {
        for _ in 0..random.u8(0..8) {
            shop.until_pong().await;
        }
        let to = if feeds[*feed] == EVERYONE { json!({"everyone": true}) } else { json!({"feed": feeds[*feed]}) };
        let answer = shop.ask("event:publish", json!({"type": "race", "to": to})).await;
        assert_eq!(answer["event"], "event:published", "{answer}");
    }
}

/// A user connects, takes exactly what was published since it was there last, acks it and leaves.
async fn visit(node: &Node, name: &str, feeds: [&str; 2], (mut has, last): ([i64; 2], [i64; 2]), random: &mut fastrand::Rng) {
    for _ in 0..random.u16(0..200) {
        tokio::task::yield_now().await;
    }
    let wishes = Connect::user(name);
    let mut socket = node.open(if name.ends_with(['0', '2', '4', '6', '8']) { wishes.device("phone") } else { wishes }).await;
    let mut number = Value::Null;
    while has != last {
        let event = socket.event("event:receive").await;
        let feed = feeds.iter().position(|feed| event["feedId"] == *feed).unwrap();
        has[feed] += 1;
        assert_eq!((&event["feedSeq"], &event["attempt"]), (&json!(has[feed]), &json!(1)), "{name}: {event}");
        number = event["inboxSeq"].clone();
    }
    let acked = socket.ask("message:delivered", json!({"upTo": number, "class": "event"})).await;
    assert_eq!(acked["event"], "message:delivered:ok", "{acked}");
    let rest = socket.until_pong().await;
    assert_eq!(count(&rest, "event:receive") + count(&rest, "queue:gap"), 0, "{name}: {rest:?}");
    socket.close().await;
}

/// A page and the inbox's counter come from one snapshot, so a full page that ends there has nothing behind it.
#[tokio::test]
async fn a_page_that_ends_where_its_inbox_does_is_the_last() {
    let db = database().await;
    let pool = db.pool(1).await;
    let chat = direct(&pool, "alice", "bob").await;
    fill(&pool, chat, "alice", 5).await;
    let (user, store) = (UserId(users(&pool, &["bob"]).await[0]), Store::new(pool));
    for request in [PageRequest::Waiting, PageRequest::Everything, PageRequest::Poll] {
        let page = async |after, limit| {
            let page = store.page(request, user, Class::Chat, InboxSeq(after), limit).await.unwrap();
            (page.rows.len(), page.is_last)
        };
        assert_eq!([page(0, 4).await, page(1, 4).await, page(2, 4).await], [(4, false), (4, true), (3, true)], "{request:?}");
    }
}

/// One user's connects; every other user has a device.
async fn rounds(node: &Node, pool: &PgPool, user: usize, mut random: fastrand::Rng) {
    let (name, sender_name) = (format!("user-{user}"), format!("sender-{user}"));
    let chat = direct(pool, &sender_name, &name).await;
    let mut sender = node.connect(&sender_name).await;
    let mut last = 0;
    for connect in 0..CONNECTS {
        let backlog = random.choice(BACKLOGS).unwrap();
        if backlog > 0 {
            fill(pool, chat, &sender_name, backlog).await;
        }
        let before = random.i64(0..5);
        send(&mut sender, &name, before, &mut random).await;
        let wishes = Connect::user(&name).with("window", random.u16(1..=60));
        let wishes = if user.is_multiple_of(2) { wishes.device("phone") } else { wishes };
        let all = last + i64::from(backlog) + SENDS;
        let mut pace = random.fork();
        let (is_ready, ready) = oneshot::channel();
        let sending = async {
            // The first page is read right after `ready`.
            if pace.bool() {
                ready.await.unwrap();
            }
            for _ in 0..pace.u8(0..4) {
                sender.until_pong().await;
            }
            send(&mut sender, &name, SENDS - before, &mut pace).await;
        };
        let (_, mut socket) = tokio::join!(sending, async {
            let mut socket = node.open(wishes).await;
            let _ = is_ready.send(());
            take_in_order(&mut socket, last, all, &mut random).await;
            socket
        });
        let rest = socket.until_pong().await;
        let context = format!("user {user}, connect {connect}, backlog {backlog}, ready {}", socket.ready);
        assert_eq!(count(&rest, "message:receive"), 0, "{context}: {rest:?}");
        assert_eq!(count(&rest, "queue:gap"), 0, "{context}: {rest:?}");
        let drained = rest.iter().filter(|frame| frame["event"] == "queue:drained" && frame["data"]["class"] == "chat");
        assert_eq!(drained.count(), 1, "{context}: {rest:?}");
        last = all;
        socket.close().await;
    }
    assert!(statuses(pool, &name).await.iter().all(|status| status == "delivered"));
}

/// Sends a few at a time, so that they fall before, into and after the connect.
async fn send(sender: &mut Socket, to: &str, count: i64, random: &mut fastrand::Rng) {
    let mut left = count;
    while left > 0 {
        let burst = random.choice([1, 5, SENDS]).unwrap().min(left);
        let mut asked = Vec::new();
        for _ in 0..burst {
            asked.push(sender.ask_later("message:send", json!({"to": to, "content": "racing"})).await);
        }
        for id in asked {
            assert_eq!(sender.answer(&id).await["event"], "message:sent");
        }
        left -= burst;
    }
}

/// Takes exactly the messages `after + 1..=last`, acks them in one of three ways, and waits for the last ack's commit.
async fn take_in_order(socket: &mut Socket, after: i64, last: i64, random: &mut fastrand::Rng) {
    for expected in after + 1..=last {
        let message = socket.event("message:receive").await;
        assert_eq!(message["inboxSeq"], expected, "{message}");
        assert_eq!((&message["seq"], &message["attempt"]), (&json!(expected), &json!(1)));
        match random.u8(0..3) {
            _ if expected == last => socket.ack(&message).await,
            0 => socket.tell("message:delivered", json!({"upTo": expected})).await,
            1 => socket.tell("message:delivered", json!({"messageIds": [message["messageId"]]})).await,
            _ => socket.tell("message:delivered", json!({"messageId": message["messageId"]})).await,
        }
    }
}

fn count(frames: &[Value], event: &str) -> usize {
    frames.iter().filter(|frame| frame["event"] == event).count()
}
