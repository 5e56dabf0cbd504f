//! The loop of `docs/protocol.md` as a program, under faults: everything is stored once and in the order of its outbox, and everything
//! arrives once.

use std::time::Duration;

use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use super::send_order::exhaust;
use crate::limits::heard;
use crate::nodes::know_one_another;
use crate::support::fixtures::{assert_consistent, delivery, number, until};
use crate::support::{Connect, Ending, LoopClient, Node, PATIENCE, PrivateServer, database, direct, group, wait_until};

const MESSAGES: usize = 160;

/// A client whose outbox has messages to these chats in turns. They say their numbers.
fn sender(user: &str, nodes: &[&Node], chats: &[Uuid]) -> LoopClient {
    let mut client = LoopClient::new(user, nodes.iter().map(|node| node.addr()).collect());
    for n in 0..MESSAGES {
        let chat = chats[n % chats.len()];
        client.put("message:send", json!({"messageId": Uuid::now_v7(), "chatId": chat, "content": n.to_string()}));
    }
    client
}

async fn empties_its_outbox(client: &mut LoopClient) {
    let work = client.run(|client| client.outbox.is_empty());
    tokio::time::timeout(4 * PATIENCE, work).await.expect("its outbox is never empty");
    assert!(client.outbox.is_empty(), "{:?}", client.said);
    assert_eq!(client.said, Vec::<String>::new());
    assert!(client.sends <= 2 * MESSAGES, "{} frames for {MESSAGES} messages", client.sends);
}

async fn assert_in_order(pool: &PgPool) {
    let out_of_order =
        "select count(*) from (select content::bigint n, lag(content::bigint) over (partition by chat_id order by seq) before
                        from messages) m where before > n";
    assert_eq!(number(pool, out_of_order).await, 0);
    assert_eq!(number(pool, "select count(*) from messages").await, i64::try_from(MESSAGES).unwrap());
    assert_consistent(pool).await;
}

/// A message in ten milliseconds.
fn with_a_rate(config: &mut restante::config::Config) {
    config.send_rate = 1_000;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_over_the_rate_are_stored_in_the_order_of_the_outbox() {
    let db = database().await;
    let (node, pool) = (Node::with(db.options(), with_a_rate).await, db.pool(2).await);
    let chats = [direct(&pool, "alice", "bob").await, group(&pool, &["alice", "bob"]).await];
    exhaust(&node, &pool, "alice").await;
    empties_its_outbox(&mut sender("alice", &[&node], &chats)).await;
    assert_in_order(&pool).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_larger_than_the_queue_are_stored_in_the_order_of_the_outbox() {
    let db = database().await;
    let (node, pool) = (Node::with(db.options(), with_a_rate).await, db.pool(2).await);
    let chat = direct(&pool, "alice", "bob").await;
    exhaust(&node, &pool, "alice").await;
    let mut client = LoopClient::new("alice", vec![node.addr()]);
    let filler = "x".repeat(8_000);
    for n in 0..MESSAGES {
        // Numbers with leading zeros: their order is that of the texts. Escapes are read before they are counted.
        let content = format!("{}{n:08}", "0".repeat(24_000));
        client
            .put("message:send", json!({"messageId": Uuid::now_v7(), "chatId": chat, "content": content, "metadata": {"filler": &filler}}));
    }
    empties_its_outbox(&mut client).await;
    assert_in_order(&pool).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_that_goes_and_comes_changes_no_order() {
    let mut server = PrivateServer::start().await;
    let options = server.database("restante").await;
    let node = Node::with(options.clone(), with_a_rate).await;
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options.clone()).await.unwrap();
    let chats = [direct(&pool, "alice", "bob").await, group(&pool, &["alice", "bob"]).await];
    exhaust(&node, &pool, "alice").await;
    let mut client = sender("alice", &[&node], &chats);
    let mut health = delivery(&node).health().subscribe();
    let faults = async {
        for (stored, how) in [(20, Ending::Fast), (70, Ending::Killed)] {
            let pool = PgPoolOptions::new().max_connections(1).connect_with(options.clone()).await.unwrap();
            until(&pool, "some are stored", &format!("select count(*) >= {stored} from messages")).await;
            pool.close().await;
            server.end(how).await;
            health.wait_for(|away| *away).await.unwrap();
            server = server.start_again().await;
            health.wait_for(|away| !*away).await.unwrap();
        }
        server
    };
    let (_server, ()) = tokio::join!(faults, empties_its_outbox(&mut client));
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await.unwrap();
    assert_in_order(&pool).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_stop_change_no_order_and_everything_arrives_once() {
    let db = database().await;
    let pool = db.pool(2).await;
    let (first, second) = (Node::with(db.options(), with_a_rate).await, Node::with(db.options(), with_a_rate).await);
    let chat = direct(&pool, "alice", "bob").await;
    know_one_another(&[&first, &second]).await;
    exhaust(&first, &pool, "alice").await;
    wait_until("nothing is left at the second either", || heard(&second) > 0).await;
    let mut alice = sender("alice", &[&first, &second], &[chat]);
    let mut bob = LoopClient::new("bob", vec![first.addr(), second.addr()]);
    let received = tokio::time::timeout(4 * PATIENCE, bob.run(|bob| bob.effects.len() >= MESSAGES));
    let stops = async {
        until(&pool, "some are stored", "select count(*) >= 30 from messages").await;
        first.stop().await;
    };
    let ((), received, ()) = tokio::join!(empties_its_outbox(&mut alice), received, stops);
    received.expect("not everything arrives");
    assert_eq!(bob.effects, (0..MESSAGES).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(bob.readies.len() >= 2 && bob.readies.last().unwrap()["resumed"] == true, "{:?}", bob.readies);
    assert_eq!(bob.contiguous.as_ref().unwrap()["chat"], i64::try_from(MESSAGES).unwrap());
    assert_in_order(&pool).await;
    second.stop().await;
}

#[tokio::test]
async fn a_message_that_cannot_be_processed_is_a_gap_that_contiguous_moves_over() {
    let db = database().await;
    let node = Node::with(db.options(), |config| (config.ack_timeout, config.attempts_max) = (Duration::from_millis(300), 2)).await;
    let mut bob = LoopClient::new("bob", vec![node.addr()]);
    bob.run(|bob| !bob.readies.is_empty()).await;
    assert_eq!(bob.contiguous.as_ref().unwrap()["chat"], 0);
    bob.unreadable.insert("bad".to_owned());
    let mut alice = node.connect("alice").await;
    for content in ["0", "1", "bad", "3"] {
        alice.send("bob", content).await;
    }
    // It is rejected until it has failed, and everything else is processed meanwhile.
    let (failed, mut told) = tokio::sync::oneshot::channel();
    let watching = async {
        alice.wait("failed", |frame| frame["data"]["status"] == "failed").await;
        failed.send(()).unwrap();
        // The client looks whether it has seen enough when something comes.
        alice.send("bob", "4").await;
    };
    let mut is_failed = false;
    let receiving = bob.run(|bob| {
        is_failed |= told.try_recv().is_ok();
        is_failed && bob.effects.len() == 4
    });
    tokio::time::timeout(2 * PATIENCE, async { tokio::join!(watching, receiving) }).await.expect("it never fails");
    assert_eq!((bob.effects.join(" "), bob.contiguous.as_ref().unwrap()["chat"]), ("0 1 3 4".to_owned(), 2));
    // The next connection names its number as a gap.
    let work = bob.run(|bob| bob.contiguous.as_ref().unwrap()["chat"] == 5);
    tokio::time::timeout(PATIENCE, work).await.expect("the number of a message that failed is never told");
    assert_eq!(bob.effects.join(" "), "0 1 3 4", "each once");
    node.stop().await;
}

#[tokio::test]
async fn events_are_taken_once_each_in_order_and_across_connections() {
    let db = database().await;
    let (node, pool) = (Node::start(db.options()).await, db.pool(1).await);
    let mut bob = LoopClient::new("bob", vec![node.addr()]);
    bob.run(|bob| !bob.readies.is_empty()).await;
    let publish = async |from: i32, to: i32, ttl: &str| {
        let publish = "select count(restante_publish('shop', 'tick', to_jsonb(n), p_ttl => $3::interval)) from generate_series($1, $2) n";
        sqlx::query(publish).bind(from).bind(to).bind(ttl).execute(&pool).await.unwrap();
    };
    publish(1, 70, "1 day").await;
    let work = bob.run(|bob| bob.effects.len() == 40);
    tokio::time::timeout(PATIENCE, work).await.expect("the first ones do not come");
    // Some end before anybody has come for them: they are one number, and it is told.
    publish(71, 80, "1 millisecond").await;
    until(&pool, "they have expired", "select count(*) >= 10 from messages where expires_at <= clock_timestamp()").await;
    publish(81, 90, "1 day").await;
    let work = bob.run(|bob| bob.contiguous.as_ref().unwrap()["event"] == 81);
    tokio::time::timeout(PATIENCE, work).await.expect("not everything comes, or is told");
    assert_eq!(bob.effects, (1..=70).chain(81..=90).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(bob.readies.last().unwrap()["resumed"], true);
    assert_consistent(&pool).await;
    node.stop().await;
}

#[tokio::test]
async fn ready_tells_a_device_where_it_begins_and_nobody_else() {
    let db = database().await;
    let node = Node::start(db.options()).await;
    let mut alice = node.connect("alice").await;
    let mut bob = node.open(Connect::user("bob").device("phone")).await;
    assert_eq!([&bob.ready["ackedSeq"], &bob.ready["alertAckedSeq"], &bob.ready["eventAckedSeq"]], [0, 0, 0]);
    for content in ["0", "1", "2"] {
        alice.send("bob", content).await;
    }
    bob.receive(3).await;
    bob.ack_up_to(2).await;
    let epoch = bob.ready["epoch"].as_str().unwrap().to_owned();
    bob.close().await;
    let again = node.open(Connect::user("bob").device("phone")).await;
    assert_eq!(again.ready["ackedSeq"], 2);
    again.close().await;
    let resumed = node.open(Connect::user("bob").device("phone").with("epoch", &epoch).with("since", 3)).await;
    assert_eq!((&resumed.ready["resumed"], &resumed.ready["ackedSeq"]), (&json!(true), &json!(3)));
    let without = node.connect("bob").await;
    assert!(without.ready.get("ackedSeq").is_none(), "{}", without.ready);
    node.stop().await;
}
